"""Views of MLflow's runs table: which columns, in which order, sorted by what, so that runs compare without set-up.

MLflow's page keeps its columns in the browser. What can be set from outside is a saved view: a tag of the experiment,
which the page lists in its menu of views, and opens where an address names it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from miseg.metric_names import OVERLAP_SCORES, VALIDATION_MEAN_IOU, of_split, validation_metric
from miseg.service.tracking.connection import UNREACHABLE

TAG = "mlflow.sharedViewState."
"""Prefix of a saved view's tag; then comes its id, here that of the run whose view it is."""

SEARCHED = "miseg.searched"
"""Tag of a tuning: the MLflow parameters that its trials differ in, with commas between."""

LOCAL_UI = "http://127.0.0.1:5000"
"""Address at which `miseg ui` answers."""


def state(run: Run) -> dict[str, Any] | None:
    """State of the runs table for a tuning or a study, as MLflow's page describes it; None for other runs."""
    kind, tags = run.data.tags.get("miseg.kind"), run.data.tags
    if kind == "tuning":
        selected = validation_metric(run.data.params.get("selection", "labels"))
        searched = [_column("params", name) for name in filter(None, tags.get(SEARCHED, "").split(","))]
        # Where clusters are selected without labels, mean IoU stands beside what selects.
        scores = [_column("metrics", name) for name in dict.fromkeys((selected, VALIDATION_MEAN_IOU, "step"))]
        # First what they are compared by: in a narrow window the last ones are out of sight.
        shown = [scores[0], *searched, *scores[1:], _column("tags", "miseg.ended"), _column("params", "seed")]
        return _state(_column("tags", "mlflow.parentRunId"), run.info.run_id, _column("metrics", selected), shown)
    if kind == "study":
        measured = [_column("metrics", of_split(split, score)) for split in ("test", "val") for score in OVERLAP_SCORES]
        labels = [_column("tags", "miseg.cell"), _column("tags", "miseg.row"), _column("params", "seed")]
        view = _state(_column("tags", "miseg.study"), tags["miseg.study"], measured[0], labels + measured)
        return view | {"searchFilter": f"{view['searchFilter']} and tags.`miseg.kind` = 'evaluation'"}
    return None


def save(uri: str, run_id: str) -> None:
    """Keep the view of a tuning or study among those of its experiment, where its last version is not kept yet.

    Raises:
        MlflowException: MLflow does not answer.
    """
    client = MlflowClient(uri)
    run = client.get_run(run_id)
    view_state = state(run)
    if view_state is None:
        return
    experiment = client.get_experiment(run.info.experiment_id)
    entry = {"name": f"{run.data.tags['miseg.kind']} {run.info.run_name}", "createdAt": run.info.start_time}
    if run.data.tags["miseg.kind"] == "study":
        entry["name"] = f"{run.info.run_name}: measured"
    value = json.dumps(entry | {"state": _compressed(view_state)})
    if experiment.tags.get(TAG + run_id) != value:
        client.set_experiment_tag(run.info.experiment_id, TAG + run_id, value)


def address(uri: str, run_id: str) -> str:
    """Address of a run: its view, or where it has none its page; "" where MLflow does not answer.

    Of a store that is no server the address is that of `miseg ui`.
    """
    client = MlflowClient(uri)
    try:
        experiment_id = client.get_run(run_id).info.experiment_id
        viewed = f"{TAG}{run_id}" in client.get_experiment(experiment_id).tags
    except UNREACHABLE:
        return ""
    server = uri.rstrip("/") if uri.startswith("http") else LOCAL_UI
    return f"{server}/#/experiments/{experiment_id}/runs" + (f"?viewStateShareKey={run_id}" if viewed else f"/{run_id}")


def _state(key: str, value: str, order_by: str, columns: list[str]) -> dict[str, Any]:
    # What is left out is as MLflow has it. Every run is shown in the charts beside the table.
    return {
        "searchFilter": f"{key} = '{value}'",
        "orderByKey": order_by,
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "SHOW_ALL",
    }


def _column(kind: str, name: str) -> str:
    """A column's name in the page's own terms."""
    return f"{kind}.`{name}`"


def _compressed(view_state: Mapping[str, Any]) -> str:
    # As the page does it: a tag takes 20,000 characters.
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(view_state).encode())).decode()
