"""The journal: what a run logs, on disk first, and the thread that sends it to MLflow."""

from miseg.extras import require

require("service", "miseg.service.journal", "mlflow", "pyarrow")
