"""Tuning through Ray Tune and Optuna, then the confirmation of what it found on fresh seeds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search.optuna import OptunaSearch

from miseg.recipes.experiment import Experiment
from miseg.recipes.spaces import FixedTrial
from miseg.service.cluster import ray_cluster, ray_internals
from miseg.service.cluster.control_store import ray_watched
from miseg.service.cluster.ray_cluster import HEAD
from miseg.service.remarks import counted
from miseg.service.terminal.going_on import how_to_go_on
from miseg.service.terminal.interrupted import InterruptedJobError
from miseg.service.terminal.stopping import keeping_steps, steps_text
from miseg.service.tracking import mlflow_runs, queries
from miseg.service.tracking.description import CONFIRMED, PHASE, source_tags
from miseg.service.training import train
from miseg.service.training.run import FINISHED, TrainingRun
from miseg.service.tuning import record, resuming, state
from miseg.service.tuning import rows as tune_rows
from miseg.service.tuning.callbacks import FreeResources, Halving, KeepRungs, StillGoing
from miseg.service.tuning.metrics import TuningMetrics
from miseg.service.tuning.progress import TuningProgress
from miseg.service.tuning.tables import MANY_TO_ONE, METRIC, SAME_AS_TUNED, agreement, best_trial, describe
from miseg.service.tuning.tuning import Space, Tuning

TRIAL_FAILURES = 2
"""Retries of a trial that died without getting on in between. They belong to Tune: Ray Train's own,
inside a trial that the scheduler stops, can leak its placement group (shared/ray.md)."""

CLOSES_WITHIN = 900
"""Seconds in which a stopped trial must have written what it was writing; in Tune's two the next would be given up."""


@dataclass(frozen=True)
class Suggest:
    """A space as OptunaSearch calls it; of module level, because Tune pickles the searcher to resume it."""

    space: Space
    base: Experiment

    def __call__(self, trial: Any) -> None:
        """Draw the trial's values."""
        self.space(trial, self.base)


@dataclass(frozen=True)
class TuningReport:
    """Result of a tuning: the trials, and the confirmed rows with the runs behind them."""

    parent_run: str
    trials: pd.DataFrame
    confirmation: pd.DataFrame
    agreement: float | None = None
    """Spearman's rank correlation of objective and mean IoU over whole trials, where labels did not select."""
    registered: Mapping[str, str] = field(default_factory=dict)
    """Runs of which MLflow's models have a version, by the models' names."""
    concurrent: int = 1
    """Trials at a time, at most, since the tuning was begun."""

    @property
    def failures(self) -> list[str]:
        """Gaps in the tables, in words: confirmations that failed, or trials without any score."""
        compared = METRIC if METRIC in self.trials else "mean_iou"
        reasons = [] if self.trials[compared].notna().any() else ["no trial has a score"]
        rows = self.confirmation[["row", "seed", "ended"]].itertuples(index=False)
        return reasons + [f"{row} seed {seed}: {ended}" for row, seed, ended in rows if ended != FINISHED]


def run(tuning: Tuning) -> TuningReport:
    """Search, confirm and report; a name that was started before continues, and finished trials stay as they are."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    parent = record.open_run(tuning)
    try:
        print(f"1/2 search: {counted(tuning.points, 'trial')} of {counted(tuning.base.steps, 'step')}", flush=True)
        trials = search(tuning, parent)
        rows = dict(tuning.rivals)
        winner = best_trial(trials, tuning.base.steps)
        if winner is not None:
            tuned = tuning.space(FixedTrial(winner), tuning.base)
            same = next((row for row, experiment in rows.items() if experiment.id == tuned.id), None)
            # The winner may be a rival itself, most often the published setting: nothing is left to train then.
            rows = {f"{row}{SAME_AS_TUNED}" if row == same else row: experiment for row, experiment in rows.items()}
            if same is None:
                rows[tuning.tuned] = tuned
        print(f"2/2 confirmation: {counted(len(rows), 'row')}, {tuning.fresh_seeds} each", flush=True)
        confirmation = _confirm(tuning, parent, rows)
        named = partial(record.name_rows, tuning, parent, confirmation)
        mlflow_runs.patiently(tuning.tracking_uri, f"the rows of {tuning.name}", named)
        if tuning.selection == "labels":
            # What selected is mean IoU itself.
            trials = trials.drop(columns=METRIC)
    except KeyboardInterrupt as error:
        _interrupt(tuning, parent)
        raise InterruptedJobError(steps_text(error), ("--resume", "--name", tuning.name)) from None
    except Exception as error:
        mlflow_runs.fail_run(tuning.tracking_uri, parent, error)
        raise
    correlation = agreement(trials, tuning.base.steps)
    registered = record.register(tuning, confirmation, rows)
    record.record(tuning, parent, trials, confirmation, correlation, list(registered))
    return TuningReport(parent, trials, confirmation, correlation, registered, resuming.concurrent(tuning, parent))


def _interrupt(tuning: Tuning, parent: str, reason: str = "interrupted") -> None:
    """Close a tuning's run and those of its trials that are open."""
    uri, name = tuning.tracking_uri, mlflow_runs.experiment_name(tuning.base.data)
    open_trials = (run.info.run_id for run in queries.children(uri, name, parent) if run.info.status == "RUNNING")
    for run_id in [parent, *open_trials]:
        mlflow_runs.interrupt_run(uri, run_id, "--resume continues", reason)


