"""What a run logs, on disk first, and how it is sent to MLflow."""

from miseg.extras import require

require("service", "miseg.service.journal", "mlflow", "pyarrow")
