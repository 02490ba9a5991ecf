"""A search by Tune whose state is kept as a tuning's is, for tests that kill it: killed_search.py FOLDER TRIALS."""

from __future__ import annotations

import sys
import time
from typing import Any

import ray
from optuna import Trial
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from miseg.service.cluster import ray_cluster
from miseg.service.tuning import state
from miseg.service.tuning.callbacks import Halving, KeepRungs
from miseg.service.tuning.tables import METRIC

STEPS = 4
"""Reports of a whole trial."""


def space(trial: Trial) -> None:
    """One number."""
    trial.suggest_float("x", 0.0, 1.0)


def train(params: dict[str, Any]) -> None:
    """Reports x at each step."""
    for step in range(1, STEPS + 1):
        time.sleep(0.3)
        tune.report({METRIC: params["x"], "step": step})


def search(folder: str, trials: int) -> None:
    """Begin the search, or go on with it, and print each trial's id and x."""
    name = folder.rsplit("/", 1)[-1]
    with state.own_folder(folder) as own:
        if state.put_back(folder, own / name, ray_cluster.session_folder(), state.Limits(trials, 1)):
            print("goes on", flush=True)
            tuner = tune.Tuner.restore(str(own / name), train, resume_unfinished=True, resume_errored=True)
        else:
            scheduler = Halving(STEPS, 1)
            config = tune.TuneConfig(
                search_alg=OptunaSearch(space, metric=METRIC, mode="max", seed=0),
                scheduler=scheduler,
                num_samples=trials,
                max_concurrent_trials=1,
            )
            callbacks = [KeepRungs(scheduler), state.KeepState()]
            run_config = tune.RunConfig(name=name, storage_path=str(own), callbacks=callbacks, verbose=0)
            tuner = tune.Tuner(train, tune_config=config, run_config=run_config)
            state.keep_begin(own / name)
        print("searches", flush=True)
        results = tuner.fit()
        state.keep_end(own / name, ray_cluster.session_folder())
        for result in results:
            assert result.metrics is not None
            print("trial", result.metrics["trial_id"], result.metrics[METRIC], result.metrics["step"], flush=True)


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    search(sys.argv[1], int(sys.argv[2]))
