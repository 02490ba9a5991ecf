"""`miseg tune-rmi` as a script, for `ray job submit -- python jobs/tune_rmi.py`."""

from miseg.commands.tune.rmi import main

if __name__ == "__main__":
    main()
