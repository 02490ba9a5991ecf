"""`miseg measure-bound` as a script, for `ray job submit -- python jobs/measure_bound.py`."""

from miseg.commands.measure.bound import main

if __name__ == "__main__":
    main()
