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
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import tyro

from miseg.metric_names import VALIDATION_OBJECTIVE
from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import CONTENDERS
from miseg.recipes.experiment import Experiment
from miseg.recipes.planning.given import named_settings
from miseg.recipes.planning.plan import PLAN, TrainingPlan
from miseg.service.checkpoints.pretrained import check_sources
from miseg.service.cluster.uris import check_recorded
from miseg.service.command.names import check_known
from miseg.service.command.networks import check_batch_norm, check_named_once
from miseg.service.command.options import check_data, execute
from miseg.service.command.training_options import Again, How, Train, TrainMethod

if TYPE_CHECKING:
    from mlflow.entities import Run

    from miseg.service.command.start import Job
    from miseg.service.command.training_output import TrainingOutput
    from miseg.service.training.run import TrainingOutcome


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
    # Not at the top: --help must not wait for it.
    from miseg.service.command.fitting import check_early

    if isinstance(arguments, Train):
        check_data(arguments.experiment.data, arguments.root)
        check_named_once(arguments, command)
        arguments.experiment = arguments.applied(arguments.experiment)
        if not isinstance(arguments, TrainMethod):
            labelled = arguments.experiment.with_labels(arguments.labelled_images, arguments.labelled_pixels_per_class)
            check_early(arguments, [labelled], arguments.workers)
        elif arguments.workers == 1:
            check_batch_norm(arguments.experiment, arguments.workers, shared=False)
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
    experiment, plan, of_before = _described(arguments, command, output)
    output.announce(experiment)
    if arguments.name is not None:
        _check_name(arguments, arguments.name, experiment)
    job = prepare(arguments, [experiment], workers=arguments.workers, show_workers=output.shown)
    # A name, and --from-run, ask for it once more.
    first = arguments.name is None and not isinstance(arguments, Again)
    for same in (experiment, of_before) if first else ():
        if (earlier_run := repeats.trained(job.tracking_uri, same, job.data)) is not None:
            output.say(repeats.training_message(earlier_run))
            if same is not experiment:
                output.say(repeats.lengths_message(same, experiment))
            _register(arguments, job, earlier_run.info.run_id, output)
            output.say(f"look at it with: {job.look(earlier_run.info.run_id)}")
            return EndedTraining(same, job, _earlier(same, job, earlier_run), plan)
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
) -> tuple[Experiment, TrainingPlan | None, Experiment]:
    """The experiment that is asked for, what of it was planned, and what was asked for by this before 2026-12-01."""
    if isinstance(arguments, Again):
        check_recorded(arguments.root, arguments.offline)
    # Not at the top: --help must not wait for them.
    from miseg.service.command.fitting import check_alone
    from miseg.service.command.planning import planned
    from miseg.service.tracking import mlflow_runs, queries
    from miseg.service.tuning import repeats

    uri = mlflow_runs.tracking_uri(arguments.root, arguments.offline)
    if isinstance(arguments, Again):
        experiment = queries.read_experiment(uri, arguments.from_run)
        return experiment, None, experiment
    labels = arguments.labelled_images, arguments.labelled_pixels_per_class
    of_before = arguments.experiment.with_labels(*labels)
    given = named_settings(command, of_before)
    if isinstance(arguments, TrainMethod):
        ((experiment, plan),) = planned(arguments, [of_before], given, arguments.workers)
        arguments.decoded_gib = plan.decoded_gib
        check_alone(experiment, arguments.workers)
        output.say(plan.table())
        return experiment, plan, experiment
    experiment = arguments.shortened(given).with_labels(*labels)
    if arguments.name is not None and experiment != of_before:
        mlflow_runs.check(uri, arguments.root)
        experiment = repeats.as_begun(uri, arguments.name, experiment, of_before)
    if experiment == of_before:
        return experiment, None, experiment
    output.say(
        f"--steps {experiment.steps}: a warm-up of {experiment.optimiser.warmup_steps:,} steps and a validation every "
        f"{experiment.validate_every:,}, the shares of the recipe's {arguments.recipe_steps:,} steps"
    )
    return experiment, None, of_before


def _fitted(
    arguments: Train | Again, experiment: Experiment, job: Job, plan: TrainingPlan | None, output: TrainingOutput
) -> TrainingOutcome:
    """Train an experiment under the name that is asked for, or one of its own."""
    # Not at the top: --help must not wait for them.
    from miseg.service.terminal.going_on import goes_on_with
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
    with claim, output.fitting(experiment.steps), goes_on_with("--name", name):
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
    from miseg.service.journal.registering import register
    from miseg.service.tracking import registry

    register(job.storage, job.tracking_uri, run_id, arguments.register, job.data, VALIDATION_OBJECTIVE)
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
    recipes = {name: _recipe_options(recipe()) for name, recipe in RECIPES.items()}
    methods = {key: of for key, of in CONTENDERS.items() if key not in RECIPES}
    by_name = {key: TrainMethod(experiment=Experiment(method=of.settings())) for key, of in methods.items()}
    trains = tyro.extras.subcommand_type_from_defaults(
        by_name | recipes,
        {key: f"{of.label} on any data set: `{key} --data NAME`." for key, of in methods.items()}
        | {name: (recipe.__doc__ or "").strip().partition("\n")[0] for name, recipe in RECIPES.items()},
    )
    return trains | Annotated[Again, tyro.conf.subcommand("again")]  # type: ignore[return-value]


def _recipe_options(experiment: Experiment) -> Train:
    return Train(experiment=experiment, recipe_steps=experiment.steps)


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    # What was given is read only then: a word that stands for an option has been replaced.
    execute(recipe_type(), lambda options: run(options, sys.argv[1:]), __doc__, command_line)
