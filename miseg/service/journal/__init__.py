"""What a run logs, on disk first, and how it is sent to MLflow."""
