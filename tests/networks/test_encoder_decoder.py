"""Every architecture on small encoders: any size and channels, what learns and what is frozen, ids and states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from miseg.interface import Batch, Task
from miseg.methods import build_method
from miseg.methods.configs import CrossEntropy
from miseg.networks import build_network
from miseg.networks.architectures import ARCHITECTURES
from miseg.networks.blocks import with_shared_batch_norm
from miseg.networks.configs import EncoderDecoder, without_weights
from miseg.networks.encoder_decoder import pad
from miseg.recipes.experiment import Experiment, from_dict, to_dict

SMALL = {"halving": "test_resnet", "quarter": "test_convnext", "full": "vgg11", "plain": "test_vit"}
"""The smallest encoder of each kind."""

EACH = [EncoderDecoder(name, SMALL[architecture.kinds[0]]) for name, architecture in ARCHITECTURES.items()]
RESNET = EncoderDecoder("unet", "test_resnet")


def network_of(config: EncoderDecoder, in_channels: int = 3, classes: int = 3) -> Any:
    torch.manual_seed(0)
    return build_network(config, in_channels, classes)


def named(config: EncoderDecoder) -> str:
    return f"{config.architecture}-{config.encoder}"


@pytest.mark.parametrize("config", EACH, ids=named)
def test_any_size_and_any_channels(config: EncoderDecoder) -> None:
    network = network_of(config, in_channels=4).eval()
    with torch.inference_mode():
        for size in ((37, 53), (1, 5)):
            logits = network(torch.randn(2, 4, *size))
            assert logits.shape == (2, 3, *size) and logits.isfinite().all()


def check_learns(config: EncoderDecoder) -> None:
    """All that is to learn has a gradient, and the logits depend on the image."""
    network = network_of(config, in_channels=2).train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            # timm's residual branches begin at 0, and what is in them has no gradient until they have left it.
            nn.init.ones_(module.weight)
    images = torch.randn(2, 2, 64, 64, requires_grad=True)
    network(images).square().mean().backward()
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert not [name for name, p in learning.items() if p.grad is None]
    assert sum(bool(p.grad.any()) for p in learning.values()) > 0.9 * len(learning)
    assert images.grad is not None and images.grad.any()
    grouped = [id(p) for group in network.param_groups(0.1) for p in group["params"]]
    assert sorted(grouped) == sorted(map(id, learning.values()))


@pytest.mark.parametrize("config", EACH, ids=named)
def test_all_that_is_to_learn_has_a_gradient(config: EncoderDecoder) -> None:
    check_learns(config)


OTHERS = [
    EncoderDecoder(name, encoder, output_stride=32 if (name, kind) == ("pan", "full") else None)
    for name, architecture in ARCHITECTURES.items()
    for kind in architecture.kinds[1:]
    for encoder in (SMALL[kind], *(("mit_b0",) if kind == "quarter" else ()))
    if not (kind == "full" and name.startswith("deeplabv3"))
]
"""But VGG, which cannot be dilated, where that is asked for."""


@pytest.mark.slow
@pytest.mark.parametrize("config", OTHERS, ids=named)
def test_each_kind_of_encoder_that_an_architecture_takes(config: EncoderDecoder) -> None:
    check_learns(config)


def test_segformer_on_its_own_encoder() -> None:
    check_learns(EncoderDecoder("segformer", "mit_b0"))


@pytest.mark.parametrize(
    ("architecture", "stride"), [("deeplabv3", 16), ("deeplabv3", 8), ("deeplabv3+", 8), ("pan", 32)]
)
def test_the_encoder_is_dilated_to_its_output_stride(architecture: Any, stride: Any) -> None:
    network = network_of(EncoderDecoder(architecture, "test_resnet", output_stride=stride)).eval()
    with torch.inference_mode():
        features = network.model.encoder(torch.randn(1, 3, 64, 96))
        assert features[-1].shape[-2:] == (64 // stride, 96 // stride)
        assert network(torch.randn(1, 3, 40, 40)).shape == (1, 3, 40, 40)


@pytest.mark.slow
def test_a_vit_of_patches_of_14() -> None:
    """DINOv2's: the decoder's maps must meet, and the logits be at the image's size."""
    network = network_of(EncoderDecoder("dpt", "vit_small_patch14_dinov2")).eval()
    assert network.multiple == 28
    with torch.inference_mode():
        assert network(torch.randn(1, 3, 30, 60)).shape == (1, 3, 30, 60)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (8, 16), (1, 1), (9, 3)])
def test_padding_mirrors_and_keeps_the_image(height: int, width: int) -> None:
    images = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)
    padded = pad(images, 8)
    assert padded.shape[-2] % 8 == 0 and padded.shape[-1] % 8 == 0
    assert torch.equal(padded[..., :height, :width], images)
    if width == 7:
        assert torch.equal(padded[..., :height, 7], images[..., 5])
    if (height, width) == (1, 1):
        assert padded.eq(images).all()
    assert pad(images, 8, 24).shape[-2:] == (24, 24)


