"""Class maps and their confidence as GeoTIFFs that QGIS and GDAL open, written window by window in flat memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.etree import ElementTree

import numpy as np
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

from miseg.data.raster.grid import Grid
from miseg.data.raster.raster_files import Colour, created, known_crs
from miseg.data.samples import IGNORE_LABEL
from miseg.files import folder_beside

BLOCK = 256
"""Side of a map's tiles, pixels. Windows of whole tiles are packed once; others are right, but make larger files."""

MAX_CLASSES = IGNORE_LABEL
"""Classes 0..254 of a map; 255 is its nodata value."""

_SUFFIXES = (".tif", ".tiff")
_SIDECAR = ".aux.xml"
# The ten colours that matplotlib and Tableau start with: made to be told apart, and known to readers of figures.
_FIRST = "1f77b4 ff7f0e 2ca02c d62728 9467bd 8c564b e377c2 7f7f7f bcbd22 17becf"
_APART_FROM = ((255, 255, 255), (0, 0, 0))


def confidence_path(path: Path) -> Path:
    """The file beside the map `path` that holds its confidence: map.tif has map_confidence.tif."""
    return path.with_name(f"{path.stem}_confidence.tif")


class MapWriter:
    """Writes a class map and its confidence; a context manager.

    The map is a tiled GeoTIFF of uint8 with a colour table, 255 where there is no class; class names are GDAL's
    category names, which GDAL, and so QGIS, reads from `<path>.aux.xml`. The confidence, `confidence_path(path)`, is
    float32 in 0..1, NaN where there is no class. Both have the grid's transform and CRS. They are written beside and
    renamed into place when the context ends; when it ends by an error, what was there before stays. What is never
    written is nodata.

    Args:
        path: .tif or .tiff; its folder is made.
        grid: the input's.
        class_names: K names, 1..255, each printable.
        colours: K colours; by default `default_colours(K)`.

    Raises:
        ValueError: another suffix, no or too many classes, another number of colours, a colour outside 0..255, a name
            that is empty or not printable, an unknown CRS.
    """

    def __init__(
        self, path: Path, grid: Grid, class_names: Sequence[str], colours: Sequence[Sequence[int]] | None = None
    ) -> None:
        self.path = Path(path)
        self.grid = grid
        self.class_names = tuple(class_names)
        self.colours = checked_colours(default_colours(len(class_names)) if colours is None else colours)
        if self.path.suffix.lower() not in _SUFFIXES:
            raise ValueError(f"{path}: a map is a GeoTIFF: end its name with .tif")
        if not 1 <= len(self.class_names) <= MAX_CLASSES:
            raise ValueError(f"{len(self.class_names)} classes: a map holds 1..{MAX_CLASSES}")
        if len(self.colours) != len(self.class_names):
            raise ValueError(f"{len(self.colours)} colours for {len(self.class_names)} classes: give one for each")
        for name in self.class_names:
            if not name.strip() or not name.isprintable():
                raise ValueError(f"class name {name!r}: give printable text")
        self._crs = None if grid.crs is None else known_crs(grid.crs, f"{path}")
        self._stack = ExitStack()
        self._classes: Any = None
        self._confidence: Any = None

    def __enter__(self) -> MapWriter:
        with ExitStack() as stack:
            self._work = stack.enter_context(folder_beside(self.path, several=True))
            names = self.path.name, confidence_path(self.path).name
            self._classes = stack.enter_context(self._created(names[0], "uint8", IGNORE_LABEL))
            _describe(self._classes, self.colours)
            self._confidence = stack.enter_context(self._created(names[1], "float32", float("nan"), predictor=3))
            self._confidence.set_band_description(1, "confidence")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is not None:
                return
            self._classes.close()
            self._confidence.close()
            _write_category_names(self._work / self.path.name, self.class_names)
            # The map comes last: who sees it finds what belongs to it.
            for target in (confidence_path(self.path), self.path):
                sidecar = self._work / f"{target.name}{_SIDECAR}"
                if sidecar.exists():
                    os.replace(sidecar, target.with_name(sidecar.name))
                else:
                    # Statistics that a viewer left beside an earlier map.
                    target.with_name(sidecar.name).unlink(missing_ok=True)
                os.replace(self._work / target.name, target)

    def write(self, window: tuple[int, int, int, int], classes: np.ndarray, confidence: np.ndarray) -> None:
        """Writes one window.

        Args:
            window: (row, column, height, width) in pixels, inside the grid.
            classes: integers [h, w], 0..K-1, 255 for none.
            confidence: floats [h, w], 0..1; of no matter where there is no class.

        Raises:
            ValueError: a window outside the grid, other shapes, a class without a name, a confidence outside 0..1.
        """
        row, column, height, width = window
        if min(row, column) < 0 or row + height > self.grid.height or column + width > self.grid.width:
            raise ValueError(f"window {window} leaves the map of {self.grid.height} x {self.grid.width} pixels")
        if classes.shape != (height, width) or confidence.shape != (height, width):
            raise ValueError(f"classes {classes.shape} and confidence {confidence.shape} for window {window}")
        known = classes != IGNORE_LABEL
        wrong = classes[known & ((classes < 0) | (classes >= len(self.class_names)))]
        if wrong.size:
            raise ValueError(
                f"class {wrong[0]} in window {window}: give 0..{len(self.class_names) - 1}, or 255 for none"
            )
        unsure = confidence[known & ~((confidence >= 0) & (confidence <= 1))]
        if unsure.size:
            raise ValueError(f"confidence {unsure[0]} in window {window}: expected 0..1")
        rasterio_window = Window(column, row, width, height)
        self._classes.write(classes.astype(np.uint8), 1, window=rasterio_window)
        self._confidence.write(np.where(known, confidence, np.nan).astype(np.float32), 1, window=rasterio_window)

    def _created(self, name: str, dtype: str, nodata: float, **more: Any) -> Any:
        return _created(self._work / name, self.grid, self._crs, dtype, nodata, **more)


