"""The similarity as Sanchez, Serrurier and Ortner print it, against their equations written out in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from miseg.interface import Batch
from miseg.methods.configs import MutualInformationSimilarity
from miseg.methods.few.similarity import MutualInformationSimilarityMethod
from miseg.methods.few.unpaired import shuffled
from miseg.networks.patches import StatisticsNetwork
from miseg.recipes.experiment import Experiment
from tests.methods.test_nearest_labels import ENCODER, PIXELS, labelled, literal_map, trained

PUBLISHED = MutualInformationSimilarity(
    ENCODER, hidden=8, alpha=0.7, beta=0.4, gamma=0.2, negatives="batch", reduction="sum", terms="all"
)


def softplus(score: Tensor) -> Tensor:
    return (1 + score.exp()).log()


def scores(network: StatisticsNetwork, local_FPP: Tensor, z_Z: Tensor) -> Tensor:
    """T at each position of a patch's feature map; of a global network there is one."""
    return network(local_FPP[None], z_Z[None]).flatten()


def printed_loss(method: MutualInformationSimilarityMethod, x: Tensor, y: Tensor, order: list[int]) -> Tensor:
    """−(α global + β Σ_j local_j − γ Σ |S_X − S_Y|), a pair at a time, over the number of pairs."""
    config = method.config
    assert isinstance(config, MutualInformationSimilarity)
    local, z = method.encoder(torch.cat([x, y]))
    pairs = len(x)
    (c_x, c_y), (s_x, s_y) = local.chunk(2), z.chunk(2)
    paired = [(i, i) for i in range(pairs)]
    unpaired = [(i, order[i]) for i in range(pairs)]
    total = config.gamma * sum((s_x[i] - s_y[i]).abs().sum() for i in range(pairs))
    for weight, network in ((config.alpha, method.of_whole), (config.beta, method.of_parts)):
        assert network is not None
        for chosen, sign in ((paired, -1), (unpaired, 1)):
            for i, j in chosen:
                for maps, here, representations, there in ((c_x, i, s_y, j), (c_y, j, s_x, i)):
                    if not config.swap:
                        # A view's map is scored with its own representation, and apart with the same view of another.
                        representations = s_x if maps is c_x else s_y
                    of_pair = scores(network, maps[here], representations[there])
                    total = total + weight * softplus(sign * of_pair).sum()
    return total / pairs


