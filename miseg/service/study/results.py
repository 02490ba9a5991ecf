"""Results of a study among its own runs in MLflow: metrics and tables of each data set, and the report of the whole."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mlflow import MlflowClient

from miseg.metric_names import MEAN_IOU, of_split
from miseg.service.reports import content, page, runs
from miseg.service.study import record
from miseg.service.study.plan import StudyPlan
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.connection import first_line
from miseg.service.tuning import tables

REPORT = "report"
"""Folder of the report among the artifacts of a study's runs."""


def keep(uri: str, plan: StudyPlan, splits: Mapping[str, str], parents: Mapping[str, str]) -> None:
    """Keep what was measured with the study's run on each data set.

    Metrics are `<split>/mean_iou/<budget>/<row>`, means over seeds; tables are those that the study prints. A report
    that cannot be made is told in a line: nothing else of the study needs it.

    Args:
        uri: the MLflow server or store.
        plan: the study's.
        splits: split that was measured, by data set.
        parents: the study's runs, by data set.

    Raises:
        TrackingError: MLflow stays away.
    """
    for data, run_id in parents.items():
        for table, scores in record.results(uri, plan, splits[data], data):
            if scores.empty:
                continue
            summaries, budget = tables.summaries(scores), record.budget_name(table)
            means = zip(summaries[MEAN_IOU]["row"], summaries[MEAN_IOU]["mean"], strict=True)
            named = {of_split(splits[data], f"{MEAN_IOU}/{budget}/{row}"): float(mean) for row, mean in means}
            mlflow_runs.log_metrics(uri, run_id, named)
            for score, summary in summaries.items():
                name = f"{budget}-{score}".replace("/", "-")
                mlflow_runs.log_table(uri, run_id, f"{name}.csv", summary)
    try:
        with tempfile.TemporaryDirectory() as folder:
            page.write(content.content(runs.read(uri, plan.study)), Path(folder))
            for run_id in parents.values():
                log = partial(MlflowClient(uri).log_artifacts, run_id, folder, REPORT)
                mlflow_runs.patiently(uri, f"the report of study {plan.study}", log)
    except Exception as error:
        print(
            f"the report is not kept with the study's runs ({first_line(error)}): write it with `miseg report --study "
            f"{plan.study}`",
            flush=True,
        )
