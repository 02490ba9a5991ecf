"""Ray Tune with Optuna, then confirmation on fresh seeds."""

from miseg.extras import require

require("service", "miseg.service.tuning", "optuna", "ray")
