"""Sentinel-2 as ESA publishes it: names, metadata and the scaling of SAFE products."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""The instrument's bands in the order of `band_id` in the metadata."""
QUANTIFICATION = 10_000
OFFSET = -1000
"""Offset that processing baseline 04.00 and later add to stored values."""
FIRST_OFFSET_DAY = "2022-01-25"
"""The day from which all products are of processing baseline 04.00 or later; older days may have been reprocessed."""

_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)(?=T\d{6}|\D|$)")
_BASELINE = re.compile(r"(?:^|_)N(\d{2})\.?(\d{2})(?:_|$)")
_RASTERS = {".jp2", ".tif", ".tiff"}


def date_in(name: str) -> str | None:
    """The first date in a file's name (2019-07-20, 20190720, 20190720T105031), ISO 8601; None where there is none."""
    for year, _, month, day in _DATE.findall(name):
        try:
            return date(int(year), int(month), int(day)).isoformat()
        except ValueError:
            continue
    return None


def baseline_in(name: str) -> int | None:
    """The processing baseline in a product's name, 213 for N0213; None where there is none."""
    match = _BASELINE.search(name)
    return None if match is None else int(match[1] + match[2])


@dataclass(frozen=True)
class Metadata:
    """Content of an MTD_MSIL1C.xml or MTD_MSIL2A.xml; None or empty where it says nothing.

    Attributes:
        date: sensing day, ISO 8601.
        baseline: processing baseline, 400 for 04.00.
        quantification: stored value of reflectance 1.
        offsets: value to add to stored ones, by band.
    """

    date: str | None
    baseline: int | None
    quantification: float | None
    offsets: dict[str, float]


def read_metadata(path: Path) -> Metadata:
    """The product's metadata.

    Raises:
        ValueError: the file cannot be read or is no such XML.
    """
    try:
        # Python's expat (2.4.1 or later) lets no entity grow, and reads none from elsewhere.
        root = ElementTree.parse(path).getroot()  # noqa: S314
        said: dict[str, str] = {}
        offsets: dict[str, float] = {}
        for element in root.iter():
            tag, text = element.tag.rpartition("}")[2], (element.text or "").strip()
            if tag in ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET"):
                offsets[BANDS[int(element.attrib["band_id"])]] = _number(text)
            elif text:
                said.setdefault(tag, text)
        scale = said.get("BOA_QUANTIFICATION_VALUE", said.get("QUANTIFICATION_VALUE"))
        baseline = said.get("PROCESSING_BASELINE")
        day = said.get("DATATAKE_SENSING_START", said.get("PRODUCT_START_TIME"))
        return Metadata(
            date=None if day is None else date.fromisoformat(day[:10]).isoformat(),
            baseline=None if baseline is None else round(_number(baseline) * 100),
            quantification=None if scale is None else _number(scale),
            offsets=offsets,
        )
    except (OSError, ElementTree.ParseError, KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path}: no Sentinel-2 metadata, truncated or damaged ({error}): copy it again") from None


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]!r} is no number")
    return value


def scaling(
    bands: Iterable[str], metadata: Metadata | None, names: Iterable[str], day: str | None, file: Path
) -> tuple[float, dict[str, float]]:
    """Stored value of reflectance 1, and the offset of each band.

    Args:
        bands: names, such as B02.
        metadata: of the product, where there is some.
        names: of the product's file and folders, where the baseline may be.
        day: ISO 8601, where it is known.
        file: what the message names.

    Raises:
        ValueError: the product is of a day from which offsets are usual, and nothing tells whether it has one.
    """
    bands = list(bands)
    full_scale = QUANTIFICATION if metadata is None or metadata.quantification is None else metadata.quantification
    if metadata is not None and metadata.offsets:
        return full_scale, {band: metadata.offsets.get(band, 0.0) for band in bands}
    known = [metadata.baseline if metadata is not None else None, *map(baseline_in, names)]
    baseline = next((number for number in known if number is not None), None)
    if baseline is None and day is not None and day >= FIRST_OFFSET_DAY:
        raise ValueError(
            f"{file}: of {day}, from when products have an offset of {OFFSET}, and neither an MTD_MSIL*.xml nor a "
            f"product name with its baseline (N0400) tells: say offset={OFFSET}, or offset=0 if it is applied already"
        )
    return full_scale, dict.fromkeys(bands, float(OFFSET) if baseline is not None and baseline >= 400 else 0.0)


def band_files(files: Iterable[Path], name: str) -> dict[int, Path]:
    """Files of the single band (or SCL) `name`, by resolution in metres; 0 where they name none.

    The band is the last part of the name, perhaps with a resolution: T31UES_20190720T105031_B02_10m.jp2, B02.tif.
    """
    pattern = re.compile(rf"(?:.*[_.\- ])?{re.escape(name)}(?:_(\d+)m)?", re.IGNORECASE)
    matches = ((pattern.fullmatch(path.stem), path) for path in sorted(files) if path.suffix.lower() in _RASTERS)
    return {int(match[1] or 0): path for match, path in reversed([*matches]) if match is not None}


def is_safe(folder: Path) -> bool:
    """Whether the folder is a SAFE product."""
    return (folder / "GRANULE").is_dir()


def safe_files(folder: Path) -> list[Path]:
    """The pictures of a SAFE product's one granule.

    Raises:
        ValueError: no granule with pictures, or several.
    """
    granules = sorted(path for path in (folder / "GRANULE").iterdir() if (path / "IMG_DATA").is_dir())
    if len(granules) != 1:
        named = ", ".join(path.name for path in granules) or "none"
        raise ValueError(f"{folder}/GRANULE: one granule with IMG_DATA/ is expected, found {named}: copy it again")
    return sorted(path for path in (granules[0] / "IMG_DATA").rglob("*") if path.suffix.lower() in _RASTERS)
