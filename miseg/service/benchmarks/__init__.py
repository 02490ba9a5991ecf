"""Benchmarks: the speed of each part, as ratios in one run."""

from miseg.extras import require

require("service", "miseg.service.benchmarks", "mlflow", "psutil", "ray")
