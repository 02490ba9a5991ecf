"""Affinity field: Ke, Hwang, Liu and Yu, ECCV 2018 (arXiv:1803.10335), as Zhao et al. (2019) ran it beside RMI."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from miseg.interface import Batch, Method, Step, Task
from miseg.losses import affinity_field_parts, cross_entropy_parts
from miseg.losses.shapes.affinity_field import decay
from miseg.methods.configs import AffinityField
from miseg.networks import build_network


class AffinityFieldMethod(Method):
    """A network trained on softmax cross-entropy and, with a weight that falls, `miseg.losses.AffinityFieldLoss`.

    The ignore index and labels outside 0..K-1 do not count.
    """

    supervision: ClassVar[Literal["dense", "few", "none"]] = "dense"
    emits: ClassVar[Literal["classes", "clusters"]] = "classes"

    def __init__(self, config: AffinityField, task: Task) -> None:
        super().__init__()
        self.config = config
        self.task = task
        self.network = build_network(config.network, task.in_channels, task.num_classes)

    def forward(self, batch: Batch) -> Step:
        """Three terms: cross-entropy over valid pixels, then edges and regions over their entries, weighted.

        Scalars: `ce`, and `edges` and `regions` without their weight.

        Raises:
            ValueError: a batch without labels.
        """
        if batch.labels_NHW is None:
            raise ValueError("a batch without labels: the affinity field learns from labels alone")
        return self._step(self.network(batch.images_NCHW), batch.labels_NHW)

    def _step(self, logits_NKHW: Tensor, labels_NHW: Tensor) -> Step:
        ignore_index = self.task.ignore_index
        ce_sum, valid = cross_entropy_parts(logits_NKHW, labels_NHW, ignore_index=ignore_index)
        parts = affinity_field_parts(
            logits_NKHW,
            labels_NHW,
            margin=self.config.margin,
            stride=self.config.stride,
            pairs=self.config.pairs,
            ignore_index=ignore_index,
        )
        weight = self.config.weight * decay(self.progress)
        return Step(
            total=torch.stack((ce_sum, weight * parts.edge_sum, weight * parts.region_sum)),
            count=torch.stack((valid, parts.edges, parts.regions)),
            scalars={
                "ce": ce_sum.detach() / valid.clamp_min(1),
                "edges": parts.edge_sum.detach() / parts.edges.clamp_min(1),
                "regions": parts.region_sum.detach() / parts.regions.clamp_min(1),
            },
        )

    def counts(self, batch: Batch) -> Tensor | None:
        """Valid pixels, and the entries of edges and regions, which the labels alone decide."""
        if batch.labels_NHW is None:
            return None
        images, _, height, width = batch.images_NCHW.shape
        logits_NKHW = batch.images_NCHW.new_zeros(images, self.task.num_classes, height, width)
        with torch.no_grad():
            step = self._step(logits_NKHW, batch.labels_NHW)
        return step.count

    def predict(self, images_NCHW: Tensor) -> Tensor:
        """Softmax probabilities, float32 [N, K, H, W], that sum to 1 over K; the largest decides.

        The caller puts the module in eval mode.
        """
        return self.network(images_NCHW).float().softmax(1)
