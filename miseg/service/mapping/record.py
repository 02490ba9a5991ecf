"""The MLflow run of maps that were made, whatever they were made of."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from miseg.recipes.experiment import Experiment
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunDetails, RunStore


@dataclass(frozen=True)
class MapsSummary:
    """Summary of maps.

    Attributes:
        display: the run's name for people.
        tables: CSV artifacts by their names.
        metrics: counts and throughput.
        pictures: PNG files; they become artifacts under `maps/`.
    """

    display: str
    tables: Mapping[str, pd.DataFrame]
    metrics: Mapping[str, float] = field(default_factory=dict)
    pictures: Sequence[Path] = ()


def record(
    store: RunStore,
    experiment: Experiment,
    model_run: str | None,
    settings: Mapping[str, str],
    summary: MapsSummary,
) -> str:
    """The id of an MLflow run of the maps, below the run that trained the model.

    Args:
        store: where the run is kept.
        experiment: what the model was trained by.
        model_run: the run that trained it, where it is known.
        settings: the job's options, as parameters.
        summary: what came of it.
    """
    now = f"{datetime.datetime.now():%Y%m%d-%H%M%S-%f}"
    details = RunDetails(summary.display, model_run, params=settings)
    run_id = mlflow_runs.open_model_run(store, experiment, f"maps-{now}", "maps", details)
    if summary.metrics:
        mlflow_runs.log_metrics(store.tracking_uri, run_id, summary.metrics)
    for name, table in summary.tables.items():
        mlflow_runs.log_table(store.tracking_uri, run_id, name, table)
    for picture in summary.pictures:
        mlflow_runs.log_file(store.tracking_uri, run_id, picture, "maps")
    mlflow_runs.end_run(store.tracking_uri, run_id, "FINISHED", "finished")
    return run_id
