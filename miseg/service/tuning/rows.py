"""A tuning's trials as rows of its table."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from miseg.metric_names import MEAN_IOU, of_split
from miseg.one_class import class_of
from miseg.service.tracking import mlflow_runs
from miseg.service.training import train
from miseg.service.training.run import FINISHED, TrainingRun
from miseg.service.tuning.tables import METRIC, SCORES


def close(
    uri: str,
    name: str,
    trial_run: Callable[[Mapping[str, Any], str], TrainingRun],
    result: Any,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """A trial's row; its MLflow run is closed here if the scheduler stopped it or its driver died.

    Args:
        uri: the MLflow server or store.
        name: the tuning's.
        trial_run: from a trial's point and id to what it trains; raises ValueError where the point is no experiment.
        result: what Tune knows of the trial, as `tune.Result`.
        config: the trial's point.
    """
    metrics = result.metrics or {}
    saved, ended = None, "not started"
    try:
        run = trial_run(config, metrics.get("trial_id") or result.path.rstrip("/").split("_")[-1])
    except ValueError as error:  # a point that is no experiment: the others are none the worse for it
        ended = f"failed: {error}"
    else:
        looking = partial(train.recorded, run)
        saved = mlflow_runs.patiently(uri, f"the table of {name}", looking)
    if saved is not None:
        run_id = saved.info.run_id
        ended = saved.data.tags.get("miseg.ended", "")
        if saved.info.status in ("RUNNING", "KILLED") or not ended:  # the latter: an interrupted driver found it open
            if result.error:
                ended = f"failed: {result.error}"
            elif metrics.get("step", 0) >= run.experiment.steps:
                ended = FINISHED  # its own closing waits on another machine
            else:
                ended = f"stopped early by ASHA at step {metrics.get('step')}"
            train.finish(run, run_id, "FAILED" if result.error else "FINISHED", ended.splitlines()[0])
    return (
        {
            "run_id": saved.info.run_id if saved else "",
            MEAN_IOU: metrics.get(MEAN_IOU, float("nan")),
            METRIC: metrics.get(METRIC, float("nan")),
            "step": metrics.get("step", 0),
            "ended": ended,
        }
        | _of_clusters(saved)
        | ({} if saved is None or not (only := class_of(saved.data.tags)) else {"one_class": only})
        | {f"params/{key}": value for key, value in config.items()}
    )


def _of_clusters(run: Any) -> dict[str, Any]:
    """Match of a trial's clusters with classes, their collapse, and scores; nothing for other methods.

    Scores are those that were logged last.
    """
    if run is None or "miseg.match" not in run.data.tags:
        return {}
    shown = {name: run.data.tags.get(f"miseg.{name}", "") for name in ("match", "collapsed")}
    scores = {score: run.data.metrics.get(of_split("val", score), math.nan) for score in SCORES if score != MEAN_IOU}
    return {name: re.split("[,:]", text)[0] for name, text in shown.items() if text} | scores
