"""The list of differences names recipes that exist, and says of miseg what miseg does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import SeparableConv2d
from torch import nn

from miseg.losses import iic_loss_of_tables, iic_segmentation_loss, iic_tables
from miseg.methods.ranges import changed
from miseg.networks import build_network
from miseg.recipes.catalog import RECIPES
from miseg.recipes.differences import DIFFERENCES
from tests.support import differences_page


def test_every_pattern_names_a_recipe() -> None:
    for difference in DIFFERENCES:
        for pattern in difference.recipes:
            one = type(difference)(difference.study, difference.what, (pattern,))
            assert any(map(one.changes, RECIPES)), f"{pattern}: {difference.what}"


def test_each_study_changes_its_own_recipes_alone() -> None:
    for difference in DIFFERENCES:
        changed = [name for name in RECIPES if difference.changes(name)]
        if difference.study == "Porto":
            assert all(name.startswith("porto-") for name in changed), difference.what
        if difference.study in ("IIC", "InfoSeg"):
            assert all(RECIPES[name]().supervision == "none" for name in changed), difference.what
    assert not any(d.changes("camvid-ce") or d.changes("embedded-bce") for d in DIFFERENCES)


def what(study: str, *words: str) -> str:
    """The one text of a study's differences that has all of these words."""
    (text,) = [d.what for d in DIFFERENCES if d.study == study and all(word in d.what for word in words)]
    return text


@pytest.fixture(scope="module")
def deeplab() -> Callable[..., Any]:
    """Builds DeepLab as the RMI paper's recipes have it, on the meta device, whose tensors have no memory."""

    def build(recipe: str, **settings: Any) -> Any:
        network = replace(RECIPES[recipe]().method.network, weights=None, **settings)
        with torch.device("meta"):
            return build_network(network, 3, 12).model

    return build


def test_the_stem_and_the_shortcuts_differ_as_listed_and_resnet101s_has_the_codes(deeplab: Callable[..., Any]) -> None:
    text = what("RMI", "stem", "shortcuts")
    assert "64, 64 and 128" in text and "32, 32 and 64" in text and "resnet101s" in text

    def stem_and_shortcut(network: Any) -> tuple[list[int], bool]:
        encoder = network.encoder.model
        widths = [layer.out_channels for layer in encoder.conv1 if isinstance(layer, nn.Conv2d)]
        return widths, any(isinstance(layer, nn.AvgPool2d) for layer in encoder.layer2[0].downsample)

    assert stem_and_shortcut(deeplab("voc-v3-rmi")) == ([32, 32, 64], True)
    assert stem_and_shortcut(deeplab("voc-v3-rmi", encoder="resnet101s")) == ([64, 64, 128], False)


def test_the_last_stage_is_dilated_as_listed(deeplab: Callable[..., Any]) -> None:
    assert "second and third block are dilated by 2" in what("RMI", "last stage")
    stage = deeplab("camvid-v3-rmi").encoder.model.layer4
    assert [block.conv2.dilation[0] for block in stage] == [1, 2, 2]
    assert {block.conv2.stride[0] for block in stage} == {1}


def test_the_decoders_differ_as_listed(deeplab: Callable[..., Any]) -> None:
    assert "dropout after them" in what("RMI", "decoder of V3+")
    decoder = deeplab("voc-v3plus-ce").decoder
    assert not any(isinstance(layer, nn.Dropout) for layer in decoder.block2.modules())
    assert sum(isinstance(layer, SeparableConv2d) for layer in decoder.modules()) == 2
    assert "another 3x3 convolution of 256 channels" in what("RMI", "code's DeepLabV3 goes")
    after_pyramid = [layer for layer in deeplab("voc-v3-ce").decoder.children() if isinstance(layer, nn.Conv2d)]
    assert [(layer.kernel_size, layer.out_channels) for layer in after_pyramid] == [((3, 3), 256)]


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith(("voc-v3", "camvid-v3"))])
def test_the_rmi_papers_recipes_have_what_the_list_gives_as_ours(name: str) -> None:
    experiment = RECIPES[name]()
    listed = " ".join(difference.what for difference in DIFFERENCES if difference.changes(name))
    choices = {
        "optimiser.decay_from=warmup": (experiment.optimiser.decay_from, "start"),
        "optimiser.decayed=weights": (experiment.optimiser.decayed, "all"),
        "augmentation.interpolation=bicubic": (experiment.augmentation.interpolation, "bilinear"),
        "augmentation.padding=end": (experiment.augmentation.padding, "around"),
        "method.network.encoder=resnet101s": (experiment.method.network.encoder, "resnet101d"),  # type: ignore
    }
    for choice, (ours, expected) in choices.items():
        assert choice in listed and ours == expected
        # The paper's own is a setting that exists.
        path, value = choice.split("=")
        changed(experiment, {path: value})


def test_iics_recipes_average_over_displacements_as_the_authors_commands_do() -> None:
    """The code's other loss is that of the tables' sum."""
    assert "so do the authors' commands" in what("IIC", "over displacements")
    first, second = torch.rand(2, 2, 3, 12, 12).softmax(2)
    tables = iic_tables(first, second, displacement=2)
    each = [iic_loss_of_tables(table[None]) for table in tables]
    mean = torch.stack(each).mean()
    torch.testing.assert_close(iic_segmentation_loss(first, second, displacement=2), mean)
    assert not torch.isclose(iic_loss_of_tables(tables.sum(0, keepdim=True)), mean)


def test_the_page_shows_every_study_as_the_list_has_it() -> None:
    page = differences_page.PAGE.read_text(encoding="utf-8")
    assert sorted(differences_page.studies(page)) == sorted({difference.study for difference in DIFFERENCES})
    written = "python -m tests.support.differences_page"
    assert page == differences_page.with_tables(page), f"docs/fidelity.md is not what the list makes: run {written}"
    assert written in page


def test_what_a_page_says_around_its_tables_stays() -> None:
    text = "a\n<!-- differences: CWMI -->\n<!-- end -->\nb\n<!-- differences: IIC -->\nold\n<!-- end -->\nc"
    page = differences_page.with_tables(text)
    assert [line for line in page.splitlines() if len(line) == 1] == ["a", "b", "c"] and "old" not in page
    assert differences_page.with_tables(page) == page and differences_page.studies(page) == ["CWMI", "IIC"]
