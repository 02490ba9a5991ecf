"""Mutual information as a difference of two entropies, each the cross-entropy of a trained density."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from miseg.information.cca import significant
from miseg.information.results import Estimate, TracePoint
from miseg.information.trained.critics import perceptron
from miseg.information.trained.fitting import Fitting, fit, fitted, seeded, split

Density = Literal["gaussian", "logistic"]
Basis = Literal["canonical", "columns"]


_APART = 0.1
"""Standard deviations, about, between the components before they train: enough that their gradients differ."""

_LEVEL = 0.05
"""Of the tests for the canonical correlations that q(y | x) starts from, as in `cca`."""

_ALMOST_ONE = 1 - 1e-10
"""Squared canonical correlation beyond which a column of y counts as no more determined: 11.5 nats."""

_FASTER = 30
"""Learning rate of q(y) over that of q(y | x): its few parameters are no network's."""


@dataclass(frozen=True)
class DensityFitting(Fitting):
    """Settings of `doe`: `Fitting`'s, and those of its densities.

    Attributes:
        density: of each column of y within a component: "gaussian", or "logistic", whose tails are heavier.
        components: of the mixture, 1 or more; 1 is the paper's.
        basis: "canonical": x and y in the basis of their canonical variates; "columns": as they are, the paper's.
    """

    batch_size: int = 256
    max_steps: int = 2000
    check_every: int = 10
    density: Density = "gaussian"
    components: int = 4
    basis: Basis = "canonical"

    def __post_init__(self) -> None:
        for name, kind in (("density", Density), ("basis", Basis)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} = {getattr(self, name)!r}: use one of {', '.join(get_args(kind))}")
        if self.components < 1:
            raise ValueError(f"components = {self.components}: use 1 or more")
        super().__post_init__()


class _Mixture(NamedTuple):
    """Parameters of a mixture for each of B samples, or for all of them (B = 1)."""

    logits_BK: Tensor
    means_BKD: Tensor
    log_scales_BKD: Tensor

    def log_density(self, y_BD: Tensor, density: Density) -> Tensor:
        """log q(y) of each sample, [B], in nats."""
        z_BKD = (y_BD[:, None] - self.means_BKD) * (-self.log_scales_BKD).exp()
        if density == "gaussian":
            parts_BKD = -z_BKD.square() / 2 - math.log(2 * math.pi) / 2
        else:
            parts_BKD = -z_BKD - 2 * softplus(-z_BKD)
        logs_BK = (parts_BKD - self.log_scales_BKD).sum(-1)
        return (self.logits_BK.log_softmax(-1) + logs_BK).logsumexp(-1)


class _Marginal(nn.Module):
    """q(y): one mixture for all samples. Its components start beside each other, near the Gaussian of these moments."""

    def __init__(self, columns: int, components: int) -> None:
        super().__init__()
        self.logits_K = nn.Parameter(torch.zeros(components))
        apart = _APART if components > 1 else 0.0
        self.means_KD = nn.Parameter(apart * torch.randn(components, columns))
        self.log_scales_KD = nn.Parameter(torch.zeros(components, columns))

    def forward(self) -> _Mixture:
        return _Mixture(self.logits_K[None], self.means_KD[None], self.log_scales_KD[None])


