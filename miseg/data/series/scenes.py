"""Scenes of a series from its files: which bands, on which grid, what masks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miseg.data.listing import quantity
from miseg.data.packed.chips import CHIP
from miseg.data.raster import sentinel2
from miseg.data.raster.alignment import extent_in, whole_shift
from miseg.data.raster.codes import read_codes
from miseg.data.raster.grid import Grid
from miseg.data.raster.rasters import open_raster
from miseg.data.raster.scene_files import SceneOptions, open_band_files, open_scene
from miseg.data.raster.scenes import Scene
from miseg.data.samples import Rejection
from miseg.data.series.description import SeriesDescription
from miseg.data.series.files import Acquisition, listed, twice

_TYPES = {"uint8": "uint8", "uint16": "uint16"}
"""Stored types that are packed as they are; others become float32."""
_BEYOND = 0.02
"""Share of a date's area outside the grid from which it is told."""
_BAND_WORDS = 12


@dataclass(frozen=True)
class SeriesScenes:
    """Scenes on one grid, by date.

    Attributes:
        scenes: at least one.
        dtype: type of stored pixels, of files.
        rejections: dates that cannot be used.
        sentences: what was done, to be printed.
    """

    scenes: tuple[Scene, ...]
    dtype: str
    rejections: tuple[Rejection, ...]
    sentences: tuple[str, ...]

    @property
    def packed_dtype(self) -> str:
        """Type of packed pixels: "uint8", "uint16" or "float32"."""
        return _TYPES.get(self.dtype, "float32")


def open_scenes(acquisitions: Sequence[Acquisition], description: SeriesDescription) -> SeriesScenes:
    """The scenes of a series' acquisitions, all with the same bands and on the pixels of one of them.

    Args:
        acquisitions: at least one, by date.
        description: bands, masks and offset.

    Raises:
        ValueError: bands that are not known or not there, codes of masks that nobody named, or not one date that can
            be used, in one sentence with the mend.
    """
    options, notes = _options(acquisitions[0], description)
    opened: dict[str, tuple[Scene, str]] = {}
    failed: dict[str, ValueError] = {}
    for acquisition in acquisitions:
        try:
            scene = _open(acquisition, options)
            scene = replace(scene, date=acquisition.date, masked_bits=description.mask_bits)
            opened[acquisition.date] = scene, _dtype(scene)
        except ValueError as error:
            failed[acquisition.date] = ValueError(as_options(str(error)))
    if not opened:
        raise next(iter(failed.values()))
    dtype = Counter(kind for _, kind in opened.values()).most_common(1)[0][0]
    names = Counter(_names(scene) for scene, _ in opened.values()).most_common(1)[0][0]
    for day, (scene, kind) in opened.items():
        if kind != dtype:
            failed[day] = ValueError(
                f"{scene.files[0]}: pixels of {kind}, those of the other dates are {dtype}: bring all to one type and "
                "scale"
            )
        elif _names(scene) != names:
            failed[day] = ValueError(
                f"{scene.files[0]}: bands {', '.join(_names(scene))}, those of the other dates are {', '.join(names)}: "
                "choose bands by name (--bands)"
            )
    scenes = {day: scene for day, (scene, _) in opened.items() if day not in failed}
    grid = _grid(scenes, description.grid)
    aligned = {}
    for day, scene in scenes.items():
        try:
            aligned[day] = scene.on(grid, description.resample)
        except ValueError as error:
            failed[day] = ValueError(as_options(str(error)))
    if description.mask is not None and not (description.mask_values or description.mask_bits):
        raise ValueError(_mask_question(next(iter(aligned.values())), description.mask))
    by_name = {acquisition.date: acquisition.name for acquisition in acquisitions}
    rejections = tuple(
        Rejection(by_name[day], str(error).removeprefix(f"{by_name[day]}: ")) for day, error in sorted(failed.items())
    )
    notes += [*_of_grid(scenes, aligned, grid), *_of_masks(list(aligned.values()), description)]
    return SeriesScenes(tuple(aligned.values()), dtype, rejections, tuple(notes))


def as_options(message: str) -> str:
    """A message of the readers, which name their arguments, with the names of the command's options."""
    renamed = {"(bands=)": "(--bands)", "(resample=True)": "(--resample)", "say offset=": "say --offset "}
    for argument, option in renamed.items():
        message = message.replace(argument, option)
    return message.replace("or offset=0 if", "or --offset 0 if")


