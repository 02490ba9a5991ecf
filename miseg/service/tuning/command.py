"""The frame of the tuning jobs: their common options, and the way from options to the two tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from miseg.methods import registry
from miseg.methods.ranges import Space
from miseg.recipes.experiment import Experiment, with_steps
from miseg.recipes.space_text import check
from miseg.service.checkpoints.storage_failures import WhenStorageFails
from miseg.service.command.options import JobOptions

if TYPE_CHECKING:
    from miseg.service.command.start import Job
    from miseg.service.training.run import Selection
    from miseg.service.tuning.tune import TuningReport
    from miseg.service.tuning.tuning import Tuning


@dataclass
class TuningOptions(JobOptions):
    """Options of every tuning."""

    trials: int | None = None
    """Points of the search space that are tried; the first is always the published setting. A grid has its own.
    Default: 6, or 32 on a cluster with GPUs."""
    concurrent: int | None = None
    """Trials at a time, at most 8. Default: what the GPUs hold; without a GPU, what the CPUs and the memory hold."""
    workers_per_trial: int = 1
    """Training workers (processes) of each trial."""
    steps: int | None = None
    """Optimiser steps of a whole trial. Default: the recipe's."""
    seed: int = 0
    """Seeds the search, and the trials' weights and data order."""
    confirm_seeds: int = 3
    """Fresh seeds on which winner, published setting and baselines are trained again."""
    name: str | None = None
    """Name of the tuning; a new one tunes once more what was tuned before. Default: what is tuned, the data or recipe,
    and the time."""
    when_storage_fails: WhenStorageFails = "continue"
    """If a checkpoint cannot be written: go on and try again at the next validation, or stop the trial."""
    resume: bool = False
    """Continue the tuning called --name (default: the last one on this data) without running a finished trial again."""

    def check(self) -> None:
        """Raise ValueError where a count is below 1."""
        for option in ("trials", "confirm_seeds"):
            if (value := getattr(self, option)) is not None and value < 1:
                raise ValueError(f"--{option.replace('_', '-')} {value}: use 1 or more")

    def shortened(self, experiment: Experiment) -> Experiment:
        """The experiment of the steps asked for, with five validations: ASHA can then compare trials of any length."""
        return experiment if self.steps is None else with_steps(experiment, self.steps)


@dataclass(frozen=True)
class TuningRequest:
    """Request for a tuning: the experiment, its space, and the rivals of the winner."""

    stem: str
    """Prefix of the tuning's default name."""
    base: Experiment
    """The published setting: what the space does not change, and the first trial where the space holds it."""
    rivals: Mapping[str, Experiment]
    """Experiments that are confirmed beside the winner and `base`, by the names of their rows."""
    typed: Space | None = None
    """Search space. Default: the one that is registered for the method."""
    grid: Mapping[str, Sequence[Any]] | None = None
    """Values that each parameter runs through, in place of a search."""
    selection: Selection = "labels"
    """Score by which trials are compared; methods with labels have mean IoU alone."""
    plan: str = ""
    """JSON text of the plan that `base` was made by; "": a recipe."""

    @property
    def space(self) -> Space:
        """The space that is searched."""
        return self.typed or registry.of(self.base.method).space

    @property
    def experiments(self) -> list[Experiment]:
        """Experiments that must fit the data and the cluster: of a space that somebody typed its ends too."""
        return [self.base, *self.rivals.values(), *(check(self.typed, self.base) if self.typed else ())]


def search(arguments: TuningOptions, request: TuningRequest) -> int:
    """Tune what is asked for, confirm the winner beside the published setting and its rivals, and print the tables.

    Returns 1 where a confirmation failed, or every trial, else 0. Nothing is done where the same was tuned before under
    another name, and no name asks for it once more.

    Raises:
        ValueError: a setting that does not fit the data or the cluster, a name that is taken, or a tuning that another
            process is at.
    """
    # Not at the top: --help must not wait for them.
    from miseg.service.command.start import prepare, tuning_name
    from miseg.service.tracking import mlflow_runs
    from miseg.service.tracking.claims import claimed
    from miseg.service.tuning import repeats, tune

    name = tuning_name(arguments.root, request.stem, arguments.name, arguments.resume)
    job = prepare(arguments, request.experiments, workers=arguments.workers_per_trial, concurrency=arguments.concurrent)
    tuning = _tuning(name, arguments, request, job)
    first = arguments.name is None and not arguments.resume
    if first and (earlier_run := repeats.tuned(job.tracking_uri, tuning)) is not None:
        print(repeats.tuning_message(earlier_run))
        print(f"look at it with: {job.look(earlier_run.info.run_id)}")
        return 0
    if not arguments.resume:
        repeats.check_name(job.tracking_uri, tuning)
    subject = repeats.settings_of(tuning) if first else ""
    with claimed(job, mlflow_runs.experiment_name(tuning.base.data), name, subject):
        print(
            f"tuning {name}: {tuning.points} trials of {tuning.base.steps} steps, {job.resources.concurrency} at a "
            "time",
            flush=True,
        )
        report = tune.run(tuning)
    _print(report, tuning, job)
    return 1 if report.failures else 0


def _tuning(name: str, arguments: TuningOptions, request: TuningRequest, job: Job) -> Tuning:
    # Not at the top: --help must not wait for them.
    from miseg.service.tuning.tuning import Tuning

    tuned, untuned = registry.of(request.base.method).rows(planned=bool(request.plan))
    return Tuning(
        name=name,
        base=request.base,
        space=request.space,
        default_point=request.space.point(request.base),
        rivals={**request.rivals, untuned: request.base},
        tuned=tuned,
        data=job.data,
        storage=job.storage,
        tracking_uri=job.tracking_uri,
        resources=job.resources,
        trials=arguments.trials or (32 if job.resources.use_gpu else 6),
        confirm_seeds=arguments.confirm_seeds,
        seed=arguments.seed,
        selection=request.selection,
        grid=request.grid,
        when_storage_fails=arguments.when_storage_fails,
        plan=request.plan,
    )


def _print(report: TuningReport, tuning: Tuning, job: Job) -> None:
    """The tables of a tuning, and where its runs are."""
    # Not at the top: --help must not wait for them.
    from miseg.data.packed.dataset import PackedDataset
    from miseg.service.tracking import registry as models
    from miseg.service.tuning import tables

    base = tuning.base
    print(f"\nTrials\n{tables.trials_text(report.trials)}")
    if tuning.grid:
        print(f"\nMean IoU by region size (across)\n{tables.grid_text(report.trials)}")
    if report.agreement is not None:
        print(f"\nRank correlation of objective and mean IoU over the trials: {report.agreement:.2f}")
    split = base.validation_split(PackedDataset.open(job.data).splits)
    for score, table in tables.summaries(report.confirmation).items():
        print(f"\n{tables.SCORES[score]} on {split} after step {base.steps}, {tuning.confirm_seeds} fresh seeds")
        print(tables.summary_text(table))
    for registered in report.registered:
        print(f"\n{models.describe_best(job.tracking_uri, registered)}")
    print(f"\nMLflow run {report.parent_run} with a child for each trial")
    print(f"compare them with: {job.look(report.parent_run)}")
    for failure in report.failures:
        print(f"failed: {failure}")
    if report.failures:
        print(f"--resume --name {tuning.name} tries again")
