"""Commands: arguments in, a workflow called, an exit code out."""
