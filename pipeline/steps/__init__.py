"""The five steps, one module each; the outside world is handed in from `pipeline.edges`."""
