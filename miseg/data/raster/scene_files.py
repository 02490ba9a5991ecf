"""From files to scenes: Sentinel-2 SAFE folders, sets of single-band files, stacked GeoTIFFs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from miseg.data.raster import sentinel2
from miseg.data.raster.alignment import check_alignable
from miseg.data.raster.grid import Grid
from miseg.data.raster.rasters import grid_of, open_raster
from miseg.data.raster.scenes import CLOUDS, Band, Scene, Series

BANDS_10M = ("B02", "B03", "B04", "B08")
"""Blue, green, red and near infrared: the bands of Sentinel-2 that have pixels of 10 m."""

_STACKS = {".tif", ".tiff"}


@dataclass(frozen=True)
class SceneOptions:
    """Settings of reading scenes.

    Attributes:
        bands: names of the bands wanted, in the channels' order. A stacked file that does not name its bands has
            exactly these, in this order; for one that does, and for single-band files, `BANDS_10M` by default. Or
            numbers ("1", "4") of a stacked file's bands.
        offset: what is added to stored values; None: what the metadata or the product's name say, 0 for stacked files.
        full_scale: stored value of 1.0; None: the metadata's, or by type 255 (8 bits), 10000 (16 bits), 1 (float).
        resample: whether bands of another pixel size are brought to the first one's, bilinearly.
        masked: classes of the scene classification that are not valid.
        order: names of a model's channels; the bands, whose names then have to be these, are brought into this order.
    """

    bands: tuple[str, ...] | None = None
    offset: float | None = None
    full_scale: float | None = None
    resample: bool = False
    masked: tuple[int, ...] = field(default=CLOUDS)
    order: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.bands is not None and (not self.bands or len(set(self.bands)) != len(self.bands)):
            raise ValueError(f"bands = {self.bands}: name at least one, each once")
        if self.full_scale is not None and self.full_scale <= 0:
            raise ValueError(f"full_scale = {self.full_scale}: a stored value above 0")


def open_scene(path: Path | str, options: SceneOptions | None = None, *, mask: Path | None = None) -> Scene:
    """The scene in a SAFE folder, a folder of one date's single-band files, or a stacked GeoTIFF.

    Args:
        path: folder or file.
        options: how it is understood; the defaults are Sentinel-2's.
        mask: file of the scene classification; None takes the product's own (`*_SCL_20m.jp2`, `<stem>_SCL.tif`).

    Raises:
        ValueError: nothing there that can be read; a band is missing, or its order unknown; bands of different
            resolution, CRS or place; a file that is truncated or damaged; an offset that nothing tells.
    """
    path, options = Path(path), options or SceneOptions()
    if path.is_dir():
        files = sentinel2.safe_files(path) if sentinel2.is_safe(path) else _files(path)
        return open_band_files(path, files, options, mask)
    return _stack(path, options, mask)


def open_series(
    folder: Path | str,
    options: SceneOptions | None = None,
    *,
    name: str | None = None,
    grid: Grid | None = None,
) -> Series:
    """The series in a folder: of SAFE folders, folders of single-band files, stacked GeoTIFFs, or single-band files.

    Single-band files that lie side by side belong together where their names have one date; `<stem>_SCL.tif` is the
    mask of `<stem>.tif`; files whose names have no date and that hold no band (labels) are left out.

    Args:
        folder: where the scenes are.
        options: how they are understood.
        name: of the place; by default the folder's.
        grid: the pixels to read on; by default those of the first date.

    Raises:
        ValueError: as `open_scene` and `Series.align`, or no scene in the folder.
    """
    folder, options = Path(folder), options or SceneOptions()
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder: give the one that holds the series' dates")
    scenes = [open_scene(path, options) for path in sorted(folder.iterdir()) if path.is_dir() and _holds_scene(path)]
    dated: dict[str, list[Path]] = {}
    for path in _files(folder):
        date = sentinel2.date_in(path.stem)
        if date is not None:
            dated.setdefault(date, []).append(path)
    for files in dated.values():
        if all(_has_band(path, options) for path in files):
            scenes.append(open_band_files(folder, files, options, None))
        else:
            scenes += [open_scene(path, options) for path in files if not _is_mask(path)]
    if not scenes:
        raise ValueError(f"{folder}: no SAFE folder and no raster with a date in its name, such as 2019-07-20.tif")
    return Series.align(name or folder.resolve().name, scenes, grid, options.resample)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (*_STACKS, ".jp2") and path.is_file())


def _holds_scene(folder: Path) -> bool:
    return sentinel2.is_safe(folder) or (sentinel2.date_in(folder.name) is not None and bool(_files(folder)))


def _is_mask(path: Path) -> bool:
    return bool(sentinel2.band_files([path], "SCL"))


def _has_band(path: Path, options: SceneOptions) -> bool:
    names = {*sentinel2.BANDS, *(options.bands or ()), "SCL"}
    return any(sentinel2.band_files([path], name) for name in names)


def open_band_files(folder: Path, files: Sequence[Path], options: SceneOptions, mask: Path | None = None) -> Scene:
    """The scene in files of one band each, whose names end in the bands' names.

    Args:
        folder: where they are, or the product's.
        files: those of one date; what else is among them is passed over.
        options: how they are understood.
        mask: as of `open_scene`.

    Raises:
        ValueError: as `open_scene`.
    """
    names, file_of, grids = options.bands or options.order or BANDS_10M, {}, {}
    for name in names:
        sizes = sentinel2.band_files(files, name)
        if not sizes:
            have = [band for band in sentinel2.BANDS if sentinel2.band_files(files, band)]
            raise ValueError(
                f"{folder}: no file of band {name} (there: {', '.join(have) or 'none'}): add it, or ask for others"
            )
        file = sizes[min(sizes)]
        with open_raster(file) as source:
            if source.count != 1:
                raise ValueError(f"{file}: {source.count} bands in a file named after one: split it, or rename it")
            file_of[name], grids[name], kind = file, grid_of(source), source.dtypes[0]
    first = grids[names[0]]
    if options.resample:
        # The finest: a coarse band read on it loses nothing.
        first = min(grids.values(), key=lambda grid: abs(grid.transform[0] * grid.transform[4]))
    for name in names:
        check_alignable(file_of[name], grids[name], first, options.resample)
    described = sorted(folder.glob("MTD_MSIL*.xml"))
    metadata = sentinel2.read_metadata(described[0]) if described else None
    dates = [sentinel2.date_in(text) for text in (folder.name, file_of[names[0]].stem)]
    # A series' folder may be named after a year's first day; the file's own name is nearer to the truth.
    date = next((day for day in (*reversed(dates), metadata.date if metadata else None) if day is not None), None)
    of_sentinel2 = kind == "uint16" and set(names) <= set(sentinel2.BANDS)
    if options.offset is None and (metadata is not None or of_sentinel2):
        full_scale, offsets = sentinel2.scaling(
            names,
            metadata,
            (folder.name, folder.resolve().parent.name, file_of[names[0]].stem),
            date,
            file_of[names[0]],
        )
    else:
        full_scale, offsets = _full_scale(kind), dict.fromkeys(names, options.offset or 0.0)
        if metadata is not None and metadata.quantification is not None:
            full_scale = metadata.quantification
    if mask is None:
        masks = sentinel2.band_files(files, "SCL")
        mask = masks[min(masks)] if masks else None
    bands = tuple(Band(name, file_of[name], 1, offsets[name]) for name in names)
    name = (
        folder.name if sentinel2.is_safe(folder) or date is None else file_of[names[0]].stem.rpartition("_")[0] or date
    )
    return _scene(name, date, bands, first, options.full_scale or full_scale, mask, options)


def _stack(path: Path, options: SceneOptions, mask: Path | None) -> Scene:
    """A scene of one file that holds all bands."""
    with open_raster(path) as source:
        grid, kind, described = grid_of(source), source.dtypes[0], source.descriptions
        stamp = source.tags().get("TIFFTAG_DATETIME", "")
    names, numbers = _chosen(path, described, options)
    beside = path.with_name(f"{path.stem}_SCL{path.suffix}")
    if mask is None and beside.is_file():
        mask = beside
    bands = tuple(Band(name, path, number, options.offset or 0.0) for name, number in zip(names, numbers, strict=True))
    date = sentinel2.date_in(path.stem) or sentinel2.date_in(stamp.split(" ")[0].replace(":", "-"))
    return _scene(path.stem, date, bands, grid, options.full_scale or _full_scale(kind), mask, options)


def _chosen(path: Path, described: Sequence[str | None], options: SceneOptions) -> tuple[list[str], list[int]]:
    """Names and numbers, from 1, of the bands of a stacked file that are wanted."""
    asked, named = options.bands or options.order, all(described)
    if asked and all(band.isdecimal() for band in asked) and not set(asked) <= set(described):
        numbers = list(map(int, asked))
        if wrong := [number for number in numbers if not 1 <= number <= len(described)]:
            raise ValueError(f"{path}: no band number {wrong[0]}: it has {len(described)}, numbered from 1")
        return [str(described[number - 1]) if named else str(number) for number in numbers], numbers
    if named:
        names = list(asked or BANDS_10M)
        there = ", ".join(map(str, described))
        if missing := [name for name in names if name not in described]:
            raise ValueError(f"{path}: no band {', '.join(missing)} (there: {there}): ask for others (bands=)")
        if twice := [name for name in names if described.count(name) > 1]:
            raise ValueError(f"{path}: several bands are {twice[0]} (there: {there}): choose by numbers (bands=)")
        return names, [described.index(name) + 1 for name in names]
    if asked is None:
        raise ValueError(
            f"{path}: its {len(described)} bands have no descriptions: say which they are, in order (bands=)"
        )
    if len(asked) != len(described):
        raise ValueError(
            f"{path}: {len(described)} bands without descriptions, {len(asked)} named "
            f"({', '.join(asked)}): name each, in order (bands=)"
        )
    return list(asked), list(range(1, len(asked) + 1))


def _scene(
    name: str,
    date: str | None,
    bands: Sequence[Band],
    grid: Grid,
    full_scale: float,
    mask: Path | None,
    options: SceneOptions,
) -> Scene:
    if mask is not None:
        with open_raster(mask) as source:
            own = grid_of(source)
        check_alignable(mask, own, grid, resample=True)
    scene = Scene(name, date, tuple(bands), grid, full_scale, mask, options.masked)
    return scene if options.order is None else scene.in_order(options.order)


def _full_scale(kind: str) -> float:
    if kind in ("uint16", "int16"):
        return sentinel2.QUANTIFICATION
    return 255 if kind == "uint8" else 1
