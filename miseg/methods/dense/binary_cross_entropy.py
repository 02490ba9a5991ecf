"""Sigmoid cross-entropy: the baseline of Zhao et al. (2019), and half of their loss."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from miseg.interface import Batch, Method, Step, Task
from miseg.losses import binary_cross_entropy_parts
from miseg.losses.labels import valid_pixels
from miseg.methods.configs import BinaryCrossEntropy
from miseg.networks import build_network


class BinaryCrossEntropyMethod(Method):
    """A network trained on K sigmoid cross-entropies a pixel, in nats, summed and divided by (valid pixels + 1).

    The ignore index and labels outside 0..K-1 do not count.
    """

    supervision: ClassVar[Literal["dense", "few", "none"]] = "dense"
    emits: ClassVar[Literal["classes", "clusters"]] = "classes"

    def __init__(self, config: BinaryCrossEntropy, task: Task) -> None:
        super().__init__()
        self.task = task
        self.network = build_network(config.network, task.in_channels, task.num_classes)

    def forward(self, batch: Batch) -> Step:
        """One term: binary cross-entropy over valid pixels. Raises ValueError for a batch without labels."""
        if batch.labels_NHW is None:
            raise ValueError("a batch without labels: binary cross-entropy learns from labels alone")
        logits_NKHW = self.network(batch.images_NCHW)
        bce_sum, valid = binary_cross_entropy_parts(logits_NKHW, batch.labels_NHW, ignore_index=self.task.ignore_index)
        return Step(bce_sum.view(1), pixels_plus_one(valid, self.micro_batches).view(1))

    def counts(self, batch: Batch) -> Tensor | None:
        """Valid pixels, and this call's share of 1."""
        if batch.labels_NHW is None:
            return None
        valid_NHW = valid_pixels(batch.labels_NHW, self.task.num_classes, self.task.ignore_index)
        return pixels_plus_one(valid_NHW.sum(dtype=torch.float32), self.micro_batches).view(1)

    def predict(self, images_NCHW: Tensor) -> Tensor:
        """Sigmoid probabilities, float32 [N, K, H, W]: each class alone, they need not sum to 1; the largest decides.

        The caller puts the module in eval mode.
        """
        return self.network(images_NCHW).float().sigmoid()


def pixels_plus_one(valid: Tensor, micro_batches: int = 1) -> Tensor:
    """This call's share of the denominator "valid pixels + 1" of Zhao et al.'s code.

    The trainer sums counts over ranks and the parts of their shares; each adds its share of 1, so that the sum holds
    the 1 once and two ranks divide by what one rank with the whole batch divides by.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return valid + 1 / ((torch.distributed.get_world_size() if distributed else 1) * micro_batches)
