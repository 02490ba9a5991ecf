"""MLflow: connection, runs, queries, models, registry, views, claims and offline synchronisation."""
