"""Invariant information clustering for segmentation, IIC: Ji, Henriques and Vedaldi, ICCV 2019."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from miseg.interface import Batch, HeldOut, Step, Task, drawn_by
from miseg.losses import iic_loss_of_tables, iic_segmentation_loss, iic_tables
from miseg.methods.cluster_configs import InvariantInformation
from miseg.methods.unsupervised.clusters import ClusterMethod, jittered, mirrored, upsampled
from miseg.networks.vgg import VGGTrunk


class InvariantInformationMethod(ClusterMethod):
    """A network that gives a pixel the cluster of its neighbours in another view of the image.

    The second view has other colours and may be mirrored, which is undone before the loss. Both heads, the main one and
    one of more clusters that only helps learning, are trained in every step (the authors' code takes turns, an epoch
    each); the loss is the mean of the two. Probabilities are upsampled to the images' resolution before the loss.
    """

    def __init__(self, config: InvariantInformation, task: Task) -> None:
        super().__init__(config.clusters, task)
        self.config = config
        over = 3 * self.num_clusters if config.over_clusters is None else config.over_clusters
        self.trunk = VGGTrunk(config.network, task.in_channels)
        self.heads = nn.ModuleList(
            nn.Conv2d(self.trunk.out_channels, clusters, 1, bias=False) for clusters in (self.num_clusters, over)
        )

    def forward(self, batch: Batch) -> Step:
        """One term: the mean of the two heads' losses, the whole batch's on every rank, counted as one.

        Scalars: `mutual_information` and `over_mutual_information` (nats) of the two heads.
        """
        flips_N, others = self.second_views(batch.images_NCHW)
        losses = [
            iic_segmentation_loss(
                # A rank that evaluates calls by itself.
                first,
                second,
                batch.valid_NHW,
                self.config.displacement,
                across_ranks=self.training,
            )
            for first, second in self.clusters_of_views(batch.images_NCHW, others, flips_N)
        ]
        total = torch.stack(losses).mean()[None]
        names = ("mutual_information", "over_mutual_information")
        return Step(total, torch.ones_like(total), {n: -v.detach() for n, v in zip(names, losses, strict=True)})

    def second_views(self, images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Flips of the images, bool [N], and the images in other colours with these flips."""
        flips_N = torch.rand(len(images_NCHW), device=images_NCHW.device) < self.config.flip
        return flips_N, mirrored(jittered(images_NCHW, self.config.jitter), flips_N)

    def clusters_of_views(
        self, images_NCHW: Tensor, others_NCHW: Tensor, flips_N: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """For each head the cluster probabilities [N, K, H, W] of both views, in the first's geometry."""
        views = torch.cat((images_NCHW, others_NCHW))
        features = self.trunk(views)
        for head in self.heads:
            first, second = upsampled(head(features).float().softmax(1), views).chunk(2)
            yield first, mirrored(second, flips_N)

    def held_out(self) -> HeldOutInformation:
        """The mutual information of the whole split's tables."""
        return HeldOutInformation(self)

    def predict(self, images_NCHW: Tensor) -> Tensor:
        """The main head's probabilities, float32 [N, K, H, W]."""
        return upsampled(self.heads[0](self.trunk(images_NCHW)).float().softmax(1), images_NCHW)


class HeldOutInformation(HeldOut):
    """The loss of a split as of one batch: the tables of clusters are summed up over all its images.

    A loss of each batch, averaged, would depend on how images are divided. An image's second view is drawn by its id.
    """

    def __init__(self, method: InvariantInformationMethod) -> None:
        super().__init__(method)
        self.iic = method
        self.tables: list[Tensor] = []

    def update(self, batch: Batch) -> None:
        """Add images to the tables of both heads."""
        drawn = []
        for image, name in zip(batch.images_NCHW, batch.names(), strict=True):
            with drawn_by(image.device, name):
                drawn.append(self.iic.second_views(image[None]))
        flips, others = (torch.cat(values) for values in zip(*drawn, strict=True))
        views = self.iic.clusters_of_views(batch.images_NCHW, others, flips)
        tables = [
            iic_tables(first, second, batch.valid_NHW, self.iic.config.displacement).detach().cpu().double()
            for first, second in views
        ]
        if self.tables:
            tables = [mine + more for mine, more in zip(self.tables, tables, strict=True)]
        self.tables = tables

    def loss(self, gather: Callable[[Any], list[Any]] = lambda value: [value]) -> float:
        """The mean of the two heads' losses in nats; 0 where no pixel counts."""
        parts = [tables for tables in gather(self.tables) if tables]
        heads = [sum(tables[1:], tables[0]) for tables in zip(*parts, strict=True)]
        # In the precision of the transform, whose dust is told from pairs of pixels by it.
        return sum(iic_loss_of_tables(tables.float()).item() for tables in heads) / max(1, len(heads))
