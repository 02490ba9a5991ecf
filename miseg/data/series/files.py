"""The files of a series: which belong to one date, and which of them is its mask."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from miseg.data.raster import sentinel2
from miseg.data.series.dates import DateRule, UnclearDateError

RASTERS = (".tif", ".tiff", ".jp2")
_MAGIC = re.compile(r"[*?\[]")
_LISTED = 4
_OTHERS = {
    **dict.fromkeys((".nc", ".hdf", ".h5", ".he5", ".img", ".dat", ".vrt", ".zip", ".gz", ".tar"), "gdal_translate"),
    ".grib": "gdal_translate",
}


@dataclass(frozen=True)
class Acquisition:
    """Files of one date.

    Attributes:
        date: ISO 8601.
        files: a file of all bands, or files of one band each; of a product its pictures.
        product: SAFE folder; None for plain files.
        mask: file of the pixels that do not count; None where there is none, or the product has its own.
        scl: scene classification (SCL) of plain files; None where there is none.
    """

    date: str
    files: tuple[Path, ...]
    product: Path | None = None
    mask: Path | None = None
    scl: Path | None = None

    @property
    def name(self) -> str:
        """The file or folder by which messages name it."""
        return str(self.product or (self.files[0] if len(self.files) == 1 else self.files[0].parent))


@dataclass(frozen=True)
class SeriesFiles:
    """The files of a series.

    Attributes:
        acquisitions: by date.
        undated: rasters whose names have no date; they are left out.
    """

    acquisitions: tuple[Acquisition, ...]
    undated: tuple[Path, ...] = ()


def find_files(
    patterns: Sequence[str], root: Path, rule: DateRule, mask: str | None = None, others: Iterable[Path] = ()
) -> SeriesFiles:
    """The acquisitions that `patterns` name.

    Args:
        patterns: folders, files, or patterns with * ** ? [ab]; of a folder its rasters, its SAFE products, and the
            rasters of the folders in it.
        root: folder that relative ones start from.
        rule: how names are dated.
        mask: pattern of the masks' names, relative to their scene's folder or to `root`, with {stem} and {date}.
        others: files that are no scenes, such as labels.

    Raises:
        ValueError: a pattern that matches nothing, no date, a date that is not clear, or no mask of a date.
    """
    rasters, products = _listed(patterns, root)
    left_out = {path.resolve() for path in others}
    rasters = [path for path in rasters if path.resolve() not in left_out]
    masks = _masks_of(rasters, mask, root)
    images = [path for path in rasters if path not in masks and not sentinel2.band_files([path], "SCL")]
    by_date: dict[str, list[Path]] = {}
    undated, unclear = [], []
    for path in images:
        try:
            day = rule.date(path)
        except UnclearDateError as error:
            unclear.append(error)
            continue
        if day is None:
            undated.append(path)
        else:
            by_date.setdefault(day, []).append(path)
    of_products: dict[str, Path] = {}
    for product in products:
        day = rule.date(product)
        if day is None:
            undated.append(product)
        elif day in of_products or day in by_date:
            raise ValueError(twice(day, [of_products.get(day) or by_date[day][0], product]))
        else:
            of_products[day] = product
    if unclear and not by_date:
        raise unclear[0]
    if unclear:
        raise ValueError(f"{unclear[0]}; {len(unclear)} files are so, others are dated by their names alone")
    if not by_date and not of_products:
        raise ValueError(_no_date(patterns, undated, rule))
    classifications = _classifications(images, rule) if mask is None else {}
    acquisitions = [Acquisition(day, tuple(files), scl=classifications.get(day)) for day, files in by_date.items()]
    acquisitions += [Acquisition(day, tuple(sentinel2.safe_files(path)), path) for day, path in of_products.items()]
    acquisitions.sort(key=lambda acquisition: acquisition.date)
    if mask is not None:
        acquisitions = [_with_mask(acquisition, mask, rule, root) for acquisition in acquisitions]
    return SeriesFiles(tuple(acquisitions), tuple(undated))


def twice(day: str, files: Sequence[Path]) -> str:
    """The message on several files of one date."""
    return (
        f"{files[0]} and {files[1]} are both of {day}: keep one, merge tiles of a date with gdal_merge.py, give a "
        "pattern that takes the scenes alone, such as 'folder/*_SR.tif', or, where one is a mask, name it with --mask"
    )


def listed(names: Sequence[object]) -> str:
    """Some names, for messages."""
    return ", ".join(map(str, names[:_LISTED])) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _listed(patterns: Sequence[str], root: Path) -> tuple[list[Path], list[Path]]:
    """Rasters, and SAFE products, each once."""
    rasters: dict[Path, None] = {}
    products: dict[Path, None] = {}
    for pattern in patterns:
        path = root / Path(pattern).expanduser()
        if path.exists():
            matches = [path]
        elif _MAGIC.search(pattern):
            matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        else:
            raise ValueError(f"--series {pattern}: no such file or folder{_beside(path)}")
        if not matches:
            raise ValueError(f"--series {pattern}: matches nothing{_beside(path)}")
        for match in matches:
            rasters_of_match, safe = _of_folder(match) if match.is_dir() else ([match] if _is_raster(match) else [], [])
            rasters |= dict.fromkeys(rasters_of_match)
            products |= dict.fromkeys(safe)
    if not rasters and not products:
        raise ValueError(f"--series {' '.join(patterns)}: {_no_raster(root, patterns)}")
    return list(rasters), list(products)


def _of_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    if sentinel2.is_safe(folder):
        return [], [folder]
    rasters, products = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if sentinel2.is_safe(path):
                products.append(path)
            else:
                rasters += sorted(inner for inner in path.iterdir() if _is_raster(inner))
        elif _is_raster(path):
            rasters.append(path)
    return rasters, products


def _is_raster(path: Path) -> bool:
    return path.suffix.lower() in RASTERS and not path.name.startswith(".") and path.is_file()


def _beside(path: Path) -> str:
    """Names in the folder nearest to a path that is not there, for messages."""
    folder = path
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    names = sorted(inner.name for inner in folder.iterdir() if not inner.name.startswith("."))
    return f"; {folder} holds {listed(names) or 'nothing'}"


def _no_raster(root: Path, patterns: Sequence[str]) -> str:
    folder = root / Path(patterns[0]).expanduser()
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    other = next((name for name in names if Path(name).suffix.lower() in _OTHERS), None)
    if other is not None:
        return f"holds {other}, and GeoTIFF and JPEG 2000 are read: convert it, such as with gdal_translate"
    deeper = next((path.name for path in folder.iterdir() if path.is_dir()), None) if folder.is_dir() else None
    deep = f"; for what lies deeper give a pattern such as '{patterns[0]}/**/*.tif'" if deeper else ""
    return f"no GeoTIFF, no JPEG 2000 and no SAFE product there (it holds {listed(names) or 'no such file'}){deep}"


def _no_date(patterns: Sequence[str], undated: Sequence[Path], rule: DateRule) -> str:
    if not undated:
        return f"--series {' '.join(patterns)}: holds masks and labels alone, and no scene"
    names = listed([path.name for path in undated])
    if rule.table:
        return f"{rule.source}: names none of the files of --series ({names}): write lines file,date"
    if rule.pattern:
        return f"--date-format {rule.pattern}: finds no date in {names}"
    return (
        f"--series {' '.join(patterns)}: no date in the names {names}: rename them, such as 2019-07-20.tif, say how "
        "dates are written (--date-format %d-%m-%Y), or give a table of lines file,date (--dates)"
    )


def _masks_of(rasters: Sequence[Path], mask: str | None, root: Path) -> set[Path]:
    """The rasters that are masks of others by the pattern."""
    masks: set[Path] = set()
    for path in rasters if mask is not None else ():
        masks |= set(_matches(path, str(mask), root)) - {path}
    return masks


def _classifications(images: Sequence[Path], rule: DateRule) -> dict[str, Path]:
    """The scene classification of each date that has one in the folders of the images."""
    folders = dict.fromkeys(path.parent for path in images)
    files = [path for folder in folders for path in sorted(folder.iterdir()) if _is_raster(path)]
    by_date: dict[str, list[Path]] = {}
    for path in files:
        if sentinel2.band_files([path], "SCL") and (day := rule.date(path)) is not None:
            by_date.setdefault(day, []).append(path)
    # Of several the finest, as of bands.
    return {day: min(sentinel2.band_files(paths, "SCL").items())[1] for day, paths in by_date.items()}


def _matches(scene: Path, mask: str, root: Path, day: str | None = None) -> list[Path]:
    """Files that the pattern of masks names for a scene: beside it, else in the working folder."""
    text = mask.replace("{stem}", glob.escape(scene.stem)).replace("{date}", day or "*")
    for folder in (scene.parent, root):
        matches = sorted(glob.glob(str(Path(glob.escape(str(folder))) / Path(text).expanduser())))
        if matches:
            return [Path(name) for name in matches]
    return []


def _with_mask(acquisition: Acquisition, mask: str, rule: DateRule, root: Path) -> Acquisition:
    scene = acquisition.files[0] if acquisition.product is None else acquisition.product
    matches = [path for path in _matches(scene, mask, root, acquisition.date) if path not in acquisition.files]
    if len(matches) > 1 or "{" not in mask:
        # A pattern without the scene's name matches those of all dates.
        matches = [path for path in matches if rule.date(path) == acquisition.date]
    if len(matches) != 1:
        matched = f"several masks, {listed([path.name for path in matches])}," if matches else "no mask"
        raise ValueError(
            f"--mask {mask}: {matched} of {acquisition.date} ({acquisition.name}): name it so that one file a date "
            "matches, or leave that date out"
        )
    return replace(acquisition, mask=matches[0])
