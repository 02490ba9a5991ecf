"""`miseg tune` as a script, for `ray job submit -- python jobs/tune.py`."""

from miseg.commands.tune.any_recipe import main

if __name__ == "__main__":
    main()
