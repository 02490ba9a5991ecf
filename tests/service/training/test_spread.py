"""`--spread` of a training and of a tuning: the placement that Ray is asked for, from the command line on. No Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import tyro
from ray.train import UserCallback

from miseg.commands.train import Again
from miseg.commands.tune.rmi import TuneRmi
from miseg.recipes import spaces
from miseg.recipes.spaces import FixedTrial
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.command.start import Job
from miseg.service.training import train
from miseg.service.training.run import TrainingRun
from miseg.service.tuning import command, tune
from miseg.service.tuning.command import TuningRequest

STRATEGIES = pytest.mark.parametrize(("options", "strategy"), [([], "PACK"), (["--spread"], "SPREAD")])


@pytest.fixture
def scaling(monkeypatch) -> list[Any]:
    """The `ScalingConfig` of each training that is begun; it ends at once."""
    configs: list[Any] = []

    def trainer(workers: int) -> Callable[..., SimpleNamespace]:
        def made(*_: object, **settings: Any) -> SimpleNamespace:
            configs.append(settings["scaling_config"])
            return SimpleNamespace(fit=lambda: SimpleNamespace(return_value="finished"))

        return made

    monkeypatch.setattr(train, "trainer_of", trainer)
    monkeypatch.setattr(train, "_fit", lambda run, training, opened: SimpleNamespace(reused=training({}) != "finished"))
    for module in (train, tune):
        monkeypatch.setattr(module, "ray_watched", lambda *_: contextlib.nullcontext())
    return configs


@STRATEGIES
def test_of_a_training(tiny, small, scaling, options, strategy):
    arguments = tyro.cli(Again, args=["--from-run", "0", "--workers", "2", *options])
    share = Resources(4, 0, arguments.workers, 1)
    train.fit(TrainingRun("run", tiny, small.uri, "/storage", "", share, spread=arguments.spread))
    assert [(config.num_workers, config.placement_strategy) for config in scaling] == [(2, strategy)]


@STRATEGIES
def test_of_a_tunings_trials(tiny, small, scaling, monkeypatch, tmp_path, options, strategy):
    arguments = tyro.cli(TuneRmi, args=["--workers-per-trial", "2", *options])
    job = Job(str(tmp_path), "", Resources(4, 0, 2, 1), small.uri, "")
    tuning = command._tuning("street", arguments, TuningRequest("tune-rmi", tiny, {}), job)
    point = dict(tuning.default_point)

    def tuner(tuning: object, tunes: object, trainable: Callable[..., None], *_: object) -> SimpleNamespace:
        return SimpleNamespace(fit=lambda: trainable(point))

    monkeypatch.setattr(tune, "_restored", tuner)
    monkeypatch.setattr(tune.tune, "with_resources", lambda trainable, resources: trainable)
    monkeypatch.setattr(tune.tune, "get_context", lambda: SimpleNamespace(get_trial_id=lambda: "0"))
    monkeypatch.setattr(tune, "TuneReportCallback", UserCallback)  # in a session of Tune alone
    monkeypatch.setattr(tune.state, "keep_end", lambda *_: None)
    monkeypatch.setattr(tune.ray_cluster, "session_folder", lambda: tmp_path)
    monkeypatch.setattr(tune.ray_internals, "trials_of", lambda results: [])

    def resolve(params: Any) -> tune.Point:
        return tune.Point("", spaces.region_mutual_information(FixedTrial(dict(params)), tiny), {})

    tune._tune(tuning, "", tune.Phase("search", resolve, tune._to_the_end(tuning), {}, 1))
    assert [(config.num_workers, config.placement_strategy) for config in scaling] == [(2, strategy)]


def test_it_decides_no_result_and_is_not_kept():
    """A tuning on one machine goes on over several, and the other way round."""
    assert "spread" not in tyro.cli(TuneRmi, args=["--spread"]).given
