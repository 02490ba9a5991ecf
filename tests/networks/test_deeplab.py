"""DeepLab at the papers' crops: sizes, strides, weights from a file, learning rates apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from miseg.interface import Task
from miseg.methods import build_method
from miseg.methods.configs import CrossEntropy, MutualLearning, RegionMutualInformation
from miseg.networks import build_network
from miseg.networks.configs import DeepLab, UNet, networks_of, without_weights

SMALL = DeepLab(encoder="resnet18d")


def network_of(config: DeepLab = SMALL, in_channels: int = 3, classes: int = 5) -> Any:
    torch.manual_seed(0)
    return build_network(config, in_channels, classes).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A file of timm weights for resnet18d, as safetensors and as pickle, with what it holds."""
    torch.manual_seed(1)
    state = timm.create_model("resnet18d").state_dict()
    folder = tmp_path_factory.mktemp("weights with ß")
    save_file(state, folder / "a.safetensors")
    torch.save(state, folder / "a.pth")
    return {"folder": folder, "state": state}


@pytest.mark.parametrize("version", ["v3", "v3+"])
@pytest.mark.parametrize("size_HW", [(64, 64), (57, 79)])
def test_logits_are_at_input_resolution(version: Any, size_HW: tuple[int, int]) -> None:
    network = network_of(DeepLab(version, "resnet18d"))
    with torch.inference_mode():
        assert network(torch.randn(2, 3, *size_HW)).shape == (2, 5, *size_HW)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v3", "v3+"])
def test_the_papers_network_takes_their_crop(version: Any) -> None:
    network = network_of(DeepLab(version), classes=21)
    with torch.inference_mode():
        assert network(torch.randn(1, 3, 129, 129)).shape == (1, 21, 129, 129)
    stem = network.model.encoder.model.conv1
    assert [tuple(layer.kernel_size) for layer in stem if isinstance(layer, nn.Conv2d)] == [(3, 3)] * 3
    assert sum(p.numel() for p in network.model.encoder.parameters()) > 42e6


@pytest.mark.parametrize(("output_stride", "rates"), [(16, [6, 12, 18]), (8, [12, 24, 36])])
def test_the_encoder_is_dilated_to_its_output_stride(output_stride: Any, rates: list[int]) -> None:
    network = network_of(replace(SMALL, output_stride=output_stride)).eval()
    with torch.inference_mode():
        features = network.model.encoder(torch.randn(1, 3, 64, 96))
    assert features[-1].shape[-2:] == (64 // output_stride, 96 // output_stride)
    dilations = {m.dilation[0] for m in network.model.decoder.modules() if isinstance(m, nn.Conv2d)}
    assert sorted(dilations - {1}) == rates


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_weights_come_from_a_local_file(weights: dict[str, Any], name: str) -> None:
    network = network_of(replace(SMALL, weights=str(weights["folder"] / name)))
    found = network.model.encoder.model.state_dict()
    assert len(found) > 100
    for key, value in found.items():
        torch.testing.assert_close(value, weights["state"][key], rtol=0, atol=0, msg=key)
    assert not torch.equal(network_of().model.encoder.model.layer1[0].conv1.weight, found["layer1.0.conv1.weight"])


def test_the_first_convolution_is_adapted_to_other_channels(weights: dict[str, Any]) -> None:
    network = network_of(replace(SMALL, weights=str(weights["folder"] / "a.safetensors")), in_channels=4)
    first = network.model.encoder.model.conv1[0].weight
    assert first.shape[1] == 4 and first.std() > 0
    torch.testing.assert_close(network.model.encoder.model.bn1.weight, weights["state"]["bn1.weight"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights = .*none.pth': there is no such file; give imagenet"):
        network_of(replace(SMALL, weights=str(tmp_path / "none.pth")))


def test_a_file_of_another_network_is_refused(weights: dict[str, Any]) -> None:
    config = DeepLab(encoder="resnet50d", weights=str(weights["folder"] / "a.safetensors"))
    with pytest.raises(ValueError, match="does not hold timm's weights for resnet50d"):
        network_of(config)


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match=r"text.pth': the file holds no weights that can be read"):
        network_of(replace(SMALL, weights=str(tmp_path / "text.pth")))


def test_without_a_connection_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="could not fetch resnet18d from the hub; without a connection, give weights="):
        network_of(replace(SMALL, weights="imagenet"))


def test_a_checkpoint_needs_no_weights_of_its_settings() -> None:
    config = CrossEntropy(replace(SMALL, weights="/no/such/file"))
    method = build_method(config, Task(3), pretrained=False)
    assert sum(p.numel() for p in method.parameters()) > 0


def test_networks_are_found_and_stripped_at_any_depth() -> None:
    fetched = replace(SMALL, weights="imagenet")
    config = MutualLearning(fetched, (UNet(4), fetched))
    assert networks_of(config) == [fetched, UNet(4), fetched]
    assert networks_of(without_weights(config)) == [SMALL, UNet(4), SMALL]
    assert without_weights(CrossEntropy(UNet(4))) == CrossEntropy(UNet(4))


def test_the_decoder_learns_at_a_multiple_of_the_encoders_rate() -> None:
    method = build_method(RegionMutualInformation(replace(SMALL, decoder_rate=10.0)), Task(3))
    encoder, decoder = method.param_groups(0.01)
    assert (encoder["lr"], decoder["lr"]) == (0.01, pytest.approx(0.1))
    grouped = [id(p) for group in (encoder, decoder) for p in group["params"]]
    assert sorted(grouped) == sorted(map(id, method.parameters()))
    inside = {id(p) for p in method.network.model.encoder.parameters()}
    assert {id(p) for p in encoder["params"]} == inside


def test_mutual_learning_keeps_the_groups_of_each_network() -> None:
    method = build_method(MutualLearning(replace(SMALL, decoder_rate=5.0), (UNet(4),)), Task(3))
    groups = method.param_groups(0.1)
    assert [(group["lr"], group["clip"]) for group in groups] == [(0.1, 0), (0.5, 0), (0.1, 1)]


def test_batch_norm_takes_the_momentum() -> None:
    network = network_of(replace(SMALL, batch_norm_momentum=0.05))
    assert {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {0.05}


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"decoder_rate": 0.0}, "decoder_rate = 0.0"), ({"batch_norm_momentum": 1.5}, "batch_norm_momentum = 1.5")],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepLab(**settings)
