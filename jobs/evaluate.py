"""`miseg evaluate` as a script, for `ray job submit -- python jobs/evaluate.py`."""

from miseg.commands.evaluate import main

if __name__ == "__main__":
    main()
