"""Checkpoints: whole or not there, never of another run, never more than data."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from miseg.interface import Batch, Task
from miseg.methods.configs import CrossEntropy, RegionMutualInformation
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment, Optimiser
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.checkpoints.checkpoint_files import CheckpointError
from miseg.service.training.loop import Loop

TASK = Task(num_classes=3, class_names=("road", "car", "sky"))
EXPERIMENT = Experiment(
    RegionMutualInformation(UNet(2, "group"), downsampling_factor=2, region_size=2),
    optimiser=Optimiser(learning_rate=1e-2, warmup_steps=0),
    steps=8,
    batch_size=2,
)
DATA = {"mean": [0.4, 0.4, 0.4], "std": [0.3, 0.3, 0.3], "colours": [[0, 0, 0]], "fingerprint": "f00"}
FILES = {"checkpoint.json", "experiment.json", "training.pt", "weights.safetensors"}


def trained(steps: int = 1, experiment: Experiment = EXPERIMENT, task: Task = TASK) -> Loop:
    loop = Loop(experiment, task)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        labels = torch.randint(0, task.num_classes, (2, 32, 32), generator=generator)
        loop.train_step(Batch(torch.randn(2, 3, 32, 32, generator=generator), labels, ("a", "b")))
    loop.flush()
    return loop


def weights_of(loop: Loop) -> dict[str, torch.Tensor]:
    return copy.deepcopy(loop.method.state_dict())


def assert_unchanged(loop: Loop, before: dict[str, torch.Tensor]) -> None:
    assert loop.step == 0
    assert all(torch.equal(value, before[name]) for name, value in loop.method.state_dict().items())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint after two steps."""
    return checkpoint.save(tmp_path / "checkpoint", trained(2), {"mean_iou": 0.25, "step": 2}, DATA)


def sign(folder: Path, name: str) -> None:
    """Enter a file's present digest: what somebody does who means harm."""
    manifest = json.loads((folder / "checkpoint.json").read_text())
    manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "checkpoint.json").write_text(json.dumps(manifest))


def test_a_checkpoint_says_what_it_is(folder: Path) -> None:
    manifest = checkpoint_files.verify(folder)
    assert manifest["step"] == 2 and manifest["experiment_id"] == EXPERIMENT.id
    assert manifest["metrics"] == {"mean_iou": 0.25, "step": 2} and manifest["data"] == DATA
    assert manifest["task"] == {
        "num_classes": 3, "in_channels": 3, "class_names": ["road", "car", "sky"], "ignore_index": 255
    }  # fmt: skip
    assert manifest["versions"].keys() >= {"python", "torch", "ray", "mlflow", "optuna", "numpy"}
    assert manifest["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert manifest["sha256"].keys() == FILES - {"checkpoint.json"}
    assert checkpoint_files.read_experiment(folder) == EXPERIMENT


def test_nothing_but_the_checkpoint_is_left_beside_it(folder: Path) -> None:
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]
    assert {path.name for path in folder.iterdir()} == FILES
    checkpoint.save(folder, trained(3), {})
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]
    assert checkpoint_files.verify(folder)["step"] == 3


# Whole or not there


class Killed(BaseException):
    """What no `except Exception` catches."""


