"""Satellite and aerial scenes: bands of one place at one date, and series of them on one grid, read by window.

`miseg.data.raster.scene_files` makes them from files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miseg.data.raster.alignment import check_alignable
from miseg.data.raster.codes import read_codes
from miseg.data.raster.grid import Grid, Window
from miseg.data.raster.rasters import grid_of, open_raster, read_bands

CLOUDS = (0, 1, 2, 3, 8, 9, 10)
"""Classes of Sentinel-2's scene classification (SCL) that are no view of the ground: no data, saturated or defective,
dark area, cloud shadow, cloud of medium and of high probability, thin cirrus."""


@dataclass(frozen=True)
class Band:
    """One band of a scene.

    Attributes:
        name: "B04", "red".
        file: raster file that holds it.
        number: its number in the file, from 1.
        offset: added to a stored value before it is divided by the scene's full scale; nodata is recognised before.
    """

    name: str
    file: Path
    number: int = 1
    offset: float = 0.0


@dataclass(frozen=True)
class Scene:
    """One acquisition; nothing of it is in memory. It can be pickled and sent to workers that see the same files.

    Attributes:
        name: of its file or folder.
        date: day of acquisition, ISO 8601; None where nothing tells.
        bands: C bands, in the order of the channels.
        grid: pixels that it is read on; files that lie a little beside them are interpolated.
        full_scale: stored value that stands for 1.0: 10000 for Sentinel-2's reflectance, 255 for 8 bits.
        mask: file of Sentinel-2's scene classification, or another of codes; None where there is none. Outside it no
            pixel is valid.
        masked: its codes that are not valid.
        masked_bits: bits, from 0, of its codes that are not valid where they are set, as Landsat's QA_PIXEL has them.
    """

    name: str
    date: str | None
    bands: tuple[Band, ...]
    grid: Grid
    full_scale: float
    mask: Path | None = None
    masked: tuple[int, ...] = CLOUDS
    masked_bits: tuple[int, ...] = ()

    def read(self, window: Window | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of a window, or of the whole scene; only that part of the files is read.

        Args:
            window: (row, column, height, width) in pixels of `grid`.

        Returns:
            values, float32 [h, w, C]: (stored + offset) / full scale, which is reflectance for Sentinel-2 (slightly
            below 0 over dark water, above 1 over cloud) and 0..1 for 8 bits; 0 where there is no data. valid, bool
            [h, w]: False where there is no data as `read_bands` tells, outside the files, and where the mask says so,
            where the values remain.

        Raises:
            ValueError: the window reaches beyond the grid; a file is missing, truncated or damaged.
        """
        area = self.grid.part(window or (0, 0, self.grid.height, self.grid.width))
        stored = read_bands([(band.file, band.number) for band in self.bands], area)
        valid = ~np.isnan(stored).any(0)
        offsets = np.array([band.offset for band in self.bands], np.float32)[:, None, None]
        values = np.where(valid, (stored + offsets) / np.float32(self.full_scale), np.float32(0))
        if self.mask is not None:
            codes, covered = read_codes(self.mask, area)
            bits = sum(1 << bit for bit in self.masked_bits)
            valid &= covered & ~np.isin(codes, self.masked) & (codes & bits == 0)
        return np.ascontiguousarray(values.transpose(1, 2, 0)), valid

    def on(self, grid: Grid, resample: bool = False) -> Scene:
        """The same scene read on another grid; `resample` accepts another pixel size.

        Raises:
            ValueError: a file has another CRS or pixel size, or does not overlap the grid.
        """
        for file in self.files:
            with open_raster(file) as source:
                own = grid_of(source)
            check_alignable(file, own, grid, resample or file == self.mask)
        return replace(self, grid=grid)

    def in_order(self, names: Sequence[str]) -> Scene:
        """The same scene with its bands in the order of a model's channels.

        Raises:
            ValueError: its bands are not just these.
        """
        by_name = {band.name: band for band in self.bands}
        if set(by_name) != set(names):
            raise ValueError(
                f"{self.name}: bands {', '.join(by_name)}, the model was trained on {', '.join(names)}: give --bands "
                "by these names"
            )
        return replace(self, bands=tuple(by_name[name] for name in names))

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, each once."""
        mask = () if self.mask is None else (self.mask,)
        return tuple(dict.fromkeys((*(band.file for band in self.bands), *mask)))


@dataclass(frozen=True)
class Series:
    """Scenes of one place, sorted by date, on one grid; make one with `Series.align`.

    Attributes:
        name: of the place.
        scenes: at least one, each with a date of its own.
    """

    name: str
    scenes: tuple[Scene, ...]

    @classmethod
    def align(cls, name: str, scenes: Sequence[Scene], grid: Grid | None = None, resample: bool = False) -> Series:
        """The series of these scenes, all on `grid`, or on that of the first date.

        The grid is the first date's and not the part that all share: a map then has the pixels of that file, and one
        date that covers little costs the others nothing. Pixels outside a date's files are not valid there.

        Raises:
            ValueError: no scene; a scene without a date or with one that is there already; bands that differ; a file
                with another CRS or pixel size (`resample` accepts the latter), or one that does not overlap the grid.
        """
        if not scenes:
            raise ValueError(f"series {name}: no scene; give at least one")
        by_date: dict[str, Scene] = {}
        for scene in scenes:
            if scene.date is None:
                raise ValueError(
                    f"{scene.files[0]}: no date in its name or metadata: rename it, such as 2019-07-20.tif"
                )
            if scene.date in by_date:
                raise ValueError(f"{scene.name} and {by_date[scene.date].name} are both of {scene.date}: keep one")
            by_date[scene.date] = scene
        ordered = [by_date[date] for date in sorted(by_date)]
        for scene in ordered[1:]:
            if (have := _names(scene)) != (want := _names(ordered[0])):
                raise ValueError(f"{scene.name}: bands {', '.join(have)}, {ordered[0].name} has {', '.join(want)}")
        grid = ordered[0].grid if grid is None else grid
        return cls(name, tuple(scene.on(grid, resample) for scene in ordered))

    @property
    def grid(self) -> Grid:
        """The pixels that all scenes are read on."""
        return self.scenes[0].grid

    @property
    def dates(self) -> tuple[str, ...]:
        """Dates in order, ISO 8601."""
        return tuple(str(scene.date) for scene in self.scenes)

    def at(self, date: str) -> Scene:
        """The scene of a date.

        Raises:
            ValueError: no scene of that date; the message lists some that are there.
        """
        if date not in self.dates:
            listed = ", ".join(self.dates[:5]) + (", …" if len(self.dates) > 5 else "")
            raise ValueError(f"{self.name} has no scene of {date}: use one of {listed}")
        return self.scenes[self.dates.index(date)]

    def __iter__(self) -> Iterator[Scene]:
        return iter(self.scenes)

    def __len__(self) -> int:
        return len(self.scenes)


def read_labels(file: Path, area: Grid) -> np.ndarray:
    """Labels of the first band of a raster on `area`, int64 [h, w], by nearest neighbour; 0 outside and on nodata.

    Raises:
        ValueError: the file cannot be read.
    """
    return np.nan_to_num(read_bands([(file, 1)], area, nearest=True)[0]).astype(np.int64)


def _names(scene: Scene) -> tuple[str, ...]:
    return tuple(band.name for band in scene.bands)
