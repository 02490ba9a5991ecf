"""Evaluations put side by side: one picture and one table for several methods, as a run in MLflow."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from miseg.data.packed import PackedDataset
from miseg.evaluation.pictures import comparison
from miseg.recipes.experiment import Experiment
from miseg.service import tracking
from miseg.service.evaluate import Measured
from miseg.service.journal import Journal, journal_folder


def compare(
    measured: Sequence[tuple[Experiment, Measured]],
    data: str,
    split: str,
    *,
    storage: str,
    tracking_uri: str,
) -> tuple[str, pd.DataFrame]:
    """Put evaluations on one split side by side: a picture and a table as a run of its own in MLflow.

    The picture shows image, truth and every method's prediction; the table has a column a method. The same comparison
    asked for again is the same run.

    Args:
        measured: two or more evaluations at one size, with what was trained.
        data: the packed data set.
        split: which of its splits.
        storage: where the journal goes.
        tracking_uri: the MLflow server or store.

    Returns:
        The run's id and the table, scores down and methods across.
    """
    dataset = PackedDataset.open(data)
    titles = method_titles([experiment for experiment, _ in measured])
    columns = {title: found.scores for title, (_, found) in zip(titles, measured, strict=True)}
    table = pd.DataFrame(columns).rename(index=lambda name: name.removeprefix(f"{split}/"))
    ids = [found.run_id for _, found in measured]
    run_id = tracking.open_run(
        tracking_uri,
        tracking.experiment_name(measured[0][0].data),
        f"compare-{split}-{dataset.fingerprint}-{'-'.join(ids)}",
        storage=storage,
        display=f"compare {', '.join(titles)} on {split}",
        tags={
            "miseg.kind": "comparison",
            "miseg.data": data,
            "miseg.data_fingerprint": dataset.fingerprint,
            "miseg.evaluations": " ".join(ids),
        },
        params={"split": split},
    )
    tracking.log_table(tracking_uri, run_id, f"comparison-{split}.csv", table.rename_axis("score").reset_index())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"comparison-{split}.png"
        images = list(zip(*(found.rows for _, found in measured), strict=True))
        comparison(images, titles, dataset.info.colours, dataset.info.classes).save(path)
        log = Journal(journal_folder(storage), tracking_uri, run_id)
        log.artifact(path, "comparison")
        log.close()
    tracking.end_run(tracking_uri, run_id, "FINISHED", "finished")
    return run_id, table


def method_titles(experiments: Sequence[Experiment]) -> list[str]:
    """A short name for each: the method's, with its seed and then its experiment's id where that tells too little.

    Raises:
        ValueError: two of them are one experiment.
    """
    methods = [
        re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(experiment.method).__name__).capitalize() for experiment in experiments
    ]
    seeds = [f"{method} seed {e.seed}" for method, e in zip(methods, experiments, strict=True)]
    ids = [f"{seed} {e.id}" for seed, e in zip(seeds, experiments, strict=True)]
    for titles in (methods, seeds, ids):
        if len(set(titles)) == len(titles):
            return titles
    twice = next(title for title in ids if ids.count(title) > 1)
    raise ValueError(f"{twice} is there twice: compare runs of different experiments")
