"""`miseg sync` as a script, for `ray job submit -- python jobs/sync.py`."""

from miseg.commands.sync import main

if __name__ == "__main__":
    main()
