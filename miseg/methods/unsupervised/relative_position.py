"""Relative position of patches: Doersch, Gupta and Efros, ICCV 2015 (arXiv:1505.05192), then K-means."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from miseg.interface import Batch, Step, Task
from miseg.methods.cluster_configs import RelativePosition
from miseg.methods.unsupervised.patch_pairs import DIRECTIONS, PatchPairMethod


class RelativePositionMethod(PatchPairMethod):
    """Features that tell in which of eight directions a second patch lies; partners are 1.5 to 2 sides apart."""

    def __init__(self, config: RelativePosition, task: Task) -> None:
        super().__init__(config, task, DIRECTIONS)

    def forward(self, batch: Batch) -> Step:
        """One term: cross-entropy of the direction in nats, over the pairs whose patches both count.

        Scalars: `accuracy`, the share of these whose direction is found (1 / 8 by chance).
        """
        shape, device = (len(batch.images_NCHW), self.config.pairs), batch.images_NCHW.device
        directions = torch.randint(DIRECTIONS, shape, device=device)
        distances = self.config.patch * (1.5 + 0.5 * torch.rand(shape, device=device))
        logits, counted = self.compare(batch, directions, distances)
        each = cross_entropy(logits.flatten(0, 1), directions.flatten(), reduction="none")
        count = counted.sum()[None].to(each)
        right = ((logits.argmax(2) == directions) & counted).sum() / count[0].clamp_min(1)
        return Step((each * counted.flatten()).sum()[None], count, {"accuracy": right})
