"""Neural estimators: a critic is trained on some samples to maximise a bound, and the others give the estimate.

No estimate of a lower bound from N samples can be high with confidence: McAllester and Stratos: Formal limitations on
the measurement of mutual information, AISTATS 2020 (arXiv:1811.04251), show a ceiling of O(log N) for every
distribution-free one.

Bounds with e^T (`mine`, `mine_f`, `nwj`) are lost in heavy tails, where one pair decides the mean. A one-to-one
transform of the columns, such as arcsinh, shortens the tails and leaves mutual information as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from inspect import signature
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from miseg.information.results import Estimate, TracePoint
from miseg.information.samples import Estimator, continuous
from miseg.information.trained import bounds
from miseg.information.trained.critics import JointCritic, SeparableCritic
from miseg.information.trained.fitting import Fitting, fit, seeded, shown_signature, split

Critic = Literal["joint", "separable"]

Scalar = Callable[[Tensor, Tensor], Tensor]
"""(joint_B, marginal_BM) -> scalar, as in `bounds`."""


class Bound(NamedTuple):
    """Loss, stopping objective and value of a variational bound.

    Attributes:
        loss: descended on training batches.
        objective: its negative on held-out samples decides when to stop.
        value: the estimate in nats from the held-out scores.
        shuffled: whether a training batch scores one shuffled y for each x, rather than all that were drawn apart.
    """

    loss: Scalar
    objective: Scalar
    value: Scalar
    shuffled: bool = False


@dataclass(frozen=True)
class Training(Fitting):
    """Settings that every estimator with a critic has: `Fitting`'s, and the critic.

    Attributes:
        critic: "joint", a network on x and y together, or "separable", an inner product of two.
        batch_size: of InfoNCE it is the ceiling, too: no estimate exceeds its logarithm.
    """

    critic: Critic = "joint"

    def __post_init__(self) -> None:
        if self.critic not in get_args(Critic):
            raise ValueError(f"critic = {self.critic!r}: use one of {', '.join(get_args(Critic))}")
        super().__post_init__()


def _trained(make: Callable[..., Bound]) -> Estimator:
    """The estimator of a bound: its settings are those of `make` and of `Training`."""

    @continuous
    def estimator(x_ND: np.ndarray, y_ND: np.ndarray, **settings: Any) -> Estimate:
        own = {name: settings.pop(name) for name in signature(make).parameters if name in settings}
        return _train(make(**own), x_ND, y_ND, Training(**settings))

    wrapped = wraps(make)(estimator)
    wrapped.__signature__ = shown_signature(Training, signature(make).parameters.values())  # type: ignore[attr-defined]
    return wrapped


@_trained
def mine(*, moving_average: float = 0.01) -> Bound:
    """MINE: the Donsker-Varadhan bound, its gradient corrected by a moving average.

    Belghazi et al.: Mutual information neural estimation, ICML 2018 (arXiv:1801.04062), algorithm 1: each x meets one
    shuffled y. The value is `bounds.donsker_varadhan` of the held-out samples.

    Args:
        x_ND: [N, Dx].
        y_ND: [N, Dy].
        moving_average: share of the newest batch in the average, above 0, at most 1 (no correction).

    The other arguments are those of `Training` and `fitting.Fitting`.

    Raises:
        TypeError, ValueError: samples that do not fit, too few to hold some out, or a setting out of range.
    """
    if not 0 < moving_average <= 1:
        raise ValueError(f"moving_average = {moving_average}: use above 0, at most 1, such as 0.01")
    loss = bounds.MovingAverageDonskerVaradhan(moving_average)
    return Bound(loss, bounds.donsker_varadhan, bounds.donsker_varadhan, shuffled=True)


@_trained
def mine_f() -> Bound:
    """MINE-f: the f-divergence bound in Belghazi et al. 2018, section 2.2, with one shuffled y for each x.

    The bound is `nwj`'s. Two things differ: the critic's score is log r itself, 1 + ⟨T⟩ − ⟨e^T⟩, so that training
    starts from r ≈ 1 and not 1/e; and a step estimates ⟨e^T⟩ from one shuffled y for each x, as `mine` does. Arguments
    and errors are those of `mine`, without its average.
    """
    return _bound(bounds.log_ratio_f_divergence, shuffled=True)


@_trained
def nwj() -> Bound:
    """The bound of Nguyen, Wainwright and Jordan (IEEE Transactions on Information Theory 2010): ⟨T⟩ − ⟨e^(T − 1)⟩.

    As Poole et al.: On variational bounds of mutual information, ICML 2019 (arXiv:1905.06922), run it: every x meets
    every other y of the batch. Arguments and errors are those of `mine`, without its average.
    """
    return _bound(bounds.nguyen_wainwright_jordan)


@_trained
def jsd() -> Bound:
    """A critic trained by the Jensen-Shannon objective; its score is put in as log r: the mean over the joint samples.

    Objective: Nowozin et al.: f-GAN, NeurIPS 2016; Hjelm et al.: Deep InfoMax, ICLR 2019. It is steadier than those
    with e^T. The value ⟨T⟩ is a plug-in, which bounds nothing: a critic that is too sure gives too much. Arguments and
    errors are those of `mine`, without its average.
    """
    return _bound(bounds.jensen_shannon, bounds.mean_log_ratio)


@_trained
def infonce() -> Bound:
    """InfoNCE: van den Oord, Li and Vinyals: Representation learning with contrastive predictive coding (2018).

    arXiv:1807.03748; each x must tell its y among those of the batch. Of low variance, and **never above
    log(batch_size)**, nor above the logarithm of the held-out samples. Arguments and errors are those of `mine`,
    without its average.
    """
    return _bound(bounds.infonce)


@_trained
def smile(*, clip: float = 5.0) -> Bound:
    """SMILE: a critic trained by the Jensen-Shannon objective, Donsker-Varadhan with clipped ratios for the value.

    Song and Ermon: Understanding the limitations of variational mutual information estimators, ICLR 2020
    (arXiv:1910.06222), section 5.

    Args:
        x_ND: [N, Dx].
        y_ND: [N, Dy].
        clip: τ > 0: ratios count as e^−τ to e^τ under independence. Small: less variance, more bias upwards.

    The other arguments are those of `Training` and `fitting.Fitting`; errors are those of `mine`.
    """
    if not clip > 0:
        raise ValueError(f"clip (τ) = {clip}: use a number above 0; the paper uses 1, 5 and infinity")
    return _bound(bounds.jensen_shannon, partial(bounds.smile, clip=clip))


def _bound(objective: Scalar, value: Scalar | None = None, *, shuffled: bool = False) -> Bound:
    return Bound(lambda *scores: -objective(*scores), objective, value or objective, shuffled)


def _train(bound: Bound, x_ND: np.ndarray, y_ND: np.ndarray, settings: Training) -> Estimate:
    with seeded(settings.seed):
        trained, tested = split(x_ND, y_ND, settings)
        dims = (x_ND.shape[1], y_ND.shape[1])
        critic = (JointCritic if settings.critic == "joint" else SeparableCritic)(dims, settings.hidden)
        critic = critic.to(settings.device)

        def loss(x_BD: Tensor, y_BD: Tensor) -> Tensor:
            return bound.loss(*_scores(critic, x_BD, y_BD, shuffled=bound.shuffled))

        def look(step: int) -> TracePoint:
            return _look(bound, critic, tested, settings, step)

        best, trace = fit(critic, loss, look, trained, settings)
    return Estimate(best.nats, trace=trace, details={"step": best.step, "held_out": len(tested[0])})


def _look(bound: Bound, critic: nn.Module, tested: list[Tensor], settings: Training, step: int) -> TracePoint:
    samples = len(tested[0])
    # Blocks of equal size, so that every x meets as many y; few samples are left over.
    size = max(samples // math.ceil(samples / settings.batch_size), 2)
    starts = range(0, samples - size + 1, size)
    parts = [_scores(critic, *(side[start : start + size] for side in tested)) for start in starts]
    scores = [torch.cat(part) for part in zip(*parts, strict=True)]
    return TracePoint(step, bound.objective(*scores).item(), bound.value(*scores).item())


def _scores(critic: nn.Module, x_BD: Tensor, y_BD: Tensor, *, shuffled: bool = False) -> tuple[Tensor, Tensor]:
    batch = len(x_BD)
    if shuffled:
        # Batches are in random order: moving y on by one shuffles it and leaves none in its place.
        return critic(x_BD, y_BD), critic(x_BD, y_BD.roll(1, 0))[:, None]
    scores_BB = critic(x_BD[:, None], y_BD)
    apart = ~torch.eye(batch, dtype=torch.bool, device=x_BD.device)
    return scores_BB.diagonal(), scores_BB[apart].view(batch, batch - 1)
