"""The rules of `lint`: pure functions from parsed and rendered values to findings."""
