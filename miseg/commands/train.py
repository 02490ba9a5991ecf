"""Train one recipe, a method on any data, or the experiment of an MLflow run again.

miseg train embedded-rmi
miseg train camvid-rmi --method.weight 0.3 --seed 1 --workers 2
miseg train rmi --data pets
miseg train rmi --data pets --network segformer --encoder mit_b0
miseg train --from-run 3f0c9d…
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated

import tyro

from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import CONTENDERS
from miseg.recipes.experiment import Experiment
from miseg.recipes.planning.given import named_settings
from miseg.recipes.planning.plan import PLAN, TrainingPlan
from miseg.service.checkpoints.pretrained import check_sources
from miseg.service.checkpoints.storage_failures import WhenStorageFails
from miseg.service.command.names import check_known
from miseg.service.command.networks import NetworkOptions, check_named_once
from miseg.service.command.options import JobOptions, check_data, execute

if TYPE_CHECKING:
    from mlflow.entities import Run

    from miseg.service.command.start import Job
    from miseg.service.command.training_output import TrainingOutput
    from miseg.service.training.run import TrainingOutcome


@dataclass
class How(JobOptions):
    """Options of every training."""

    workers: int = 1
    """Training workers (processes), one GPU each where there are GPUs."""
    spread: bool = False
    """Put each worker on a machine of its own, as far as there are: the loss of one then costs one worker, and each has
    its machine's memory and links. Default: on as few machines as hold them, where they exchange gradients fastest."""
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
class Train(NetworkOptions, How):
    """Train one recipe; every field of the recipe is an option."""

    experiment: Annotated[tyro.conf.AvoidSubcommands[Experiment], tyro.conf.arg(name="")] = field(
        default_factory=Experiment
    )
    labelled_images: int | None = None
    """Label budget of a method that learns from images: how many training images are used. Default: the recipe's."""
    labelled_pixels_per_class: int | None = None
    """Label budget of a few-label method: how many labelled pixels of each class it is given. Default: the recipe's."""


@dataclass
class TrainMethod(Train):
    """Train a method on any data set (--data). What is not given of crop, batch, schedule and augmentation, and of the
    method what depends on the size of images, is planned from the data and the memory, and printed with the reasons;
    the defaults below are of the rest."""


@dataclass
class Again(How):
    """Train the experiment of an MLflow run once more, from its record alone."""

    from_run: Annotated[str, tyro.conf.arg(name="from-run")] = ""
    """Id of the MLflow run."""


@dataclass(frozen=True)
class EndedTraining:
    """A training that ended, now or before."""

    experiment: Experiment
    job: Job
    outcome: TrainingOutcome
    plan: TrainingPlan | None = None
    """Settings that were planned from the data; None: of a recipe, or of a run."""


def run(arguments: Train | Again, command: Sequence[str] = ()) -> int:
    """Train, and say how it ended; status 1 where it did not get to its last step. Arguments as of `trained`."""
    check(arguments, command)
    # Not at the top: --help must not wait for them.
    from miseg.service.command.training_output import TrainingOutput
    from miseg.service.training.run import FINISHED

    return 0 if trained(arguments, command, TrainingOutput()).outcome.ended == FINISHED else 1


def check(arguments: Train | Again, command: Sequence[str]) -> None:
    """Raise ValueError for what is wrong with options whatever the data are; puts the network into the experiment."""
    if isinstance(arguments, Train):
        check_data(arguments.experiment.data, arguments.root)
        check_named_once(arguments, command)
        arguments.experiment = arguments.applied(arguments.experiment)
        check_sources(arguments.experiment)


def trained(arguments: Train | Again, command: Sequence[str], output: TrainingOutput) -> EndedTraining:
    """Train what options ask for that `check` let pass; nothing is trained where that was done before.

    Args:
        arguments: what to train.
        command: the command line that they are from: what it names is not planned.
        output: what is said on the way.

    Raises:
        ValueError: a setting that does not fit the data or the cluster, or a name that is taken.
        TrackingError: MLflow does not answer.
    """
    # Not at the top: --help must not wait for them.
    from miseg.service.command.start import prepare
    from miseg.service.study import throughput
    from miseg.service.tracking import registry
    from miseg.service.training.run import FINISHED
    from miseg.service.tuning import repeats

    if arguments.register is not None:
        registry.check_name(arguments.register)
    experiment, plan = _described(arguments, command, output)
    output.announce(experiment)
    if arguments.name is not None:
        _check_name(arguments, arguments.name, experiment)
    job = prepare(arguments, [experiment], workers=arguments.workers, show_workers=output.shown)
    # A name, and --from-run, ask for it once more.
    first = arguments.name is None and not isinstance(arguments, Again)
    if first and (earlier_run := repeats.trained(job.tracking_uri, experiment, job.data)) is not None:
        output.say(repeats.training_message(earlier_run))
        _register(arguments, job, earlier_run.info.run_id, output)
        output.say(f"look at it with: {job.look(earlier_run.info.run_id)}")
        return EndedTraining(experiment, job, _earlier(experiment, job, earlier_run), plan)
    if plan is not None and arguments.workers == 1:
        output.say(throughput.expectation(job.tracking_uri, experiment, job.data, job.resources))
    outcome = _fitted(arguments, experiment, job, plan, output)
    output.ended(outcome)
    if outcome.ended == FINISHED:
        _register(arguments, job, outcome.run_id, output)
    output.recorded(job, outcome.run_id)
    return EndedTraining(experiment, job, outcome, plan)


