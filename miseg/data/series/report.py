"""The report on a packed series: its dates and bands in numbers, and what looks wrong, each with its mend."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from miseg.data.listing import quantity
from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.sidecar import PackedInfo
from miseg.data.raster.sentinel2 import FIRST_OFFSET_DAY, OFFSET
from miseg.data.series.files import listed
from miseg.data.series.source import SeriesSource
from miseg.data.survey.table import aligned, percent

CLEAR = 0.5
"""Share of usable pixels from which a date is clear enough to be paired (`Pairs.min_valid`)."""
CLOUDY = 0.05
"""Share of usable pixels below which a date is told as cloudy."""
USABLE = 0.2
"""Share of usable pixels of all dates below which masks look inverted."""
FACTOR = 4.0
"""Factor between a date's mean and the median of all dates, in every band, from which its unit looks another."""
_SAMPLED = 2**16
"""Pixels of a date's chip from which percentiles are taken, at most."""
_DARK, _LOW, _HIGH = 2, 1, 99
_MARKS = (-9999.0, -999.0, -99.0, -32768.0, -32767.0, 32767.0, -28672.0, 65534.0)
"""Values that files often hold where there is no data."""
_ROWS = 100


@dataclass
class _Date:
    usable: int = 0
    dark: list[np.ndarray] = field(default_factory=list)
    pixels: hashlib._Hash = field(default_factory=hashlib.sha256)


@dataclass
class _Bands:
    low: np.ndarray
    high: np.ndarray
    marks: dict[float, int] = field(default_factory=dict)
    alike: set[tuple[int, int]] = field(default_factory=set)


def report_on_series(folder: Path, source: SeriesSource) -> list[str]:
    """Lines on the packed series in a local folder: a table of dates, one of bands, and sentences.

    Args:
        folder: the packed data set.
        source: the reader that it was packed from.

    Raises:
        ValueError: no packed data set, or a damaged one.
    """
    packed = PackedDataset.open(folder)
    dates, bands = _measure(packed, source)
    # Dates that could not be read are among the rejected.
    area = sum(height * width for windows in source.areas.values() for _, _, height, width in windows)
    shares = {day: date.usable / area for day, date in dates.items()}
    lines = ["", *_date_table(packed.info, shares, source), "", *_band_table(packed.info, bands, source), ""]
    problems = [
        *_of_usable(shares),
        *_of_values(packed.info, shares, bands, source),
        *_of_offset(packed.info, dates),
        *_of_copies(dates),
    ]
    return [*lines, *(f"look at this: {problem}" for problem in problems)]


