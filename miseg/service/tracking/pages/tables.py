"""Tables among a run's artifacts as `MlflowClient.log_table` keeps them: MLflow shows them, and compares runs by them.

That one adds to the table that is there: one that is sent twice, after a lost answer, would hold all rows twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS


def write(folder: Path, name: str, table: pd.DataFrame) -> Path:
    """Write `<name>.json` into `folder`; its path."""
    path = folder / f"{name}.json"
    table.to_json(path, orient="split", index=False)
    return path


def tag(names: Iterable[str], before: str = "[]") -> dict[str, str]:
    """Tag that tells MLflow which artifacts of a run are tables.

    Args:
        names: their paths among the artifacts.
        before: the tag as it was.
    """
    paths = dict.fromkeys([*(entry["path"] for entry in json.loads(before)), *names])
    return {MLFLOW_LOGGED_ARTIFACTS: json.dumps([{"path": path, "type": "table"} for path in paths])}


def mark(client: MlflowClient, run_id: str, name: str) -> None:
    """Tell MLflow that the artifact `name` of a run is a table, as those that it has."""
    before = client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]")
    client.log_batch(run_id, tags=[RunTag(*entry) for entry in tag([name], before).items()])
