"""Co-occurrence of patches: Isola, Zoran, Krishnan and Adelson (2015, arXiv:1511.06811), then K-means."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from miseg.interface import Batch, Step, Task
from miseg.methods.cluster_configs import CoOccurrence
from miseg.methods.unsupervised.patch_pairs import DIRECTIONS, PatchPairMethod


class CoOccurrenceMethod(PatchPairMethod):
    """Features that tell patches side by side from patches far apart.

    Neighbours are one side apart; others are of the same image too, as IIC's authors ran it, two sides or more apart
    (up to half the smaller side of the image, where that is more). The first half of each image's pairs are neighbours.
    """

    def __init__(self, config: CoOccurrence, task: Task) -> None:
        super().__init__(config, task, 1)

    def forward(self, batch: Batch) -> Step:
        """One term: binary cross-entropy in nats, over the pairs whose patches both count.

        Scalars: `accuracy`, the share of these that are told right (1 / 2 by chance).
        """
        images, pairs, patch = batch.images_NCHW, 2 * -(-self.config.pairs // 2), self.config.patch
        shape = (len(images), pairs)
        directions = torch.randint(DIRECTIONS, shape, device=images.device)
        far = 2 * patch + torch.rand(shape, device=images.device) * max(0, min(images.shape[2:]) / 2 - 2 * patch)
        neighbours = (torch.arange(pairs, device=images.device) < pairs // 2).expand(shape)
        logits, counted = self.compare(batch, directions, torch.where(neighbours, float(patch), far))
        each = binary_cross_entropy_with_logits(logits[..., 0], neighbours.float(), reduction="none")
        count = counted.sum()[None].to(each)
        right = (((logits[..., 0] > 0) == neighbours) & counted).sum() / count[0].clamp_min(1)
        return Step((each * counted).sum()[None], count, {"accuracy": right})
