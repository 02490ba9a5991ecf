"""Several trained runs measured on one split and shown side by side, as a run of its own in MLflow."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from miseg.data.packed.dataset import PackedDataset
from miseg.evaluation import DenseCRF
from miseg.evaluation.pictures import PanelRow, comparison
from miseg.metric_names import (
    CLASS_CLDICE,
    CLASS_IOU,
    FURTHER_SCORES,
    INFERENCE_SECONDS,
    MEAN_CLDICE,
    OVERLAP_SCORES,
    SECONDS_PER_IMAGE,
    TITLES,
)
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint_files
from miseg.service.evaluation.evaluate import TrainedModel, evaluate
from miseg.service.evaluation.scores import FurtherMeasures
from miseg.service.journal.journal import Journal, journal_folder
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.description import parameters
from miseg.service.tracking.run_store import RunDetails, Workspace
from miseg.service.training.artifacts import write_table

MEASURES = (*OVERLAP_SCORES, *(name for name in FURTHER_SCORES if name != MEAN_CLDICE), INFERENCE_SECONDS)
"""Metrics below the classes in the table; clDice follows them where it is asked for."""

Table = list[tuple[str, list[float]]]
"""Rows by name; nan where a method has no such value."""


def check_alike(experiments: Mapping[str, Experiment]) -> None:
    """Raise ValueError where experiments, by run id, are on several data sets or evaluate at several sizes.

    Scores at different sizes are of different pixels, and their pictures do not fit beside each other. Nor do scores
    compare that are of chips clear to another share, or that are from labels of the very image and of one date.
    """
    data = {run_id: experiment.data for run_id, experiment in experiments.items()}
    if len(set(data.values())) > 1:
        raise ValueError(f"the runs are on different data ({_listed(data)}): give the one to measure on with --data")
    sizes = {run_id: experiment.augmentation.resize for run_id, experiment in experiments.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"the runs are evaluated at different sizes (augmentation.resize: {_listed(sizes)}): compare runs of one "
            "size, or train one again with the other's --augmentation.resize"
        )
    clear = _clearness(experiments)
    if len(set(clear.values())) > 1:
        raise ValueError(
            f"the runs are measured on chips that are clear to different shares (pairs.min_valid: {_listed(clear)}): "
            "compare runs of one share, or train one again with the other's --pairs.min-valid"
        )
    few = {run_id: experiment for run_id, experiment in experiments.items() if experiment.takes_labelled_pixels}
    origins = {run_id: experiment.examples for run_id, experiment in few.items()}
    if len(set(origins.values())) > 1:
        raise ValueError(
            f"the runs are given labelled pixels of different origin (examples: {_listed(origins)}): compare them by "
            "--points with one --examples"
        )


def conditions(experiments: Mapping[str, Experiment], dataset: PackedDataset, split: str) -> str:
    """Sentences on what makes the columns of a comparison comparable, and on how the trainings differ.

    Args:
        experiments: those compared, by run id: `check_alike` has passed.
        dataset: what they are measured on.
        split: which of its splits.
    """
    size = next(iter(experiments.values())).augmentation.resize
    text = "their own size" if size is None else "x".join(map(str, size)) if isinstance(size, tuple) else str(size)
    measured = f"All are measured on the same {dataset.size(split)} images of {split} (data {dataset.fingerprint}), "
    measured += f"at {text}."
    if clear := _clearness(experiments):
        whose = "all" if len(clear) == len(experiments) else f"{len(clear)} of {len(experiments)}"
        least = next(iter(clear.values()))
        measured += f" Of these, {whose} leave out what is less than {least:.0%} valid." if least else ""
    budgets: dict[str, list[object]] = {
        "steps": [experiment.steps for experiment in experiments.values()],
        "batch_size": [experiment.batch_size for experiment in experiments.values()],
        "label_budget": [experiment.label_budget for experiment in experiments.values()],
        "data": [experiment.data for experiment in experiments.values()],
    }
    differ = [f"{name} {', '.join(map(str, values))}" for name, values in budgets.items() if len(set(values)) > 1]
    if not differ:
        return f"{measured} They were trained with one budget of steps, batch and labels."
    return f"{measured} They were trained with different budgets, in the order of the columns: {'; '.join(differ)}."


def compare(
    folders: Mapping[str, Path],
    data: str,
    split: str,
    workspace: Workspace,
    measures: FurtherMeasures | None = None,
) -> tuple[str, list[str], Table, dict[str, str]]:
    """Measure checkpoints on a split, each as `evaluate` does; the comparison's run id and its table.

    Args:
        folders: the checkpoints' folders by the id of the run that trained each, in the order of the columns.
        data: the packed data set.
        split: which of its splits.
        workspace: where the runs are kept, and whether a GPU is to be had.
        measures: what is measured beside what every evaluation measures; each setting of the dense CRF is a further
            column of the table for each method, but not of the picture.

    Returns:
        The MLflow run, the table's columns, its rows, and the only class that is predicted, by the columns of which
        that is so.

    Raises:
        ValueError: as `evaluate`.
        CheckpointError: a damaged checkpoint.
    """
    measures = measures or FurtherMeasures()
    dataset = PackedDataset.open(data)
    experiments = {run_id: checkpoint_files.read_experiment(folder_of_run) for run_id, folder_of_run in folders.items()}
    titles = titles_of(experiments)
    evaluations: list[str] = []
    scores: dict[str, dict[str, float]] = {}
    one_class: dict[str, str] = {}
    shown: dict[str, list[PanelRow]] = {}
    for title, (run_id, folder_of_run) in zip(titles, folders.items(), strict=True):
        report = evaluate(TrainedModel(folder_of_run, run_id), data, split, workspace, measures)
        scores[title], shown[title] = report.scores, report.panels
        evaluations.append(report.run_id)
        one_class |= {
            column: report.one_class[prefix]
            for column, prefix in _prefixes(title, split, measures.crf).items()
            if prefix in report.one_class
        }
    columns, table = table_of(scores, dataset.info.classes, split, measures)
    # An evaluation's id stands for its checkpoint too: the best and the last of one run are two comparisons.
    details = RunDetails(
        f"compare {split}: {', '.join(titles)}"[:200],
        tags={
            "miseg.kind": "comparison",
            "miseg.data": data,
            "miseg.data_fingerprint": dataset.fingerprint,
            "miseg.compared": " ".join(folders),
            "miseg.evaluations": " ".join(evaluations),
        },
        params={"split": split},
    )
    name = f"compare-{split}-{dataset.fingerprint}-{'-'.join(evaluations)}"
    run_id = mlflow_runs.open_run(workspace, mlflow_runs.experiment_name(data), name, details)
    tracking_uri = workspace.tracking_uri
    try:
        log = Journal(journal_folder(workspace.storage), tracking_uri, run_id)
        with tempfile.TemporaryDirectory() as folder:
            if all(shown.values()):
                path = Path(folder) / f"comparison-{split}.png"
                comparison(shown, dataset.info.colours, dataset.info.classes).save(path)
                log.artifact(path, "comparison")
            path = Path(folder) / f"comparison-{split}.csv"
            write_table(path, ("class", *columns), ([name, *(f"{v:.6f}" for v in values)] for name, values in table))
            log.artifact(path, "tables")
        log.close()
    except Exception as error:
        mlflow_runs.fail_run(tracking_uri, run_id, error)
        raise
    mlflow_runs.end_run(tracking_uri, run_id, "FINISHED", "finished")
    return run_id, columns, table, one_class


def titles_of(experiments: Mapping[str, Experiment]) -> list[str]:
    """Title of each experiment, by the id of its run: its method, and what tells it from others of that method.

    That is one or two parameters (such as the seed) where these tell all of them apart, else the start of the run's id.
    """
    words = {
        run_id: re.sub(r"(?<!^)(?=[A-Z])", " ", type(experiment.method).__name__).lower()
        for run_id, experiment in experiments.items()
    }
    titles = []
    for run_id, method in words.items():
        described = {other: parameters(experiments[other]) for other in words if words[other] == method}
        keys = dict.fromkeys(key for settings in described.values() for key in settings)
        differing = [key for key in keys if len({settings.get(key) for settings in described.values()}) > 1]
        differences = {
            other: ", ".join(f"{k} {settings.get(k)}" for k in differing) for other, settings in described.items()
        }
        if len(differences) == 1:
            titles.append(method)
        elif len(differing) <= 2 and len(set(differences.values())) == len(differences):
            titles.append(f"{method}, {differences[run_id]}")
        else:
            titles.append(f"{method}, {run_id[:8]}")
    return titles


def table_of(
    scores: Mapping[str, Mapping[str, float]],
    class_names: Sequence[str],
    split: str,
    measures: FurtherMeasures | None = None,
) -> tuple[list[str], Table]:
    """Scores by method and metric name as a table: a column for each method and after it one for each CRF."""
    measures = measures or FurtherMeasures()
    rows = {name: f"{CLASS_IOU}/{name}" for name in class_names} | {TITLES[name]: name for name in MEASURES}
    if measures.thin:
        rows |= {f"clDice of {name}": f"{CLASS_CLDICE}/{name}" for name in measures.thin}
        rows[TITLES[MEAN_CLDICE]] = MEAN_CLDICE
    if measures.crf:
        rows["CRF seconds"] = SECONDS_PER_IMAGE
    columns = {}
    for title, of_method in scores.items():
        for column, prefix in _prefixes(title, split, measures.crf).items():
            columns[column] = [of_method.get(f"{prefix}/{metric}", math.nan) for metric in rows.values()]
    return list(columns), [(name, list(row)) for name, *row in zip(rows, *columns.values(), strict=True)]


def _prefixes(title: str, split: str, crf: Sequence[DenseCRF]) -> dict[str, str]:
    """The columns of a method, and how the names of their scores begin."""
    return {title: split} | {
        f"{title}, CRF {settings.iterations}": f"{split}/crf_{settings.iterations}" for settings in crf
    }


def _clearness(experiments: Mapping[str, Experiment]) -> dict[str, float]:
    """Share of its pixels that must be valid for a chip to be measured, of the experiments that learn from pairs."""
    return {
        run_id: experiment.pairs.min_valid for run_id, experiment in experiments.items() if experiment.learns_from_pairs
    }


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"run {run_id}: {value}" for run_id, value in values.items())
