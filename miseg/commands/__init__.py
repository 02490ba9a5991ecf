"""Commands of the program `miseg`, one module each."""
