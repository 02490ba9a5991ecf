"""Maps by nearest labelled pixels equal the literal algorithm, which compares one patch with one label at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from miseg.interface import Batch, Task
from miseg.methods import build_method
from miseg.methods.configs import MutualInformationSimilarity
from miseg.methods.few import nearest
from miseg.methods.few.similarity import MutualInformationSimilarityMethod
from miseg.networks.configs import PatchEncoder

TASK = Task(num_classes=4, in_channels=3)
ENCODER = PatchEncoder(patch=7, features=(6, 5), representation=4)
CONFIG = MutualInformationSimilarity(ENCODER, hidden=8)


def trained(config: MutualInformationSimilarity = CONFIG) -> MutualInformationSimilarityMethod:
    """A method in float64 whose weights are no longer those it was born with, batch norm's statistics too."""
    torch.manual_seed(0)
    method = build_method(config, TASK).double()
    assert isinstance(method, MutualInformationSimilarityMethod)
    optimiser = torch.optim.Adam(method.param_groups(1e-2))
    for _ in range(10):
        patches = 1 + torch.randn(8, 3, 7, 7, dtype=torch.float64)
        step = method(Batch(patches, views_NCHW=patches + 0.1 * torch.randn_like(patches)))
        optimiser.zero_grad()
        step.loss().backward()
        optimiser.step()
    return method.eval()


def labelled(height: int, width: int, pixels: list[tuple[int, int, int]]) -> Batch:
    """An image with (row, column, class) labelled."""
    generator = torch.Generator().manual_seed(height)
    image = torch.randn(1, 3, height, width, dtype=torch.float64, generator=generator)
    labels = torch.full((1, height, width), TASK.ignore_index)
    for row, column, label in pixels:
        labels[0, row, column] = label
    return Batch(image, labels)


PIXELS = [(5, 3, 2), (0, 0, 0), (9, 10, 1), (4, 8, 0), (6, 6, 3), (2, 9, 2), (9, 0, 3)]


@torch.no_grad()
def literal_scores(method: MutualInformationSimilarityMethod, batch: Batch, compare: str) -> torch.Tensor:
    """[L, H, W]: for every pixel and every label, the encoder on both patches and the network on the pair."""
    assert batch.labels_NHW is not None and method.support is not None
    border, image = method.patch // 2, batch.images_NCHW
    padded = torch.nn.functional.pad(image, (border,) * 4, mode="reflect")
    height, width = image.shape[-2:]
    scores = torch.empty(len(method.support.labels_L), height, width, dtype=image.dtype)
    for index, patch in enumerate(method.support.patches_LBPP):
        for row in range(height):
            for column in range(width):
                here = padded[..., row : row + method.patch, column : column + method.patch]
                (local, z_here), (_, z) = method.encoder(here), method.encoder(patch[None])
                if compare == "representation":
                    score = -(z_here - z).abs().sum()
                elif compare == "patches":
                    score = -(here - patch).abs().sum()
                elif compare == "pixels":
                    score = -(here[0, :, border, border] - patch[:, border, border]).abs().sum()
                else:
                    network = method.of_whole if compare == "global" else method.of_parts
                    assert network is not None
                    score = network(local, z).mean()
                scores[index, row, column] = score
    return scores


def literal_map(scores: torch.Tensor, labels: torch.Tensor, neighbours: int) -> torch.Tensor:
    """The class of most among the nearest labels of every pixel; where classes are even, the nearest one's."""
    _, height, width = scores.shape
    found = torch.empty(height, width, dtype=torch.int64)
    for row in range(height):
        for column in range(width):
            here = scores[:, row, column].tolist()
            order = sorted(range(len(here)), key=lambda index: (-here[index], index))[:neighbours]
            votes = [labels[index].item() for index in order]
            found[row, column] = max(dict.fromkeys(votes), key=votes.count)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("size", [(10, 11), (7, 19)])
@pytest.mark.parametrize("discriminator", ["concatenate", "dot"])
@pytest.mark.parametrize("compare", ["global", "local", "representation", "patches", "pixels"])
def test_the_fast_map_is_the_literal_one(compare: str, discriminator: str, size: tuple[int, int]) -> None:
    method = trained(replace(CONFIG, discriminator=discriminator))
    batch = labelled(*size, [(row % size[0], column, label) for row, column, label in PIXELS])
    method.fit_support([batch])
    assert method.support is not None
    expected = literal_scores(method, batch, compare)
    found = torch.cat(list(method.scores(compare, batch.images_NCHW[0])), 1)
    if compare in ("global", "local"):
        torch.testing.assert_close(found, expected)
    else:
        torch.testing.assert_close(-found.neg().exp(), expected, rtol=1e-9, atol=1e-12)
    for neighbours in (1, 3, 5):
        method.neighbours = neighbours
        map_HW = method.predict_by(compare, batch.images_NCHW)[0].argmax(0)
        torch.testing.assert_close(map_HW, literal_map(expected, method.support.labels_L, neighbours))


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    method = trained()
    batch = labelled(23, 11, PIXELS)
    method.fit_support([batch])
    whole = method.predict(batch.images_NCHW)
    monkeypatch.setattr(nearest, "STRIP_BYTES", 4 * 11 * 512 * 4)
    assert len(list(method.scores("local", batch.images_NCHW[0]))) == 6
    torch.testing.assert_close(method.predict(batch.images_NCHW), whole)


