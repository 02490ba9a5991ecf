"""Callbacks of Tune: trials stopped early, failures forgiven, and resources freed."""

from __future__ import annotations

import math
import pickle
import time
from typing import Any

from ray import PlacementGroupID, tune
from ray.tune.schedulers import ASHAScheduler
from ray.util.placement_group import PlacementGroup, remove_placement_group

from miseg.service.cluster import ray_cluster
from miseg.service.training.run import PLACEMENT_GROUP
from miseg.service.tuning.tables import METRIC

FREE_EVERY = 2.0
"""Seconds between two looks for what trials left that died."""


class Halving(ASHAScheduler):
    """ASHA by step that stops no trial at its last step: it is about to end by itself, and to be a whole trial.

    Args:
        steps: optimiser steps of a whole trial.
        grace: steps before a trial may be stopped.
    """

    def __init__(self, steps: int, grace: int) -> None:
        super().__init__("step", METRIC, "max", max_t=steps, grace_period=min(grace, steps), reduction_factor=3)
        self.steps = steps

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        """Whether the trial goes on."""
        if result["step"] >= self.steps:
            return self.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)


class KeepRungs(tune.Callback):
    """Keeps what the scheduler has seen with the rest of Tune's state, which leaves it out.

    Without it a search that goes on would compare its next trials with none of those before, and stop others than it
    would have stopped in one go.

    Args:
        scheduler: the search's; Tune pickles both together, and so this is the one that it goes on with.
    """

    def __init__(self, scheduler: Halving) -> None:
        self.scheduler = scheduler

    def get_state(self) -> dict[str, Any]:
        """State of the scheduler, pickled; Tune asks at each of its turns."""
        return {"scheduler": pickle.dumps(self.scheduler.__dict__)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Give the scheduler what it knew."""
        self.scheduler.__dict__.update(pickle.loads(state["scheduler"]))  # noqa: S301  (a part of Tune's own pickle)


class FreeResources(tune.Callback):
    """Frees what a trial held, whatever became of its controller.

    A trial that the scheduler stops takes its Train controller with it, and Ray leaves the workers' placement group to
    a cleaner that gives up when the State API does not answer. A group that leaks starves every later trial.
    """

    def __init__(self) -> None:
        self._looked = -math.inf

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial ended or was stopped."""
        if group := (trial.last_result or {}).get(PLACEMENT_GROUP):
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial failed."""
        self.on_trial_complete(iteration, trials, trial, **info)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Tune has made a turn."""
        if time.monotonic() - self._looked > FREE_EVERY:
            ray_cluster.free_abandoned()
            self._looked = time.monotonic()


class StillGoing(tune.Callback):
    """Forgives a trial its failures once it gets on: a night of lost nodes is no fault of the trial's."""

    def __init__(self) -> None:
        self._reached: dict[str, int] = {}

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """A validation was reported; one that is repeated after a resume is no progress."""
        if result.get("step", 0) > self._reached.get(trial.trial_id, 0):
            self._reached[trial.trial_id] = result["step"]
            trial.run_metadata.num_failures = 0
