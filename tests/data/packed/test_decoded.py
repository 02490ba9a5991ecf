"""Decoded images that a machine keeps: what is read never depends on them, and they never outgrow their budget."""

import multiprocessing
import os
import pickle
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from miseg.data.configs import Augmentation
from miseg.data.loading.batches import evaluation_batches, training_batches
from miseg.data.packed import decoded
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.decoded import DecodedImages, Pixels, remove_abandoned
from miseg.data.packed.packing import pack
from miseg.data.sources.camvid import CamVid

AUGMENTATION = Augmentation(crop=(24, 24), scale=(0.5, 2.0))
PLENTY = 2**24


def training(dataset, start=0, stop=12, **ranks):
    settings = {"seed": 3, "order": "shuffle", "batch_size": 4, "start_step": start, "stop_step": stop}
    return list(training_batches(dataset, "train", AUGMENTATION, **settings, **ranks))


def evaluation(dataset):
    return list(evaluation_batches(dataset, "val", Augmentation(), batch_size=2))


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["ids"] == other["ids"]
        for name in ("images", "labels", "masked"):
            assert one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name])
    return True


def size_of(dataset, split):
    """Bytes of the split's pixels and masks, without what the file holds beside them."""
    images = [dataset.pixels(split, index) for index in range(dataset.size(split))]
    return sum(image.nbytes + (0 if mask is None else mask.nbytes) for _, image, mask in images)


def write_and_read(dataset):
    return training(dataset)


def test_batches_are_the_same_with_and_without(small, tmp_path):
    kept = small.keeping(DecodedImages(tmp_path / "kept", PLENTY))
    for _ in range(2):
        assert same(training(kept), training(small))
        assert same(evaluation(kept), evaluation(small))
    resumed = pickle.loads(pickle.dumps(kept))
    assert same(training(resumed, start=7), training(small)[7:])
    for rank in range(2):
        assert same(training(kept, rank=rank, world=2), training(small, rank=rank, world=2))


def test_images_of_mixed_sizes_and_without_labels(tree, tmp_path):
    for number in range(4):
        tree.add(f"{number}.png", size=(12 + number, 16 + number % 2))

    class Half(CamVid):
        def samples(self, split):
            for number, sample in enumerate(super().samples(split)):
                yield sample if number % 2 else replace(sample, mask=None)

    dataset = PackedDataset.open(pack(Half(tree.root), tmp_path / "out", ["train"]).path)
    kept = dataset.keeping(DecodedImages(tmp_path / "kept", PLENTY))
    for _ in range(2):
        for index in range(4):
            found, expected = kept.pixels("train", index), dataset.pixels("train", index)
            assert found.id == expected.id and np.array_equal(found.image, expected.image)
            assert (found.mask is None) == (expected.mask is None) == (index % 2 == 0)
            assert found.mask is None or np.array_equal(found.mask, expected.mask)


def test_nothing_is_decoded_twice(small, tmp_path, monkeypatch):
    packed = shutil.copytree(small.uri, tmp_path / "packed")
    kept = PackedDataset.open(packed).keeping(DecodedImages(tmp_path / "kept", PLENTY))
    training(kept), evaluation(kept)
    for shard in packed.glob("*.parquet"):
        shard.unlink()
    again = pickle.loads(pickle.dumps(kept))
    assert same(training(again), training(small)) and same(evaluation(again), evaluation(small))


def test_what_has_no_room_is_decoded_again_and_the_budget_holds(small, tmp_path):
    for budget in (0, 1, size_of(small, "train") // 2):
        images = DecodedImages(tmp_path / str(budget), budget)
        assert same(training(small.keeping(images)), training(small))
        assert same(training(small.keeping(images)), training(small))
        files = list(images.folder.glob("*.pixels"))
        assert images.taken() <= max(budget, 2000) and sum(os.path.getsize(file) for file in files) <= images.taken()
    assert images.taken() > budget * 0.8


def test_processes_at_the_same_time_share_one_copy(small, tmp_path):
    images = DecodedImages(tmp_path / "kept", PLENTY)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        found = pool.map(write_and_read, [small.keeping(images)] * 4, chunksize=1)
    expected = training(small)
    assert all(same(one, expected) for one in found)
    pixels = size_of(small, "train")
    assert pixels < images.taken() < pixels + 100 * small.size("train")


def test_a_record_that_a_killed_process_began_is_written_by_the_next(small, tmp_path, monkeypatch):
    images = DecodedImages(tmp_path, PLENTY)
    expected = small.pixels("train", 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", lambda file, parts, offset: 0)
        images.put("data", 0, 13, 0, expected)
    taken = images.taken()
    assert images.get("data", 0, 13, 0) is None
    images.put("data", 0, 13, 0, expected)
    assert np.array_equal(images.get("data", 0, 13, 0).image, expected.image) and images.taken() == taken


def picture(side=32):
    return Pixels("a", np.full((side, side, 3), 7, np.uint8), np.zeros((side, side), np.uint8))


def test_a_data_set_that_nobody_reads_gives_way_to_another(tmp_path, monkeypatch):
    images = DecodedImages(tmp_path, 10_000)
    for index in range(2):
        images.put("first", 0, 2, index, picture())
    images.put("second", 0, 2, 0, picture())
    assert images.get("second", 0, 2, 0) is None, "the first is in use and leaves no room"
    idle = time.time() - decoded.IDLE - 1
    os.utime(tmp_path / "first-0.pixels", (idle, idle))
    images = DecodedImages(tmp_path, 10_000)
    images.put("second", 0, 2, 0, picture())
    assert np.array_equal(images.get("second", 0, 2, 0).image, picture().image)
    assert images.get("first", 0, 2, 0) is None


def test_its_own_splits_stay_where_a_data_set_has_no_room(tmp_path):
    images = DecodedImages(tmp_path, 5000)
    images.put("data", 0, 2, 0, picture())
    idle = time.time() - decoded.IDLE - 1
    os.utime(tmp_path / "data-0.pixels", (idle, idle))
    images.put("data", 1, 2, 0, picture())
    assert images.get("data", 0, 2, 0) is not None and images.get("data", 1, 2, 0) is None


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1000_000, 899_000, 101_000))
    images = DecodedImages(tmp_path, PLENTY)
    images.put("data", 0, 1, 0, picture())
    assert images.get("data", 0, 1, 0) is None


