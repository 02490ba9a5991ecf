"""The baselines of few labels against their papers' equations, written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from miseg.interface import Batch, Task
from miseg.methods import build_method
from miseg.methods.configs import DeepInfoMax, MutualInformationSimilarity, PatchAutoencoder
from miseg.methods.few.deep_infomax import DeepInfoMaxMethod
from miseg.methods.few.patch_autoencoder import PatchAutoencoderMethod
from miseg.networks.configs import PatchEncoder

TASK = Task(num_classes=4, in_channels=3)
ENCODER = PatchEncoder(patch=7, features=(6, 5), representation=4, normalisation="none")


def patches(number: int = 6) -> torch.Tensor:
    return torch.randn(number, 3, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def infomax(**settings: Any) -> DeepInfoMaxMethod:
    torch.manual_seed(0)
    method = build_method(DeepInfoMax(ENCODER, hidden=8, **settings), TASK).double()
    assert isinstance(method, DeepInfoMaxMethod)
    return method


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_autoencoder_maximises_the_papers_bound(weight: float) -> None:
    torch.manual_seed(0)
    method = build_method(PatchAutoencoder(ENCODER, weight=weight), TASK).double()
    assert isinstance(method, PatchAutoencoderMethod)
    x = patches()
    torch.manual_seed(5)
    step = method(Batch(x))
    local, mean = method.encoder(x)
    posterior = Normal(mean, (0.5 * method.log_variance(local).flatten(1)).exp())
    torch.manual_seed(5)
    drawn = posterior.mean + posterior.stddev * torch.randn_like(mean)
    likelihood = Normal(method.decoder(drawn), 1.0).log_prob(x) + 0.5 * torch.tensor(2 * torch.pi).log()
    divergence = kl_divergence(posterior, Normal(0.0, 1.0))
    bound = (likelihood.flatten(1).sum(1) - weight * divergence.sum(1)).mean()
    torch.testing.assert_close(step.loss().double(), -bound, rtol=1e-6, atol=0)
    torch.testing.assert_close(step.scalars["divergence"].double(), divergence.sum(1).mean(), rtol=1e-6, atol=0)


def test_the_autoencoder_learns_to_draw_its_patches() -> None:
    torch.manual_seed(0)
    method = build_method(PatchAutoencoder(replace(ENCODER, features=(16, 16))), TASK)
    # Patches that differ in colour alone: the four numbers of the representation are enough to draw them.
    x = 3 * torch.randn(32, 3, 1, 1).expand(-1, -1, 7, 7)
    optimiser = torch.optim.Adam(method.param_groups(1e-2))
    for _ in range(200):
        optimiser.zero_grad()
        method(Batch(x)).loss().backward()
        optimiser.step()
    assert method(Batch(x)).scalars["reconstruction"] < 0.3 * 0.5 * x.square().flatten(1).sum(1).mean()


def test_deep_infomax_is_the_papers() -> None:
    method = infomax(alpha=0.6, beta=0.4, gamma=0.0)
    x = patches()
    local, z = method.encoder(x)
    swapped = torch.tensor([1, 0, 3, 2, 5, 4])
    expected = torch.zeros((), dtype=torch.float64)
    for weight, network in ((0.6, method.of_whole), (0.4, method.of_parts)):
        assert network is not None
        joint, marginal = network(local, z), network(local, z[swapped])
        expected = expected + weight * ((1 + (-joint).exp()).log().mean() + (1 + marginal.exp()).log().mean())
    torch.testing.assert_close(method(Batch(x)).loss(), expected, rtol=1e-6, atol=0)
    both = method(Batch(x, views_NCHW=x)).loss()
    torch.testing.assert_close(both, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("views", [1, 2])
def test_deep_infomax_tells_a_patch_from_any_of_the_batch(views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equation 4 with x' drawn from the batch: of second views, which have a shuffle of their own, as of the first."""
    method = infomax(alpha=0.6, beta=0.4, gamma=0.0, negatives="batch")
    x, y = torch.randn(2, 5, 3, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    order = [3, 0, 4, 1, 2]
    monkeypatch.setattr(torch, "randperm", lambda number: torch.tensor(order[:number]))
    expected = torch.zeros((), dtype=torch.float64)
    for patches_NBPP, unpaired in ((x, order), (y, [order.index(i) for i in range(5)]))[:views]:
        local, z = method.encoder(patches_NBPP)
        for weight, network in ((0.6, method.of_whole), (0.4, method.of_parts)):
            assert network is not None
            for i, other in enumerate(unpaired):
                joint, marginal = network(local[i : i + 1], z[[i]]), network(local[i : i + 1], z[[other]])
                terms = (1 + (-joint).exp()).log().mean() + (1 + marginal.exp()).log().mean()
                expected = expected + weight * terms / (5 * views)
    loss = method(Batch(x, views_NCHW=y if views == 2 else None)).loss()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    parameters = list(method.parameters())
    for mine, printed in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(mine, printed, rtol=1e-9, atol=1e-11)


def test_without_its_prior_it_is_the_similarity_of_one_view() -> None:
    method = infomax(alpha=0.6, beta=0.4, gamma=0.0)
    settings = MutualInformationSimilarity(ENCODER, hidden=8, alpha=0.6, beta=0.4, gamma=0.0, swap=False)
    similarity = build_method(settings, TASK).double()
    similarity.load_state_dict(method.state_dict())
    x = patches()
    torch.testing.assert_close(method(Batch(x)).loss(), similarity(Batch(x, views_NCHW=x)).loss())


def test_the_encoder_works_against_the_discriminator_of_the_prior() -> None:
    weight = 0.3
    method = infomax(gamma=weight)
    assert method.of_prior is not None
    x = patches()
    torch.manual_seed(5)
    step = method(Batch(x))
    found = torch.autograd.grad(step.total[-2:].sum() / len(x), list(method.parameters()), allow_unused=True)
    spread = method.encoder(x)[1].sigmoid()
    torch.manual_seed(5)
    prior = torch.rand_like(spread)
    # Equation 7: the discriminator maximises log D(prior) + log(1 - D(representation)), the encoder minimises it.
    told_apart = method.of_prior(prior).sigmoid().log().mean() + (1 - method.of_prior(spread).sigmoid()).log().mean()
    torch.testing.assert_close(step.scalars["prior_mi"], told_apart.detach(), rtol=1e-6, atol=0)
    expected = torch.autograd.grad(told_apart, list(method.parameters()), allow_unused=True)
    for (name, _), gradient, reference in zip(method.named_parameters(), found, expected, strict=True):
        sign = -1 if name.startswith("of_prior") else weight
        if reference is not None:
            torch.testing.assert_close(gradient, sign * reference, rtol=1e-6, atol=1e-12)


def test_bad_use_is_named() -> None:
    with pytest.raises(ValueError, match="3 patches in a worker's share"):
        infomax()(Batch(patches(3)))
    with pytest.raises(ValueError, match=r"weight = -1\.0: use 0 or more"):
        PatchAutoencoder(weight=-1.0)
    with pytest.raises(ValueError, match=r"gamma = -1\.0: use 0 or more; the paper uses 0\.1"):
        DeepInfoMax(gamma=-1.0)
    with pytest.raises(ValueError, match="compare = 'global': that network is not trained"):
        DeepInfoMax(compare="global")
    with pytest.raises(ValueError, match="negatives = 'image': use one of chip, batch"):
        DeepInfoMax(negatives="image")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one patch in a batch"):
        infomax(negatives="batch")(Batch(patches(1)))
