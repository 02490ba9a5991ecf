"""Tune's own controller, stopped and restored through kept states; what it trains needs a Ray, and is left out here."""

import os
from pathlib import Path

import pytest
from ray import tune
from ray.train._internal.storage import StorageContext
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Experiment
from ray.tune.search import ConcurrencyLimiter, SearchGenerator
from ray.tune.search.optuna import OptunaSearch

from miseg.service.tuning import state
from miseg.service.tuning.callbacks import Halving, KeepRungs
from miseg.service.tuning.tables import METRIC
from tests.support.killed_search import STEPS, space, train

NAME = "street-search"


@pytest.fixture
def session(tmp_path, monkeypatch) -> Path:
    """The folder of a Ray's session, where Tune writes first."""
    monkeypatch.setattr(
        StorageContext, "_get_session_path", lambda self: str(tmp_path / "session/artifacts" / self._timestamp / NAME)
    )
    return tmp_path / "session"


class Driver:
    """What `Tuner.fit` makes of a tuner, without its trials' processes."""

    def __init__(self, own: Path, tuner: tune.Tuner, trials: int) -> None:
        internal = tuner._local_tuner
        config, self.callbacks = internal._tune_config, internal._run_config.callbacks
        self.search = SearchGenerator(ConcurrencyLimiter(config.search_alg, max_concurrent=1))
        self.search.add_configurations([Experiment(NAME, train, storage_path=str(own), num_samples=trials)])
        self.controller = TuneController(
            search_alg=self.search,
            scheduler=config.scheduler,
            storage=StorageContext(storage_path=str(own), experiment_dir_name=NAME),
            callbacks=self.callbacks,
            resume_config=internal._resume_config,
        )

    def turn(self) -> None:
        """Tune writes what it knows, and the callbacks are told."""
        self.controller.save_to_dir()
        for callback in self.callbacks:
            callback.on_step_end(1, self.controller.get_trials())


def begun(own: Path, trials: int) -> tune.Tuner:
    scheduler = Halving(STEPS, 1)
    search = OptunaSearch(space, metric=METRIC, mode="max", seed=0)
    config = tune.TuneConfig(search_alg=search, scheduler=scheduler, num_samples=trials, max_concurrent_trials=1)
    callbacks = [KeepRungs(scheduler), state.KeepState()]
    run_config = tune.RunConfig(name=NAME, storage_path=str(own), callbacks=callbacks, verbose=0)
    return tune.Tuner(train, tune_config=config, run_config=run_config)


def test_tune_goes_on_from_what_was_signed_and_keeps_in_the_same_place(tmp_path, session):
    folder = tmp_path / "tunings" / NAME
    with state.own_folder(str(folder)) as own:
        tuner = begun(own, 2)
        state.keep_begin(own / NAME)
        first = Driver(own, tuner, 2)
        trial = first.search.next_trial()
        first.controller.add_trial(trial)
        trial.run_metadata.last_result = {METRIC: 0.5, "step": STEPS, "trial_id": trial.trial_id}
        first.turn()
    assert not own.exists() and sorted(os.listdir(folder)) == ["state-000000000.zip", "state-000000001.zip"]

    with state.own_folder(str(folder)) as own:
        assert state.put_back(str(folder), own / NAME, tmp_path / "of another Ray", state.Limits(5, 3))
        tuner = tune.Tuner.restore(str(own / NAME), train, resume_unfinished=True, resume_errored=True)
        again = Driver(own, tuner, 2)
        (restored,) = again.controller.get_trials()
        assert (restored.trial_id, restored.config) == (trial.trial_id, trial.config)
        assert restored.last_result[METRIC] == 0.5
        assert again.search.total_samples == 5 and again.search.searcher.max_concurrent == 3
        assert restored.storage.experiment_fs_path == str(own / NAME), "Tune writes into its own folder alone"
        assert (following := again.search.next_trial()) is not None and following.config != trial.config
        again.turn()
        state.keep_end(own / NAME, session)
    assert sorted(os.listdir(folder)) == ["state-000000002.zip", "state-000000003.zip"]
