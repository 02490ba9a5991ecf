"""Mean IoU of each image by itself, averaged over a data set: what many medical papers print."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from miseg.evaluation.confusion import count_images
from miseg.interface import IGNORE_INDEX

TICKS = 2**36
"""Parts of 1 in which an image's score is counted: sums of integers are the same in any order."""


class ImageMeanIoU:
    """Mean over images of each image's own mean IoU: images count alike, whatever their size.

    An image's mean is over the classes in its truth or in its prediction. A class in neither is left out, and one that
    is predicted where the image has none of it counts 0. An image without a counted pixel is left out.

    Papers differ in this: CWMI (Lu et al., ICML 2025) averages over both classes of two, which is the same wherever an
    image has both; Wang et al. (NeurIPS 2023, arXiv:2310.19252) leave out every class that the truth does not have.

    Args:
        num_classes: K, at least 1.
        ignore_index: truth value of pixels that do not count.

    Attributes:
        sums: int64 [2] on the CPU: the images' scores in parts of 1/`TICKS`, and the number of images. Ranks sum them.

    Raises:
        ValueError: num_classes below 1.
    """

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes = {num_classes}: use 1 or more")
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.sums = torch.zeros(2, dtype=torch.int64)

    def update(self, prediction: Tensor | np.ndarray, truth: Tensor | np.ndarray) -> None:
        """Count the images of integer labels [N, H, W], on any device.

        Raises:
            TypeError, ValueError: as `count_images`.
        """
        self.add(count_images(prediction, truth, self.num_classes, self.ignore_index))

    def add(self, counts_NKK: Tensor) -> None:
        """Count images by their confusion matrices, int64 [N, K, K] with truth in rows."""
        hits_NK = counts_NKK.diagonal(dim1=1, dim2=2)
        unions_NK = counts_NKK.sum(1) + counts_NKK.sum(2) - hits_NK
        mean_N = (hits_NK.double() / unions_NK.double()).nanmean(1)
        mean_N = mean_N[mean_N.isfinite()]
        ticks = (mean_N * TICKS).round().long().sum()
        self.sums += torch.tensor([int(ticks), len(mean_N)])

    def merge(self, other: ImageMeanIoU) -> None:
        """Add another's images to these. Raises ValueError where the number of classes differs."""
        if other.num_classes != self.num_classes:
            raise ValueError(f"images of {other.num_classes} classes do not merge with those of {self.num_classes}")
        self.sums += other.sums

    def mean(self) -> float:
        """Mean in 0..1; nan while no image has been counted."""
        ticks, images = self.sums.tolist()
        return ticks / TICKS / images if images else float("nan")
