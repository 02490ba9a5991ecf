"""Street scenes packed and read in batches."""

import tempfile

from miseg.data.configs import Augmentation
from miseg.data.loading.batches import training_batches
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.sources.registry import DATA_SETS, Embedded

assert "embedded" in DATA_SETS and "coco-stuff-15" in DATA_SETS
with tempfile.TemporaryDirectory() as folder:
    packing = pack(Embedded({"train": 4, "val": 2}, height=48, width=64), f"{folder}/packed", ("train", "val"))
    assert packing.rows == {"train": 4, "val": 2} and not packing.rejected
    dataset = PackedDataset.open(packing.path)
    dataset.verify()
    options = {"seed": 0, "order": "shuffle", "batch_size": 2, "start_step": 0, "stop_step": 3}
    batches = list(training_batches(dataset, "train", Augmentation(crop=(32, 32)), **options))
assert [batch["images"].shape for batch in batches] == [(2, 32, 32, 3)] * 3
assert all((batch["labels"] < 11).any() and batch["masked"].all() for batch in batches)
