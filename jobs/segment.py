"""`miseg segment` as a script, for `ray job submit -- python jobs/segment.py`."""

from miseg.commands.segment import main

if __name__ == "__main__":
    main()