def _options(first: Acquisition, description: SeriesDescription) -> tuple[SceneOptions, list[str]]:
    """Settings of reading scenes, by the first of them where nobody says which bands; and sentences on it."""
    bands, notes = description.bands, []
    if not bands and first.product is None:
        if len(first.files) > 1:
            raise ValueError(
                f"{first.name}: {len(first.files)} files of {first.date}: say which bands are wanted, in order, by the "
                f"ends of their names (--bands): {', '.join(_ends(first.files)[:_BAND_WORDS])}; or, where they are no "
                f"bands: {twice(first.date, first.files)}"
            )
        bands = _all_bands(first.files[0])
        notes.append(f"bands, all that there are: {' '.join(bands)}")
    elif first.product is None and len(first.files) == 1:
        with open_raster(first.files[0]) as source:
            named, count = all(source.descriptions), source.count
        if not named and count == len(bands) and count > 1 and not all(band.isdecimal() for band in bands):
            numbered = ", ".join(f"{number} {band}" for number, band in enumerate(bands, 1))
            notes.append(f"files do not name their bands, so --bands names them in their order: {numbered}")
    options = SceneOptions(bands or None, description.offset, None, description.resample)
    return (options if description.mask is None else replace(options, masked=description.mask_values)), notes


def _all_bands(file: Path) -> tuple[str, ...]:
    with open_raster(file) as source:
        described = source.descriptions
    if all(described) and len(set(described)) == len(described):
        return tuple(map(str, described))
    if len(described) == 1:
        return ("1",)
    raise ValueError(
        f"{file}: does not name its {len(described)} bands: name each, in their order, or choose some by number "
        f"(--bands {' '.join(map(str, range(1, len(described) + 1)))})"
    )


def _open(acquisition: Acquisition, options: SceneOptions) -> Scene:
    if acquisition.product is not None:
        return open_scene(acquisition.product, options, mask=acquisition.mask)
    files, mask = acquisition.files, acquisition.mask or acquisition.scl
    if len(files) == 1 and not _is_wanted(files[0], options):
        return _of_one_type(open_scene(files[0], options, mask=mask))
    for name in options.bands or ():
        alike: Counter[int] = Counter()
        matches = [file for file in files if sentinel2.band_files([file], name)]
        for file in matches:
            alike.update(list(sentinel2.band_files([file], name)))
        if not matches:
            several = f"; or {twice(acquisition.date, files)}" if len(files) > 1 else ""
            ends = ", ".join(_ends(files)[:_BAND_WORDS])
            raise ValueError(
                f"{acquisition.name}: no file of band {name} at {acquisition.date} (there: {ends}){several}"
            )
        if max(alike.values()) > 1:
            raise ValueError(twice(acquisition.date, matches))
    return open_band_files(files[0].parent, files, options, mask)


def _is_wanted(file: Path, options: SceneOptions) -> bool:
    """Whether a single file is that of the one band that is wanted, by its name."""
    return (
        options.bands is not None and len(options.bands) == 1 and bool(sentinel2.band_files([file], options.bands[0]))
    )


def _of_one_type(scene: Scene) -> Scene:
    """The scene of a stacked file; a refusal where its bands are of several types."""
    with open_raster(scene.bands[0].file) as source:
        kinds = sorted({source.dtypes[band.number - 1] for band in scene.bands})
    if len(kinds) > 1:
        raise ValueError(f"{scene.bands[0].file}: bands of {' and '.join(kinds)}: bring all to one type")
    return scene


def _dtype(scene: Scene) -> str:
    with open_raster(scene.bands[0].file) as source:
        kind = str(source.dtypes[scene.bands[0].number - 1])
    if np.dtype(kind).kind not in "iuf":
        raise ValueError(f"{scene.bands[0].file}: pixels of {kind}: save them as whole numbers or float")
    return kind


def _names(scene: Scene) -> tuple[str, ...]:
    return tuple(band.name for band in scene.bands)


def _ends(files: Sequence[Path]) -> list[str]:
    """The last parts of files' names, which are the bands' in many products."""
    ends = []
    for file in files:
        parts = [part for part in file.stem.replace("-", "_").replace(".", "_").split("_") if part]
        if len(parts) > 1 and parts[-1][:-1].isdecimal() and parts[-1].endswith("m"):
            parts.pop()
        ends.append(parts[-1] if parts else file.stem)
    return list(dict.fromkeys(ends))


