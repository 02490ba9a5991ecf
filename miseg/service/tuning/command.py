"""The frame of the tuning jobs: the way from their options to the two tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from miseg.methods import registry
from miseg.methods.ranges import Space
from miseg.recipes.experiment import Experiment
from miseg.recipes.space_text import check
from miseg.service.remarks import counted
from miseg.service.terminal.going_on import goes_on_with
from miseg.service.tuning.options import TuningOptions

if TYPE_CHECKING:
    from mlflow.entities import Run

    from miseg.service.command.start import Job
    from miseg.service.training.run import Selection
    from miseg.service.tuning.tune import TuningReport
    from miseg.service.tuning.tuning import Tuning


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
    of_before: TuningRequest | None = None
    """Request of the same options when warm-ups were as long as the recipes'; None: the same."""

    @property
    def space(self) -> Space:
        """The space that is searched."""
        return self.typed or registry.of(self.base.method).space

    @property
    def experiments(self) -> list[Experiment]:
        """Experiments that must fit the data and the cluster: of a space that somebody typed its ends too."""
        return [self.base, *self.rivals.values(), *(check(self.typed, self.base) if self.typed else ())]


def requests(arguments: TuningOptions, request_of: Callable[[], TuningRequest]) -> TuningRequest:
    """The request that options make, with the one that they made before warm-ups kept their share of fewer steps.

    Args:
        arguments: the options.
        request_of: makes the request from them, as they are then.
    """
    request, warm_up = request_of(), arguments.warm_up
    if arguments.steps is None or warm_up == "recipe":
        return request
    arguments.warm_up = "recipe"
    earlier, arguments.warm_up = request_of(), warm_up
    same = (earlier.base, earlier.rivals) == (request.base, request.rivals)
    return request if same else replace(request, of_before=earlier)


@dataclass(frozen=True)
class EndedTuning:
    """A tuning that ended, now or before."""

    tuning: Tuning
    job: Job
    report: TuningReport | None
    """Its tables; None where the same was tuned before, as `earlier_run`."""
    earlier_run: Run | None = None
    asked: Experiment | None = None
    """The experiment that is tuned by these options now, where warm-ups were longer then."""


def search(arguments: TuningOptions, request: TuningRequest) -> int:
    """Tune as `tuned` does, and print the tables; 1 where a confirmation failed, or every trial, else 0."""
    # Not at the top: --help must not wait for it.
    from miseg.service.tuning import repeats

    ended = tuned(arguments, request)
    if ended.report is None:
        assert ended.earlier_run is not None
        print(repeats.tuning_message(ended.earlier_run))
        if ended.asked is not None:
            print(repeats.lengths_message(ended.tuning.base, ended.asked))
        print(f"look at it with: {ended.job.look(ended.earlier_run.info.run_id)}")
        return 0
    _print(ended.report, ended.tuning, ended.job)
    return 1 if ended.report.failures else 0


def tuned(arguments: TuningOptions, request: TuningRequest) -> EndedTuning:
    """Tune what is asked for, and confirm the winner beside the published setting and its rivals.

    Nothing is done where the same was tuned before under another name, and no name asks for it once more.

    Raises:
        ValueError: a setting that does not fit the data or the cluster, a name that is taken, or a tuning that another
            process is at.
    """
    workers = arguments.value("workers_per_trial")
    # Not at the top: --help must not wait for them.
    from miseg.service.command.fitting import check_early

    check_early(arguments, request.experiments, workers)
    # Only now: these take longer.
    from miseg.service.command.start import prepare, tuning_name
    from miseg.service.tracking import mlflow_runs
    from miseg.service.tracking.claims import claimed
    from miseg.service.tuning import repeats, resuming, tune

    if request.grid is not None and arguments.trials is not None and not arguments.resume:
        raise ValueError(
            f"--trials {arguments.trials}: a grid has its own, {math.prod(map(len, request.grid.values()))}"
        )
    name = tuning_name(arguments.root, request.stem, arguments.name, arguments.resume)
    known = {item.name for item in fields(arguments)}
    if arguments.resume:
        _check_before(name, arguments, request, known)
    job = prepare(arguments, request.experiments, workers=workers, concurrency=arguments.concurrent)
    tuning = _tuning(name, arguments, request, job)
    first = arguments.name is None and not arguments.resume
    of_before = None if request.of_before is None else _tuning(name, arguments, request.of_before, job)
    for same in (tuning, of_before) if first else ():
        if same is not None and (earlier_run := repeats.tuned(job.tracking_uri, same)) is not None:
            return EndedTuning(same, job, None, earlier_run, tuning.base if same is of_before else None)
    if not arguments.resume:
        repeats.check_name(job.tracking_uri, tuning)
    before = resuming.find(job.tracking_uri, name)
    if before is not None and of_before is not None and resuming.warm_up(job.tracking_uri, before) == "recipe":
        arguments.warm_up, tuning = "recipe", replace(of_before, options=arguments.given | {"warm_up": "recipe"})
    for line in resuming.extended(tuning, before, known):
        print(f"{name} grows: {line}", flush=True)
    subject = repeats.settings_of(tuning) if first else ""
    with claimed(job, mlflow_runs.experiment_name(tuning.base.data), name, subject):
        print(
            f"tuning {name}: {counted(tuning.points, 'trial')} of {counted(tuning.base.steps, 'step')}, "
            f"{job.resources.concurrency} at a time",
            flush=True,
        )
        with goes_on_with("--resume", "--name", tuning.name):
            return EndedTuning(tuning, job, tune.run(tuning))