@pytest.mark.parametrize("config", EACH, ids=named)
def test_a_description_and_a_state_come_back(config: EncoderDecoder) -> None:
    experiment = Experiment(method=CrossEntropy(replace(config, frozen=2, encoder_rate=0.1)))
    again = from_dict(to_dict(experiment))
    assert again == experiment and again.id == experiment.id
    assert Experiment(method=CrossEntropy(config)).id != experiment.id


def test_a_state_is_that_of_the_same_network() -> None:
    first = network_of(replace(RESNET, frozen=2)).eval()
    torch.manual_seed(1)
    second = build_network(without_weights(RESNET), 3, 3).eval()
    second.load_state_dict(first.state_dict())
    images = torch.randn(1, 3, 40, 40)
    with torch.inference_mode():
        assert torch.equal(first(images), second(images))


def trained(config: EncoderDecoder, steps: int = 2) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Any]:
    """The encoder's state before and after some steps of a method, and the network."""
    torch.manual_seed(0)
    method: Any = build_method(CrossEntropy(config), Task(3))
    before = {name: value.clone() for name, value in method.network.model.encoder.state_dict().items()}
    optimiser = torch.optim.SGD(method.param_groups(0.1), lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        method.train()
        batch = Batch(torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64)))
        method(batch).loss().backward()
        optimiser.step()
        optimiser.zero_grad()
    return before, method.network.model.encoder.state_dict(), method.network


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def test_a_frozen_encoder_does_not_move_at_all() -> None:
    before, after, network = trained(replace(RESNET, frozen="all"))
    assert not moved(before, after)
    assert [group["lr"] for group in network.param_groups(0.1)] == [0.1]
    assert not network.model.encoder.training and network.model.decoder.training


def test_frozen_stages_do_not_move_and_the_others_do() -> None:
    before, after, _ = trained(replace(RESNET, frozen=2))
    names = moved(before, after)
    assert names and all(name.startswith(("model.layer2", "model.layer3", "model.layer4")) for name in names)
    stages = {name.split(".")[1] for name in names}
    assert stages == {"layer2", "layer3", "layer4"}


def test_frozen_batch_norm_keeps_its_weights_and_statistics() -> None:
    before, after, network = trained(replace(RESNET, frozen_batch_norm=True))
    norms = {n for n, m in network.model.encoder.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    of_norms = {name for name in before if name.rpartition(".")[0] in norms}
    assert of_norms and not moved(before, after) & of_norms
    assert moved(before, after) == {name for name in before if name not in of_norms}


def test_batch_norm_over_several_gpus_keeps_activations_and_what_is_frozen() -> None:
    """timm's own batch norms hold an activation: torch's conversion drops it, and nothing fails."""
    network = network_of(EncoderDecoder("fpn", "test_efficientnet", frozen_batch_norm=True)).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = network(images)
        converted = with_shared_batch_norm(network)
        torch.testing.assert_close(converted(images), before)
    norms = [m for m in converted.train().model.encoder.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert norms and not any(norm.training for norm in norms)


def test_nothing_frozen_moves_all() -> None:
    before, after, _ = trained(RESNET)
    assert moved(before, after) == set(before)


def test_the_encoder_learns_at_its_own_rate() -> None:
    network = network_of(replace(RESNET, encoder_rate=0.1))
    encoder, decoder = network.param_groups(0.01)
    assert (encoder["lr"], decoder["lr"]) == (pytest.approx(0.001), 0.01)
    assert {id(p) for p in encoder["params"]} == {id(p) for p in network.model.encoder.parameters()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "unett"}, "architecture = 'unett': use one of unet, unet"),
        ({"encoder": "resnet43"}, "encoder = 'resnet43': there is no such encoder in timm; the nearest are resnet"),
        ({"encoder": "resnet50.in22"}, "no such weights of resnet50; there are resnet50"),
        ({"architecture": "linknet", "encoder": "mit_b0"}, "Linknet cannot take it, for it gives features from 1/4"),
        ({"architecture": "unet", "encoder": "test_vit"}, "U-Net cannot take it, .*; dpt takes it"),
        ({"architecture": "dpt"}, "DPT cannot take it, .* encoders such as vit_small_patch16_224"),
        ({"output_stride": 16}, "output_stride = 16: U-Net has no such output stride; leave it out"),
        ({"architecture": "pan", "output_stride": 8}, "PAN has no such output stride; use 16 or 32"),
        ({"output_stride": 12}, "output_stride = 12: use one of None, 8, 16, 32"),
        ({"encoder_rate": 0.0}, "encoder_rate = 0.0: use a value above 0, or frozen=all for none"),
        ({"frozen": 6}, "frozen = 6: use 0 .nothing. to 5"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderDecoder(**settings)


def test_an_encoder_that_cannot_be_dilated_is_refused_with_what_can() -> None:
    with pytest.raises(ValueError, match=r"PAN dilates it to output stride 16, .* give output_stride=32"):
        EncoderDecoder("pan", "swin_tiny_patch4_window7_224")
    with pytest.raises(ValueError, match=r"DeepLabV3\+ dilates it .* use an encoder such as resnet34"):
        EncoderDecoder("deeplabv3+", "swin_tiny_patch4_window7_224")