def _grid(scenes: dict[str, Scene], asked: str | None) -> Grid:
    """The grid of the date that is asked for, or of the first whose CRS, pixel size and place most dates have."""
    if asked is not None:
        if asked not in scenes:
            raise ValueError(f"--grid {asked}: no date that can be used; there are {listed(list(scenes))}")
        return scenes[asked].grid
    kinds = {day: (scene.grid.crs, round(abs(scene.grid.transform[0]), 6)) for day, scene in scenes.items()}
    usual = Counter(kinds.values()).most_common(1)[0][0]
    grids = [scenes[day].grid for day in scenes if kinds[day] == usual]
    # One date of another place must not turn all others away.
    return max(grids, key=lambda grid: sum(_overlap(other, grid) for other in grids) * 2 > len(grids))


def _overlap(own: Grid, grid: Grid) -> bool:
    top, left, bottom, right = extent_in(own, grid)
    return min(bottom, own.height) > max(top, 0) and min(right, own.width) > max(left, 0)


def _of_grid(scenes: dict[str, Scene], aligned: dict[str, Scene], grid: Grid) -> list[str]:
    """Sentences on where the dates lie."""
    day = next(day for day, scene in scenes.items() if scene.grid == grid)
    unit = " m" if grid.crs is not None and grid.crs != "EPSG:4326" else ""
    where = f", pixels of {abs(grid.transform[0]):g}{unit}, {grid.crs}" if grid.crs is not None else ""
    span = min(aligned) if len(aligned) == 1 else f"{min(aligned)} to {max(aligned)}"
    notes = [f"{quantity(len(aligned), 'date')}, {span}, on the pixels of {day}: {grid.height}x{grid.width}{where}"]
    if grid.crs is None:
        notes.append("the files have no georeference: their first pixels are taken to lie on each other")
        return notes
    apart, beyond = {}, {}
    for name in aligned:
        own = scenes[name].grid
        top, left, bottom, right = extent_in(own, grid)
        if whole_shift(own, grid) is None:
            apart[name] = max(abs(top - round(top)), abs(left - round(left)))
        inside = max(0, min(bottom, own.height) - max(top, 0)) * max(0, min(right, own.width) - max(left, 0))
        beyond[name] = 1 - inside / (own.height * own.width)
    if apart:
        masks = ", masks by the nearest pixel" if any(scene.mask for scene in aligned.values()) else ""
        notes.append(
            f"{quantity(len(apart), 'date', 'lies', 'lie')} up to {max(apart.values()):.2f} pixels beside them, and "
            f"{'is' if len(apart) == 1 else 'are'} interpolated bilinearly{masks}"
        )
    if far := [name for name, share in beyond.items() if share > _BEYOND]:
        most = max(far, key=beyond.__getitem__)
        notes.append(
            f"{quantity(len(far), 'date', 'reaches', 'reach')} beyond these pixels ({most} with {beyond[most]:.0%} of "
            f"its own), which is left out: --grid {most} takes that date's pixels"
        )
    return notes


def _of_masks(scenes: Sequence[Scene], description: SeriesDescription) -> list[str]:
    without = [str(scene.date) for scene in scenes if scene.mask is None]
    if description.mask is not None:
        codes = f"values {' '.join(map(str, description.mask_values))}" if description.mask_values else ""
        bits = f"bits {' '.join(map(str, description.mask_bits))}" if description.mask_bits else ""
        return [f"pixels that do not count: {' and '.join(filter(None, (codes, bits)))} of {description.mask}"]
    if len(without) == len(scenes):
        return ["no masks of clouds: every pixel with data counts (--mask names some)"]
    notes = [f"clouds by the scene classification (SCL): {' '.join(map(str, scenes[0].masked))} do not count"]
    if without:
        dates = quantity(len(without), "date", "has", "have")
        notes.append(f"{dates} no SCL, so clouds there count as ground: {listed(without)}")
    return notes


def _mask_question(scene: Scene, mask: str) -> str:
    assert scene.mask is not None
    counts: Counter[int] = Counter()
    for window in scene.grid.windows(4 * CHIP):
        codes, covered = read_codes(scene.mask, scene.grid.part(window))
        values, numbers = np.unique(codes[covered], return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    total = max(1, sum(counts.values()))
    frequent = ", ".join(f"{value} ({count / total:.0%})" for value, count in counts.most_common(6))
    return (
        f"--mask {mask}: which values are bad pixels? {scene.mask} holds {frequent}: say --mask-values, or "
        "--mask-bits for a file of quality bits"
    )
