"""`miseg train` as a script, for `ray job submit -- python jobs/train.py`."""

from miseg.commands.train import main

if __name__ == "__main__":
    main()
