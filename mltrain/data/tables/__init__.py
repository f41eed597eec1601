"""Tables as data: read once into memory-mapped Arrow, divided by row, converted by column."""
