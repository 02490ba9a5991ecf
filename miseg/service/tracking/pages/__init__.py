"""Entries that MLflow's pages show beside metrics and parameters: data sets, tables, pictures by step."""