def search(tuning: Tuning, parent: str) -> pd.DataFrame:
    """Run the search or grid of a tuning as children of the MLflow run `parent`; a row for each trial."""

    def resolve(config: Mapping[str, Any]) -> Point:
        return Point(describe(config), tuning.space(FixedTrial(dict(config)), tuning.base), tuning.tags)

    if tuning.grid is not None:
        grid = {name: tune.grid_search(list(values)) for name, values in tuning.grid.items()}
        return _tune(tuning, parent, Phase("search", resolve, _to_the_end(tuning), grid, tuning.points))
    search = OptunaSearch(
        Suggest(tuning.space, tuning.base),
        metric=METRIC,
        mode="max",
        seed=tuning.seed,
        points_to_evaluate=[dict(tuning.default_point)],
    )
    config = tune.TuneConfig(
        search_alg=search,
        scheduler=Halving(tuning.base.steps, tuning.base.validate_every),
        num_samples=tuning.trials,
        max_concurrent_trials=tuning.resources.concurrency,
        # The driver of several workers must go with a trial that is stopped early, or the training goes on.
        reuse_actors=tuning.resources.workers == 1,
    )
    return _tune(tuning, parent, Phase("search", resolve, config, {}, tuning.trials))


class Point(NamedTuple):
    """Experiment of one trial, with its name and tags."""

    display: str
    experiment: Experiment
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Phase:
    """A search, or a confirmation, as Tune runs it.

    Attributes:
        name: end of the name under which Tune keeps its state.
        point: what a trial with these parameters trains.
        config: how Tune chooses and compares.
        param_space: what Tune draws from by itself.
        trials: that are expected.
    """

    name: str
    point: Callable[[Mapping[str, Any]], Point]
    config: tune.TuneConfig
    param_space: dict[str, Any]
    trials: int


def _confirm(tuning: Tuning, parent: str, rows: Mapping[str, Experiment]) -> pd.DataFrame:
    # Seeds that no trial has used: a winner found on seed 0 must not be judged on it.
    seeds = [tuning.base.seed + 1 + index for index in range(tuning.confirm_seeds)]

    def resolve(config: Mapping[str, Any]) -> Point:
        row, seed = config["row"], config["seed"]
        tags = dict(tuning.tags) | {"miseg.row": row, CONFIRMED: "yes"}
        return Point(f"seed {seed} {row}", replace(rows[row], seed=seed), tags)  # MLflow's tables cut a name's end

    grid = {"row": tune.grid_search(list(rows)), "seed": tune.grid_search(seeds)}
    # Tune goes on with the grid that it began with: another, as of more seeds, has another name.
    trained = [[experiment.id for experiment in rows.values()], seeds]
    name = f"{hashlib.sha256(json.dumps(trained).encode()).hexdigest()[:8]}-confirm"
    confirmed = _tune(tuning, parent, Phase(name, resolve, _to_the_end(tuning), grid, len(rows) * len(seeds)))
    confirmed = confirmed.rename(columns={"params/row": "row", "params/seed": "seed"})
    if "match" in confirmed:
        # No result beside one-to-one matches: see `match_clusters`.
        confirmed["row"] += np.where(confirmed["match"] == "many to one", MANY_TO_ONE, "")
    return confirmed.sort_values(["row", "seed"]).reset_index(drop=True)


def _to_the_end(tuning: Tuning) -> tune.TuneConfig:
    """For trials that nothing stops early."""
    return tune.TuneConfig(
        metric=METRIC,
        mode="max",
        max_concurrent_trials=tuning.resources.concurrency,
        reuse_actors=True,
    )


