"""A data set on one picture: images with their masks over them, and the classes' shares by split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.sidecar import PackedInfo
from miseg.data.samples import IGNORE_LABEL
from miseg.data.survey.splits import SplitSummary
from miseg.data.survey.survey import Survey
from miseg.extras import require
from miseg.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IGNORED = (205, 205, 205)
"""RGB of pixels without data, and of every other stripe over ignored ones."""

_OPACITY = 0.55
_SIDE = 640
"""Pixels of a shown image's longer side, at most."""
_CLASSES = 24
"""Classes of the legend and the chart, at most."""
_PERCENTILES = (1, 99)
_STRIPE = 4
"""Pixels of a stripe over ignored pixels: no class has stripes, whatever its colour."""
_SPLITS = ("#1f3b73", "#e8863a", "#3a9a8f", "#8c5fa8", "#7a7a7a")
_WIDTH, _DOTS = 14.0, 100


def draw(survey: Survey, packed: PackedDataset, path: Path) -> None:
    """Writes a PNG: the survey's examples, each as image and with its mask over it, a legend, and the classes' shares.

    Ignored pixels are striped in light grey. Images are stretched from their 1st to their 99th percentile: 8-bit
    colours all bands alike, others band by band. Of more than three bands the first three are shown, of two the first.
    Of more than 24 classes the 12 of most and the 12 of fewest pixels are charted.

    Args:
        survey: of `packed`.
        packed: the data set.
        path: of the PNG; its folder exists.

    Raises:
        ValueError: a shard is damaged, or an image cannot be decoded.
        MissingExtraError: matplotlib is not installed.
    """
    require("service", "the picture of a data set", "matplotlib")
    # Not at the top: matplotlib comes with the extra 'service', the survey itself with 'data'.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    images = [_panels(packed, split, index) for split, index in survey.examples]
    tallest = max(image.shape[0] / image.shape[1] for _, image, _ in images)
    with_masks = any(overlay is not None for *_, overlay in images)
    labels = charted(survey)
    column = _WIDTH / max(3, len(images))
    rows = [column * tallest + 0.3] * (1 + with_masks)
    legend_columns = min(8, max(1, len(labels) + 1))
    legend = 0.25 * (-(-(len(labels) + 1) // legend_columns)) + 0.2 if with_masks else 0.05
    chart = 0.9 + 0.16 * len(labels) * len(survey.splits) + 0.12 * len(labels) if with_masks else 0.05
    heights = [*rows, legend, chart]
    figure = Figure((_WIDTH, sum(heights) + 0.6), dpi=_DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_title(survey), fontsize=13)
    grid = figure.add_gridspec(len(heights), len(images), height_ratios=heights)
    for number, (title, image, overlay) in enumerate(images):
        for row, pixels in enumerate((image, overlay)[: len(rows)]):
            axes = figure.add_subplot(grid[row, number])
            axes.axis("off")
            if row == 0:
                axes.set_title(title, fontsize=9)
            if pixels is not None:
                axes.imshow(pixels, interpolation="nearest")
    if with_masks:
        axes = figure.add_subplot(grid[len(rows), :])
        axes.axis("off")
        patches = [
            Patch(facecolor=_hex(packed.info.colours[label]), edgecolor="black", linewidth=0.5) for label in labels
        ]
        for patch, label in zip(patches, labels, strict=True):
            patch.set_label(_plain(_short(survey.classes[label], 24)))
        if any(split.ignored for split in survey.splits.values()):
            patches.append(Patch(facecolor="white", edgecolor=_hex(IGNORED), hatch="////", label="ignored"))
        axes.legend(handles=patches, loc="center", ncols=legend_columns, frameon=False, fontsize=9)
        _chart(figure.add_subplot(grid[len(rows) + 1, :]), survey, labels)
    with replacing(path) as unfinished:
        # Its version of matplotlib would be in the file.
        figure.savefig(unfinished, format="png", metadata={"Software": None})


def charted(survey: Survey) -> list[int]:
    """The labels whose shares are charted, in their order: all, or those of most and those of fewest pixels."""
    labels = range(len(survey.classes))
    if len(labels) <= _CLASSES:
        return list(labels)
    totals = [sum(split.pixels[label] for split in survey.splits.values()) for label in labels]
    order = sorted(labels, key=lambda label: -totals[label])
    return sorted(order[: _CLASSES // 2] + order[-_CLASSES // 2 :])


def displayed(image_HWC: np.ndarray, info: PackedInfo) -> np.ndarray:
    """An image of any bands and type as colours to look at, uint8 [H, W, 3]."""
    bands = image_HWC[..., :3] if image_HWC.shape[2] >= 3 else image_HWC[..., :1]
    missing = np.zeros(bands.shape[:2], bool) if info.nodata is None else (image_HWC == info.nodata).all(2)
    values = bands.astype(np.float32)
    seen = values[~missing] if not missing.all() else values.reshape(-1, values.shape[2])
    low, high = np.percentile(seen, _PERCENTILES, axis=0)
    if image_HWC.dtype == np.uint8 and info.channels == 3:
        # A common stretch keeps the hues of a photograph.
        low, high = low.min(), high.max()
    colours = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1) * 255
    colours = np.broadcast_to(colours, (*colours.shape[:2], 3)).round().astype(np.uint8)
    colours[missing] = IGNORED
    return colours


def overlaid(colours_HW3: np.ndarray, mask_HW: np.ndarray, info: PackedInfo) -> np.ndarray:
    """Colours with the mask's class colours over their brightness, uint8 [H, W, 3]; ignored pixels are striped."""
    table = np.full((IGNORE_LABEL + 1, 3), IGNORED, np.float32)
    table[: len(info.colours)] = info.colours
    # Of the image its brightness alone: its own hues would pass for classes'.
    grey = colours_HW3.mean(2, keepdims=True, dtype=np.float32)
    mixed = (1 - _OPACITY) * grey + _OPACITY * table[mask_HW]
    mixed = mixed.round().astype(np.uint8)
    diagonal = np.add.outer(*map(np.arange, mask_HW.shape)) // _STRIPE % 2
    stripes = np.array([IGNORED, (255, 255, 255)], np.uint8)
    ignored = mask_HW == IGNORE_LABEL
    mixed[ignored] = stripes[diagonal[ignored]]
    return mixed


def _panels(packed: PackedDataset, split: str, index: int) -> tuple[str, np.ndarray, np.ndarray | None]:
    """Title, image and overlay of an example."""
    pixels = packed.pixels(split, index)
    step = -(-max(pixels.image.shape[:2]) // _SIDE)
    image = displayed(pixels.image[::step, ::step], packed.info)
    overlay = None if pixels.mask is None else overlaid(image, pixels.mask[::step, ::step], packed.info)
    name = pixels.id if pixels.id.startswith(f"{split}/") else f"{split}: {pixels.id}"
    return _plain(_short(name, 38)), image, overlay


def _chart(axes: Axes, survey: Survey, labels: list[int]) -> None:
    """Bars of the classes' shares by split, on a logarithmic scale: a rare class is to be seen too."""
    splits = {name: split for name, split in survey.splits.items() if split.masks}
    shares = [split.share(label) for split in splits.values() for label in labels if split.pixels[label]]
    least = 10.0 ** np.floor(np.log10(min(shares, default=0.01) * 0.5))
    height = 0.8 / len(splits)
    for number, (name, split) in enumerate(splits.items()):
        places = np.arange(len(labels)) + (number - (len(splits) - 1) / 2) * height
        lengths = [max(split.share(label), least) for label in labels]
        axes.barh(places, lengths, height, label=_plain(name), color=_SPLITS[number % len(_SPLITS)])
        for position, label in zip(places, labels, strict=True):
            axes.text(max(split.share(label), least) * 1.02, position, _written(split, label), va="center", fontsize=7)
    axes.set_xscale("log")
    # Its own would be a formula, and load a dozen fonts.
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlim(least, 2)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), [_plain(_short(survey.classes[label], 30)) for label in labels], fontsize=9)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.set_xlabel("share of the split's labelled pixels")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(splits), frameon=False, fontsize=9)


def _written(split: SplitSummary, label: int) -> str:
    return f"{100 * split.share(label):.2g} %" if split.pixels[label] else "none"


def _title(survey: Survey) -> str:
    counts = ", ".join(f"{name} {split.images}" for name, split in survey.splits.items())
    return _plain(f"{survey.name}: {counts} images")


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"…{text[1 - most :]}"


def _plain(text: str) -> str:
    """Text that matplotlib takes as it is: a dollar begins a formula there, and _ at the start hides a label."""
    return text.replace("$", r"\$") if not text.startswith("_") else "\u200b" + text.replace("$", r"\$")
