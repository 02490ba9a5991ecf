"""Methods that mix softmax cross-entropy with a loss of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from miseg.losses import (
    MixedLoss,
    boundary_parts,
    cl_dice_parts,
    complex_wavelet_mutual_information_parts,
    focal_parts,
    jaccard_parts,
    lovasz_softmax_parts,
    tversky_parts,
)
from miseg.losses.labels import valid_pixels
from miseg.methods import METHODS, build_method, registry
from miseg.methods.configs import CrossEntropy
from miseg.methods.dice import Dice
from miseg.methods.loss_configs import (
    BoundaryDistance,
    CentreLineDice,
    ComplexWaveletMutualInformation,
    Focal,
    Jaccard,
    LovaszSoftmax,
    Tversky,
)
from miseg.methods.mixture import CrossEntropyMixture
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment, from_dict, to_dict
from tests.support.tiny_methods import TASK, learnable_batch, tiny, tiny_config


def dice_parts(logits: Tensor, labels: Tensor, *, ignore_index: int) -> tuple[Tensor, Tensor]:
    return Dice().loss(logits, labels, valid_pixels(labels, logits.shape[1], ignore_index))


MIXTURES = [kind for kind in METHODS if issubclass(kind, CrossEntropyMixture)]
PARTS: dict[type, Any] = {
    Dice: dice_parts,
    Jaccard: jaccard_parts,
    LovaszSoftmax: lovasz_softmax_parts,
    Tversky: tversky_parts,
    Focal: focal_parts,
    CentreLineDice: cl_dice_parts,
    BoundaryDistance: boundary_parts,
    ComplexWaveletMutualInformation: complex_wavelet_mutual_information_parts,
}
each = pytest.mark.parametrize("kind", MIXTURES, ids=lambda kind: kind.__name__)


@each
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_that_of_a_plain_loop(kind: type, weight: float) -> None:
    torch.manual_seed(0)
    config: Any = replace(tiny_config(kind), weight=weight)
    method: Any = build_method(config, TASK)
    batch = learnable_batch(method)
    assert batch.labels_NHW is not None
    step = method(batch)
    logits = method.network(batch.images_NCHW)
    torch.testing.assert_close(step.loss(), MixedLoss(PARTS[kind], config.share(0))(logits, batch.labels_NHW))
    assert len(step.total) == (1 if weight == 0 else 2)
    if weight:
        share = config.share(0)
        mixed = share * step.scalars["ce"] + (1 - share) * step.scalars[registry.of(config).key]
        torch.testing.assert_close(step.loss().detach(), mixed)


@each
def test_all_of_the_share_on_cross_entropy_is_cross_entropy(kind: type) -> None:
    ce = tiny(CrossEntropy)
    method: Any = tiny(kind)
    method.config = replace(method.config, weight=1.0)
    batch = learnable_batch(ce)
    torch.testing.assert_close(method(batch).loss(), ce(batch).loss())


@each
def test_the_share_is_searched_and_decides_what_experiment_it_is(kind: type) -> None:
    space = registry.registered()[kind].space
    assert {"method.weight", "optimiser.learning_rate"} <= set(space.ranges)
    base = Experiment(kind())
    other = replace(base, method=replace(base.method, weight=0.5))
    assert base.id != other.id and from_dict(to_dict(other)) == other


@each
@pytest.mark.parametrize("weight", [-0.1, 1.01, float("nan")])
def test_a_share_out_of_range_is_refused(kind: Any, weight: float) -> None:
    with pytest.raises(ValueError, match=r"λ \(weight\) = .*it lies in 0\.\.1; 0 is the loss alone"):
        kind(weight=weight)


@each
def test_it_has_a_recipe_on_both_street_scenes(kind: type) -> None:
    key = registry.registered()[kind].key
    assert type(RECIPES[f"embedded-{key}"]().method) is type(RECIPES[f"camvid-{key}"]().method) is kind


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        (Focal, {"gamma": -1.0}, r"γ \(gamma\) = -1.0: use 0"),
        (Focal, {"gamma": float("nan")}, r"γ \(gamma\) = nan: use 0"),
        (Tversky, {"alpha": -0.1}, r"α \(alpha\) = -0.1: use 0 or more"),
        (Tversky, {"beta": 0.0}, r"β \(beta\) = 0.0: use a value above 0"),
        (Tversky, {"gamma": 0.0}, r"γ \(gamma\) = 0.0: use a value above 0"),
        (CentreLineDice, {"alpha": 1.5}, r"α \(alpha\) = 1.5: it lies in 0..1"),
        (CentreLineDice, {"alpha": float("nan")}, r"α \(alpha\) = nan: it lies in 0..1"),
        (CentreLineDice, {"iterations": -1}, "iterations = -1: use half"),
        (ComplexWaveletMutualInformation, {"levels": 0}, "levels = 0: use 1 or more"),
        (ComplexWaveletMutualInformation, {"orientations": 1}, "orientations = 1: use 2 or more"),
        (ComplexWaveletMutualInformation, {"ridge": 0.0}, "ridge = 0.0: use a value above 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_settings_and_loss_alike(kind: Any, settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        kind(**settings)
    with pytest.raises(ValueError, match=reason):
        PARTS[kind](torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long), **settings)


def test_cwmi_warms_up_with_cross_entropy_alone() -> None:
    config = ComplexWaveletMutualInformation(weight=0.3, warmup=0.1)
    assert [config.share(progress) for progress in (0, 0.09, 0.1, 1)] == [1, 1, 0.3, 0.3]
    assert replace(config, weight=0.0).share(0) == replace(config, warmup=0.0).share(0) - 0.3 == 0
    with pytest.raises(ValueError, match=r"warmup = 1\.5: it is a share of the steps"):
        replace(config, warmup=1.5)


def test_the_boundary_loss_takes_over_from_cross_entropy() -> None:
    config = BoundaryDistance(weight=0.2)
    assert [config.share(progress) for progress in (0, 0.5, 1)] == pytest.approx([1, 0.6, 0.2])
    assert replace(config, rebalance=False).share(0) == 0.2 and replace(config, weight=0.0).share(0) == 0
