"""Files of weights told by their headers: what torch reads, nothing run, and no right file is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from miseg.networks.encoders import shapes, table
from miseg.networks.encoders.headers import shapes_in
from miseg.networks.encoders.timm_weights import tensors_of, weights_for
from tests.measurements.encoder_shapes import measure

ENCODERS = ["resnet18", "resnet18d", "tf_efficientnet_lite0", "mobilenetv3_small_050", "mit_b0", "convnext_atto"]


def state_of(name: str) -> dict[str, torch.Tensor]:
    whole, _, _ = tensors_of(name, table.find(name))
    return {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in whole.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Files of some encoders' weights, by encoder and manner of writing."""
    folder = tmp_path_factory.mktemp("weights")
    written: dict[str, dict[str, Path]] = {}
    for name in ENCODERS:
        state = state_of(name)
        manners: dict[str, Any] = {
            "plain": state,
            "checkpoint": {"epoch": 3, "optimizer": {"lr": 0.1}, "model": {f"module.{k}": v for k, v in state.items()}},
        }
        written[name] = {manner: folder / f"{name}-{manner}.pth" for manner in manners}
        for manner, content in manners.items():
            torch.save(content, written[name][manner])
        written[name]["old"] = folder / f"{name}-old.pth"
        torch.save(state, written[name]["old"], _use_new_zipfile_serialization=False)
        written[name]["safetensors"] = folder / f"{name}.safetensors"
        save_file(state, written[name]["safetensors"])
    return written


@pytest.mark.parametrize("manner", ["plain", "checkpoint", "old", "safetensors"])
@pytest.mark.parametrize("name", ENCODERS)
def test_shapes_are_those_that_torch_reads_and_a_right_file_passes(
    name: str, manner: str, files: dict[str, dict[str, Path]]
) -> None:
    read = shapes_in(files[name][manner])
    assert read is not None
    expected = {key: tuple(value.shape) for key, value in state_of(name).items()}
    assert {key.removeprefix("module."): shape for key, shape in read.items()} == expected
    shapes.check(files[name][manner], name)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_file_of_another_encoder_is_refused_as_the_whole_check_does(
    name: str, files: dict[str, dict[str, Path]]
) -> None:
    for other in ENCODERS:
        if other == name:
            continue
        with pytest.raises(ValueError, match=f"does not hold timm's weights for {name}"):
            weights_for(str(files[other]["plain"]), name, table.find(name))
        if shapes.encoders()[name].mask is not None:
            with pytest.raises(ValueError, match=f"does not hold timm's weights for {name} "):
                shapes.check(files[other]["plain"], name)


def test_parameters_and_tensors_without_names_are_told(tmp_path: Path) -> None:
    torch.save({"a": nn.Parameter(torch.zeros(2, 3)), "b": 1, "c": torch.zeros(())}, tmp_path / "a.pth")
    assert shapes_in(tmp_path / "a.pth") == {"a": (2, 3), "c": ()}
    torch.save({"epoch": 1}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match="no tensors by name"):
        shapes.check(tmp_path / "b.pth", "resnet18")


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x02K\x01.", b"\xff" * 64])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_what_cannot_be_told_here_is_left_to_who_reads_it(content: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    assert shapes_in(path) is None
    shapes.check(path, "resnet18")


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    target = tmp_path / "written"

    class Runs:
        def __reduce__(self) -> Any:
            return Path.write_text, (target, "by the file")

    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": Runs()}))
    assert shapes_in(tmp_path / "a.pth") == {} and not target.exists()


def test_it_costs_no_torch(files: dict[str, dict[str, Path]]) -> None:
    code = (
        "import sys; from pathlib import Path; from miseg.networks.encoders import shapes\n"
        f"try: shapes.check(Path({str(files['resnet18']['plain'])!r}), 'tf_efficientnet_lite0')\n"
        "except ValueError as error: print(error, {'torch', 'timm', 'numpy'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "does not hold timm's weights for tf_efficientnet_lite0" in said and "set()" in said


def test_a_name_that_the_table_lacks_is_left_to_who_reads_the_file(files: dict[str, dict[str, Path]]) -> None:
    shapes.check(files["resnet18"]["plain"], "nobodys_net")


@pytest.mark.slow
def test_the_table_is_what_the_encoders_are() -> None:
    names = sorted(shapes.encoders())
    assert len(names) > 300
    for name in [*names[:: len(names) // 12], *ENCODERS]:
        assert measure(name) == shapes.encoders()[name], name