def write_raster(
    path: Path,
    grid: Grid,
    labels_HW: np.ndarray,
    class_names: Sequence[str],
    colours: Sequence[Sequence[int]],
) -> None:
    """Writes labels, uint8 [H, W] of 0..K-1 and 255 for none, as `MapWriter` writes a map; there is no confidence.

    Raises:
        ValueError: an unknown CRS.
    """
    crs = None if grid.crs is None else known_crs(grid.crs, f"{path}")
    with _created(path, grid, crs, "uint8", IGNORE_LABEL) as raster:
        _describe(raster, colours)
        raster.write(labels_HW, 1)
    _write_category_names(path, class_names)


def _describe(raster: Any, colours: Sequence[Sequence[int]]) -> None:
    # A TIFF takes its colour table before the first pixel, or not at all.
    table = {label: (*colour, 255) for label, colour in enumerate(colours)}
    raster.write_colormap(1, table | {IGNORE_LABEL: (0, 0, 0, 0)})
    raster.set_band_description(1, "class")


def _created(path: Path, grid: Grid, crs: CRS | None, dtype: str, nodata: float, **more: Any) -> Any:
    transform = Affine(*grid.transform)
    return created(
        path,
        driver="GTiff",
        height=grid.height,
        width=grid.width,
        count=1,
        dtype=dtype,
        nodata=nodata,
        crs=crs,
        # An identity would be written as a georeference, which the input does not have.
        transform=None if crs is None and transform.is_identity else transform,
        tiled=True,
        blockxsize=BLOCK,
        blockysize=BLOCK,
        compress="deflate",
        bigtiff="IF_SAFER",
        **more,
    )


def default_colours(classes: int) -> tuple[Colour, ...]:
    """`classes` colours, always the same: the well-known ten, then those that differ most from all before.

    Differences are distances in CIELAB, as in Glasbey et al., "Colour displays for categorical images" (2007); black
    and white count as given. The closest two of 30 are 27.7 apart; in palettes of the package glasbey, which measures
    in another space, 16.0 to 27.0.

    Raises:
        ValueError: a negative number.
    """
    if classes < 0:
        raise ValueError(f"{classes} colours: give 0 or more")
    chosen = np.array([list(bytes.fromhex(colour)) for colour in _FIRST.split()])
    levels = np.arange(0, 256, 15)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lab = _lab(candidates)
    distance = np.full(len(candidates), np.inf)
    for given in _lab(np.concatenate([_APART_FROM, chosen])):
        distance = np.minimum(distance, np.linalg.norm(lab - given, axis=1))
    while len(chosen) < classes:
        best = int(distance.argmax())
        chosen = np.concatenate([chosen, candidates[best : best + 1]])
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=1))
    return checked_colours(chosen[:classes].tolist())


def _lab(colours: np.ndarray) -> np.ndarray:
    """sRGB 0..255 [n, 3] as CIELAB under D65."""
    values = colours / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / to_xyz.sum(1)
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def checked_colours(colours: Sequence[Sequence[int]]) -> tuple[Colour, ...]:
    """The colours as tuples.

    Raises:
        ValueError: one that is not three numbers 0..255.
    """
    for colour in colours:
        if len(colour) != 3 or not all(0 <= level <= 255 for level in colour):
            raise ValueError(f"colour {tuple(colour)}: give (red, green, blue), each 0..255")
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colours)


def _write_category_names(path: Path, names: Sequence[str]) -> None:
    """Adds them to the file's GDAL sidecar, which may hold what else does not fit into a TIFF, such as a rare CRS."""
    sidecar = path.with_name(f"{path.name}{_SIDECAR}")
    # GDAL has just written it. Python's expat (2.4.1 or later) lets no entity grow.
    root = ElementTree.parse(sidecar).getroot() if sidecar.exists() else ElementTree.Element("PAMDataset")  # noqa: S314
    band = root.find("PAMRasterBand[@band='1']")
    if band is None:
        band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    categories = ElementTree.SubElement(band, "CategoryNames")
    for name in names:
        ElementTree.SubElement(categories, "Category").text = name
    ElementTree.ElementTree(root).write(sidecar, encoding="utf-8")
