"""`miseg benchmark` as a script, for `ray job submit -- python jobs/benchmark.py`."""

from miseg.commands.benchmark import main

if __name__ == "__main__":
    main()
