"""Mutual information by the Jensen-Shannon divergence between joint and marginal samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from miseg.losses.labels import at_least_single


def jensen_shannon_mutual_information(joint: Tensor, marginal: Tensor) -> Tensor:
    """E_joint[−softplus(−T)] − E_marginal[softplus(T)] of a statistics network's scores T, to be maximised.

    Nowozin, Cseke and Tomioka (2016); Hjelm et al.: Deep InfoMax, ICLR 2019 (arXiv:1808.06670), equation 4; Sanchez,
    Serrurier and Ortner take it for similarity learning. Their text prints softplus as 1 + e^x; it is log(1 + e^x).
    With this sign a high T says that the two belong together; at the optimum T is the logarithm of p(x, z) / p(x) p(z).

    Args:
        joint: floating scores of pairs that were drawn together, any shape with at least one element.
        marginal: scores of pairs that were drawn apart, any shape with at least one element.

    Returns:
        A scalar in nats, at most 0: −2 log 2 for scores that tell nothing, 0 where joint and marginal never meet. It
        is 2 (JSD − log 2) at the optimum, JSD being the divergence of the two distributions.

    Raises:
        ValueError: scores that are not floating, or none.
    """
    total, count = jensen_shannon_parts(joint, marginal)
    return -(total / count).sum()


def jensen_shannon_parts(
    joint: Tensor, marginal: Tensor, *, counted: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """The sums of softplus(−T) over the joint and of softplus(T) over the marginal scores, and their numbers: [2] each.

    Σ total / count is the negative of `jensen_shannon_mutual_information`. Sums are float32 (float64 for float64
    scores), under autocast too. `counted` are booleans of the scores' shapes: which of the joint and of the marginal
    scores count; None: all.

    Raises:
        ValueError: scores that are not floating, or none.
    """
    for name, scores in (("joint", joint), ("marginal", marginal)):
        if not scores.is_floating_point() or scores.numel() == 0:
            raise ValueError(
                f"{name} scores of shape {tuple(scores.shape)} and type {scores.dtype}: expected at least one, floating"
            )
    with torch.autocast(joint.device.type, enabled=False):
        if counted is not None:
            # 0 times the NaN or infinity of a score that does not count would be NaN.
            joint, marginal = (scores.where(some, 0) for scores, some in zip((joint, marginal), counted, strict=True))
        terms = softplus(-at_least_single(joint)), softplus(at_least_single(marginal))
        if counted is None:
            total = torch.stack([term.sum() for term in terms])
            return total, total.new_tensor([joint.numel(), marginal.numel()])
        total = torch.stack([(term * some).sum() for term, some in zip(terms, counted, strict=True)])
        return total, torch.stack([some.sum() for some in counted]).to(total)
