"""One experiment a file, read from top to bottom."""
