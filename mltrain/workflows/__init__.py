"""What a command does, as Python functions."""
