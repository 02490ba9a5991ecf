"""Pairs of patches of one image: what features learn from that are then clustered."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from miseg.interface import Batch, Task
from miseg.methods.cluster_configs import CoOccurrence, RelativePosition
from miseg.methods.unsupervised.clusters import valid_at
from miseg.methods.unsupervised.k_means import KMeansMethod
from miseg.networks.vgg import STRIDE, VGGTrunk

DIRECTIONS = 8
"""Number of directions in which a partner patch lies: right, lower right, below, and so on."""


class PatchPairMethod(KMeansMethod):
    """A trunk one of whose features stands for a patch, and a head that compares two of them.

    A feature sees about 31 x 31 pixels, so that a patch is what its feature sees; the authors of IIC, who ran both
    methods as baselines, cut windows of 11 x 11 out of the features, for which the head has 250 million weights.

    Args:
        config: the method's settings.
        task: classes and channels of the data.
        outputs: logits of a pair.
    """

    def __init__(self, config: RelativePosition | CoOccurrence, task: Task, outputs: int) -> None:
        super().__init__(config.clusters, config.samples, task, 8 * config.network.width)
        self.config = config
        self.trunk = VGGTrunk(config.network, task.in_channels)
        self.head = nn.Sequential(
            nn.Linear(2 * self.trunk.out_channels, config.hidden), nn.ReLU(), nn.Linear(config.hidden, outputs)
        )

    def features(self, images_NCHW: Tensor) -> Tensor:
        """The trunk's."""
        return self.trunk(images_NCHW)

    def compare(self, batch: Batch, directions_NM: Tensor, distances_NM: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, M, outputs] of M pairs of each image, and which of them count, bool [N, M].

        Args:
            batch: the images.
            directions_NM: 0..7, in eighths of a turn.
            distances_NM: pixels from the first patch to the second.

        Raises:
            ValueError: images that are too small for the distances.
        """
        features_NDhw = self.trunk(batch.images_NCHW)
        height, width = features_NDhw.shape[2:]
        angles = directions_NM * (2 * math.pi / DIRECTIONS)
        down, right = ((distances_NM / STRIDE * f(angles)).round().long() for f in (torch.sin, torch.cos))
        row, column = (_start(offset, side) for offset, side in ((down, height), (right, width)))
        valid = valid_at(batch, (height, width)).flatten(1)
        first, second = row * width + column, (row + down) * width + column + right
        columns_NLD = features_NDhw.flatten(2).transpose(1, 2)
        image = torch.arange(len(row), device=row.device)[:, None]
        pairs = torch.cat((columns_NLD[image, first], columns_NLD[image, second]), 2)
        return self.head(pairs).float(), valid.gather(1, first) & valid.gather(1, second)


def _start(offset_NM: Tensor, side: int) -> Tensor:
    """A random coordinate in 0..side−1 from which the offset does not leave."""
    room = side - offset_NM.abs()
    if room.numel() and int(room.min()) < 1:
        raise ValueError(
            f"images of {side * STRIDE} pixels a side are too small for patches {int(offset_NM.abs().max()) * STRIDE} "
            "pixels apart: use larger ones, or a smaller patch"
        )
    drawn = (torch.rand(offset_NM.shape, device=offset_NM.device) * room).long().clamp_max(room - 1)
    return drawn + (-offset_NM).clamp_min(0)
