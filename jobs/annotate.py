"""`miseg annotate` as a script, for `ray job submit -- python jobs/annotate.py`."""

from miseg.commands.annotate import main

if __name__ == "__main__":
    main()
