"""Ray Tune with Optuna, then confirmation on fresh seeds."""
