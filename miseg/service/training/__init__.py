"""One experiment under Ray Train: loop, data streams, worker, recorder."""

from miseg.extras import require

require("service", "miseg.service.training", "mlflow", "ray")
