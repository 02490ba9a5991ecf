"""What is run from a command line: `miseg COMMAND`, one module each."""
