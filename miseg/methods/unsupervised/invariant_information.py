"""Invariant information clustering for segmentation, IIC: Ji, Henriques and Vedaldi, ICCV 2019."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from miseg.interface import Batch, Step, Task
from miseg.losses import iic_segmentation_loss
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
        images = batch.images_NCHW
        flips_N = torch.rand(len(images), device=images.device) < self.config.flip
        views = torch.cat((images, mirrored(jittered(images, self.config.jitter), flips_N)))
        features = self.trunk(views)
        losses = []
        for head in self.heads:
            first, second = upsampled(head(features).float().softmax(1), views).chunk(2)
            second = mirrored(second, flips_N)
            loss = iic_segmentation_loss(
                # Where nothing is learned ranks score their own shares, whose numbers may differ.
                first,
                second,
                batch.valid_NHW,
                self.config.displacement,
                across_ranks=self.training,
            )
            losses.append(loss)
        total = torch.stack(losses).mean()[None]
        names = ("mutual_information", "over_mutual_information")
        return Step(total, torch.ones_like(total), {n: -v.detach() for n, v in zip(names, losses, strict=True)})

    def predict(self, images_NCHW: Tensor) -> Tensor:
        """The main head's probabilities, float32 [N, K, H, W]."""
        return upsampled(self.heads[0](self.trunk(images_NCHW)).float().softmax(1), images_NCHW)
