"""Measure trained models on any split: IoU, accuracy and pictures, all in MLflow.

Several runs are also compared: their predictions in one picture, their scores in one table.

miseg evaluate --run 3f0c9d… --split val
miseg evaluate --run 3f0c9d… 81b2aa… c07d13…
miseg evaluate --run 3f0c9d… --crf 1 5 10
miseg evaluate --run 3f0c9d… --cldice pole fence
miseg evaluate --run 3f0c9d… --points 1 5 10 50 --draws 10
miseg evaluate --run 3f0c9d… --points 50 --examples image
miseg evaluate --checkpoint ~/miseg/runs/NAME/checkpoint_… --split test
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from miseg.service.cluster.uris import check_recorded
from miseg.service.command.options import JobOptions, check_data, execute

if TYPE_CHECKING:
    from miseg.recipes.experiment import Experiment
    from miseg.service.command.start import Job
    from miseg.service.evaluation.few_labels import Draws


@dataclass
class Evaluate(JobOptions):
    """Measure a model on a split, or several side by side."""

    run: tuple[str, ...] = ()
    """Ids of the MLflow runs whose models are measured; two or more are also compared."""
    role: Literal["best", "last"] = "best"
    """Choice among a run's two models: the best on validation, or the last."""
    checkpoint: str | None = None
    """Folder of a checkpoint, in place of --run."""
    split: str = "val"
    """Split of the data set."""
    data: str | None = None
    """Data set to measure on. Default: the one the models were trained on."""
    crf: tuple[int, ...] = ()
    """Iterations of a dense CRF after which the predictions are measured once more (extra crf), such as 1 5 10."""
    cldice: tuple[str, ...] = ()
    """Thin classes, such as pole or vessel, whose skeletons are measured: clDice (extra cldice)."""
    points: tuple[int, ...] = ()
    """Of a few-label method: numbers of labelled pixels a class, such as 1 5 10 50."""
    draws: int | None = None
    """Number of draws of the labelled pixels for each number of --points. Default: 10."""
    examples: Literal["date", "image"] | None = None
    """Origin of the labelled pixels of --points: one date, from which every date is mapped, or each image that is
    mapped. Default: the recipe's."""
    compare: tuple[Literal["local", "global", "representation", "patches", "pixels"], ...] = ()
    """Comparisons that are measured with --points. Default: all that the method has."""
    dates: tuple[str, ...] = ()
    """Dates of the labelled pixels, for as many draws each as there are. Default: all clear ones, or, where they are
    more than the draws, some at equal distances."""


