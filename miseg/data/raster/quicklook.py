"""A picture of a map for people: image, classes and confidence side by side, small enough to send."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rasterio.enums import Resampling

from miseg.data.raster.maps import checked_colours
from miseg.data.raster.rasters import open_raster
from miseg.data.samples import IGNORE_LABEL

NO_DATA = (205, 205, 205)
"""RGB of pixels without data or class."""

_SURE = (8, 48, 107)
"""RGB of confidence 1; 0 is white."""

_LEAST_SIDE = 256
_NARROWEST = 120
_GAP = 10
_TEXT, _INK, _PAPER = 16, (30, 30, 30), (255, 255, 255)


def quicklook(
    image: Path | np.ndarray,
    classes: Path | np.ndarray,
    colours: Sequence[Sequence[int]],
    path: Path,
    *,
    class_names: Sequence[str],
    confidence: Path | np.ndarray | None = None,
    bands: Sequence[int] = (0, 1, 2),
    longest: int = 1024,
) -> None:
    """Writes a PNG of an image, its map and the map's confidence with their legend.

    Rasters are read at the size at which they are shown, so that a scene larger than memory passes. Each band is
    stretched from its 2nd to its 98th percentile. Small images are enlarged by a whole factor.

    Args:
        image: a raster, or [C, H, W] of numbers, masked or NaN where there is no data.
        classes: a raster, or integers [H, W]: 0..K-1, 255 for no class.
        colours: K (red, green, blue), 0..255.
        path: of the PNG; its folder is made.
        class_names: K names.
        confidence: a raster, or floats [H, W], 0..1; None leaves it out.
        bands: one or three of the image's bands, from 0, shown as grey or as red, green and blue; an image of fewer
            bands shows its first.
        longest: the most pixels of a shown image's longer side, at least 1.

    Raises:
        ValueError: no raster, sizes that differ, a class without a colour, a band that the image does not have,
            another number of names than of colours.
    """
    if len(class_names) != len(colours):
        raise ValueError(f"{len(class_names)} class names for {len(colours)} colours: give one for each")
    if longest < 1:
        raise ValueError(f"longest = {longest}: give at least 1 pixel")
    sources = {"image": image, "map": classes} | ({} if confidence is None else {"confidence": confidence})
    sizes = {name: _bands_and_size(source) for name, source in sources.items()}
    count, height, width = sizes["image"]
    for name, size in sizes.items():
        if size[1:] != (height, width):
            raise ValueError(f"the image has {height} x {width} pixels, its {name} {size[1]} x {size[2]}")
    shown = list(bands) if count >= 3 else [0]
    if len(shown) not in (1, 3) or not all(0 <= band < count for band in shown):
        raise ValueError(f"bands = {tuple(bands)} of an image of {count} bands: give one or three of 0..{count - 1}")

    scale = min(1.0, longest / max(height, width))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    labels = _read(classes, [0], shape, Resampling.nearest)[0].filled(IGNORE_LABEL)
    wrong = labels[(labels != IGNORE_LABEL) & ((labels < 0) | (labels >= len(colours)))]
    if wrong.size:
        raise ValueError(f"the map holds {wrong[0]}: {len(colours)} colours are for 0..{len(colours) - 1}")
    palette = np.array([*checked_colours(colours), NO_DATA], np.uint8)
    without = labels == IGNORE_LABEL
    panels = {"image": stretched(_read(image, shown, shape, Resampling.average))}
    panels["map"] = palette[np.where(without, len(colours), labels)]
    if confidence is not None:
        panels["confidence"] = _shaded(_read(confidence, [0], shape, Resampling.average)[0])
    legend = list(zip(class_names, palette[:-1].tolist(), strict=True))
    legend += [("no class", list(NO_DATA))] if without.any() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    _sheet(panels, legend).save(path, "PNG")


def _bands_and_size(source: Path | np.ndarray) -> tuple[int, int, int]:
    if isinstance(source, np.ndarray):
        bands, height, width = source.shape if source.ndim == 3 else (1, *source.shape)
        return bands, height, width
    with open_raster(source) as file:
        return file.count, file.height, file.width


def _read(
    source: Path | np.ndarray, bands: Sequence[int], size: tuple[int, int], resampling: Resampling
) -> np.ma.MaskedArray:
    """Some bands, [C, height, width], masked where there is no data."""
    if not isinstance(source, np.ndarray):
        with open_raster(source) as file:
            indexes = [band + 1 for band in bands]
            values = file.read(indexes, out_shape=(len(bands), *size), resampling=resampling, masked=True)
        return np.ma.masked_invalid(values)
    stack = source if source.ndim == 3 else source[None]
    rows, columns = (
        (np.arange(shown) * 2 + 1) * whole // (2 * shown) for shown, whole in zip(size, stack.shape[1:], strict=True)
    )
    return np.ma.masked_invalid(stack[np.ix_(list(bands), rows, columns)])


def stretched(values_CHW: np.ma.MaskedArray) -> np.ndarray:
    """One or three bands, masked where there is no data, as colours to look at: uint8 [H, W, 3], `NO_DATA` there.

    Each is stretched from its 2nd to its 98th percentile.
    """
    layers = []
    for values in values_CHW.astype(np.float64):
        low, high = np.percentile(values.compressed(), (2, 98)) if values.count() else (0.0, 0.0)
        layers.append(np.clip((values.filled(low) - low) / max(high - low, 1e-12), 0, 1) * 255)
    colours = np.stack(layers * (3 // len(layers)), -1).round().astype(np.uint8)
    colours[np.ma.getmaskarray(values_CHW).any(0)] = NO_DATA
    return colours


def _shaded(values_HW: np.ma.MaskedArray) -> np.ndarray:
    """uint8 [H, W, 3] of confidences: white to dark blue, grey where there is none."""
    part = np.clip(values_HW.filled(0), 0, 1)[..., None]
    colours = (np.array(_PAPER) * (1 - part) + np.array(_SURE) * part).round().astype(np.uint8)
    colours[np.ma.getmaskarray(values_HW)] = NO_DATA
    return colours


def _sheet(panels: dict[str, np.ndarray], legend: list[tuple[str, Sequence[int]]]) -> Image.Image:
    """The panels under their titles and above the legend, which is wrapped to their width."""
    height, width = next(iter(panels.values())).shape[:2]
    enlarge = max(1, _LEAST_SIDE // max(height, width))
    step = max(width * enlarge, _NARROWEST) + _GAP
    top = 2 * _GAP + _TEXT
    font = ImageFont.load_default(_TEXT)
    total_width = len(panels) * step + _GAP
    x, y = _GAP, top + height * enlarge + _GAP
    entries = []
    for name, colour in [*legend, *([("", None)] if "confidence" in panels else [])]:
        entry_width = _TEXT + 6 + math.ceil(font.getlength(name if colour else "confidence 0 to 1") + 2 * _GAP)
        entry_width += 0 if colour else 4 * _TEXT
        if x > _GAP and x + entry_width > total_width:
            x, y = _GAP, y + _TEXT + _GAP
        entries.append((x, y, name, colour))
        x += entry_width
    canvas = Image.new("RGB", (total_width, y + _TEXT + _GAP), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for column, (title, pixels) in enumerate(panels.items()):
        left = _GAP + column * step
        draw.text((left, _GAP // 2), title, _INK, font)
        picture = Image.fromarray(pixels).resize((width * enlarge, height * enlarge), Image.Resampling.NEAREST)
        canvas.paste(picture, (left, top))
    for left, upper, name, colour in entries:
        long = _TEXT if colour else 5 * _TEXT
        draw.rectangle((left, upper, left + long, upper + _TEXT), tuple(colour) if colour else _PAPER, _INK)
        if not colour:
            ramp = _shaded(np.ma.masked_invalid(np.tile(np.linspace(0, 1, long - 1), (_TEXT - 1, 1))))
            canvas.paste(Image.fromarray(ramp), (left + 1, upper + 1))
        draw.text((left + long + 6, upper), name if colour else "confidence 0 to 1", _INK, font)
    return canvas
