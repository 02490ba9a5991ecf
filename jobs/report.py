"""`miseg report` as a script, for `ray job submit -- python jobs/report.py`."""

from miseg.commands.report import main

if __name__ == "__main__":
    main()
