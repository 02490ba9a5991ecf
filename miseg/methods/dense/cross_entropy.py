"""Softmax cross-entropy: the baseline of most segmentation papers."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from miseg.interface import Batch, Method, Step, Task
from miseg.losses import cross_entropy_parts
from miseg.losses.labels import valid_pixels
from miseg.methods.configs import CrossEntropy
from miseg.networks import build_network


class CrossEntropyMethod(Method):
    """A network trained on softmax cross-entropy in nats, summed over valid pixels and divided by their number.

    The ignore index and labels outside 0..K-1 do not count.
    """

    supervision: ClassVar[Literal["dense", "few", "none"]] = "dense"
    emits: ClassVar[Literal["classes", "clusters"]] = "classes"

    def __init__(self, config: CrossEntropy, task: Task) -> None:
        super().__init__()
        self.task = task
        self.network = build_network(config.network, task.in_channels, task.num_classes)

    def forward(self, batch: Batch) -> Step:
        """One term: cross-entropy over valid pixels. Raises ValueError for a batch without labels."""
        if batch.labels_NHW is None:
            raise ValueError("a batch without labels: cross-entropy learns from labels alone")
        logits_NKHW = self.network(batch.images_NCHW)
        ce_sum, valid = cross_entropy_parts(logits_NKHW, batch.labels_NHW, ignore_index=self.task.ignore_index)
        return Step(ce_sum.view(1), valid.view(1))

    def counts(self, batch: Batch) -> Tensor | None:
        """Valid pixels."""
        if batch.labels_NHW is None:
            return None
        valid_NHW = valid_pixels(batch.labels_NHW, self.task.num_classes, self.task.ignore_index)
        return valid_NHW.sum(dtype=torch.float32).view(1)

    def predict(self, images_NCHW: Tensor) -> Tensor:
        """Softmax probabilities, float32 [N, K, H, W], that sum to 1 over K; the largest decides.

        The caller puts the module in eval mode.
        """
        return self.network(images_NCHW).float().softmax(1)
