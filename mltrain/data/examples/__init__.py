"""Data sets that the project writes itself, one module each: `write(output)` writes and says what it has written."""
