"""The real Sentinel-2 series as a stranger's: packed without labels, and learned from for a few steps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from miseg.data.loading.pairs import pair_batches
from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import pack
from miseg.data.series.description import SeriesDescription
from miseg.data.series.source import open_series_source
from miseg.data.sources.scenes import Sentinel2Flanders
from miseg.interface import Batch
from miseg.recipes.catalog import RECIPES
from miseg.service.training.loop import Loop
from miseg.service.training.recorder import data_description
from miseg.service.training.streams import task_of
from tests.support.real_data import real_data

BANDS = ("B04", "B03", "B02", "B08")


@pytest.fixture(scope="module")
def flanders() -> Path:
    return real_data("sentinel2_flanders")


@pytest.fixture(scope="module")
def mine(flanders, tmp_path_factory) -> PackedDataset:
    source = open_series_source(SeriesDescription("mine", (str(flanders),), BANDS), flanders)
    return PackedDataset.open(pack(source, tmp_path_factory.mktemp("mine") / "mine", ["train"], max_rejected=0).path)


def test_it_is_packed_as_its_own_reader_packs_it(mine, flanders):
    samples = list(Sentinel2Flanders(flanders).samples("train"))
    assert mine.size("train") == len(samples) == 54 and mine.info.classes == () and mine.info.bands == BANDS
    for index, sample in enumerate(samples):
        row = mine.read("train", index)
        assert (row.date, row.georeference, row.mask) == (sample.date, sample.georeference, None)
        np.testing.assert_array_equal(decode(row)[0], sample.image)


def test_a_similarity_method_learns_from_it(mine):
    experiment = replace(RECIPES["flanders-similarity"](), data="mine", steps=12, batch_size=64)
    loop = Loop(experiment, task_of(mine))
    batches = pair_batches(mine, "train", experiment.pairs, patch=9, seed=0, batch_size=64, start_step=0, stop_step=12)
    losses = []
    for batch in batches:
        images, views = torch.from_numpy(batch["images"]), torch.from_numpy(batch["views"])
        loop.train_step(Batch(images, None, tuple(batch["ids"]), views))
        losses += [record.values["train/loss"] for record in loop.flush()]
    assert len(losses) == 12 and np.isfinite(losses).all() and np.mean(losses[-3:]) < np.mean(losses[:3])
    assert data_description(mine, experiment)["bands"] == list(BANDS)