def _described(
    arguments: Train | Again, command: Sequence[str], output: TrainingOutput
) -> tuple[Experiment, TrainingPlan | None]:
    """The experiment that is asked for, and what of it was planned from the data."""
    # Not at the top: --help must not wait for them.
    from miseg.service.command.planning import planned
    from miseg.service.tracking import mlflow_runs, queries

    if isinstance(arguments, Again):
        uri = mlflow_runs.tracking_uri(arguments.root, arguments.offline)
        return queries.read_experiment(uri, arguments.from_run), None
    labels = arguments.labelled_images, arguments.labelled_pixels_per_class
    experiment = arguments.experiment.with_labels(*labels)
    if not isinstance(arguments, TrainMethod):
        return experiment, None
    given = named_settings(command, experiment)
    ((experiment, plan),) = planned(arguments, [experiment], given, arguments.workers)
    arguments.decoded_gib = plan.decoded_gib
    output.say(plan.table())
    return experiment, plan


def _fitted(
    arguments: Train | Again, experiment: Experiment, job: Job, plan: TrainingPlan | None, output: TrainingOutput
) -> TrainingOutcome:
    """Train an experiment under the name that is asked for, or one of its own."""
    # Not at the top: --help must not wait for them.
    from miseg.service.tracking import mlflow_runs
    from miseg.service.tracking.claims import claimed
    from miseg.service.training import train
    from miseg.service.training.run import TrainingRun

    tags = {"miseg.from_run": arguments.from_run} if isinstance(arguments, Again) else {}
    subject = "" if arguments.name is not None or tags else experiment.id
    if plan is not None:
        tags[PLAN] = plan.json()
    name = arguments.name or f"{experiment.id}-{job.stamp}"
    run = TrainingRun(
        name,
        experiment,
        job.data,
        job.storage,
        job.tracking_uri,
        job.resources,
        display=arguments.name or f"{type(experiment.method).__name__} seed {experiment.seed}",
        tags=tags,
        keep_all=arguments.keep_all,
        when_storage_fails=arguments.when_storage_fails,
        spread=arguments.spread,
    )
    claim = claimed(job, mlflow_runs.experiment_name(experiment.data), name, subject)
    with claim, output.fitting(experiment.steps):
        return train.fit(run, max_failures=arguments.max_failures, opened=partial(output.opened, name, job))


def _earlier(experiment: Experiment, job: Job, earlier_run: Run) -> TrainingOutcome:
    """The outcome of a training that ended before."""
    # Not at the top: --help must not wait for them.
    from miseg.service.tracking import queries
    from miseg.service.training import train
    from miseg.service.training.run import FINISHED, TrainingOutcome, TrainingRun

    name = earlier_run.data.tags[queries.RUN_KEY]
    outcome = train.finished(TrainingRun(name, experiment, job.data, job.storage, job.tracking_uri, job.resources))
    # What its last validation logged may still be on its way to the server.
    nothing = earlier_run.info.run_id, experiment.steps, math.nan, math.nan, FINISHED
    return outcome or TrainingOutcome(*nothing, reused=True)


def _register(arguments: How, job: Job, run_id: str, output: TrainingOutput) -> None:
    """Register the best model of a run under the name that is asked for, if any."""
    if arguments.register is None:
        return
    # Not at the top: --help must not wait for them.
    from miseg.service.tracking import registry
    from miseg.service.training import train

    train.register(job.storage, job.tracking_uri, run_id, arguments.register, job.data)
    output.say(registry.describe_best(job.tracking_uri, arguments.register, run_id))


def _check_name(arguments: How, name: str, experiment: Experiment) -> None:
    """Raise ValueError where the name is that of another run; no Ray is started for it."""
    # Not at the top: --help must not wait for them.
    from miseg.service.cluster.ray_cluster import Resources
    from miseg.service.command.start import packed
    from miseg.service.tracking import mlflow_runs
    from miseg.service.training import train
    from miseg.service.training.run import TrainingRun

    uri = mlflow_runs.tracking_uri(arguments.root, arguments.offline)
    mlflow_runs.check(uri, arguments.root)
    data = str(packed(experiment.data, arguments.root))
    # What the cluster offers is of no consequence to what is trained.
    share = Resources(1.0, 0.0, arguments.workers, 1)
    train.finished(TrainingRun(name, experiment, data, arguments.root, uri, share))


def command_line(arguments: list[str]) -> list[str]:
    """The line that begins with a recipe, a method or `again`, for which `--from-run` stands.

    Raises:
        ValueError: a word in a recipe's place that is none.
    """
    first = arguments[0] if arguments else ""
    if first.startswith("--from-run"):
        return ["again", *arguments]
    if first in ("again", "-h", "--help"):
        return arguments
    if not first or first.startswith("-"):
        raise ValueError("name a recipe or a method behind miseg train, such as embedded-rmi, or rmi --data NAME")
    check_known(first)
    return arguments


def recipe_type() -> type:
    """One subcommand a recipe, one a method, and `again`."""
    recipes = {name: Train(experiment=recipe()) for name, recipe in RECIPES.items()}
    methods = {key: of for key, of in CONTENDERS.items() if key not in RECIPES}
    by_name = {key: TrainMethod(experiment=Experiment(method=of.settings())) for key, of in methods.items()}
    trains = tyro.extras.subcommand_type_from_defaults(
        by_name | recipes,
        {key: f"{of.label} on any data set: `{key} --data NAME`." for key, of in methods.items()}
        | {name: (recipe.__doc__ or "").strip().partition("\n")[0] for name, recipe in RECIPES.items()},
    )
    return trains | Annotated[Again, tyro.conf.subcommand("again")]  # type: ignore[return-value]


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    # What was given is read only then: a word that stands for an option has been replaced.
    execute(recipe_type(), lambda options: run(options, sys.argv[1:]), __doc__, command_line)
