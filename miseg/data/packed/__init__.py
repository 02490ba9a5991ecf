"""Packed data sets: Parquet shards with a sidecar."""
