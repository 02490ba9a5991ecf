import tracemalloc

import numpy as np
import pytest

from miseg.data.configs import Augmentation
from miseg.data.loading.batches import evaluation_batches, training_batches
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.sources.camvid import CamVid

AUGMENTATION = Augmentation(scale=(0.5, 2.0), crop=(10, 14))


def train(dataset, augmentation=AUGMENTATION, **settings):
    defaults = {"seed": 0, "order": "shuffle", "batch_size": 4, "start_step": 0, "stop_step": 9}
    return training_batches(dataset, "train", augmentation, **(defaults | settings))


def same(one, other):
    return (
        one["ids"] == other["ids"]
        and np.array_equal(one["images"], other["images"])
        and np.array_equal(one["labels"], other["labels"])
    )


def test_what_a_batch_holds(small):
    batches = list(train(small))
    assert [batch["step"] for batch in batches] == list(range(9))
    for batch in batches:
        assert batch["images"].shape == (4, 10, 14, 3) and batch["images"].dtype == np.uint8
        assert batch["labels"].shape == (4, 10, 14) and batch["labels"].dtype == np.uint8
        assert len(batch["ids"]) == 4 and all(isinstance(name, str) for name in batch["ids"])


@pytest.mark.parametrize("order", ["shuffle", "replacement"])
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_together_see_what_one_rank_sees(small, order, world):
    ranks = [list(train(small, order=order, rank=rank, world=world)) for rank in range(world)]
    for step, whole in enumerate(train(small, order=order)):
        parts = [batches[step] for batches in ranks]
        joined = {
            "ids": [name for part in parts for name in part["ids"]],
            "images": np.concatenate([part["images"] for part in parts]),
            "labels": np.concatenate([part["labels"] for part in parts]),
        }
        assert same(joined, whole)


@pytest.mark.parametrize("order", ["shuffle", "replacement"])
def test_a_resume_sees_what_an_uninterrupted_run_sees(small, order):
    whole = list(train(small, order=order))
    for resumed, batch in zip(train(small, order=order, start_step=5), whole[5:], strict=True):
        assert resumed["step"] == batch["step"] and same(resumed, batch)


def test_every_image_once_an_epoch(small):
    ids = [name for batch in train(small, batch_size=1, stop_step=33) for name in batch["ids"]]
    for epoch in range(3):
        assert len(set(ids[11 * epoch : 11 * epoch + 11])) == 11


def test_an_image_is_augmented_anew_each_time(small):
    batches = train(small, batch_size=11, stop_step=2)
    first, second = (dict(zip(b["ids"], b["images"], strict=True)) for b in batches)
    assert sum(np.array_equal(first[name], second[name]) for name in first) < 3


def test_a_label_budget_limits_what_is_seen(small):
    ids = {name for batch in train(small, labelled_images=3, stop_step=20) for name in batch["ids"]}
    assert len(ids) == 3
    assert ids < {name for batch in train(small, labelled_images=5, stop_step=20) for name in batch["ids"]}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"batch_size": 4, "world": 3}, "batch_size = 4 does not divide by 3 workers: use 6"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"rank": 2, "world": 2}, "rank 2 of 2"),
        ({"start_step": 3, "stop_step": 2}, r"steps \[3, 2\)"),
        ({"labelled_images": 12}, "labelled_images = 12: the split has 11 images"),
        ({"order": "sorted"}, "order = 'sorted'"),
        ({"augmentation": Augmentation(mean=(0.5,), std=(0.5,))}, "3 channels"),
    ],
)
def test_bad_settings_are_refused_before_the_first_batch(small, settings, reason):
    with pytest.raises(ValueError, match=reason):
        train(small, **settings)


def test_unknown_split(small):
    with pytest.raises(ValueError, match=r"split 'test'.*train, val"):
        evaluation_batches(small, "test", AUGMENTATION, batch_size=2)


@pytest.fixture
def mixed(tree, tmp_path):
    """Images of two sizes, one of them turned."""
    for number, size in enumerate([(12, 16), (12, 16), (16, 12), (12, 16)]):
        tree.add(f"{number}.png", size=size)
    return tree.pack(tmp_path / "mixed")


def test_sizes_that_differ_within_a_batch(mixed):
    reason = r"differ in size: train/\d 1\dx1\d and train/\d 1\dx1\d; set augmentation\.crop or resize"
    with pytest.raises(ValueError, match=reason):
        list(train(mixed, Augmentation(), stop_step=1))
    assert len(list(train(mixed, Augmentation(resize=(8, 8)), stop_step=2))) == 2


def test_evaluation_groups_equal_sizes_in_order(mixed):
    batches = list(evaluation_batches(mixed, "train", Augmentation(crop=(4, 4), flip=1), batch_size=3))
    assert [batch["ids"] for batch in batches] == [["train/0", "train/1"], ["train/2"], ["train/3"]]
    assert batches[1]["images"].shape == (1, 16, 12, 3)
    (batch,) = evaluation_batches(mixed, "train", Augmentation(resize=(6, 8)), batch_size=4)
    assert batch["images"].shape == (4, 6, 8, 3) and batch["labels"].shape == (4, 6, 8)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_evaluation_sees_every_image_once_over_all_ranks(small, world):
    ids = []
    for rank in range(world):
        for batch in evaluation_batches(small, "val", Augmentation(), batch_size=2, rank=rank, world=world):
            assert 1 <= len(batch["ids"]) <= 2
            ids += batch["ids"]
    assert ids == [f"val/{number:03d}" for number in range(5)]


def test_images_without_masks_have_ignored_labels(small, tmp_path):
    class Unlabelled(CamVid):
        def samples(self, split):
            for sample in super().samples(split):
                yield type(sample)(sample.id, split, sample.image, None)

    source = Unlabelled(small.uri.replace("/packed", "/CamVid"))
    dataset = PackedDataset.open(pack(source, tmp_path / "out", ["train"]).path)
    for batch in (
        *train(dataset, stop_step=1),
        next(evaluation_batches(dataset, "train", Augmentation(), batch_size=2)),
    ):
        assert (batch["labels"] == 255).all()


def test_nothing_accumulates(small):
    batches = train(small, Augmentation(resize=(64, 64)), batch_size=11, stop_step=60)
    next(batches)
    tracemalloc.start()
    try:
        for _ in batches:
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One batch is 180 kB; all of them would be 10 MB.
    assert peak < 2_000_000


def test_real_camvid(real_val):
    batches = training_batches(
        real_val, "val", Augmentation(crop=(224, 224)), seed=0, order="shuffle", batch_size=4, start_step=0, stop_step=2
    )
    assert [batch["images"].shape for batch in batches] == [(4, 224, 224, 3)] * 2
