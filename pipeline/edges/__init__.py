"""The outside world, one module per system. An SDK's objects never leave the module that imports it."""
