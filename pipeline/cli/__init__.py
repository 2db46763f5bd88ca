"""The command line: one thin file per command group. Parse, call the steps, hand the results to the report."""