@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize("discriminator", ["concatenate", "dot"])
def test_the_loss_and_its_gradient_are_the_printed_ones(
    discriminator: str, swap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = trained(replace(PUBLISHED, discriminator=discriminator, swap=swap)).train()
    x, y = torch.randn(2, 5, 3, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    order = [3, 0, 4, 1, 2]
    monkeypatch.setattr(torch, "randperm", lambda number: torch.tensor(order[:number]))
    parameters = list(method.parameters())
    expected = printed_loss(method, x, y, order)
    loss = method(Batch(x, views_NCHW=y)).loss()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for mine, printed in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(mine, printed, rtol=1e-9, atol=1e-11)


def test_means_of_the_whole_batch_s_negatives_weigh_by_position_and_component() -> None:
    """The two settings are apart: means with negatives of the batch are sums over what each weight counts."""
    torch.manual_seed(0)
    x, y = torch.randn(2, 5, 3, 7, 7, dtype=torch.float64)
    values = {}
    for reduction in ("sum", "mean"):
        method = trained(replace(PUBLISHED, reduction=reduction, neighbours=1))
        method.load_state_dict(trained(PUBLISHED).state_dict())
        torch.manual_seed(3)
        step = method(Batch(x, views_NCHW=y))
        values[reduction] = (step.total / step.count).tolist(), {n: v.item() for n, v in step.scalars.items()}
    (sums, of_sums), (means, of_means) = values["sum"], values["mean"]
    views, positions, components = 2, ENCODER.local_size**2, ENCODER.representation
    factors = [views, views, views * positions, views * positions, components]
    assert sums == pytest.approx([mean * factor for mean, factor in zip(means, factors, strict=True)])
    assert of_sums == pytest.approx(of_means), "what is logged is nats and a mean, whatever is trained on"


def printed_d(network: StatisticsNetwork, c_i: Tensor, s_i: Tensor, c_j: Tensor, s_j: Tensor) -> Tensor:
    """D of algorithm 2 between a labelled patch i and an unlabelled j."""
    paired, unpaired = ((c_i, s_i), (c_j, s_j)), ((c_i, s_j), (c_j, s_i))
    of_paired = sum(softplus(-scores(network, c, s)).sum() for c, s in paired)
    return -of_paired - sum(softplus(scores(network, c, s)).sum() for c, s in unpaired)


@pytest.mark.parametrize("discriminator", ["concatenate", "dot"])
@pytest.mark.parametrize("compare", ["global", "local"])
def test_a_pixel_takes_the_class_of_the_lowest_d(compare: str, discriminator: str) -> None:
    method = trained(replace(PUBLISHED, discriminator=discriminator, compare=compare)).requires_grad_(False)
    height, width = 7, 8
    batch = labelled(height, width, [(row % height, column % width, label) for row, column, label in PIXELS])
    method.fit_support([batch])
    assert method.support is not None
    network = method.of_whole if compare == "global" else method.of_parts
    assert network is not None
    padded = torch.nn.functional.pad(batch.images_NCHW, (method.patch // 2,) * 4, mode="reflect")
    of_label = [tuple(part[0] for part in method.encoder(patch[None])) for patch in method.support.patches_LBPP]
    d_LHW = torch.empty(len(of_label), height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            c_j, s_j = method.encoder(padded[..., row : row + 7, column : column + 7])
            for index, (c_i, s_i) in enumerate(of_label):
                d_LHW[index, row, column] = printed_d(network, c_i, s_i, c_j[0], s_j[0])
    found_LHW = torch.cat(list(method.scores(compare, batch.images_NCHW[0])), 1)
    positions = ENCODER.local_size**2 if compare == "local" else 1
    # What is the same for all labels, the pixel's own pair, is left out; so only differences between labels compare.
    torch.testing.assert_close(found_LHW - found_LHW[:1], (d_LHW[:1] - d_LHW) / positions, rtol=1e-9, atol=1e-11)
    map_HW = method.predict(batch.images_NCHW)[0].argmax(0)
    assert torch.equal(map_HW, method.support.labels_L[d_LHW.argmin(0)])
    method.neighbours = 3
    assert torch.equal(method.predict(batch.images_NCHW)[0].argmax(0), literal_map(-d_LHW, method.support.labels_L, 3))


def test_all_terms_of_a_kept_image_and_in_strips_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    method = trained(replace(PUBLISHED, discriminator="dot"))
    batch = labelled(23, 11, PIXELS)
    method.fit_support([batch])
    assert method.support is not None
    for compare in ("local", "global"):
        whole = torch.cat(list(method.scores(compare, batch.images_NCHW[0])), 1)
        features, score = method.prepare(compare, batch.images_NCHW[0])
        parts = torch.cat([score(features, part) for part in method.support.patches_LBPP.split([1, 4, 2])])
        torch.testing.assert_close(parts, whole)
        with monkeypatch.context() as patched:
            patched.setattr("miseg.methods.few.nearest.STRIP_BYTES", 4 * 11 * 512 * 4)
            strips = list(method.scores(compare, batch.images_NCHW[0]))
        assert len(strips) == 6
        torch.testing.assert_close(torch.cat(strips, 1), whole)


@pytest.mark.parametrize("discriminator", ["concatenate", "dot"])
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float64, 1), (torch.float64, 20_000), (torch.float32, 2000)])
def test_many_windows_meet_many_representations_in_tiles(
    discriminator: Literal["concatenate", "dot"], dtype: torch.dtype, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where e^T, or the product of several 1 + e^T, is more than the type holds."""
    monkeypatch.setattr("miseg.networks.patches.TILE", 40)
    monkeypatch.setattr("miseg.networks.patches.SCORED", 18)
    monkeypatch.setattr("miseg.networks.patches.FACTORS", 4)
    torch.manual_seed(0)
    network = StatisticsNetwork(5, 1, 4, 8, discriminator).to(dtype)
    representations_ND, windows_LPD = torch.randn(57, 8).to(dtype), scale * torch.randn(3, 9, 8).to(dtype)
    score_LNP = network.score(windows_LPD[:, None], representations_ND[None, :, None])
    product_LN = (1 + score_LNP[:, :, :4].exp()).prod(2)
    assert bool(product_LN.isinf().any()) == (scale > 1)
    expected_LN = torch.nn.functional.softplus(score_LNP).mean(2)
    torch.testing.assert_close(network.softplus_each(representations_ND, windows_LPD), expected_LN)


def test_what_is_no_number_stays_none() -> None:
    network = StatisticsNetwork(5, 1, 4, 8, "dot")
    representations_ND, windows_LPD = torch.randn(5, 8), torch.randn(2, 9, 8)
    representations_ND[3, 0] = torch.nan
    assert network.softplus_each(representations_ND, windows_LPD).isnan().any(0).tolist() == [False] * 3 + [True, False]


def test_a_shuffle_reaches_the_whole_batch_and_keeps_pairs_apart_alike() -> None:
    torch.manual_seed(0)
    pairs = 64
    representations = torch.arange(2 * pairs, dtype=torch.float64)[:, None]
    pool, index = shuffled(representations)
    assert torch.equal(pool, representations)
    first, second = index.chunk(2)
    assert sorted(first.tolist()) == list(range(pairs)) and sorted(second.tolist()) == list(range(pairs, 2 * pairs))
    assert torch.equal(second[first] - pairs, torch.arange(pairs)), "X_i meets Y_j where Y_j meets X_i"
    groups = (torch.arange(pairs) // 32 == first // 32).double().mean()
    assert 0.3 < groups < 0.7, "of two chips, half of the negatives are of the other"


def test_one_pair_and_a_batch_that_is_cut_are_refused() -> None:
    method = trained(PUBLISHED)
    patches = torch.randn(1, 3, 7, 7, dtype=torch.float64)
    with pytest.raises(ValueError, match="one pair in a batch"):
        method(Batch(patches, views_NCHW=patches))
    with pytest.raises(ValueError, match="accumulate = 2: the loss of MutualInformationSimilarity is one of the whole"):
        Experiment(PUBLISHED, batch_size=8, accumulate=2)
    assert Experiment(replace(PUBLISHED, negatives="chip"), batch_size=8, accumulate=2).accumulate == 2
    with pytest.raises(ValueError, match="negatives = 'image': use one of chip, batch"):
        replace(PUBLISHED, negatives="image")
