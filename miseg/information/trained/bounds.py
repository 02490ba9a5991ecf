"""Variational bounds on mutual information as functions of a critic's scores.

joint_B are the scores T of B pairs that were drawn together, marginal_BM those of each one's x with M values of y that
were drawn apart. r is p(x, y) / p(x) p(y). Scalars are in nats and to be maximised.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus


def donsker_varadhan(joint_B: Tensor, marginal_BM: Tensor) -> Tensor:
    """⟨T⟩ − log⟨e^T⟩ (Donsker and Varadhan 1983), tight where T = log r + any constant.

    A lower bound on mutual information in expectation over the first term alone: the logarithm of a mean over few
    samples is too low, which makes the value too high.
    """
    return joint_B.mean() - _log_mean_exp(marginal_BM)


def nguyen_wainwright_jordan(joint_B: Tensor, marginal_BM: Tensor) -> Tensor:
    """⟨T⟩ − ⟨e^(T − 1)⟩ (Nguyen, Wainwright and Jordan 2010), tight where T = 1 + log r; a lower bound for any T."""
    return joint_B.mean() - _log_mean_exp(marginal_BM - 1).exp()


def log_ratio_f_divergence(joint_B: Tensor, marginal_BM: Tensor) -> Tensor:
    """1 + ⟨T⟩ − ⟨e^T⟩: `nguyen_wainwright_jordan` of T + 1, tight where T = log r."""
    return nguyen_wainwright_jordan(joint_B + 1, marginal_BM + 1)


def jensen_shannon(joint_B: Tensor, marginal_BM: Tensor) -> Tensor:
    """⟨−softplus(−T)⟩ − ⟨softplus(T)⟩ (Nowozin, Cseke and Tomioka 2016), greatest where T = log r.

    No estimate of mutual information: at the optimum it is twice the Jensen-Shannon divergence less 2 log 2.
    """
    return -softplus(-joint_B).mean() - softplus(marginal_BM).mean()


def mean_log_ratio(joint_B: Tensor, marginal_BM: Tensor) -> Tensor:
    """⟨T⟩ over the joint scores: mutual information where T = log r, for other T no bound to either side."""
    return joint_B.mean()


def infonce(joint_B: Tensor, marginal_BM: Tensor) -> Tensor:
    """⟨T − log((e^T + Σ_m e^(T_m)) / (M + 1))⟩ (van den Oord, Li and Vinyals 2018); never above log(M + 1)."""
    scores = torch.cat((joint_B[:, None], marginal_BM), 1)
    return (joint_B - scores.logsumexp(1)).mean() + math.log(scores.shape[1])


def smile(joint_B: Tensor, marginal_BM: Tensor, clip: float) -> Tensor:
    """⟨T⟩ − log⟨clip(e^T, e^−τ, e^τ)⟩ (Song and Ermon 2020): Donsker-Varadhan with less variance.

    Clipping biases it: it is no longer a bound. For T = log r it exceeds mutual information where ratios above e^τ
    are clipped away.
    """
    return joint_B.mean() - _log_mean_exp(marginal_BM.clamp(-clip, clip))


class MovingAverageDonskerVaradhan:
    """−`donsker_varadhan` for descent, the gradient's denominator ⟨e^T⟩ averaged over batches.

    Belghazi et al.: Mutual information neural estimation, ICML 2018 (arXiv:1801.04062), section 3.2: a batch's own
    ⟨e^T⟩ makes its gradient biased. Only the gradient means anything, not the value.

    Args:
        rate: share of the newest batch in the average, above 0, at most 1; 1 is the batch alone.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._log_average: Tensor | None = None

    def __call__(self, joint_B: Tensor, marginal_BM: Tensor) -> Tensor:
        log_mean = _log_mean_exp(marginal_BM)
        newest = log_mean.detach()
        if self._log_average is None:
            self._log_average = newest
        else:
            # In logarithms, for e^T leaves the range of float32 at a T of 89.
            older = math.log1p(-self.rate) if self.rate < 1 else -math.inf
            self._log_average = torch.logaddexp(self._log_average + older, newest + math.log(self.rate))
        return (log_mean - self._log_average).exp() - joint_B.mean()


def _log_mean_exp(scores: Tensor) -> Tensor:
    return scores.flatten().logsumexp(0) - math.log(scores.numel())
