"""Raster files: writing them, georeferenced or not, and the names and colours of their classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.transform import Affine

Colour = tuple[int, int, int]
"""Red, green, blue, each 0..255."""


@contextmanager
def created(path: Path, **profile: Any) -> Iterator[Any]:
    """rasterio's dataset for writing; a raster without georeference is as good as any, so nothing is said of it."""
    # Within an environment GDAL's messages go to logging; without one they are printed.
    with rasterio.Env():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path, "w", **profile)
        with dataset:
            yield dataset


def known_crs(text: str, where: str) -> CRS:
    """The coordinate reference system that `text` names: "EPSG:32631", an OGC URN, WKT.

    Raises:
        ValueError: none that PROJ knows; the message starts with `where`.
    """
    try:
        with rasterio.Env():
            return CRS.from_user_input(text)
    except CRSError as error:
        raise ValueError(f"{where}: unknown CRS {text!r} ({error}): give one that PROJ knows, as EPSG:<code>") from None


def mapped(transform: Affine, x: Any, y: Any) -> tuple[Any, Any]:
    """`transform` of the points (x, y), numbers or arrays; affine's own operator for it changes with its version 3."""
    return transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f


def category_names(dataset: Any) -> list[str]:
    """Band 1's class names by pixel value, "" for a value without one; empty where GDAL knows none.

    rasterio does not read them, but GDAL copies them into a VRT.
    """
    with MemoryFile(ext=".vrt") as file:
        rasterio.shutil.copy(dataset, file.name, driver="VRT")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            copied = rasterio.open(file.name)
        with copied:
            xml = copied.tags(ns="xml:VRT")["xml:VRT"]
    root = ElementTree.fromstring(xml)  # noqa: S314  (GDAL has just written it)
    return [category.text or "" for category in root.iterfind("VRTRasterBand[1]//Category")]


def class_colours(dataset: Any) -> dict[int, Colour]:
    """Band 1's colour table by pixel value; empty where it has none."""
    try:
        return {value: (red, green, blue) for value, (red, green, blue, _) in dataset.colormap(1).items()}
    except ValueError:
        return {}
