"""`miseg measure-information` as a script, for `ray job submit -- python jobs/measure_information.py`."""

from miseg.commands.measure.information import main

if __name__ == "__main__":
    main()
