"""Street scenes that the program draws."""
