"""ISPRS Potsdam (2D semantic labelling): aerial tiles of 5 cm with infrared, cut to chips as Ji et al. (2019) did."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from miseg.data.checks import encode_png
from miseg.data.raster.grid import Grid
from miseg.data.raster.rasters import grid_of, open_raster, read_stored
from miseg.data.samples import IGNORE_LABEL, DataSetInfo, Rejection, Sample

CLASSES = ("impervious surfaces", "building", "low vegetation", "tree", "car", "clutter")
COLOURS = ((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0))
CLASSES_3 = ("roads and cars", "buildings and clutter", "vegetation and trees")
COLOURS_3 = ((255, 255, 255), (0, 0, 255), (0, 255, 0))
_MERGED = (0, 1, 2, 2, 0, 1)
"""Index of the one of three classes that each of the six belongs to."""

LABELLED = (
    *("2_10", "2_11", "2_12", "3_10", "3_11", "3_12", "4_10", "4_11", "4_12", "5_10", "5_11", "5_12"),
    *("6_7", "6_8", "6_9", "6_10", "6_11", "6_12", "7_7", "7_8", "7_9", "7_10", "7_11", "7_12"),
)
"""The 24 tiles whose labels the contest gave to participants."""
UNLABELLED = (
    *("2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15"),
    *("5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"),
)
"""The 14 tiles whose labels were published later; Ji et al. use them without."""
SPLITS = ("train", "test", "unlabelled")
TILE, CUT, CHIP = 6000, 400, 200
"""Pixels of a side: of a tile, of the part of it that makes a chip, of the chip."""
TEST_CHIPS = 855

_ORIGIN = (
    "get 4_Ortho_RGBIR.zip and 5_Labels_all.zip from www.isprs.org (2D semantic labelling, Potsdam), unpack them and "
    "give the folder that holds both with --root, or set MISEG_DATA to the folder that holds potsdam/"
)


class Potsdam:
    """Reader of `4_Ortho_RGBIR/top_potsdam_<r>_<c>_RGBIR.tif` and `5_Labels_all/top_potsdam_<r>_<c>_label.tif`.

    As in the authors' code (xu-ji/IIC, potsdam_prepare.py): a tile of 6000 x 6000 pixels becomes 15 x 15 chips of
    200 x 200, each from 400 x 400 at half the resolution (10 cm). `unlabelled` are the chips of the 14 tiles whose
    labels participants did not get, without masks here as there; of the 5,400 chips of the other 24, 855 are drawn at
    random for `test`, and the others are `train`. The authors draw chips, not tiles, without a fixed seed and publish
    no list, so that their very test set cannot be had: here the draw has seed 0 and does not depend on which tiles are
    present.

    Args:
        root: the folder that holds both folders.
        classes: 6, or 3: roads with cars, buildings with clutter, vegetation with trees.
        boundaries: False reads `5_Labels_all_noBoundary`, where pixels at the borders of objects are black: ignored.
    """

    def __init__(self, root: Path, classes: int = 6, boundaries: bool = True) -> None:
        if classes not in (3, 6):
            raise ValueError(f"classes = {classes}: Potsdam has 6, or 3 merged ones")
        self.root, self.classes, self.boundaries = Path(root), classes, boundaries

    @property
    def info(self) -> DataSetInfo:
        """Six classes with the clutter, or the three; red, green, blue and infrared, 8 bits."""
        if self.classes == 3:
            return DataSetInfo("potsdam-3", CLASSES_3, COLOURS_3, channels=4)
        return DataSetInfo("potsdam", CLASSES, COLOURS, channels=4)

    def available(self) -> tuple[str, ...]:
        """The splits, of train, test and unlabelled, of which a tile is there.

        Raises:
            ValueError: the root has no tile of the list.
        """
        tiles = self._images()
        splits = [*(("train", "test") if any(tile in tiles for tile in LABELLED) else ())]
        splits += ["unlabelled"] if any(tile in tiles for tile in UNLABELLED) else []
        return tuple(splits)

    def samples(self, split: str) -> Iterator[Sample | Rejection]:
        """The chips, tile by tile, row by row; tiles without labels, of another size, or damaged, as rejections.

        Raises:
            ValueError: unknown split, no tile, or no folder of labels.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: potsdam has {', '.join(SPLITS)}")
        images = self._images()
        labels = {} if split == "unlabelled" else self._labels()
        drawn = chips_for_test()
        for tile in UNLABELLED if split == "unlabelled" else LABELLED:
            if tile not in images:
                continue
            wanted = list(range((TILE // CUT) ** 2))
            if split != "unlabelled":
                wanted = [chip for chip in wanted if ((tile, chip) in drawn) == (split == "test")]
            if split != "unlabelled" and tile not in labels:
                yield Rejection(str(images[tile]), f"no label of tile {tile}: copy it from 5_Labels_all.zip")
                continue
            try:
                yield from self._chips(split, tile, images[tile], labels.get(tile), wanted)
            except ValueError as error:
                yield Rejection(str(images[tile]), str(error).removeprefix(f"{images[tile]}: "))

    def _chips(
        self, split: str, tile: str, image: Path, label: Path | None, chips: list[int]
    ) -> Iterator[Sample | Rejection]:
        grids = []
        for path, bands in ((image, 4), (label, 3)):
            if path is None:
                continue
            with open_raster(path) as source:
                have = (source.height, source.width, source.count, source.dtypes[0])
                grids.append(grid_of(source))
            published = (TILE, TILE, bands, "uint8")
            if have != published:
                raise ValueError(f"{path}: {have} (height, width, bands, type), published {published}: copy it again")
        across = TILE // CUT
        for row in sorted({chip // across for chip in chips}):
            # Tiles are stored in strips as wide as they are: all chips of a row cost one reading of its strips.
            window = (row * CUT, 0, CUT, TILE)
            pixels, truth = read_stored(image, window), None if label is None else read_stored(label, window)
            for column in (chip % across for chip in chips if chip // across == row):
                part = np.s_[:, column * CUT : (column + 1) * CUT]
                name = f"{split}/{tile}/{row:02d}-{column:02d}"
                mask = None
                if truth is not None:
                    labels = self._decode(truth[part][::2, ::2])
                    if isinstance(labels, str):
                        yield Rejection(f"{label}, row {row * CUT}, column {column * CUT}", labels)
                        continue
                    mask = encode_png(labels)
                grid = _half(grids[0].part((row * CUT, column * CUT, CUT, CUT)))
                yield Sample(name, split, _halve(pixels[part]), mask, georeference=grid.to_json())

    def _decode(self, colours: np.ndarray) -> np.ndarray | str:
        """Labels from colours [H, W, 3], or why they are none."""
        codes = colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        labels = np.full(codes.shape, -1, np.int16)
        labels[codes == 0] = IGNORE_LABEL
        for label, (red, green, blue) in enumerate(COLOURS):
            labels[codes == (red << 16 | green << 8 | blue)] = _MERGED[label] if self.classes == 3 else label
        if (wrong := colours[labels < 0]).size:
            seen = tuple(map(int, wrong[0]))
            return f"{len(wrong)} pixels of colours that are no class, such as {seen}: correct them, or black to ignore"
        return labels.astype(np.uint8)

    def _images(self) -> dict[str, Path]:
        tiles = _tiles(self.root / "4_Ortho_RGBIR", "RGBIR")
        if not tiles:
            raise ValueError(f"{self.root}/4_Ortho_RGBIR has no tile such as top_potsdam_2_10_RGBIR.tif: {_ORIGIN}")
        return tiles

    def _labels(self) -> dict[str, Path]:
        folders = ["5_Labels_all", "5_Labels_for_participants"]
        if not self.boundaries:
            folders = [f"{name}{end}" for name in folders for end in ("_noBoundary", "_no_Boundary")]
        for folder in folders:
            tiles = _tiles(self.root / folder, "label" if self.boundaries else "label_noBoundary")
            if tiles:
                return tiles
        raise ValueError(f"{self.root} has no labels in {' or '.join(folders)}: {_ORIGIN}")


def chips_for_test() -> frozenset[tuple[str, int]]:
    """The (tile, number of the chip row by row) of the 855 chips that are the split test."""
    chips = (TILE // CUT) ** 2
    drawn = np.random.default_rng(0).permutation(len(LABELLED) * chips)[:TEST_CHIPS]
    return frozenset((LABELLED[number // chips], int(number % chips)) for number in drawn)


def _tiles(folder: Path, kind: str) -> dict[str, Path]:
    pattern = re.compile(rf"top_potsdam_(\d+_\d+)_{kind}\.tif")
    matches = ((pattern.fullmatch(path.name), path) for path in sorted(folder.glob("*.tif")))
    return {match[1]: path for match, path in matches if match is not None}


def _halve(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, C] at half the resolution: the mean of 2 x 2 pixels, as bilinear scaling by ½ gives."""
    four = pixels.astype(np.uint16)
    return ((four[::2, ::2] + four[1::2, ::2] + four[::2, 1::2] + four[1::2, 1::2] + 2) >> 2).astype(np.uint8)


def _half(grid: Grid) -> Grid:
    a, b, c, d, e, f = grid.transform
    return Grid(grid.height // 2, grid.width // 2, grid.crs, (2 * a, 2 * b, c, 2 * d, 2 * e, f))