class _Conditional(nn.Module):
    """q(· | x): what a network adds to the marginal's parameters. It adds 0 at first, so that training starts there."""

    def __init__(self, marginal: _Marginal, columns: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.components, self.dims = marginal.means_KD.shape
        outputs = self.components * (1 + 2 * self.dims)
        self.network = perceptron((columns, *hidden, outputs))
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        for weight in (last.weight, last.bias):
            nn.init.zeros_(weight)
        start = [marginal.logits_K, marginal.means_KD.flatten(), marginal.log_scales_KD.flatten()]
        self.register_buffer("start", torch.cat([part.detach().clone() for part in start]))

    def forward(self, x_BD: Tensor) -> _Mixture:
        values_BP = self.start + self.network(x_BD)
        sizes = [self.components, self.components * self.dims, self.components * self.dims]
        logits_BK, means_BP, log_scales_BP = values_BP.split(sizes, 1)
        shape = (len(x_BD), self.components, self.dims)
        return _Mixture(logits_BK, means_BP.view(shape), log_scales_BP.view(shape))


@fitted(DensityFitting)
def doe(x_ND: np.ndarray, y_ND: np.ndarray, settings: DensityFitting) -> Estimate:
    """Difference of entropies: H(y) − H(y | x), each the cross-entropy of a trained density on samples held out.

    McAllester and Stratos: Formal limitations on the measurement of mutual information, AISTATS 2020
    (arXiv:1811.04251). A difference of two upper bounds, so neither bound: what q(y) misses raises the
    estimate, what q(y | x) misses lowers it. It has no ceiling at log N, as bounds by critics have.

    The paper has one diagonal component for q(y), and a network's one for q(y | x). Columns that correlate within y
    are then no diagonal Gaussian, and raise the estimate by nats. Two things here are not the paper's. x and y are
    taken to the canonical variates of the trained samples first, a linear map, and q(y | x) starts at the linear
    regression on those whose correlations are significant (as in `cca`): so one component is exact for Gaussian
    variables, and training begins at their estimate. And the density is a mixture (Bishop: Mixture density networks,
    1994), which starts at the one of y.

    It is not symmetric: y is the side whose densities are trained; let it be the one of fewer columns. Heavy tails
    (Student-t of few degrees) and densities with edges are hard for it, and equal values (labels) have none.

    Args:
        x_ND: [N, Dx].
        y_ND: [N, Dy]; in the canonical basis more than Dx + Dy + 1 samples are left to train on.

    The other arguments are those of `DensityFitting` and `fitting.Fitting`.

    Returns:
        nats, with `marginal` and `conditional`, both cross-entropies in nats of y in the basis, among the details.

    Raises:
        TypeError, ValueError: samples that do not fit, too few to hold some out, or a setting out of range.
    """
    with seeded(settings.seed):
        trained, tested = split(x_ND, y_ND, settings)
        canonical = _canonical(*trained) if settings.basis == "canonical" else None
        if canonical is not None:
            trained, tested = canonical.variates(trained), canonical.variates(tested)
        marginal = _Marginal(trained[1].shape[1], settings.components).to(settings.device)

        def entropy(mixture: _Mixture, y_ND: Tensor) -> Tensor:
            return -mixture.log_density(y_ND, settings.density).mean()

        def look_at_marginal(step: int) -> TracePoint:
            return TracePoint(step, -entropy(marginal(), tested[1]).item(), 0.0)

        faster = replace(settings, learning_rate=_FASTER * settings.learning_rate)
        of_y = fit(marginal, lambda y_BD: entropy(marginal(), y_BD), look_at_marginal, trained[1:], faster)
        known = -of_y.best.objective
        # What remains of y, and how much more its entropy is than that of y given the linear part.
        explained = 0.0
        if canonical is not None:
            trained, tested = canonical.remainder(trained), canonical.remainder(tested)
            explained = float(canonical.nats_K.sum())
        conditional = _Conditional(marginal, trained[0].shape[1], settings.hidden).to(settings.device)

        def look(step: int) -> TracePoint:
            value = entropy(conditional(tested[0]), tested[1]).item() - explained
            return TracePoint(step, -value, known - value)

        best, trace = fit(conditional, lambda x_BD, y_BD: entropy(conditional(x_BD), y_BD), look, trained, settings)
    details = {"step": best.step, "held_out": len(tested[0]), "marginal": known, "conditional": -best.objective}
    return Estimate(best.nats, trace=trace, details=details)


class _Canonical(NamedTuple):
    """Linear maps to the canonical variates of the trained samples, and the nats of their significant correlations."""

    of_x_DE: Tensor
    of_y_DE: Tensor
    nats_K: Tensor

    def variates(self, pair: list[Tensor]) -> list[Tensor]:
        """x and y in the basis."""
        return [pair[0] @ self.of_x_DE, pair[1] @ self.of_y_DE]

    def remainder(self, pair: list[Tensor]) -> list[Tensor]:
        """x, and y less what the significant correlations ρ explain, on the scale of y: (y − ρ x) / √(1 − ρ²)."""
        x_NE, y_NE = pair
        count = len(self.nats_K)
        slopes_K = (-torch.expm1(-2 * self.nats_K)).sqrt()
        remainder_NK = (y_NE[:, :count] - slopes_K * x_NE[:, :count]) * self.nats_K.exp()
        return [x_NE, torch.cat((remainder_NK, y_NE[:, count:]), 1)]


def _canonical(x_ND: Tensor, y_ND: Tensor) -> _Canonical:
    samples, columns = len(x_ND), x_ND.shape[1] + y_ND.shape[1]
    if samples <= columns + 1:
        raise ValueError(
            f"{samples} samples to train on, of {columns} columns: use more than {columns + 1}, fewer columns, or "
            "basis='columns'"
        )
    centred = [values_ND.double() - values_ND.double().mean(0) for values_ND in (x_ND, y_ND)]
    whitening = []
    for values_ND in centred:
        _, sizes, axes = torch.linalg.svd(values_ND, full_matrices=False)
        if not sizes[0]:
            raise ValueError(
                f"one side is constant among the {samples} samples to train on: use more samples, another seed, or "
                "'plug_in' for labels"
            )
        # Directions in which the samples hardly differ repeat other columns.
        independent = sizes > 1e-6 * sizes[0]
        whitening.append((axes[independent] / sizes[independent, None]).T * math.sqrt(samples))
    x_NE, y_NE = (values_ND @ change for values_ND, change in zip(centred, whitening, strict=True))
    left, correlations_K, right = torch.linalg.svd(x_NE.T @ y_NE / samples, full_matrices=True)
    nats_K = -torch.log1p(-correlations_K.square().clamp(max=_ALMOST_ONE)) / 2
    count = significant(nats_K.cpu().numpy(), samples, (x_NE.shape[1], y_NE.shape[1]), _LEVEL)
    maps = (whitening[0] @ left).float(), (whitening[1] @ right.T).float()
    return _Canonical(*maps, nats_K[:count].float())
