"""What settings are planned from, read from a packed data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miseg.data.folders.description import Description
from miseg.data.folders.names.layout import Layout
from miseg.data.folders.source import open_folders
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.recipes.planning.summary import summarise
from tests.support.layouts import picture
from tests.support.rasters import write_raster


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_decoded_images_take_what_their_type_takes(tmp_path: Path, dtype: str) -> None:
    (tmp_path / "i").mkdir()
    for number in range(6):
        values = np.random.default_rng(number).integers(1, 250, (20, 30, 4)).astype(dtype)
        write_raster(tmp_path / "i" / f"{number}.tif", values)
        picture(tmp_path / "m" / f"{number}.png", (values[..., 0] > 99).astype(np.uint8))
    description = Description("own", Layout(images=("i",), masks=("m",)), split=(0.5, 0.5))
    source = open_folders(description, tmp_path)
    dataset = PackedDataset.open(pack(source, tmp_path / "own", source.available()).path)
    data = summarise(dataset)
    assert (data.sizes, data.channels, data.classes) == (((20, 30),) * 3, 4, 2)
    assert data.decoded_bytes == dataset.decoded_bytes("train") == 3 * 20 * 30 * (4 * np.dtype(dtype).itemsize + 1)