def test_a_folder_that_cannot_be_made_costs_time_and_nothing_else(small, tmp_path):
    (tmp_path / "file").write_text("")
    kept = small.keeping(DecodedImages(tmp_path / "file" / "kept", PLENTY))
    assert same(training(kept), training(small))


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_pixels_of_any_type_and_bands_are_kept(tmp_path, kind):
    images = DecodedImages(tmp_path, PLENTY)
    image = (np.random.default_rng(0).random((8, 9, 5)) * 255).astype(kind)
    for index, mask in enumerate((None, np.arange(72, dtype=np.uint8).reshape(8, 9))):
        images.put("data", 0, 2, index, Pixels("a", image, mask))
        name, found, labels = images.get("data", 0, 2, index)
        assert name == "a" and found.dtype == kind and np.array_equal(found, image)
        assert labels is None if mask is None else np.array_equal(labels, mask)


def test_pixels_of_more_bands_than_a_record_holds_are_not_kept(tmp_path):
    images = DecodedImages(tmp_path, PLENTY)
    images.put("data", 0, 1, 0, Pixels("a", np.zeros((8, 8, 300), np.uint16), None))
    assert images.get("data", 0, 1, 0) is None


def test_folders_that_killed_jobs_left_are_removed(tmp_path):
    for name in ("old", "new"):
        DecodedImages(tmp_path / name, PLENTY).put("data", 0, 1, 0, picture())
    before = time.time() - decoded.ABANDONED - 1
    for path in [*(tmp_path / "old").iterdir(), tmp_path / "old"]:
        os.utime(path, (before, before))
    remove_abandoned(tmp_path.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_the_decoded_size_is_estimated_from_a_few_images(small):
    assert small.decoded_bytes("train") == size_of(small, "train")


@pytest.mark.parametrize("strange", ["folder is a link", "file is a link", "lock is a link", "of anybody", "pipe"])
def test_what_another_user_put_there_is_neither_read_nor_written(strange, tmp_path, caplog):
    """Ray's session folder is open to everybody: whoever knows the name may be there first."""
    (tmp_path / "theirs").mkdir()
    victim = tmp_path / "theirs" / "data-0.pixels"
    victim.write_bytes(b"precious")
    folder = tmp_path / "kept"
    if strange == "folder is a link":
        folder.symlink_to(tmp_path / "theirs")
    else:
        folder.mkdir()
    if strange == "file is a link":
        (folder / "data-0.pixels").symlink_to(victim)
    elif strange == "lock is a link":
        (folder / "lock").symlink_to(victim)
    elif strange == "of anybody":
        (folder / "data-0.pixels").write_bytes(b"")
        (folder / "data-0.pixels").chmod(0o666)
    elif strange == "pipe":
        os.mkfifo(folder / "data-0.pixels")
    images = DecodedImages(folder, PLENTY)
    images.put("data", 0, 1, 0, picture())
    assert images.get("data", 0, 1, 0) is None and "decoded images are not kept" in caplog.text
    assert victim.read_bytes() == b"precious" and [path.name for path in victim.parent.iterdir()] == [victim.name]


def test_the_folder_is_of_its_user_alone(tmp_path, monkeypatch, caplog):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept").chmod(0o777)
    images = DecodedImages(tmp_path / "kept", PLENTY)
    images.put("data", 0, 1, 0, picture())
    assert images.get("data", 0, 1, 0) is not None and (tmp_path / "kept").stat().st_mode & 0o777 == 0o700
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert DecodedImages(tmp_path / "kept", PLENTY).get("data", 0, 1, 0) is None
    assert "belongs to another user" in caplog.text
