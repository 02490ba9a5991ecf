"""A training that goes on under its name with other code, options or data is refused, and nothing of it changes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.sources.registry import Embedded
from miseg.service.checkpoints import checkpoint
from miseg.service.checkpoints.checkpoint_files import CheckpointError
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.tracking import mlflow_runs
from miseg.service.training import streams, train
from miseg.service.training.loop import Loop
from miseg.service.training.run import TrainingRun


@pytest.fixture
def run(tiny, small, uri, tmp_path) -> TrainingRun:
    """A run that was interrupted; its data lie in a folder of the test's own."""
    data = shutil.copytree(small.uri, tmp_path / "data")
    run = TrainingRun("run", replace(tiny, data="streets"), str(data), str(tmp_path), uri, Resources(1, 0, 1, 1))
    run_id = mlflow_runs.open_experiment_run(run.store, run.experiment, run.name, small.fingerprint)
    mlflow_runs.interrupt_run(uri, run_id, "--name run continues")
    assert train.finished(run) is None, "as it was, it goes on"
    return run


def test_other_options_are_named(run):
    with pytest.raises(ValueError, match=r"run is the name of run \w+ .*steps.*: choose another name"):
        train.finished(replace(run, experiment=replace(run.experiment, steps=30)))


def test_other_data_are_named(run):
    source = Embedded({"train": 12, "val": 7, "test": 2}, height=48, width=64)
    shutil.rmtree(run.data)
    pack(source, Path(run.data), source.available())
    now = PackedDataset.open(run.data).fingerprint
    with pytest.raises(ValueError, match=rf"is of other packed images: .* and is {now} now; choose another name"):
        train.finished(run)
    (mlflow_run,) = MlflowClient(run.tracking_uri).search_runs(["1"])
    assert mlflow_run.info.status == "KILLED"


def test_a_network_that_the_code_builds_otherwise_now_takes_no_checkpoint(run, small, tmp_path):
    task = streams.task_of(small)
    loop = Loop(run.experiment, task)
    saved = checkpoint.save(tmp_path / "checkpoint", loop, {"step": 0})
    changed = Loop(run.experiment, task)
    changed.evaluated.further = torch.nn.Linear(2, 2)  # a layer that the code got since
    before = {key: value.clone() for key, value in changed.evaluated.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"is of another network, nothing was loaded: further\.bias; further"):
        checkpoint.load(saved, changed)
    assert all(torch.equal(value, before[key]) for key, value in changed.evaluated.state_dict().items())
