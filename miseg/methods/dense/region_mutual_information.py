"""Region mutual information: Zhao, Wang, Yang and Cai, NeurIPS 2019 (arXiv:1910.12037)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from miseg.interface import Batch, Method, Step, Task
from miseg.losses import region_mutual_information_parts
from miseg.losses.labels import valid_pixels
from miseg.methods.configs import RegionMutualInformation
from miseg.methods.dense.binary_cross_entropy import pixels_plus_one
from miseg.networks import build_network


class RegionMutualInformationMethod(Method):
    """A network trained on λ · BCE + (1 − λ) · RMI; `miseg.losses.RegionMutualInformationLoss` says what they are.

    The loss is often negative, which is normal. The ignore index and labels outside 0..K-1 do not count.
    """

    supervision: ClassVar[Literal["dense", "few", "none"]] = "dense"
    emits: ClassVar[Literal["classes", "clusters"]] = "classes"

    def __init__(self, config: RegionMutualInformation, task: Task) -> None:
        super().__init__()
        self.config = config
        self.task = task
        self.network = build_network(config.network, task.in_channels, task.num_classes)

    def forward(self, batch: Batch) -> Step:
        """Two terms, λ · BCE over valid pixels + 1 and (1 − λ) · RMI over images; scalars `bce` and `rmi` without λ.

        Raises:
            ValueError: a batch without labels, or images that leave no region at this DF and R.
        """
        if batch.labels_NHW is None:
            raise ValueError("a batch without labels: region mutual information learns from labels alone")
        parts = region_mutual_information_parts(
            self.network(batch.images_NCHW),
            batch.labels_NHW,
            region_size=self.config.region_size,
            downsampling_factor=self.config.downsampling_factor,
            downsampling=self.config.downsampling,
            ignore_index=self.task.ignore_index,
        )
        weight = self.config.weight
        return Step(
            total=torch.stack((weight * parts.bce_sum, (1 - weight) * parts.rmi_sum)),
            count=self._counts(parts.valid_pixels, parts.images),
            scalars={
                "bce": parts.bce_sum.detach() / (parts.valid_pixels + 1),
                "rmi": parts.rmi_sum.detach() / parts.images,
            },
        )

    def counts(self, batch: Batch) -> Tensor | None:
        """Valid pixels with this call's share of 1, and images."""
        if batch.labels_NHW is None:
            return None
        valid_NHW = valid_pixels(batch.labels_NHW, self.task.num_classes, self.task.ignore_index)
        return self._counts(valid_NHW.sum(dtype=torch.float32), len(valid_NHW))

    def _counts(self, valid: Tensor, images: int) -> Tensor:
        return torch.stack((pixels_plus_one(valid, self.micro_batches), valid.new_full((), images)))

    def predict(self, images_NCHW: Tensor) -> Tensor:
        """Sigmoid probabilities, float32 [N, K, H, W]: each class alone, they need not sum to 1; the largest decides.

        The caller puts the module in eval mode.
        """
        return self.network(images_NCHW).float().sigmoid()
