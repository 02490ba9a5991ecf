"""`python -m miseg`: the program where it is not on the path."""

from miseg.commands.program import main

if __name__ == "__main__":
    main()
