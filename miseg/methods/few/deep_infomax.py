"""Deep InfoMax: Hjelm et al., Learning deep representations by mutual information estimation, ICLR 2019."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from miseg.interface import Batch, Step, Task
from miseg.losses import jensen_shannon_parts
from miseg.methods.configs import DeepInfoMax
from miseg.methods.few.similarity import MutualInformationSimilarityMethod
from miseg.methods.few.unpaired import of_neighbours, shuffled


class DeepInfoMaxMethod(MutualInformationSimilarityMethod):
    """A representation that tells what is in its own patch, and whose components are spread evenly.

    Training maximises α I(global) + β I(local) (arXiv:1808.06670, equations 5 and 6) between a patch's local map and
    its own representation, and matches the sigmoid of the representation to the uniform distribution on 0..1
    (equation 7): a discriminator learns to tell the two apart, and the encoder, through a reversed gradient of weight
    γ, to be taken for the uniform. There is one view: the second, where a batch has it, is one more patch.

    A patch is told from patches of other images with `negatives` batch, as published: the representations of the whole
    batch are shuffled, those of second views in the opposite order.
    """

    def __init__(self, config: DeepInfoMax, task: Task) -> None:
        super().__init__(config, task)
        z, hidden = config.encoder.representation, config.hidden
        layers = nn.Linear(z, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        self.of_prior = nn.Sequential(*layers) if config.gamma else None

    def forward(self, batch: Batch) -> Step:
        """Terms: softplus of joint and of marginal scores, global (α) and local (β), and those of the prior.

        Scalars: `global_mi` and `local_mi` (nats, at most 0), `prior_mi` (nats: −2 log 2 where the discriminator
        cannot tell representations from the prior).

        Raises:
            ValueError: patches of another size, one patch in the whole batch, or an odd number of them where each is
                told from its neighbour.
        """
        views = [batch.images_NCHW] if batch.views_NCHW is None else [batch.images_NCHW, batch.views_NCHW]
        if len(batch.images_NCHW) % 2 and self.negatives == "chip":
            raise ValueError(f"{len(batch.images_NCHW)} patches in a worker's share of the batch: use an even number")
        local, z = self.encoder(torch.cat(views))
        # A rank that evaluates calls by itself.
        one_or_two: Literal[1, 2] = 1 if batch.views_NCHW is None else 2
        among_all = partial(shuffled, views=one_or_two, across_ranks=self.training)
        unpaired = of_neighbours(z) if self.negatives == "chip" else among_all(z)
        totals, counts, scalars = self.information(local, z, unpaired)
        if self.of_prior is not None:
            squashed = _ReversedGradient.apply(z.sigmoid(), self.config.gamma)
            total, count = jensen_shannon_parts(self.of_prior(torch.rand_like(squashed)), self.of_prior(squashed))
            totals += [total]
            counts += [count]
            scalars["prior_mi"] = -(total.detach() / count).sum()
        return Step(torch.cat(totals), torch.cat(counts), scalars)


class _ReversedGradient(torch.autograd.Function):
    """The identity, whose gradient comes back negative and weighed: what one network lowers, another raises."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None
