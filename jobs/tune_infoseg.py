"""`miseg tune-infoseg` as a script, for `ray job submit -- python jobs/tune_infoseg.py`."""

from miseg.commands.tune.infoseg import main

if __name__ == "__main__":
    main()
