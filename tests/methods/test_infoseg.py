"""InfoSeg's assignment and bound, as the thesis writes them: a patch at a time, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from miseg.interface import Batch, Task
from miseg.methods import build_method
from miseg.methods.configs import InfoSeg
from miseg.methods.unsupervised.infoseg import InfoSegMethod
from miseg.networks.configs import InfoSegNetwork
from miseg.networks.infoseg import Features
from miseg.networks.infoseg import InfoSegNetwork as Network

CLUSTERS = 3


def method_of(assignment: str = "soft", temperature: float | None = None, jitter: float = 0.0) -> InfoSegMethod:
    torch.manual_seed(0)
    network = InfoSegNetwork(features=8, width=4, normalisation="group")
    method = build_method(InfoSeg(network, CLUSTERS, temperature, assignment, jitter), Task(2)).double()
    assert isinstance(method, InfoSegMethod)
    return method


def images(number: int = 4) -> Tensor:
    return torch.randn(number, 3, 16, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def softplus(value: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-value.abs())) + value.clamp_min(0)


def reference(features: Features, valid_Nhw: Tensor, tau: float, assignment: str) -> Tensor:
    """−(E_joint[−softplus(−T)] − E_marginal[softplus(T)]) with assigned features written out."""
    local, high = (value.double() for value in features)
    n_images, _, height, width = local.shape

    def assigned(image: int, y: int, x: int) -> Tensor:
        scores = torch.stack([local[image, :, y, x] @ high[image, k] for k in range(CLUSTERS)])
        if assignment == "hard":
            return high[image, int(scores.argmax())]
        weights = torch.exp(tau * scores) / torch.exp(tau * scores).sum()
        return sum((weights[k] * high[image, k] for k in range(CLUSTERS)), torch.zeros_like(high[0, 0]))

    joint, marginal = [], []
    for image in range(n_images):
        other = image + 1 if image % 2 == 0 else image - 1
        for y in range(height):
            for x in range(width):
                if not valid_Nhw[image, y, x]:
                    continue
                joint.append(softplus(-(local[image, :, y, x] @ assigned(image, y, x))))
                if valid_Nhw[other, y, x]:
                    marginal.append(softplus(local[image, :, y, x] @ assigned(other, y, x)))
    return torch.stack(joint).mean() + torch.stack(marginal).mean()


@pytest.mark.parametrize("assignment", ["soft", "hard"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_loss_is_the_bound_of_the_thesis_with_gradients(assignment: str, masked: bool) -> None:
    method = method_of(assignment, temperature=0.7)
    valid_NHW = torch.ones(4, 16, 20, dtype=torch.bool)
    if masked:
        valid_NHW[0, :8], valid_NHW[3, :, 12:] = False, False
    batch = Batch(images(), valid_NHW=valid_NHW if masked else None)
    # Local features are of 4 x 4 pixels, all of them valid or none.
    expected = reference(method.network(images()), valid_NHW[:, ::4, ::4], 0.7, assignment)
    step = method(batch)
    loss = step.loss()
    torch.testing.assert_close(loss, expected.to(loss), rtol=1e-5, atol=1e-6)
    assert step.scalars["mutual_information"].item() == pytest.approx(-expected.item(), rel=1e-5)
    found, wanted = (torch.autograd.grad(value, list(method.parameters())) for value in (loss, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_probabilities_are_the_softmax_of_scores_and_tau_is_one_over_root_p() -> None:
    method = method_of()
    assert method.config.tau == pytest.approx(1 / math.sqrt(8))
    found = method.predict(images())
    features = method.network(images())
    scores = torch.einsum("nphw,nkp->nkhw", *features)
    small = (scores / math.sqrt(8)).softmax(1).float()
    expected = torch.nn.functional.interpolate(small, (16, 20), mode="bilinear")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.sum(1), torch.ones(4, 16, 20))


def test_numbering_of_clusters_changes_nothing() -> None:
    method = method_of()
    before = method(Batch(images())).loss()
    method.network.extractors = torch.nn.ModuleList([method.network.extractors[k] for k in (2, 0, 1)])
    torch.testing.assert_close(method(Batch(images())).loss(), before, rtol=1e-6, atol=0)


def test_an_odd_image_out_has_the_first_for_its_other() -> None:
    method = method_of()
    step = method(Batch(images(3)))
    assert step.count.tolist() == [3 * 20, 3 * 20]
    with pytest.raises(ValueError, match="use 2 or more"):
        method(Batch(images(1)))
    step = method.eval()(Batch(images(1)))
    assert step.count.tolist() == [20, 0] and step.loss().isfinite()


def test_nothing_valid_is_no_loss() -> None:
    method = method_of()
    step = method(Batch(images(), valid_NHW=torch.zeros(4, 16, 20, dtype=torch.bool)))
    step.loss().backward()
    assert step.loss().item() == 0
    assert all(p.grad is not None and p.grad.count_nonzero() == 0 for p in method.parameters())


def test_the_network_has_the_sizes_that_it_documents() -> None:
    network = Network(InfoSegNetwork(features=2048, width=64), 3, 15)
    with torch.device("meta"):
        local, high = Network(InfoSegNetwork(features=2048, width=64), 3, 15)(torch.empty(2, 3, 129, 128))
    assert local.shape == (2, 2048, 33, 32) and high.shape == (2, 15, 2048)
    assert len(network.extractors) == 15
    assert [norm.normalized_shape for _, norm in network.extractors] == [(2048,)] * 15


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"temperature": 0.0}, r"temperature = 0\.0: use a value above 0"),
        ({"clusters": 1}, "clusters = 1: use 2 or more"),
        ({"jitter": -0.1}, r"jitter = -0\.1"),
    ],
)
def test_settings_out_of_range(settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        InfoSeg(**settings)
    with pytest.raises(ValueError, match="say how many clusters"):
        build_method(InfoSeg(InfoSegNetwork(8, 4)), Task(0))
