"""Architectures of segmentation-models-pytorch, and which encoders each takes. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from miseg.networks.encoders import table
from miseg.networks.encoders.table import Encoder, Kind

ArchitectureName = Literal[
    "unet",
    "unet++",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "pan",
    "deeplabv3",
    "deeplabv3+",
    "upernet",
    "segformer",
    "dpt",
]


@dataclass(frozen=True)
class Architecture:
    """A decoder with its head, and what it asks of an encoder."""

    title: str
    builder: str
    """Class of segmentation_models_pytorch."""
    kinds: tuple[Kind, ...]
    """Kinds of encoders that it takes."""
    encoder: str
    """Encoder of whoever names none."""
    output_strides: tuple[int, ...] = ()
    """Output strides that it has, its default first; (): it takes all features as they are."""
    smallest: int = 1
    """Pixels that a side of the encoder's last features must have."""
    normalises_pooled: bool = False
    """Whether batch norm sees features pooled to one pixel, of which a single image gives no variance."""


_ALL: tuple[Kind, ...] = ("halving", "quarter", "full")
_FROM_HALF: tuple[Kind, ...] = ("halving", "full")

ARCHITECTURES: Mapping[str, Architecture] = {
    "unet": Architecture("U-Net", "Unet", _ALL, "resnet34"),
    "unet++": Architecture("U-Net++", "UnetPlusPlus", _FROM_HALF, "resnet34"),
    "manet": Architecture("MAnet", "MAnet", _ALL, "resnet34"),
    "linknet": Architecture("Linknet", "Linknet", _FROM_HALF, "resnet34"),
    "fpn": Architecture("FPN", "FPN", _ALL, "resnet34"),
    "pspnet": Architecture("PSPNet", "PSPNet", _ALL, "resnet34"),
    "pan": Architecture("PAN", "PAN", _ALL, "resnet34", (16, 32), 8, True),
    "deeplabv3": Architecture("DeepLabV3", "DeepLabV3", _ALL, "resnet34", (8, 16), normalises_pooled=True),
    "deeplabv3+": Architecture("DeepLabV3+", "DeepLabV3Plus", _ALL, "resnet34", (16, 8), normalises_pooled=True),
    "upernet": Architecture("UPerNet", "UPerNet", _ALL, "resnet34", normalises_pooled=True),
    "segformer": Architecture("SegFormer", "Segformer", _ALL, "mit_b0"),
    "dpt": Architecture("DPT", "DPT", ("plain",), "vit_small_patch16_224"),
}
"""Every architecture by the name that settings have for it."""

_KINDS: Mapping[Kind, str] = {
    "halving": "features from 1/2 to 1/32 of the image",
    "quarter": "features from 1/4 to 1/32 of the image, none at 1/2",
    "full": "features from 1/1 to 1/32 of the image",
    "plain": "features of one size, as ViTs do",
    "none": "features that no decoder here takes",
}


def output_stride(architecture: str, wanted: int | None) -> int:
    """Output stride of an architecture where settings want this one, or its default for None; 32 where it has none."""
    strides = ARCHITECTURES[architecture].output_strides
    return wanted or (strides[0] if strides else 32)


def check(architecture: str, encoder: str, wanted: int | None = None) -> Encoder:
    """The encoder, where the architecture takes it at this output stride.

    Raises:
        ValueError: no such encoder, one that the architecture cannot take, or a stride that one of them does not have.
    """
    kind, found = ARCHITECTURES[architecture], table.find(encoder)
    if found.kind not in kind.kinds:
        others = [name for name, other in ARCHITECTURES.items() if found.kind in other.kinds]
        takers = f"; {', '.join(others)} take{'s' if len(others) == 1 else ''} it" if others else ""
        raise ValueError(
            f"encoder = {encoder!r}: {kind.title} cannot take it, for it gives {_KINDS[found.kind]}{takers}; "
            f"{kind.title} takes encoders such as {kind.encoder}"
        )
    if wanted is not None and wanted not in kind.output_strides:
        choices = f"use {' or '.join(map(str, kind.output_strides))}" if kind.output_strides else "leave it out"
        raise ValueError(f"output_stride = {wanted}: {kind.title} has no such output stride; {choices}")
    stride = output_stride(architecture, wanted)
    if stride < 32 and stride not in found.output_strides:
        others = [str(other) for other in kind.output_strides if other == 32 or other in found.output_strides]
        mend = f"give output_stride={' or '.join(others)}" if others else f"use an encoder such as {kind.encoder}"
        raise ValueError(
            f"encoder = {encoder!r}: {kind.title} dilates it to output stride {stride}, which it cannot be; {mend}"
        )
    return found