@pytest.mark.parametrize("compare", ["global", "local", "representation", "patches", "pixels"])
def test_an_image_that_is_kept_is_scored_as_one_that_is_not(compare: str) -> None:
    method = trained()
    batch = labelled(10, 11, PIXELS)
    method.fit_support([batch])
    assert method.support is not None
    expected = torch.cat(list(method.scores(compare, batch.images_NCHW[0])), 1)
    features, score = method.prepare(compare, batch.images_NCHW[0])
    patches = method.support.patches_LBPP
    found = torch.cat([score(features, part) for part in patches.split([1, 4, 2])])
    assert not found.requires_grad
    torch.testing.assert_close(found.clamp_max(20), expected.clamp_max(20))


def test_of_equally_near_labels_the_first_class_counts() -> None:
    method = trained()
    batch = labelled(10, 11, PIXELS)
    method.fit_support([batch])
    assert method.support is not None
    # Every class has the same patches: whatever the pixel, all classes are equally near.
    patches = method.support.patches_LBPP[:1].expand(4, -1, -1, -1)
    method.support = nearest.Support(patches, torch.arange(4))
    for method.neighbours in (1, 3):
        # Not by what a network makes of them: equal patches of one batch may differ in their last digits.
        for compare in ("patches", "pixels"):
            assert (method.predict_by(compare, batch.images_NCHW).argmax(1) == 0).all()
        assert (method.vote(torch.zeros(4, 3, 5), torch.arange(4)).argmax(0) == 0).all()


def test_a_labelled_pixel_has_its_own_class() -> None:
    method = trained()
    batch = labelled(10, 11, PIXELS)
    method.fit_support([batch])
    for compare in ("representation", "patches"):
        found = method.predict_by(compare, batch.images_NCHW)[0]
        for row, column, label in PIXELS:
            assert found[label, row, column] > 0.99
    torch.testing.assert_close(found.sum(0), torch.ones(10, 11))


def test_examples_come_from_several_images_and_a_class_without_one_is_never_chosen() -> None:
    method = trained()
    first, second = labelled(10, 11, PIXELS[:2]), labelled(8, 9, [(1, 1, 3)])
    method.fit_support([first, second])
    assert method.support is not None
    assert method.support.labels_L.tolist() == [0, 2, 3] and method.support.patches_LBPP.shape == (3, 3, 7, 7)
    found = method.predict(second.images_NCHW)
    assert found.shape == (1, 4, 8, 9) and (found[:, 1] == 0).all()


def test_bad_use_is_named() -> None:
    method = trained()
    with pytest.raises(ValueError, match="call fit_support first"):
        method.predict(torch.zeros(1, 3, 9, 9, dtype=torch.float64))
    with pytest.raises(ValueError, match="no labelled pixel"):
        method.fit_support([labelled(10, 11, [])])
    with pytest.raises(ValueError, match="without labels"):
        method.fit_support([labelled(10, 11, []).without_labels()])
    with pytest.raises(ValueError, match="compare = 'nearest': this model has representation, patches, pixels, global"):
        method.prepare("nearest", torch.zeros(3, 9, 9, dtype=torch.float64))
    with pytest.raises(ValueError, match="6 x 9 pixels is smaller than a patch of 7"):
        method.prepare("local", torch.zeros(3, 6, 9, dtype=torch.float64))
    with pytest.raises(ValueError, match="6 x 9 pixels is smaller than a patch of 7"):
        method.fit_support([labelled(6, 9, [(0, 0, 0)])])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": -1.0}, "alpha = -1.0: use 0 or more"),
        ({"alpha": 0.0, "beta": 0.0, "compare": "representation"}, "nothing would be learned"),
        ({"beta": 0.0}, "compare = 'local': that network is not trained"),
        ({"neighbours": 0}, "neighbours = 0"),
        ({"gamma": float("nan")}, "gamma = nan"),
    ],
)
def test_bad_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)


def test_the_loss_is_the_papers() -> None:
    """α and β times both views' Jensen-Shannon terms, written out, and γ times the mean L1 difference."""
    method = trained(replace(CONFIG, alpha=0.7, beta=0.4, gamma=0.2))
    torch.manual_seed(1)
    x, y = torch.randn(2, 6, 3, 7, 7, dtype=torch.float64)
    found = method(Batch(x, views_NCHW=y)).loss()
    (local_x, z_x), (local_y, z_y) = method.encoder(x), method.encoder(y)
    swapped = torch.tensor([1, 0, 3, 2, 5, 4])
    assert method.of_whole is not None and method.of_parts is not None
    expected = 0.2 * (z_x - z_y).abs().mean()
    for weight, network in ((0.7, method.of_whole), (0.4, method.of_parts)):
        joint = torch.cat([network(local_x, z_y), network(local_y, z_x)])
        marginal = torch.cat([network(local_x, z_y[swapped]), network(local_y, z_x[swapped])])
        expected = expected + weight * ((1 + (-joint).exp()).log().mean() + (1 + marginal.exp()).log().mean())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_without_swapping_a_view_is_scored_with_its_own_representation() -> None:
    method = trained(replace(CONFIG, swap=False, gamma=0.0))
    torch.manual_seed(1)
    x, y = torch.randn(2, 4, 3, 7, 7, dtype=torch.float64)
    alone = [method(Batch(view, views_NCHW=view)).loss() for view in (x, y)]
    torch.testing.assert_close(method(Batch(x, views_NCHW=y)).loss(), sum(alone) / 2)


def test_an_odd_share_and_a_missing_view_are_refused() -> None:
    method = trained()
    patches = torch.randn(3, 3, 7, 7, dtype=torch.float64)
    with pytest.raises(ValueError, match="3 pairs in a worker's share"):
        method(Batch(patches, views_NCHW=patches))
    with pytest.raises(ValueError, match="without second views"):
        method(Batch(patches))
