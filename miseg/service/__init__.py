"""Everything that knows Ray, MLflow and Optuna."""

import os

# Before MLflow is imported anywhere, here and in Ray's workers: it reports what it is used for, unless told not to.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