def _check_before(name: str, arguments: TuningOptions, request: TuningRequest, known: Collection[str]) -> None:
    """Raise ValueError where a tuning cannot go on with these options, or from its state; no Ray is started for it."""
    # Not at the top: --help must not wait for them.
    from miseg.service.cluster.ray_cluster import Resources
    from miseg.service.command.start import Job, packed
    from miseg.service.tracking import mlflow_runs
    from miseg.service.tuning import resuming, state

    uri = mlflow_runs.tracking_uri(arguments.root, arguments.offline)
    # What the cluster offers is of no consequence to what is compared.
    share = Resources(1.0, 0.0, arguments.value("workers_per_trial"), arguments.concurrent or 1)
    job = Job(arguments.root, uri, share, str(packed(request.base.data, arguments.root)), "")
    tuning = _tuning(name, arguments, request, job)
    resuming.extended(tuning, resuming.find(uri, name), known)
    if not arguments.trust_state:
        state.check(tuning.folder, name)


def _tuning(name: str, arguments: TuningOptions, request: TuningRequest, job: Job) -> Tuning:
    # Not at the top: --help must not wait for them.
    from miseg.service.tuning.tuning import Tuning

    tuned, untuned = registry.of(request.base.method).rows(bool(request.plan), request.base.method)
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
        confirm_seeds=arguments.value("confirm_seeds"),
        seed=arguments.value("seed"),
        selection=request.selection,
        grid=request.grid,
        when_storage_fails=arguments.when_storage_fails,
        spread=arguments.spread,
        trust_state=arguments.trust_state,
        plan=request.plan,
        options=arguments.given,
    )


def _print(report: TuningReport, tuning: Tuning, job: Job) -> None:
    """The tables of a tuning, and where its runs are."""
    # Not at the top: --help must not wait for them.
    from miseg.data.packed.dataset import PackedDataset
    from miseg.service.tracking import registry as models
    from miseg.service.tracking.description import order_text
    from miseg.service.tuning import tables

    base = tuning.base
    print(f"\nTrials\n{tables.trials_text(report.trials)}")
    print(f"\n{order_text(str(report.concurrent), grid=tuning.grid is not None)}")
    if tuning.grid:
        print(f"\nMean IoU by region size (across)\n{tables.grid_text(report.trials)}")
    if report.agreement is not None:
        print(f"\nRank correlation of objective and mean IoU over the trials: {report.agreement:.2f}")
    split = base.validation_split(PackedDataset.open(job.data).splits)
    for score, table in tables.summaries(report.confirmation).items():
        print(f"\n{tables.SCORES[score]} on {split} after step {base.steps}, {tuning.fresh_seeds}")
        print(tables.summary_text(table))
    if report.confirmation["row"].str.contains(tables.SAME_AS_TUNED, regex=False).any():
        print(f"{tables.SAME_AS_TUNED.strip()}: the search's best trial has this row's settings, so one row is both")
    if sentences := tables.one_class_text(report.confirmation):
        print(f"\n{sentences}")
    for registered, run_id in report.registered.items():
        print(f"\n{models.describe_best(job.tracking_uri, registered, run_id)}")
    print(f"\nMLflow run {report.parent_run} with a child for each trial")
    print(f"compare them with: {job.look(report.parent_run)}")
    for failure in report.failures:
        print(f"failed: {failure}")
    if report.failures:
        print(f"--resume --name {tuning.name} tries again")
    print("\nnext, to paste:")
    for purpose, command in _next(report, tuning, job):
        print(f"- {purpose}:\n{command}")


def _next(report: TuningReport, tuning: Tuning, job: Job) -> Iterator[tuple[str, str]]:
    """Purposes, each with its command."""
    # Not at the top: --help must not wait for them.
    from miseg.data.packed.dataset import PackedDataset
    from miseg.service.tuning.tables import METRIC, SAME_AS_TUNED

    if job.tracking_uri.startswith("sqlite"):
        yield "its runs in a browser", job.ui_command
    yield "the tuning as a page", job.command("report", "--tuning", tuning.name)
    rows = report.confirmation[report.confirmation[METRIC].notna()]
    winner = rows[rows["row"].str.startswith(tuning.tuned) | rows["row"].str.contains(SAME_AS_TUNED, regex=False)]
    if winner.empty:
        return
    run_id, splits = str(winner.loc[winner[METRIC].idxmax(), "run_id"]), PackedDataset.open(job.data).splits
    if tuning.base.supervision == "few":
        yield "the winner with fewer labels", job.command("evaluate", "--run", run_id, "--points", "1", "5", "10")
    elif "test" in splits:
        command = job.command("evaluate", "--run", run_id, "--split", "test")
        yield "the winner on images by which nothing was chosen", command
    else:
        yield "the winner's scores and pictures", job.command("evaluate", "--run", run_id)
