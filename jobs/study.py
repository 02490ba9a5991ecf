"""`miseg study` as a script, for `ray job submit -- python jobs/study.py`."""

from miseg.commands.study import main

if __name__ == "__main__":
    main()
