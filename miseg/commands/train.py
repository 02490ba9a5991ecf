"""Train one recipe, or the experiment of an MLflow run again.

miseg train embedded-rmi
miseg train camvid-rmi --method.weight 0.3 --seed 1 --workers 2
miseg train --from-run 3f0c9d…
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints.storage_failures import WhenStorageFails
from miseg.service.command.options import JobOptions, execute


@dataclass
class How(JobOptions):
    """Options of every training."""

    workers: int = 1
    """Training workers (processes), one GPU each where there are GPUs."""
    name: str | None = None
    """Name of the run; the name of a run that was stopped continues it, a new one trains once more what was
    trained before. Default: the experiment's id and the time."""
    max_failures: int = 3
    """Number of lost workers that are replaced before the run is given up; -1 for no limit."""
    keep_all: bool = False
    """Keep the checkpoint of every validation in the storage's runs/NAME, not only the best and the last."""
    register: str | None = None
    """Register the best checkpoint as a version of MLflow's model of this name: models:/NAME@best is the best of its
    versions that were measured on the same data. Default: none is registered."""
    when_storage_fails: WhenStorageFails = "continue"
    """If a checkpoint cannot be written (a full disk): go on, with a warning, and try again at the next validation,
    or stop. A run whose last one is missing has failed either way; under its name it goes on from the one before."""


@dataclass
class Train(How):
    """Train one recipe; every field of the recipe is an option."""

    experiment: Annotated[tyro.conf.AvoidSubcommands[Experiment], tyro.conf.arg(name="")] = field(
        default_factory=Experiment
    )
    labelled_images: int | None = None
    """Label budget of a method that learns from images: how many training images are used. Default: the recipe's."""
    labelled_pixels_per_class: int | None = None
    """Label budget of a few-label method: how many labelled pixels of each class it is given. Default: the recipe's."""


@dataclass
class Again(How):
    """Train the experiment of an MLflow run once more, from its record alone."""

    from_run: Annotated[str, tyro.conf.arg(name="from-run")] = ""
    """Id of the MLflow run."""


def run(arguments: Train | Again) -> int:
    """Train, and say how it ended; status 1 where it did not get to its last step."""
    # Not at the top: --help must not wait for them.
    from miseg.service.command.start import prepare
    from miseg.service.tracking import mlflow_runs, queries, registry
    from miseg.service.tracking.claims import claimed
    from miseg.service.training import train
    from miseg.service.training.run import FINISHED, TrainingRun
    from miseg.service.tuning import repeats

    if arguments.register is not None:
        registry.check_name(arguments.register)
    if isinstance(arguments, Again):
        uri = mlflow_runs.tracking_uri(arguments.root, arguments.offline)
        experiment = queries.read_experiment(uri, arguments.from_run)
    else:
        labels = arguments.labelled_images, arguments.labelled_pixels_per_class
        experiment = arguments.experiment.with_labels(*labels)
    job = prepare(arguments, [experiment], workers=arguments.workers, show_workers=True)
    name = arguments.name or f"{experiment.id}-{job.stamp}"
    again = {"miseg.from_run": arguments.from_run} if isinstance(arguments, Again) else {}

    def register(run_id: str) -> None:
        if arguments.register is not None:
            train.register(job.storage, job.tracking_uri, run_id, arguments.register, job.data)
            print(registry.describe_best(job.tracking_uri, arguments.register))

    # A name, and --from-run, ask for it once more.
    first = arguments.name is None and not again
    if first and (earlier_run := repeats.trained(job.tracking_uri, experiment, job.data)) is not None:
        print(repeats.training_message(earlier_run))
        register(earlier_run.info.run_id)
        print(f"look at it with: {job.look(earlier_run.info.run_id)}")
        return 0
    experiment_name = mlflow_runs.experiment_name(experiment.data)
    with claimed(job, experiment_name, name, experiment.id if first else ""):
        outcome = train.fit(
            TrainingRun(
                name,
                experiment,
                job.data,
                job.storage,
                job.tracking_uri,
                job.resources,
                display=arguments.name or f"{type(experiment.method).__name__} seed {experiment.seed}",
                tags=again,
                keep_all=arguments.keep_all,
                when_storage_fails=arguments.when_storage_fails,
            ),
            callbacks=[train.Say(experiment.steps)],
            max_failures=arguments.max_failures,
        )
    print(f"{outcome.ended} at step {outcome.step}: mean IoU {outcome.mean_iou:.4f} (best {outcome.best_mean_iou:.4f})")
    if outcome.ended == FINISHED:
        register(outcome.run_id)
    print(f"MLflow run {outcome.run_id} at {job.tracking_uri}; look at it with: {job.look(outcome.run_id)}")
    return 0 if outcome.ended == FINISHED else 1


def command_line(arguments: list[str]) -> list[str]:
    """`--from-run` needs no recipe: it stands for the subcommand `again`."""
    return ["again", *arguments] if arguments[:1] and arguments[0].startswith("--from-run") else arguments


def recipe_type() -> type:
    """One subcommand a recipe, and `again`."""
    trains = tyro.extras.subcommand_type_from_defaults(
        {name: Train(experiment=recipe()) for name, recipe in RECIPES.items()},
        {name: (recipe.__doc__ or "").strip().partition("\n")[0] for name, recipe in RECIPES.items()},
    )
    return trains | Annotated[Again, tyro.conf.subcommand("again")]  # type: ignore[return-value]


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(recipe_type(), run, __doc__, command_line(sys.argv[1:]))
