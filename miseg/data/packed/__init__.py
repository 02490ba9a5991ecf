"""Packed data sets: Parquet shards with a sidecar."""

from miseg.extras import require

require("data", "miseg.data.packed", "PIL", "pyarrow")
