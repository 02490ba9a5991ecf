"""Series of scenes that tests write, and how they are packed."""

from pathlib import Path

import numpy as np
import pytest

from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import pack
from miseg.data.series.description import SeriesDescription
from miseg.data.series.source import SeriesSource, open_series_source

DAYS = ("2019-07-20", "2019-07-25", "2019-08-04")


@pytest.fixture
def opened(tmp_path):
    """Opens the series in tmp_path / "scenes" with the settings of a `SeriesDescription`."""

    def call(**settings) -> SeriesSource:
        settings = {"series": ("scenes",)} | settings
        return open_series_source(SeriesDescription("mine", **settings), tmp_path)

    return call


@pytest.fixture
def packed(tmp_path, opened):
    """The same, packed: images and masks by split and date, of scenes of one chip a split."""

    def call(folder: str = "packed", **settings) -> PackedDataset:
        source = opened(**settings)
        return PackedDataset.open(pack(source, tmp_path / folder, source.available(), max_rejected=0).path)

    return call


def by_date(dataset: PackedDataset, split: str = "train") -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    return {str(day): decode(dataset.read(split, index)) for index, (_, _, day) in enumerate(dataset.index(split))}


def scenes(root: Path) -> Path:
    return root / "scenes"