def _measure(packed: PackedDataset, source: SeriesSource) -> tuple[dict[str, _Date], _Bands]:
    info = packed.info
    dates = {day: _Date() for day in source.dates}
    bands = _Bands(np.full(info.channels, np.inf), np.full(info.channels, -np.inf))
    pairs = [(a, b) for a in range(info.channels) for b in range(a + 1, info.channels)]
    bands.alike = set(pairs)
    for split in packed.splits:
        for index, (_, _, day) in enumerate(packed.index(split)):
            image, _ = decode(packed.read(split, index))
            valid = (image != info.nodata).any(2)
            pixels, date = image[valid], dates[str(day)]
            date.usable += len(pixels)
            date.pixels.update(image.tobytes())
            sampled = pixels[:: -(-len(pixels) // _SAMPLED)].astype(np.float64)
            date.dark.append(np.percentile(sampled, _DARK, axis=0))
            low, high = np.percentile(sampled, (_LOW, _HIGH), axis=0)
            bands.low, bands.high = np.minimum(bands.low, low), np.maximum(bands.high, high)
            for mark in _MARKS:
                if number := int((pixels == mark).any(1).sum()):
                    bands.marks[mark] = bands.marks.get(mark, 0) + number
            bands.alike = {(a, b) for a, b in bands.alike if np.array_equal(pixels[:, a], pixels[:, b])}
    return dates, bands


def _date_table(info: PackedInfo, shares: dict[str, float], source: SeriesSource) -> list[str]:
    rows: list[tuple[str, ...]] = [("date", "usable pixels", *(f"mean {name}" for name in info.bands))]
    for day, share in list(shares.items())[:_ROWS]:
        means = _means(info, day)
        rows.append((day, percent(share), *(() if means is None else map(_figure, means))))
    width = len(rows[0])
    lines = aligned([(*row, *[""] * (width - len(row))) for row in rows])
    left = len(shares) - _ROWS
    clear = sum(share >= CLEAR for share in shares.values())
    summary = f"{clear} of {quantity(len(shares), 'date')} {_have(clear)} at least {CLEAR:.0%} usable pixels"
    return [*lines, *([f"… and {quantity(left, 'later date')}: see dataset.json"] if left > 0 else []), summary]


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _band_table(info: PackedInfo, bands: _Bands, source: SeriesSource) -> list[str]:
    rows: list[tuple[str, ...]] = [("channel", "band", "file's band", "type", "1 %", "mean", "deviation", "99 %")]
    first = source.scenes[0]
    for number, band in enumerate(first.bands):
        mean, std = info.mean[number] * info.full_scale, info.std[number] * info.full_scale
        figures = (bands.low[number], mean, std, bands.high[number])
        of_file = f"{band.number} of {band.file.name}"
        kind = str(info.scene.get("dtype", info.dtype))
        rows.append((str(number), band.name, of_file, kind, *map(_figure, figures)))
    return aligned(rows, left=4)


def _means(info: PackedInfo, day: str) -> np.ndarray | None:
    """Means of a date's bands as they are stored; None where it has no usable pixel."""
    statistics = info.dates.get(info.name, {}).get(day)
    return None if statistics is None else np.array(statistics["mean"]) * info.full_scale


def _of_usable(shares: dict[str, float]) -> Iterator[str]:
    cloudy = [day for day, share in shares.items() if share < CLOUDY]
    mean = sum(shares.values()) / len(shares)
    if len(cloudy) == len(shares):
        yield (
            f"no date has {CLOUDY:.0%} usable pixels: see that masks name the bad pixels (--mask-values, --mask-bits) "
            "and not the good ones, and that the files' nodata value is no measurement"
        )
        return
    if mean < USABLE:
        yield (
            f"{percent(mean)} of all pixels are usable: see that masks name the bad pixels (--mask-values, "
            "--mask-bits) and not the good ones"
        )
    if cloudy:
        yield (
            f"{len(cloudy)} of {quantity(len(shares), 'date')} {_have(len(cloudy))} under {CLOUDY:.0%} usable pixels "
            f"({listed(cloudy)}): cloudy ones may stay, as pairs are drawn from clear dates"
        )
    if len(shares) > 1 and sum(share >= CLEAR for share in shares.values()) < 2:
        yield (
            f"under two dates have {CLEAR:.0%} usable pixels, from which pairs of dates are drawn: lower "
            "--pairs.min-valid in training, or add clear dates"
        )
    if len(shares) == 1:
        yield "a single date: pairs of dates need two; views then differ by turns and brightness alone"


def _of_values(info: PackedInfo, shares: dict[str, float], bands: _Bands, source: SeriesSource) -> Iterator[str]:
    means = {day: values for day in shares if (values := _means(info, day)) is not None}
    if len(means) > 2:
        median = np.median(list(means.values()), axis=0)
        ratios = {day: values / np.where(median == 0, np.nan, median) for day, values in means.items()}
        apart = [
            day
            for day, ratio in ratios.items()
            if shares[day] >= CLOUDY and ((ratio > FACTOR).all() or ((ratio < 1 / FACTOR) & (ratio > 0)).all())
        ]
        if apart:
            day = apart[0]
            yield (
                f"{listed(apart)}: every band's mean is {np.nanmedian(ratios[day]):.3g} times that of the other dates: "
                "in another unit, or under cloud that no mask names; bring it to one unit, or leave it out"
            )
    if bands.marks:
        mark = max(bands.marks, key=bands.marks.__getitem__)
        yield (
            f"{bands.marks[mark]} pixels hold {mark:g}, which looks like no data that the files do not name: write it "
            f"into them (gdal_edit.py -a_nodata {mark:g} FILE) and pack again"
        )
    names = info.bands
    for number, name in enumerate(names):
        if info.dtype == "float32" and info.std[number] < 1e-3 and bands.high[number] > bands.low[number]:
            yield (
                f"{name} varies by {info.std[number] * info.full_scale:.2g} alone, of which six decimals are kept: "
                "scale the files up, by 1000 or more"
            )
        elif bands.high[number] == bands.low[number]:
            yield f"{name} is {bands.low[number]:g} nearly everywhere: see that it is the band that is meant"
    for first, second in sorted(bands.alike):
        if bands.high[first] > bands.low[first]:
            yield f"{names[first]} and {names[second]} hold the same pixels at every date: see that both are meant"


def _of_offset(info: PackedInfo, dates: dict[str, _Date]) -> Iterator[str]:
    """A step of 1000 in every band's dark pixels at the day from which Sentinel-2's products have that offset."""
    if info.scene.get("dtype") != "uint16" or any(info.scene.get("offsets", [])):
        return
    dark = {day: np.median(date.dark, axis=0) for day, date in dates.items() if date.dark}
    before = [values for day, values in dark.items() if day < FIRST_OFFSET_DAY]
    after = [values for day, values in dark.items() if day >= FIRST_OFFSET_DAY]
    if not before or not after:
        return
    step = np.median(after, axis=0) - np.median(before, axis=0)
    if ((step > -0.7 * OFFSET) & (step < -1.4 * OFFSET)).all():
        yield (
            f"from {min(day for day in dark if day >= FIRST_OFFSET_DAY)} on dark pixels are {step.min():.0f} to "
            f"{step.max():.0f} higher in every band: Sentinel-2's processing baseline 04.00 adds {-OFFSET}; pack the "
            "SAFE products, whose metadata say so, or subtract it from these files"
        )


def _of_copies(dates: dict[str, _Date]) -> Iterator[str]:
    by_pixels: dict[bytes, list[str]] = {}
    for day, date in dates.items():
        if date.usable:
            by_pixels.setdefault(date.pixels.digest(), []).append(day)
    for days in by_pixels.values():
        if len(days) > 1:
            yield f"{' and '.join(days)} hold the same pixels: one is a copy; leave it out, or correct its date"


def _figure(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.4g}"
