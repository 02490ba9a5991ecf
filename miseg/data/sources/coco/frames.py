"""Helpers of the readers of COCO: folders of its pictures, and the size at which methods without labels see them.

Ji et al. (2019) shrink COCO's images to 0.33 of their size, train on random windows of 128 x 128 pixels and measure on
the middle one (xu-ji/IIC: examples/commands.txt, code/datasets/segmentation/cocostuff.py). Here the shrinking is done
once, on packing; training draws its windows with `Augmentation(crop=(128, 128))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miseg.data.checks import BadFileError, check_image, check_sizes, encode_png, read_bytes
from miseg.data.configs import Augmentation
from miseg.data.listing import is_picture
from miseg.data.loading.augmentation import prepare, window
from miseg.data.samples import IGNORE_LABEL, Rejection, Sample

SPLITS = ("train", "val")
MIN_SIDE = 360
"""Pixels that the shorter side of an image has at least: at 0.33, 119 of the 128 of a window."""

_MMSEGMENTATION = "_labelTrainIds"


@dataclass(frozen=True)
class Frame:
    """Scale and crop of an image and its mask before they are packed.

    Shrinking is Pillow's, as in all of miseg: bilinear with smoothing for the image, nearest for the mask. IIC's is
    OpenCV's, which does not smooth and takes labels up to a pixel beside their place.

    Attributes:
        scale: factor above 0 of height and width; 1 leaves the image as it is.
        middle: side in pixels of the window in the middle that is all that the split val keeps; black and ignored where
            the image is smaller. None keeps the whole image. Other splits always do.
    """

    scale: float = 0.33
    middle: int | None = 128

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise ValueError(f"scale = {self.scale}: use a factor above 0 and up to 1, such as 0.33")
        if self.middle is not None and self.middle < 1:
            raise ValueError(f"middle = {self.middle}: use 1 pixel or more, or None for whole images")

    def sample(self, name: str, split: str, image: Path, mask_HW: np.ndarray) -> Sample | Rejection:
        """The sample `<split>/<name>` of an image file and its labels, uint8 [H, W]; or why there is none."""
        try:
            pixels = check_image(read_bytes(image))[1]
            check_sizes(pixels, mask_HW, None)
        except BadFileError as error:
            return Rejection(str(image), str(error))
        height, width = (max(1, round(side * self.scale)) for side in mask_HW.shape)
        shrunk, labels = prepare(pixels, mask_HW, Augmentation(resize=(height, width)))
        assert labels is not None
        if self.middle is not None and split == "val":
            top, left = (side // 2 - self.middle // 2 for side in (height, width))
            part = (self.middle, self.middle)
            shrunk = window(shrunk, top, left, part, np.uint8(0))
            labels = window(labels, top, left, part, np.uint8(IGNORE_LABEL))
        return Sample(f"{split}/{name}", split, encode_png(shrunk), encode_png(labels))


def first_folder(folders: Sequence[Path]) -> Path | None:
    """The first of `folders` that is a folder, or None."""
    return next((folder for folder in folders if folder.is_dir()), None)


def pictures(folder: Path) -> dict[str, Path]:
    """Paths of a folder's pictures by name without ending, in order.

    MMSegmentation's converter leaves masks with other numbers beside the published ones: those are no part of it.
    """
    paths = (path for path in sorted(folder.iterdir()) if is_picture(path))
    return {path.stem: path for path in paths if not path.stem.endswith(_MMSEGMENTATION)}


def image_folders(root: Path, split: str) -> list[Path]:
    """Folders in which the images of a split may lie, in the order of search."""
    return [root / "images" / f"{split}2017", root / f"{split}2017"]
