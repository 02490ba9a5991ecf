"""Checkpoints of another run, method or network where a command takes one: a line, status 2, nothing started."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch

from miseg.commands import program
from miseg.data.checks import encode_png
from miseg.data.sources.street_scenes.streets import draw_scene
from miseg.methods.configs import CrossEntropy
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint, fencing
from miseg.service.checkpoints.checkpoint_files import MANIFEST, CheckpointError, files_of, sha256
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.cluster.preemption import Notice
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.evaluation import evaluate
from miseg.service.tracking import mlflow_runs
from miseg.service.training import streams, train, worker
from miseg.service.training.loop import Loop
from miseg.service.training.run import TrainingRun


@pytest.fixture
def run(tiny, small, uri, tmp_path) -> TrainingRun:
    return TrainingRun("run", replace(tiny, data="streets"), small.uri, str(tmp_path), uri, Resources(1, 0, 1, 1))


def kept(run: TrainingRun, experiment: Experiment, small, **data: str) -> Path:
    """A checkpoint of `experiment` as the one of step 6 in the run's folder."""
    target = Path(CheckpointStore(run.folder).path(6))
    target.parent.mkdir(parents=True)
    loop = Loop(experiment, streams.task_of(small))
    described = {"mean": [0.5] * 3, "std": [0.2] * 3, "fingerprint": small.fingerprint} | data
    return checkpoint.save(target, loop, {"step": 6, "mean_iou": 0.1, "score": 0.1}, described)


def forged(folder: Path, method: CrossEntropy, small) -> Path:
    """The checkpoint with the weights of another network, as whoever copies files together may leave it."""
    experiment = replace(checkpoint.read_experiment(folder), method=method)
    other = checkpoint.save(folder.parent / ".other", Loop(experiment, streams.task_of(small)), {}, {})
    shutil.move(other / "weights.safetensors", folder / "weights.safetensors")
    shutil.rmtree(other)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sha256"]["weights.safetensors"] = sha256(folder / "weights.safetensors")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def weights_alike(folder: Path, before: dict[str, bytes]) -> bool:
    return {path.name: path.read_bytes() for path in folder.iterdir()} == before


# Training


def test_a_run_s_own_checkpoint_is_gone_on_from(run, small):
    kept(run, run.experiment, small)
    assert train.finished(run) is None


@pytest.mark.parametrize("recorded", [False, True], ids=["deleted in MLflow", "known to MLflow"])
def test_another_run_s_checkpoint_in_its_folder_is_told_before_anything_starts(run, small, recorded):
    other = replace(run.experiment, seed=9)
    folder = kept(run, other, small)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    if recorded:
        mlflow_runs.open_experiment_run(run.store, run.experiment, run.name, small.fingerprint)
    with pytest.raises(ValueError, match=rf"step-000000006 is a checkpoint of experiment {other.id}, and run is of "):
        train.finished(run)
    assert weights_alike(folder, before)


def test_a_checkpoint_of_other_data_is_told(run, small):
    kept(run, run.experiment, small, fingerprint="0123456789abcdef")
    with pytest.raises(ValueError, match=r"of data with the fingerprint 0123456789abcdef, and run is of \w+: choose"):
        train.finished(run)


def test_weights_of_another_network_end_a_training_with_a_reason_and_without_another_try(run, small):
    folder = forged(kept(run, run.experiment, small), CrossEntropy(UNet(3, "group")), small)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    config = run.config | {"tracking": {}, "generation": list(fencing.drive(run.folder).generation)}
    with Notice() as notice:
        ended = worker._train(config, lambda values: None, torch.device("cpu"), notice, False)
    assert "is of another network, nothing was loaded: " in ended and "\n" not in ended
    assert weights_alike(folder, before)


# Commands


@pytest.fixture
def call(monkeypatch, capsys, tmp_path) -> Callable[..., str]:
    """Runs a command line in this process, where Ray must not start; its line of error, which ends it with status 2."""

    def start(*args: object, **kwargs: object) -> None:
        raise AssertionError("a Ray is started")

    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("MISEG_STORAGE", str(tmp_path))

    def called(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["miseg", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        told = capsys.readouterr().err.strip().splitlines()
        assert ended.value.code == 2 and told[-1].startswith("error: "), told
        assert not any("Traceback" in line for line in told)
        return told[-1]

    return called


def test_a_training_s_name_whose_folder_is_another_run_s(call, run, tiny, small):
    other = replace(tiny, seed=9)
    kept(run, other, small)
    said = call("train", "embedded-rmi", "--name", "run", "--data", small.uri)
    assert f"is a checkpoint of experiment {other.id}, and run is of " in said and "choose another name" in said


def test_images_are_not_mapped_with_weights_of_another_network(call, run, small, tmp_path):
    folder = forged(kept(run, run.experiment, small), CrossEntropy(UNet(3, "group")), small)
    (tmp_path / "a.png").write_bytes(encode_png(draw_scene(0, 0, height=48, width=64)[0]))
    arguments = "segment", "--model", str(folder), "--images", str(tmp_path / "a.png"), "--out", str(tmp_path / "maps")
    assert "is of another network, nothing was loaded" in call(*arguments)
    assert not (tmp_path / "maps").exists()


def test_scenes_are_not_mapped_with_another_kind_of_method(call, run, small, tmp_path):
    folder = kept(run, run.experiment, small)
    given = "--scene", str(tmp_path / "a.tif"), "--labels", str(tmp_path / "a.csv"), "--out", str(tmp_path / "map.tif")
    assert "takes no labelled pixels" in call("segment", "--model", str(folder), *given)


def test_a_run_s_folder_with_no_checkpoint_is_named(call, tmp_path):
    for command in (("evaluate", "--checkpoint"), ("segment", "--images", str(tmp_path), "--out", "maps", "--model")):
        assert f"{tmp_path}/checkpoint.json cannot be read" in call(*command, str(tmp_path))


def test_a_model_of_other_classes_is_not_measured(call, run, small):
    experiment = replace(run.experiment, data=small.uri)
    folder = kept(run, experiment, small)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["task"]["num_classes"] = 5
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert "was trained for 5 classes of 3 channels" in call("evaluate", "--checkpoint", str(folder))


def test_weights_of_another_network_are_not_measured(run, small, tmp_path):
    """In the task that measures: its error is a line, as of each CheckpointError of a task (test_library_errors)."""
    folder = forged(kept(run, run.experiment, small), CrossEntropy(UNet(3, "group")), small)
    with pytest.raises(CheckpointError, match="is of another network, nothing was loaded"):
        evaluate._measure(files_of(folder), small.uri, "val", (), {}, 1)