def run(arguments: Evaluate) -> int:
    """Measure and print the scores."""
    if bool(arguments.run) == (arguments.checkpoint is not None):
        raise ValueError("give one of --run and --checkpoint")
    arguments.run = tuple(run_id.removeprefix("runs:/") for run_id in arguments.run)
    if len(set(arguments.run)) < len(arguments.run):
        raise ValueError(f"--run {' '.join(arguments.run)}: name each run once")
    if len(set(arguments.crf)) < len(arguments.crf):
        raise ValueError(f"--crf {' '.join(map(str, arguments.crf))}: name each number of iterations once")
    _check_options(arguments)
    if arguments.data is not None:
        check_data(arguments.data, arguments.root)
    if arguments.run:
        check_recorded(arguments.root, arguments.offline)
    # Not at the top: --help must not wait for them.
    from dataclasses import replace

    from miseg.data.packed.dataset import PackedDataset
    from miseg.evaluation.crf import DenseCRF
    from miseg.extras import require
    from miseg.one_class import TELLS, phrase
    from miseg.service.checkpoints import checkpoint_files
    from miseg.service.command.start import packed, prepare
    from miseg.service.evaluation.compare import check_alike, compare, conditions
    from miseg.service.evaluation.evaluate import TrainedModel, check, evaluate
    from miseg.service.evaluation.scores import FurtherMeasures
    from miseg.service.tracking import mlflow_runs, models

    measures = FurtherMeasures(tuple(map(DenseCRF, arguments.crf)), arguments.cldice)
    if measures.crf:
        require("crf", "--crf, the dense CRF,", "pydensecrf")
    with tempfile.TemporaryDirectory() as folder:
        uri = mlflow_runs.tracking_uri(arguments.root, arguments.offline)
        # Folders named by their run: what is wrong with a checkpoint is told with its path.
        checkpoints = {
            run_id: models.download(uri, run_id, arguments.role, Path(folder) / Path(run_id).name)
            for run_id in arguments.run
        }
        if arguments.checkpoint is not None:
            checkpoints[""] = Path(arguments.checkpoint)
        experiments = {
            run_id: checkpoint_files.read_experiment(checkpoint) for run_id, checkpoint in checkpoints.items()
        }
        if arguments.data is not None:
            experiments = {
                run_id: replace(experiment, data=arguments.data) for run_id, experiment in experiments.items()
            }
        if arguments.examples is not None:
            experiments = {
                run_id: replace(experiment, examples=arguments.examples) for run_id, experiment in experiments.items()
            }
        check_alike(experiments)
        data = packed(next(iter(experiments.values())).data, arguments.root)
        splits = PackedDataset.open(data).splits
        if arguments.split == "val":
            arguments.split = next(iter(experiments.values())).validation_split(splits)
        for checkpoint in checkpoints.values():
            check(checkpoint, PackedDataset.open(data), arguments.split)
        measures.check(PackedDataset.open(data).info.classes, data)
        draws = _draws(arguments, experiments) if arguments.points else {}
        job = prepare(arguments, list(experiments.values()), splits=(arguments.split,))
        if draws:
            return _few(arguments.split, checkpoints, draws, job)
        if len(checkpoints) > 1:
            run_id, columns, table, one_class = compare(checkpoints, job.data, arguments.split, job, measures)
        else:
            ((parent, checkpoint),) = checkpoints.items()
            model = TrainedModel(checkpoint, parent or None)
            run_id, scores, _, by_prefix = evaluate(model, job.data, arguments.split, job, measures)
            columns, table = [""], [(name, [value]) for name, value in scores.items()]
            one_class = {f"the model ({prefix})": name for prefix, name in by_prefix.items()}
    _print_table(columns, table)
    if len(experiments) > 1:
        print(conditions(experiments, PackedDataset.open(job.data), arguments.split))
    for subject, name in one_class.items():
        print(f"warning: {subject} {phrase([name])}: {TELLS}")
    print(f"MLflow run {run_id} at {job.tracking_uri}; look at it with: {job.look(run_id)}")
    return 0


def _print_table(columns: Sequence[str], table: Sequence[tuple[str, Sequence[float]]]) -> None:
    """A line a score, under the columns' titles where there are any."""
    lines = [["", *columns]] if any(columns) else []
    lines += [[name, *(f"{value:.4f}" for value in values)] for name, values in table]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name, *values in lines:
        print(f"{name:<{widths[0]}}", *(f"{v:>{width}}" for v, width in zip(values, widths[1:], strict=True)), sep="  ")


def _check_options(arguments: Evaluate) -> None:
    """Raise ValueError where an option would say nothing beside the others, or without --points."""
    given = {
        name: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name in ("examples", "draws", "compare", "dates", "crf", "cldice")
        if (value := getattr(arguments, name)) not in (None, ())
    }
    for name, text in given.items():
        if name in ("crf", "cldice") and arguments.points:
            raise ValueError(f"--{name} {text}: maps from few labels, --points, are measured without; leave one out")
        if name not in ("crf", "cldice") and not arguments.points:
            raise ValueError(f"--{name} {text}: it is about the labelled pixels of --points; add it")


def _draws(arguments: Evaluate, experiments: dict[str, Experiment]) -> dict[str, Draws]:
    """The labelled pixels that each model maps from, by its run.

    Raises:
        ValueError: a method that takes none, or options that do not go together.
    """
    # Not at the top: --help must not wait for it.
    from miseg.service.evaluation import few_labels

    drawn = {}
    for run_id, experiment in experiments.items():
        few_labels.check_takes_labels(experiment)
        count = 10 if arguments.draws is None else arguments.draws
        drawn[run_id] = few_labels.Draws(
            arguments.points, count, arguments.dates, arguments.compare, experiment.examples
        )
    return drawn


def _few(split: str, checkpoints: dict[str, Path], draws: dict[str, Draws], job: Job) -> int:
    # Not at the top: --help must not wait for them.
    from miseg.service.evaluation import few_labels
    from miseg.service.evaluation.evaluate import TrainedModel
    from miseg.service.terminal.fitted_tables import fitted

    for run_id_of_model, checkpoint in checkpoints.items():
        model = TrainedModel(checkpoint, run_id_of_model or None)
        run_id, table = few_labels.measure(model, job.data, split, draws[run_id_of_model], job)
        print(fitted(table, "{:.3f}"))
        print(f"MLflow run {run_id} at {job.tracking_uri}; look at it with: {job.look(run_id)}")
    return 0


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(Evaluate, run, __doc__)
