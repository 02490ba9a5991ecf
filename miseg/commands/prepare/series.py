"""Options of an own series, and the description that they give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miseg.commands.prepare.images import ImageOptions
from miseg.extras import require

if TYPE_CHECKING:
    from miseg.data.series.description import SeriesDescription

OF_SERIES = (
    *("series", "bands", "dates", "date_format", "mask", "mask_values", "mask_bits", "offset", "resample", "grid"),
    *("labels", "label_field"),
)
"""Options of own series; those of images that series have too are `SHARED`."""
SHARED = ("classes", "ids", "ignore", "split")


@dataclass(frozen=True)
class SeriesOptions(ImageOptions):
    """Options of own series, beside those of own images."""

    series: tuple[str, ...] = ()
    """An own series, scenes of one place at several dates: a folder of GeoTIFFs, of Sentinel-2 SAFE products or of
    folders with a file a band; files; or patterns in quotes with * ** ?. Also taken: --classes, --ids, --ignore and
    --split."""
    bands: tuple[str, ...] = ()
    """Its bands, in the channels' order: names that the files or their names have, or numbers from 1. Files that do not
    name their bands have exactly those that are named here, in their order. By default all that the files name."""
    dates: Path | None = None
    """CSV table of its dates, lines file,date; by default dates are read from names: 2019-07-20, 20190720, 2019_07_20,
    20190720T105031, 2019201 (day of the year), and those of Sentinel-2, Landsat and MODIS products."""
    date_format: str | None = None
    """Notation of dates in names where it is another, such as %%d-%%m-%%Y."""
    mask: str | None = None
    """Masks of its clouds: a pattern beside each scene, '{stem}_mask.tif', '*_QA_PIXEL.TIF' or 'masks/{date}.tif'. By
    default Sentinel-2's scene classification (SCL) where it lies beside."""
    mask_values: tuple[int, ...] = ()
    """Values of --mask whose pixels do not count."""
    mask_bits: tuple[int, ...] = ()
    """Bits of --mask, from 0, whose pixels do not count where they are set: 1 2 3 4 for clouds in Landsat's
    QA_PIXEL."""
    offset: float | None = None
    """Number that is added to its stored values, such as -1000. By default what the products' metadata say."""
    resample: bool = False
    """Whether its bands of other pixel sizes are brought to the finest, bilinearly; otherwise they are refused."""
    grid: str | None = None
    """Date whose pixels all its dates are read on; by default the first."""
    labels: Path | None = None
    """Its labels: a raster of class numbers on any grid, or outlines (GeoPackage, GeoJSON, Shapefile)."""
    label_field: str | None = None
    """Field of the outlines that holds the class."""


def describe_series(settings: SeriesOptions) -> tuple[SeriesDescription, Path]:
    """The description of an own series that `settings` give, and the folder that its relative paths start from.

    Raises:
        ValueError: no name; or as `read_series` and `SeriesDescription`.
    """
    require("geo", "an own series", "rasterio", "shapely")
    # Not at the top: --help must not wait for them.
    from miseg.data.folders.class_tables import read_names
    from miseg.data.series.description import SeriesDescription, read_series, renamed

    name = None if settings.out is None else Path(settings.out).name
    if settings.description is not None:
        path = settings.description.expanduser().absolute()
        return renamed(read_series(path), name), path.parent
    if name is None:
        raise ValueError("--out: give the data set a name, such as --out mine")
    own = {option: getattr(settings, option) for option in (*OF_SERIES, "ids", "split", "seed")}
    own["classes"] = read_names(settings.classes)
    own["ignore"] = tuple(int(value) if value.lstrip("-").isdigit() else value for value in settings.ignore)
    return SeriesDescription(name, **own), Path.cwd()
