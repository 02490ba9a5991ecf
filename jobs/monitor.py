"""`miseg monitor` as a script, for `ray job submit -- python jobs/monitor.py`."""

from miseg.commands.monitor import main

if __name__ == "__main__":
    main()
