"""Views of MLflow's runs table: which columns, in which order, sorted by what, so that runs compare without set-up.

MLflow's page keeps its columns in the browser. What can be set from outside is a saved view: a tag of the experiment,
which the page lists in its menu of views, and opens where an address names it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Run

from miseg.metric_names import (
    OVERLAP_SCORES,
    PANELS,
    VALIDATION_LOSS,
    VALIDATION_MEAN_IOU,
    of_split,
    validation_metric,
)
from miseg.service.tracking.connection import UNREACHABLE
from miseg.service.tracking.description import CONFIRMED, PHASE, SPLIT, TRAINING_PAGES

TAG = "mlflow.sharedViewState."
"""Prefix of a saved view's tag; then comes its id, here that of the run whose view it is."""

STEPS = "steps"
"""Parameter of a tuning: the steps of a whole trial, whose pictures its view shows."""

SEARCHED = "miseg.searched"
"""Tag of a tuning: the MLflow parameters that its trials differ in, with commas between."""

LOCAL_UI = "http://127.0.0.1:5000"
"""Address at which `miseg ui` answers."""


class View(NamedTuple):
    """A saved view: its name in the menu, and its state as MLflow's page describes it."""

    name: str
    state: dict[str, Any]


def views_of(run: Run) -> dict[str, View]:
    """Views of a tuning's or a study's runs by their keys, of which the run's id is the first; {} for other runs."""
    kind, tags, run_id = run.data.tags.get("miseg.kind"), run.data.tags, run.info.run_id
    if kind == "tuning":
        name, which = f"tuning {run.info.run_name}", _is_tag("mlflow.parentRunId", run_id)
        # "no" of a confirmation whose row is one no more.
        phases = {"search": f"{_is_tag(PHASE, 'search')}", "confirmation": f"{_is_tag(CONFIRMED, 'yes')}"}
        views = {run_id: View(name, _of_tuning(run, which))}
        return views | {
            f"{run_id}-{phase}": View(f"{phase} of {name}", _of_tuning(run, f"{which} and {filter_string}"))
            for phase, filter_string in phases.items()
        }
    if kind == "study":
        # Without a test split it is validation that is measured last.
        first = tags.get(SPLIT, "test")
        splits = dict.fromkeys((first, "test", "val"))
        measured = [_column("metrics", of_split(split, score)) for split in splits for score in OVERLAP_SCORES]
        labels = [_column("tags", "miseg.cell"), _column("tags", "miseg.row"), _column("params", "seed")]
        which = f"{_is_tag('miseg.study', tags['miseg.study'])} and {_is_tag('miseg.kind', 'evaluation')}"
        scores = [of_split(first, score) for score in OVERLAP_SCORES]
        state = _state(which, measured[0], [measured[0], *labels, *measured[1:]], _charts(scores, {}))
        return {run_id: View(f"{run.info.run_name}: measured", state)}
    return {}


def _of_tuning(run: Run, which: str) -> dict[str, Any]:
    tags = run.data.tags
    selected = validation_metric(run.data.params.get("selection", "labels"))
    searched = [_column("params", name) for name in filter(None, tags.get(SEARCHED, "").split(","))]
    # Where clusters are selected without labels, mean IoU stands beside what selects.
    metrics = dict.fromkeys((selected, VALIDATION_MEAN_IOU, "step"))
    scores = [_column("metrics", name) for name in metrics]
    # First what they are compared by: in a narrow window the last ones are out of sight.
    shown = [scores[0], _column("tags", PHASE), *searched, *scores[1:]]
    shown += [_column("tags", "miseg.ended"), _column("params", "seed")]
    charted = [name for name in metrics if name != "step"] + ["train/loss", VALIDATION_LOSS]
    pictures = {of_split("val", PANELS): int(run.data.params.get(STEPS, "0"))}
    return _state(which, scores[0], shown, _charts(charted, pictures))


def save(uri: str, run_id: str) -> None:
    """Keep the views of a tuning or study among those of its experiment, where their last version is not kept yet.

    Raises:
        MlflowException: MLflow does not answer.
    """
    client = MlflowClient(uri)
    run = client.get_run(run_id)
    views = views_of(run)
    if not views:
        return
    experiment = client.get_experiment(run.info.experiment_id)
    for key, view in views.items():
        entry = {"name": view.name, "createdAt": run.info.start_time, "state": _compressed(view.state)}
        if experiment.tags.get(TAG + key) != (value := json.dumps(entry)):
            client.set_experiment_tag(run.info.experiment_id, TAG + key, value)


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
    page = f"{server}/#/experiments/{experiment_id}/runs"
    return f"{page}?{TRAINING_PAGES}&viewStateShareKey={run_id}" if viewed else f"{page}/{run_id}?{TRAINING_PAGES}"


def _is_tag(name: str, value: str) -> str:
    return f"tags.`{name}` = '{value}'"


def _state(which: str, order_by: str, columns: list[str], charts: Mapping[str, Any]) -> dict[str, Any]:
    # What is left out is as MLflow has it. Every run is shown in the charts beside the table.
    return {
        "searchFilter": which,
        "orderByKey": order_by,
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "SHOW_ALL",
        **charts,
    }


def _charts(metrics: Iterable[str], images: Mapping[str, int]) -> dict[str, Any]:
    """Charts that the page draws first, then pictures at a step; it adds charts of all other metrics below.

    Of itself it has them by the alphabet, and where it has no metric of the task those of the machine alone.
    """
    section: dict[str, Any] = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    sections = [section | {"uuid": "miseg-results", "name": "Results"}]
    if images:
        # A card as wide as the page: the pictures of all runs stand beside each other.
        sections.append(section | {"uuid": "miseg-pictures", "name": "Pictures", "columns": 1, "cardHeight": 600})
    for name in ("val", "train", "Model metrics", "System metrics"):
        sections.append(section | {"uuid": f"miseg-{name}", "name": name, "isGenerated": True, "isReordered": False})
    own = {"metricSectionId": "miseg-results", "deleted": False, "isGenerated": False, "runsCountToCompare": 10}
    cards = [
        own | _LINE | {"uuid": f"miseg-{name}", "metricKey": name, "selectedMetricKeys": [name], "displayName": name}
        for name in metrics
    ]
    cards += [
        own
        | {"metricSectionId": "miseg-pictures", "uuid": f"miseg-{name}", "type": "IMAGE", "imageKeys": [name]}
        | {"step": step, "displayName": name, "showRunParams": False}
        for name, step in images.items()
    ]
    return {"compareRunCharts": cards, "compareRunSections": sections, "isAccordionReordered": True}


_LINE: dict[str, Any] = {
    "type": "LINE", "lineSmoothness": 0, "xAxisKey": "step", "selectedXAxisMetricKey": "", "yAxisKey": "metric",
    "yAxisExpressions": [], "xAxisScaleType": "linear", "scaleType": "linear", "range": {}, "ignoreOutliers": False,
    "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True,
}  # fmt: skip
"""A line chart as MLflow's page makes one, but for its metric."""


def _column(kind: str, name: str) -> str:
    """A column's name in the page's own terms."""
    return f"{kind}.`{name}`"


def _compressed(view_state: Mapping[str, Any]) -> str:
    # As the page does it: a tag takes 20,000 characters.
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(view_state).encode())).decode()