def interrupt(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Let `checkpoint.save` die at a moment."""

    def die(*args: Any, **kwargs: Any) -> None:
        raise Killed

    def half_a_file(value: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise Killed

    def half_a_manifest(path: Path, text: str) -> None:
        with path.open("w") as file:
            file.write(text[: len(text) // 2])
        if path.name == "checkpoint.json":
            raise Killed

    if moment == "weights":
        monkeypatch.setattr(checkpoint, "save_file", half_a_file)
    elif moment == "training state":
        monkeypatch.setattr(torch, "save", half_a_file)
    elif moment == "digests":
        monkeypatch.setattr(checkpoint, "sha256", die)
    else:
        monkeypatch.setattr(Path, "write_text", half_a_manifest)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["weights", "training state", "digests", "manifest"])
def test_a_save_that_dies_leaves_the_earlier_checkpoint_and_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        interrupt(patch, moment)
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)  # who is killed clears nothing up
        with pytest.raises(Killed):
            checkpoint.save(folder, trained(3), {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    left = [path for path in folder.parent.iterdir() if path != folder]
    assert len(left) == 1, "nothing was interrupted"
    with pytest.raises(CheckpointError, match=r"checkpoint\.json cannot be read .* not a whole checkpoint"):
        checkpoint_files.verify(left[0])
    # The next save clears up.
    checkpoint.save(folder, trained(3), {})
    assert checkpoint_files.verify(folder)["step"] == 3
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]


def test_a_rename_that_fails_leaves_the_earlier_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def full_disk(path: Path, target: Path) -> Path:
        if path.name == ".checkpoint.writing":
            raise OSError("no space")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full_disk)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(folder, trained(3), {})
    assert checkpoint_files.verify(folder)["step"] == 2


@pytest.mark.parametrize("name", sorted(FILES - {"checkpoint.json"}))
def test_an_altered_or_missing_file_is_named_and_nothing_loaded(folder: Path, name: str) -> None:
    loop = Loop(replace(EXPERIMENT), TASK)
    before = weights_of(loop)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"checkpoint/{name} was altered .* use an earlier checkpoint"):
        checkpoint.load(folder, loop)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"checkpoint/{name} is missing: use an earlier checkpoint"):
        checkpoint.load(folder, loop)
    assert_unchanged(loop, before)
    for reader in (checkpoint.open_method, checkpoint_files.read_experiment):
        with pytest.raises(CheckpointError, match=f"{name} is missing"):
            reader(folder)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\xff\xfe\x00", b"[]", b"{}", b'{"sha256": {}}', b'{"sha256": ["weights.safetensors"]}'],
    ids=["missing", "empty", "no text", "a list", "no digests", "no files", "a list of files"],
)
def test_a_folder_without_a_whole_manifest_is_no_checkpoint(folder: Path, content: bytes | None) -> None:
    (folder / "checkpoint.json").unlink()
    if content is not None:
        (folder / "checkpoint.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint/checkpoint\.json cannot be read"):
        checkpoint.open_method(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere/checkpoint\.json cannot be read"):
        checkpoint.open_method(tmp_path / "nowhere")


# Of this run and no other


def test_a_checkpoint_of_another_experiment_is_refused(folder: Path) -> None:
    other = Loop(replace(EXPERIMENT, seed=1), TASK)
    before = weights_of(other)
    with pytest.raises(
        CheckpointError, match=f"belongs to experiment {EXPERIMENT.id}, this run is {other.experiment.id}"
    ):
        checkpoint.load(folder, other)
    assert_unchanged(other, before)


def test_weights_for_another_number_of_classes_are_refused_by_shape(folder: Path) -> None:
    other = Loop(EXPERIMENT, Task(num_classes=5))
    before = weights_of(other)
    with pytest.raises(CheckpointError, match="nothing was loaded") as refused:
        checkpoint.load(folder, other)
    assert "network.head.bias (3,) instead of (5,)" in str(refused.value)
    assert "network.head.weight (3, 2, 1, 1) instead of (5, 2, 1, 1)" in str(refused.value)
    assert_unchanged(other, before)


def test_weights_of_another_architecture_are_refused_by_name(folder: Path) -> None:
    other = Loop(replace(EXPERIMENT, method=CrossEntropy(UNet(2, "batch"))), TASK)
    before = weights_of(other)
    with pytest.raises(CheckpointError, match=r"another network.*bottleneck\.1\.num_batches_tracked.* and \d+ more"):
        checkpoint.load_weights(folder, other.method)
    assert_unchanged(other, before)


# Data, never code


class Malice:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_unrun_and_nothing_loaded(
    folder: Path, zipped: bool, tmp_path: Path
) -> None:
    mark = tmp_path / "was-run"
    state = torch.load(folder / "training.pt", weights_only=True)
    state["step"] = Malice(mark)
    torch.save(state, folder / "training.pt", _use_new_zipfile_serialization=zipped)
    sign(folder, "training.pt")
    loop = Loop(EXPERIMENT, TASK)
    before = weights_of(loop)
    with pytest.raises(CheckpointError, match=r"training\.pt cannot be read .* nothing was loaded"):
        checkpoint.load(folder, loop)
    assert not mark.exists()
    assert_unchanged(loop, before)
    # The trap works: an ordinary reader falls into it.
    torch.load(folder / "training.pt", weights_only=False)
    assert mark.exists()


def test_weights_are_safetensors_that_anything_reads(folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(folder / "weights.safetensors", "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    expected = trained(2).method.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_manifest_cannot_point_outside_its_folder(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "checkpoint.json").read_text())
    secret = tmp_path / "secret"
    secret.write_text("secret")
    manifest["sha256"]["../secret"] = hashlib.sha256(b"secret").hexdigest()
    (folder / "checkpoint.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="is not a plain file name"):
        checkpoint_files.copy_weights(folder, tmp_path / "deep" / "copy")
    assert not (tmp_path / "deep" / "secret").exists()


# Prediction from the copy


def test_a_copy_of_the_weights_predicts_the_same_and_holds_no_training_state(folder: Path, tmp_path: Path) -> None:
    copied = checkpoint_files.copy_weights(folder, tmp_path / "deep" / "copy")
    assert {path.name for path in copied.iterdir()} == FILES - {"training.pt"}
    shutil.rmtree(folder)  # the copy stands alone
    torch.manual_seed(3)
    images = torch.randn(2, 3, 40, 33)
    method, experiment, task = checkpoint.open_method(copied)
    loop = trained(2)
    loop.method.eval()
    assert not method.training and experiment == EXPERIMENT and task == TASK
    with torch.no_grad():
        expected, found, untrained = (m.predict(images) for m in (loop.method, method, trained(0).method.eval()))
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(untrained, expected), "weights that were not read would pass"


def test_training_does_not_go_on_from_a_copy_of_the_weights(folder: Path, tmp_path: Path) -> None:
    copied = checkpoint_files.copy_weights(folder, tmp_path / "copy")
    loop = Loop(EXPERIMENT, TASK)
    before = weights_of(loop)
    with pytest.raises(CheckpointError, match=r"training\.pt cannot be read"):
        checkpoint.load(copied, loop)
    assert_unchanged(loop, before)