def _tune(tuning: Tuning, parent: str, phase: Phase) -> pd.DataFrame:
    name, point = f"{tuning.name}-{phase.name}", phase.point
    source = source_tags()  # of the job: a trial's process has none

    def trial_run(params: Mapping[str, Any], trial_id: str) -> TrainingRun:
        display, experiment, tags = point(params)
        return TrainingRun(
            # By what is trained, not by the trial: a driver that is killed before Tune noted a trial asks for the same
            # point under another trial's id, and must find what was begun.
            name=f"{tuning.name}-{experiment.id}",
            display=display,
            experiment=experiment,
            data=tuning.data,
            storage=tuning.storage,
            tracking_uri=tuning.tracking_uri,
            resources=tuning.resources,
            parent=parent,
            tags={"miseg.kind": "trial", "miseg.tuning": tuning.name, "miseg.trial_id": trial_id}
            | {"selection": tuning.selection, PHASE: "search" if phase.name == "search" else "confirmation"}
            | source
            | dict(tags),
            selection=tuning.selection,
            when_storage_fails=tuning.when_storage_fails,
            spread=tuning.spread,
        )

    def trial(params: dict[str, Any]) -> None:
        # Read by this process when the next trial is handed to it.
        os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(CLOSES_WITHIN)
        run = trial_run(params, tune.get_context().get_trial_id())
        if alone:
            outcome = train.fit_here(run, tune.report)
        else:
            outcome = train.fit(run, callbacks=[TuneReportCallback()], max_failures=0)
        if outcome.reused:
            tune.report({"mean_iou": outcome.mean_iou, METRIC: outcome.score, "step": outcome.step})

    # A trial of one worker is that worker: it needs no driver and controller beside it.
    alone = tuning.resources.workers == 1
    trainable = tune.with_resources(trial, tuning.resources.per_worker if alone else HEAD)
    settings = tune.RunConfig(
        name=name,
        failure_config=tune.FailureConfig(max_failures=TRIAL_FAILURES),
        callbacks=[
            TuningProgress(phase.trials, tuning.base.steps),
            TuningMetrics(tuning.labels | {"phase": name.rsplit("-", 1)[-1]}, phase.trials, tuning.base.steps),
            FreeResources(),
            StillGoing(),
            *([KeepRungs(phase.config.scheduler)] if isinstance(phase.config.scheduler, Halving) else []),
            # Last: what the others have is in Tune's files by then.
            state.KeepState(),
        ],
        verbose=0,
    )
    limits = state.Limits(phase.trials, tuning.resources.concurrency) if phase.config.search_alg is not None else None
    with state.own_folder(tuning.below(name)) as own:
        settings.storage_path = str(own)
        tuner = _restored(tuning, own / name, trainable, limits)
        if tuner is None:
            tuner = tune.Tuner(trainable, param_space=phase.param_space, tune_config=phase.config, run_config=settings)
            state.keep_begin(own / name)
        with ray_watched(partial(_interrupt, tuning, parent), how_to_go_on), keeping_steps():
            results = tuner.fit()
        state.keep_end(own / name, ray_cluster.session_folder())
    # Of a trial that reported nothing, a result's own config is that of the trial which had its process before.
    trials = ray_internals.trials_of(results)
    # As they were made: a restored list is in the order of the last reports, and of equal trials the first wins.
    order = sorted(range(len(trials)), key=lambda i: int(trials[i].experiment_tag.partition("_")[0]))
    rows = [tune_rows.close(tuning.tracking_uri, tuning.name, trial_run, results[i], trials[i].config) for i in order]
    return pd.DataFrame(rows)


def _restored(tuning: Tuning, tunes: Path, trainable: Any, limits: state.Limits | None) -> tune.Tuner | None:
    """Tuner that goes on in Tune's folder `tunes`; None, with a line where there is something, where it cannot.

    Raises:
        ValueError: its state is not signed with this user's key.
    """
    path, session = tuning.below(tunes.name), ray_cluster.session_folder()
    reason = "holds no state of its trials"
    if state.put_back(path, tunes, session, limits, trusted=tuning.trust_state):
        try:
            return tune.Tuner.restore(str(tunes), trainable, resume_unfinished=True, resume_errored=True)
        except (ImportError, AttributeError) as error:  # its pickles name classes where they were then
            reason = f"holds the state of another version of miseg ({error})"
    if state.is_there(path):
        print(f"{path} {reason}: the trials are asked for anew, and what is trained is found again", flush=True)
    return None
