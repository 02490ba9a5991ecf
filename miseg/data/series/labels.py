"""Labels of a series: a raster of class numbers on any grid, or outlines of a vector file, read by window."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from miseg.data.folders.encoding import MaskEncoding, MaskOptions
from miseg.data.folders.mask_ids import IdsOfMasks
from miseg.data.listing import quantity
from miseg.data.packed.chips import CHIP
from miseg.data.raster.alignment import same_crs
from miseg.data.raster.codes import read_codes
from miseg.data.raster.grid import Grid, Window
from miseg.data.raster.rasters import grid_of, open_raster
from miseg.data.samples import IGNORE_LABEL
from miseg.extras import require

if TYPE_CHECKING:
    from miseg.data.series.outlines import Outlines

VECTORS = (".geojson", ".json", ".gpkg", ".shp", ".fgb", ".kml", ".gml", ".parquet")
_LARGEST = 2**31


@dataclass(frozen=True)
class SeriesLabels:
    """Labels on a series' grid.

    Attributes:
        file: raster or vector file.
        grid: the series' pixels.
        encoding: classes, and the label of each number.
        outlines: of a vector file; None for a raster.
        nodata: number of a raster's unlabelled pixels, beside those that are ignored.
        sentences: what was understood without being told, to be printed.
    """

    file: Path
    grid: Grid
    encoding: MaskEncoding
    outlines: Outlines | None = None
    nodata: float | None = None
    sentences: tuple[str, ...] = ()
    _windows: dict[Window, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def read(self, window: Window) -> np.ndarray:
        """Labels of a window of the grid, uint8 [h, w]: 0..K-1, and 255 where there is none.

        Raises:
            ValueError: the file cannot be read.
        """
        if window not in self._windows:
            codes, known = _codes(self.file, self.grid.part(window), self.outlines, self.nodata)
            labels = np.full(codes.shape, IGNORE_LABEL, np.uint8)
            for code, label in self.encoding.values:
                labels[known & (codes == code)] = label
            self._windows[window] = labels
        return self._windows[window]


def open_labels(file: Path, grid: Grid, options: MaskOptions, label_field: str | None = None) -> SeriesLabels:
    """The labels in a file, whose whole content within the grid is looked at.

    Args:
        file: a raster of one band of class numbers, or outlines as GeoPackage, GeoJSON, Shapefile.
        grid: the series'.
        options: `classes`, `ids` and `ignore`, as of own images.
        label_field: of a vector file, the field that holds the class; None takes the only one.

    Raises:
        ValueError: a file that cannot be read or lies elsewhere, no such field, or numbers that only the user can give
            a meaning.
    """
    if not file.is_file():
        raise ValueError(f"--labels {file}: no such file")
    if file.suffix.lower() in VECTORS:
        return _open_outlines(file, grid, options, label_field)
    if label_field is not None:
        raise ValueError(f"--label-field {label_field}: {file} is a raster; leave it out")
    nodata, aligned = _check_raster(file, grid)
    counts, outside = _counts(file, grid, None, nodata)
    if not counts:
        raise ValueError(f"{file}: no label within the scenes: it lies elsewhere, or holds its nodata value alone")
    if 0 in counts and not (options.classes or options.ids or options.foreground or 0 in options.ignore):
        share = counts[0] / sum(counts.values())
        raise ValueError(
            f"{file}: {share:.0%} of the pixels are 0, which may be unlabelled or a class: say --ignore 0, or name the "
            "classes with --classes or --ids"
        )
    ids = IdsOfMasks(options, 1, dict(counts), dict.fromkeys(counts, str(file)))
    encoding = _encoding(file, ids)
    notes = [aligned] if aligned else []
    if outside:
        notes.append(f"{outside:.1%} of the scenes' pixels lie outside {file.name}, and are unlabelled")
    return SeriesLabels(file, grid, encoding, None, nodata, (*notes, *_notes(encoding)))


def _open_outlines(file: Path, grid: Grid, options: MaskOptions, label_field: str | None) -> SeriesLabels:
    require("geo", f"labels of {file.suffix}", "pyogrio", "rasterio", "shapely")
    # Not at the top: rasters alone need none of its packages, and images no extra 'geo'.
    from miseg.data.series.outlines import read_outlines

    outlines = read_outlines(file, grid, label_field)
    counts, _ = _counts(file, grid, outlines, None)
    notes = list(outlines.sentences)
    if not counts:
        raise ValueError(f"{file}: no outline covers the middle of a pixel of the scenes")
    if isinstance(outlines.classes[0], int):
        encoding = _encoding(file, IdsOfMasks(options, 1, dict(counts), dict.fromkeys(counts, str(file))))
    else:
        encoding = _named(file, tuple(map(str, outlines.classes)), counts, options)
    overlapping = sum(int(outlines.draw(grid.part(window))[1].sum()) for window in grid.windows(4 * CHIP))
    if overlapping:
        notes.append(f"{quantity(overlapping, 'pixel')} in outlines of different classes: unlabelled")
    return SeriesLabels(file, grid, encoding, outlines, None, (*notes, *_notes(encoding)))


def _encoding(file: Path, ids: IdsOfMasks) -> MaskEncoding:
    if len(ids.pixels) == 1 and not ids.options.classes and ids.options.ids is None:
        value = next(iter(ids.pixels))
        raise ValueError(f"{file}: all labels are {value}: there is nothing to tell apart; name the classes, --classes")
    return ids.encoding()


def _named(file: Path, names: tuple[str, ...], counts: Counter[int], options: MaskOptions) -> MaskEncoding:
    """The classes of outlines that are named by text."""
    ignored = {str(name) for name in options.ignore}
    if unknown := sorted(ignored - set(names)):
        raise ValueError(f"--ignore {unknown[0]}: no outline of {file} has it; they have {', '.join(names)}")
    if options.ids is not None:
        raise ValueError(f"--ids {options.ids}: the outlines of {file} are named; leave it out, or name a field of ids")
    shown = [name for code, name in enumerate(names, 1) if code in counts and name not in ignored]
    classes = options.classes or tuple(shown)
    if missing := [name for name in shown if name not in classes]:
        raise ValueError(
            f"{file}: class {missing[0]!r} is not among --classes ({', '.join(classes)}): add it, or say --ignore"
        )
    label_of = {name: label for label, name in enumerate(classes)}
    coded = IdsOfMasks(MaskOptions(tuple(classes)), 1, dict.fromkeys(label_of.values(), 1)).encoding()
    values = tuple((code, label_of[name]) for code, name in enumerate(names, 1) if name in label_of)
    return replace(coded, values=values)


def _check_raster(file: Path, grid: Grid) -> tuple[float | None, str]:
    """The nodata value, and a sentence where the raster lies on another grid."""
    with open_raster(file) as source:
        own, nodata, bands, driver = grid_of(source), source.nodata, source.count, source.driver
    if bands != 1:
        raise ValueError(f"{file}: {bands} bands: save class numbers as a single band")
    if driver == "JPEG":
        raise ValueError(f"{file}: JPEG compression alters labels: save them as PNG or GeoTIFF")
    if own.crs is None or grid.crs is None:
        if (own.height, own.width) != (grid.height, grid.width):
            raise ValueError(
                f"{file}: {own.height} x {own.width} pixels without a CRS that it shares with the scenes of "
                f"{grid.height} x {grid.width}: georeference it, or export it on their pixels"
            )
        if own.crs != grid.crs:
            raise ValueError(f"{file}: the scenes have a CRS and it has none, or the reverse: georeference both")
        return nodata, ""
    if own == grid:
        return nodata, ""
    crs = "" if same_crs(own.crs, grid.crs) else f" in {own.crs}"
    return (
        nodata,
        f"labels on other pixels{crs} ({own.height}x{own.width}): brought to the scenes' by nearest neighbour",
    )


def _counts(file: Path, grid: Grid, outlines: Outlines | None, nodata: float | None) -> tuple[Counter[int], float]:
    """Pixels of each number within the grid, and the share of pixels outside the file."""
    counts: Counter[int] = Counter()
    inside = 0
    for window in grid.windows(4 * CHIP):
        codes, known = _codes(file, grid.part(window), outlines, nodata)
        inside += int(known.sum())
        values, numbers = np.unique(codes[known], return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
        if counts and (min(counts) < 0 or max(counts) >= _LARGEST):
            wrong = min(counts) if min(counts) < 0 else max(counts)
            raise ValueError(f"{file}: {wrong} is no class number: use whole numbers from 0, or declare it as nodata")
    return counts, 1 - (inside / (grid.height * grid.width)) if outlines is None and nodata is None else 0.0


def _codes(file: Path, area: Grid, outlines: Outlines | None, nodata: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers on an area, and where there is one."""
    if outlines is not None:
        numbers, overlapping = outlines.draw(area)
        if isinstance(outlines.classes[0], int):
            return np.array([0, *outlines.classes])[numbers], (numbers > 0) & ~overlapping
        return numbers, (numbers > 0) & ~overlapping
    codes, covered = read_codes(file, area)
    return codes, covered if nodata is None or np.isnan(nodata) else covered & (codes != nodata)


def _notes(encoding: MaskEncoding) -> tuple[str, ...]:
    return tuple(note.replace("No mask holds", "No label is").replace("masks", "labels") for note in encoding.notes)
