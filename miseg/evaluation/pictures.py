"""Pictures of predictions and of confusion matrices, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from miseg.evaluation.confusion import ConfusionMatrix
from miseg.interface import IGNORE_INDEX

# Dark blue and orange differ in lightness as well as hue: readable with any colour vision, and in print.
RIGHT = (12, 44, 92)
WRONG = (255, 150, 20)
IGNORED = (205, 205, 205)
"""RGB of right, wrong and ignored pixels in an error map."""

TITLES = ("image", "truth", "prediction", "errors")

_SMALLEST_SIDE, _LARGEST_SIDE = 192, 512
_NARROWEST_COLUMN = 120  # room for a title where images are tall and narrow
GAP = 10
TEXT, INK, PAPER = 16, (30, 30, 30), (255, 255, 255)


class PanelRow(NamedTuple):
    """One image of a panel.

    Attributes:
        image: uint8 [H, W, 3], or [H, W, 1] or [H, W] for grey.
        truth: integer labels [H, W].
        prediction: integer labels [H, W].
    """

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


def panel(
    image_HWC: np.ndarray,
    truth_HW: np.ndarray,
    prediction_HW: np.ndarray,
    colours: Sequence[Sequence[int]],
    class_names: Sequence[str],
    *,
    ignore_index: int = IGNORE_INDEX,
) -> Image.Image:
    """Image, truth, prediction and errors side by side, with titles and a legend; `panels` with a single row."""
    return panels([PanelRow(image_HWC, truth_HW, prediction_HW)], colours, class_names, ignore_index=ignore_index)


def panels(
    rows: Sequence[PanelRow],
    colours: Sequence[Sequence[int]],
    class_names: Sequence[str],
    *,
    ignore_index: int = IGNORE_INDEX,
) -> Image.Image:
    """Several images below each other, each with its truth, prediction and errors, as one RGB picture.

    Small images are enlarged and large ones shrunk by a whole factor, the same for all. Ignored pixels are grey in the
    truth and the error map; the prediction shows what was predicted there.

    Args:
        rows: at least one image with its truth and prediction, of any sizes.
        colours: K RGB triples in 0..255.
        class_names: K names; empty names the classes by number.
        ignore_index: truth value of pixels that do not count.

    Raises:
        ValueError: no rows, shapes that differ within a row, an image that is no uint8 of 1 or 3 channels, or labels
            without a colour or name.
    """
    classes = _entries(class_names, colours)
    cells = [(*_cells(PanelRow(*row), colours, ignore_index), error_map(row[1], row[2], ignore_index)) for row in rows]
    verdicts = [("right", RIGHT), ("wrong", WRONG), ("ignored", IGNORED)]
    return _sheet(cells, TITLES, [classes, verdicts])


def comparison(
    methods: Mapping[str, Sequence[PanelRow]],
    colours: Sequence[Sequence[int]],
    class_names: Sequence[str],
    *,
    ignore_index: int = IGNORE_INDEX,
) -> Image.Image:
    """Several images below each other, each with its truth and the predictions of every method, as one RGB picture.

    Sizes and colours are those of `panels`; columns are widened to their titles.

    Args:
        methods: each method's rows by its title, in the order of the columns; all show the same images.
        colours: K RGB triples in 0..255.
        class_names: K names; empty names the classes by number.
        ignore_index: truth value of pixels that do not count.

    Raises:
        ValueError: as `panels`, or methods whose rows are of different images.
    """
    legend = [*_entries(class_names, colours), ("ignored", IGNORED)]
    first: Sequence[PanelRow] = next(iter(methods.values()), ())
    for title, rows in methods.items():
        if len(rows) != len(first) or not all(
            np.array_equal(row.truth, other.truth) for row, other in zip(rows, first, strict=True)
        ):
            raise ValueError(f"{title}: its images are not those of the first method")
    columns = [[_cells(row, colours, ignore_index) for row in rows] for rows in methods.values()]
    cells = [(*same[0][:2], *(prediction for _, _, prediction in same)) for same in zip(*columns, strict=True)]
    return _sheet(cells, ("image", "truth", *methods), [legend])


def error_map(truth_HW: np.ndarray, prediction_HW: np.ndarray, ignore_index: int = IGNORE_INDEX) -> np.ndarray:
    """uint8 [H, W, 3]: dark blue where the prediction is right, orange where wrong, grey where the truth is ignored."""
    errors = np.where((truth_HW == prediction_HW)[..., None], RIGHT, WRONG)
    return np.where((truth_HW == ignore_index)[..., None], IGNORED, errors).astype(np.uint8)


def confusion_picture(matrix: ConfusionMatrix | torch.Tensor | np.ndarray, class_names: Sequence[str]) -> Image.Image:
    """The matrix as an RGB picture: of each true class (row), the percentage predicted as each class (column).

    A class without a true pixel has an empty grey row and "(none)" after its name.

    Args:
        matrix: a confusion matrix or its counts, integer [K, K], truth in rows.
        class_names: K names; empty names the classes by number.

    Raises:
        ValueError: counts that are not square, or another number of names.
    """
    counts = np.asarray(matrix.counts if isinstance(matrix, ConfusionMatrix) else matrix, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"counts of shape {counts.shape}: expected [K, K], truth in rows")
    classes = len(counts)
    names = _names(class_names, classes)
    pixels = counts.sum(1, keepdims=True)
    percent = np.divide(100 * counts, pixels, out=np.full_like(counts, np.nan), where=pixels > 0)
    # A figure with its own canvas: pyplot would keep global state, and every figure alive.
    side = max(3.6, 0.52 * classes + 2.0)
    figure = Figure(figsize=(side, side), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(percent, cmap=colormaps["Blues"].with_extremes(bad="#e4e4e4"), vmin=0, vmax=100)
    axes.set_xticks(range(classes), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(
        range(classes), [f"{name} (none)" if n == 0 else name for name, n in zip(names, pixels, strict=True)]
    )
    axes.set(xlabel="predicted class", ylabel="true class", title="% of each true class")
    for row in range(classes):
        for column in range(classes):
            value = percent[row, column]
            text = "" if np.isnan(value) else "0" if value == 0 else "<1" if value < 1 else f"{value:.0f}"
            ink = "white" if value > 60 else "#999999" if value < 1 else "black"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _names(class_names: Sequence[str], classes: int) -> list[str]:
    if class_names and len(class_names) != classes:
        raise ValueError(f"{len(class_names)} class names for {classes} classes")
    return list(class_names) or [str(label) for label in range(classes)]


def _entries(class_names: Sequence[str], colours: Sequence[Sequence[int]]) -> list[tuple[str, Sequence[int]]]:
    """The legend of the classes."""
    return list(zip(_names(class_names, len(colours)), np.asarray(colours).tolist(), strict=True))


def _sheet(
    cells: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    legends: Sequence[Sequence[tuple[str, Sequence[int]]]],
) -> Image.Image:
    """Rows of cells, uint8 [H, W, 3] and of one size within a row, under titles and above legends.

    The first column holds photographs, which are smoothed where they shrink; the others keep their colours.

    Raises:
        ValueError: no rows.
    """
    if not cells:
        raise ValueError("no rows: a picture shows at least one image")
    height, width = (max(cell.shape[axis] for row in cells for cell in row) for axis in (0, 1))
    enlarge = max(1, -(-_SMALLEST_SIDE // max(height, width)))
    shrink = max(1, -(-max(height, width) // _LARGEST_SIDE))
    font = ImageFont.load_default(TEXT)
    widest_title = max(math.ceil(font.getlength(title)) for title in titles)
    step_x = max(width * enlarge // shrink, _NARROWEST_COLUMN, widest_title) + GAP

    total_width = len(titles) * step_x + GAP
    drawn = [legend_picture(entries, font, total_width) for entries in legends]
    pictures = [
        [_resized(cell, enlarge, shrink, smooth=column == 0) for column, cell in enumerate(row)] for row in cells
    ]
    top = 2 * GAP + TEXT
    total_height = top + sum(row[0].height + GAP for row in pictures) + sum(legend.height for legend in drawn)
    canvas = Image.new("RGB", (total_width, total_height), PAPER)
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        draw.text((GAP + column * step_x, GAP // 2), title, INK, font)
    for row_of_pictures in pictures:
        for column, picture in enumerate(row_of_pictures):
            canvas.paste(picture, (GAP + column * step_x, top))
        top += row_of_pictures[0].height + GAP
    for legend in drawn:
        canvas.paste(legend, (0, top))
        top += legend.height
    return canvas


def _cells(
    row: PanelRow, colours: Sequence[Sequence[int]], ignore_index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, truth and prediction as colours, uint8 [H, W, 3] each."""
    classes, palette = len(colours), np.asarray([*colours, IGNORED], dtype=np.uint8)
    image, truth, prediction = (np.asarray(part) for part in row)
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(
            f"an image of shape {image.shape} and type {image.dtype}: expected uint8 [H, W, 3] or [H, W, 1]; "
            "pick the bands to show"
        )
    if not image.shape[:2] == truth.shape == prediction.shape:
        raise ValueError(f"image {image.shape}, truth {truth.shape} and prediction {prediction.shape} differ in size")
    ignored = truth == ignore_index
    for name, labels in (("truth", truth[~ignored]), ("prediction", prediction)):
        outside = labels[(labels < 0) | (labels >= classes)]
        if outside.size:
            raise ValueError(f"{name} holds {outside[0]}: {classes} colours are for 0..{classes - 1}")
    shown_truth = palette[np.where(ignored, classes, truth)]
    return np.broadcast_to(image, (*truth.shape, 3)), shown_truth, palette[prediction]


def _resized(cell_HWC: np.ndarray, enlarge: int, shrink: int, *, smooth: bool) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(cell_HWC))
    if shrink > 1 and smooth:
        return picture.reduce(shrink)
    size = (max(1, picture.width * enlarge // shrink), max(1, picture.height * enlarge // shrink))
    return picture.resize(size, Image.Resampling.NEAREST)


def legend_picture(
    entries: Sequence[tuple[str, Sequence[int]]], font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int
) -> Image.Image:
    """Swatches with their names, wrapped to `width`."""
    corners, x, y = [], GAP, 0
    for name, _ in entries:
        entry_width = TEXT + 6 + int(font.getlength(name)) + 2 * GAP
        if x > GAP and x + entry_width > width:
            x, y = GAP, y + TEXT + GAP
        corners.append((x, y))
        x += entry_width
    legend = Image.new("RGB", (width, y + TEXT + GAP), PAPER)
    draw = ImageDraw.Draw(legend)
    for (x, y), (name, colour) in zip(corners, entries, strict=True):
        draw.rectangle((x, y + 1, x + TEXT, y + 1 + TEXT), (colour[0], colour[1], colour[2]), INK)
        draw.text((x + TEXT + 6, y), name, INK, font)
    return legend
