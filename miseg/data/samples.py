"""Samples, data set descriptions and rejections: the contract between readers of published layouts and packing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

IGNORE_LABEL = 255
"""Label of pixels that count nowhere, the number of `miseg.interface.IGNORE_INDEX` (this room imports no torch)."""


@dataclass(frozen=True)
class DataSetInfo:
    """Classes, channels and sizes of a data set, as its publisher has them.

    Attributes:
        name: short name, as in `DATA_SETS`.
        classes: K names in label order.
        colours: K published (red, green, blue) colours, each 0..255.
        ignore_values: label values in the source's masks that mean "unlabelled"; packing maps them to 255.
        channels: channels C of an image.
        label_values: K values, 0..255, that the source's masks hold for label 0, 1, …, K-1, where the publisher numbers
            its classes otherwise; packing maps them. None where they are 0..K-1 already.
        full_scale: stored pixel value that stands for 1.0: 255 for 8 bits, 10000 for reflectance in 16 bits.
        nodata: value that all bands of a pixel without data hold; None where every pixel has data.
        dtype: type of stored pixels: "uint8", "uint16" or "float32"; None: uint8 where the full scale is 255, uint16
            for others.
        drawn: splits that the reader drew, with their seed and groups, of what JSON knows; None where the publisher's
            are taken. It goes into the sidecar.
        groups: the patient, place or clip that images show, by the images' ids; None: it is known of none. It goes into
            the sidecar.
        scene: of scenes, names of the bands ("bands", in the channels' order) and how files were read, of what JSON
            knows; None for pictures. It goes into the sidecar.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    ignore_values: tuple[int, ...] = (IGNORE_LABEL,)
    channels: int = 3
    label_values: tuple[int, ...] | None = None
    full_scale: int = 255
    nodata: int | None = None
    dtype: str | None = None
    drawn: dict[str, Any] | None = None
    groups: dict[str, str] | None = None
    scene: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.label_values is not None and len(self.label_values) != len(self.classes):
            raise ValueError(
                f"{self.name}: {len(self.label_values)} label values for {len(self.classes)} classes: give one for each"
            )


@dataclass(frozen=True)
class Sample:
    """One image with its mask, not yet read or checked.

    Attributes:
        id: unique name within the data set.
        split: "train", "val", "test" or another name that the publisher uses.
        image: path of the image file, its encoded bytes, or pixels that are no 8-bit RGB: uint8, uint16 or float32
            [H, W, C].
        mask: path or encoded bytes of the mask; None where the data set has no labels.
        series: name of the place that images of several dates show; what stands before a last slash is the place of
            the whole scene, of whose pixels the statistics of a date are made.
        date: acquisition date, ISO 8601.
        georeference: coordinate system and transform, as JSON text.
    """

    id: str
    split: str
    image: Path | bytes | np.ndarray
    mask: Path | bytes | None
    series: str | None = None
    date: str | None = None
    georeference: str | None = None


@dataclass(frozen=True)
class Rejection:
    """A file that is not packed, with a reason that names the offending value and the mend."""

    file: str
    reason: str


@runtime_checkable
class Source(Protocol):
    """A data set in its published layout."""

    @property
    def info(self) -> DataSetInfo:
        """Classes, colours and the source's own ignore values."""

    def available(self) -> tuple[str, ...]:
        """Splits that are there to be read.

        Raises:
            ValueError: the data set's root is missing.
        """

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The split's samples in published order, and what the reader itself refuses.

        Raises:
            ValueError: the split's list or folder is missing; the message says what to do.
        """
