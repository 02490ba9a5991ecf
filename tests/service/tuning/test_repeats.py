"""What was trained or tuned before is recognised: the same settings on the same data, finished, under any name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from miseg.recipes import spaces
from miseg.recipes.experiment import Experiment
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunDetails, RunStore
from miseg.service.tuning import repeats
from miseg.service.tuning.tuning import Tuning


def trained(uri, experiment, dataset, name, status="FINISHED", ended="finished", **tags) -> str:
    run_id = mlflow_runs.open_experiment_run(
        RunStore(str(Path(uri.removeprefix("sqlite:///")).parent), uri),
        experiment,
        name,
        dataset.fingerprint,
        RunDetails(tags=tags),
    )
    mlflow_runs.log_metrics(uri, run_id, {"val/mean_iou": 0.25}, experiment.steps)
    mlflow_runs.end_run(uri, run_id, status, ended)
    return run_id


def test_a_training_is_recognised_where_it_was_finished_on_this_data(small, mixed_sizes, tiny, uri):
    def found(experiment):
        before = repeats.trained(uri, experiment, small.uri)
        return before and before.info.run_id

    assert found(tiny) is None
    trained(uri, tiny, small, "broken", "FAILED", "the loss is nan")
    trained(uri, tiny, small, "stopped", ended="stopped early by ASHA at step 6")
    trained(uri, tiny, mixed_sizes, "of-other-data")
    trained(uri, replace(tiny, seed=1), small, "another-seed")
    trained(uri, tiny, small, "evaluated", **{"miseg.kind": "evaluation"})
    assert found(tiny) is None
    run_id = trained(uri, tiny, small, "whole")
    assert found(tiny) == run_id
    said = repeats.training_message(repeats.trained(uri, tiny, small.uri))
    assert run_id in said and "run whole, mean IoU 0.2500" in said and "Nothing is trained now" in said
    as_trial = trained(uri, replace(tiny, seed=2), small, "t-1", **{"miseg.kind": "trial", "miseg.tuning": "street"})
    assert found(replace(tiny, seed=2)) == as_trial
    assert "trial of the tuning street" in repeats.training_message(
        repeats.trained(uri, replace(tiny, seed=2), small.uri)
    )


def test_a_run_of_before_goes_on_as_what_it_trains(small, tiny, uri):
    longer, shorter = (replace(tiny, optimiser=replace(tiny.optimiser, warmup_steps=steps)) for steps in (50, 2))
    assert repeats.as_begun(uri, "dusk", shorter, longer) == shorter, "there is no such run"
    trained(uri, longer, small, "dusk", "RUNNING", "")
    assert repeats.as_begun(uri, "dusk", shorter, longer) == longer
    trained(uri, replace(tiny, seed=9), small, "dawn")
    assert repeats.as_begun(uri, "dawn", shorter, longer) == shorter, "which is refused then, as any other"
    sentence = repeats.lengths_message(longer, shorter)
    assert sentence.startswith(f"its warm-up took 50 of {tiny.steps} steps, and its learning rate got to ")
    assert "now it takes 2" in sentence
    rarer = replace(tiny, validate_every=24)
    assert repeats.lengths_message(rarer, tiny) == (
        f"it was validated every 24 steps; now it is every {tiny.validate_every}"
    )


@pytest.fixture
def tuning(small, tiny, uri, tmp_path) -> Tuning:
    return Tuning(
        name="street",
        base=tiny,
        space=spaces.region_mutual_information,
        default_point=spaces.region_mutual_information.point(tiny),
        rivals={"as published": tiny},
        tuned="tuned",
        data=small.uri,
        storage=str(tmp_path),
        tracking_uri=uri,
        resources=Resources(2, 0, 1, 1),
        trials=3,
        confirm_seeds=2,
    )


def test_a_tuning_is_recognised_by_all_that_its_result_depends_on(tuning, uri, tmp_path):
    place = mlflow_runs.experiment_name(tuning.base.data)
    tags = {"miseg.kind": "tuning", repeats.SETTINGS: repeats.settings_of(tuning)}
    run_id = mlflow_runs.open_run(RunStore(str(tmp_path), uri), place, "street", RunDetails(tags=tags))
    repeats.check_name(uri, tuning)  # one that was not finished is continued
    assert repeats.tuned(uri, tuning) is None
    mlflow_runs.end_run(uri, run_id, "FINISHED", "finished")
    before = repeats.tuned(uri, replace(tuning, name="avenue", resources=Resources(8, 1, 1, 4)))
    assert before is not None and before.info.run_id == run_id
    assert "--resume --name street prints its tables" in repeats.tuning_message(before)
    for other in (
        replace(tuning, trials=4),
        replace(tuning, seed=1),
        replace(tuning, confirm_seeds=3),
        replace(tuning, base=replace(tuning.base, steps=12)),
        replace(tuning, rivals={}),
        replace(tuning, grid={"region_size": [2, 3]}),
    ):
        assert repeats.tuned(uri, other) is None
    with pytest.raises(ValueError, match=f"street is the name of a tuning, run {run_id}: choose another --name"):
        repeats.check_name(uri, tuning)


def test_what_recognises_a_tuning_is_as_it_was(tuning, monkeypatch):
    """Of a field that settings got later it knows nothing, while that holds its default."""
    monkeypatch.setattr(repeats.PackedDataset, "open", lambda _: SimpleNamespace(fingerprint="0" * 12))
    base = Experiment(data="embedded")
    before = replace(tuning, base=base, rivals={"as published": base})
    assert repeats.settings_of(before) == "2b43aa894999"
    skipping = replace(base, non_finite="skip")
    assert repeats.settings_of(replace(before, base=skipping)) != repeats.settings_of(before)


def test_a_tunings_metrics_say_which_study_it_is_of(tuning):
    assert tuning.labels["study"] == ""
    assert replace(tuning, tags={"miseg.study": "first"}).labels["study"] == "first"
