"""MLflow: connection, runs, queries, models, registry, views, claims and offline synchronisation."""

from miseg.extras import require

require("service", "miseg.service.tracking", "mlflow")
