"""`miseg prepare-data` as a script, for `ray job submit -- python jobs/prepare_data.py`."""

from miseg.commands.prepare_data import main

if __name__ == "__main__":
    main()
