"""`miseg tune-similarity` as a script, for `ray job submit -- python jobs/tune_similarity.py`."""

from miseg.commands.tune.similarity import main

if __name__ == "__main__":
    main()
