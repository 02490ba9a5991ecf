import json
import pickle
import shutil
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.row import PackedRow


@pytest.fixture
def copy(small, tmp_path):
    """A copy of the small data set that a test may damage."""
    return Path(shutil.copytree(small.uri, tmp_path / "copy"))


def edit(folder, change):
    path = folder / "dataset.json"
    sidecar = json.loads(path.read_text("utf-8"))
    change(sidecar)
    path.write_text(json.dumps(sidecar), "utf-8")


def test_every_row_by_random_access(small):
    for split, size in (("train", 11), ("val", 5)):
        assert small.size(split) == size
        order = np.random.default_rng(0).permutation(size)
        assert {i: small.read(split, int(i)).id for i in order} == {i: f"{split}/{i:03d}" for i in range(size)}


def test_opening_by_uri_and_by_path_is_the_same(small):
    by_uri = PackedDataset.open(Path(small.uri).as_uri())
    assert by_uri.fingerprint == small.fingerprint == PackedDataset.open(Path(small.uri)).fingerprint
    assert by_uri.read("train", 4) == small.read("train", 4)
    by_uri.verify()
    assert len(small.fingerprint) == 12 and int(small.fingerprint, 16) >= 0


def test_pickling_leaves_open_files_behind(small):
    small.read("train", 0)
    again = pickle.loads(pickle.dumps(small))
    assert not again._files and small._files
    assert again.read("train", 10) == small.read("train", 10) and again.info == small.info


def test_reading_from_threads(small):
    wrong = []

    def work(seed):
        for index in np.random.default_rng(seed).integers(11, size=50):
            if small.read("train", int(index)).id != f"train/{index:03d}":
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_only_so_many_files_stay_open(small, monkeypatch):
    monkeypatch.setattr("miseg.data.packed.dataset._OPEN_SHARDS", 2)
    dataset = PackedDataset.open(small.uri)
    for index in [*range(11), *range(11)]:
        assert dataset.read("train", index).id == f"train/{index:03d}"
    assert len(dataset._files) == 2


def test_unknown_split_and_index_out_of_range(small):
    with pytest.raises(ValueError, match=r"split 'test': .* has train, val"):
        small.size("test")
    with pytest.raises(ValueError, match="split 'test'"):
        small.read("test", 0)
    for index in (-1, 11):
        with pytest.raises(IndexError, match=f"index {index}: split 'train' .* has 11 images"):
            small.read("train", index)


def test_no_packed_data_set_there(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"dataset\.json cannot be read .*miseg prepare-data"):
            PackedDataset.open(folder)


@pytest.mark.parametrize("uri", ["nonsense://bucket/x", "file://relative"])
def test_uri_that_nothing_reads(uri):
    with pytest.raises(ValueError, match=uri):
        PackedDataset.open(uri)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[]", "format None, this program reads 1"),
        ('{"format": 2}', "format 2, this program reads 1"),
        ('{"format": 1}', "field missing or malformed"),
        ('{"format": 1, "splits": {"train": 3}}', "field missing or malformed"),
    ],
)
def test_malformed_sidecars(tmp_path, text, reason):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=rf"dataset\.json.*{reason}"):
        PackedDataset.open(tmp_path)


@pytest.mark.parametrize("name", ["../secret.parquet", "/etc/passwd", "a/b.parquet", "..", "", "a\\b"])
def test_shard_names_stay_in_the_folder(copy, name):
    edit(copy, lambda sidecar: sidecar["splits"]["train"][0].update(file=name))
    with pytest.raises(ValueError, match="is not a plain file name"):
        PackedDataset.open(copy)


def test_missing_shard_is_found_at_once(copy):
    (copy / "train-00001.parquet").unlink()
    with pytest.raises(ValueError, match=r"train-00001\.parquet is missing although .*dataset\.json lists it"):
        PackedDataset.open(copy)


def test_rows_that_disagree_with_the_sidecar(copy):
    edit(copy, lambda sidecar: sidecar["splits"]["train"][0].update(rows=7))
    with pytest.raises(ValueError, match=r"train-00000\.parquet.* has \d rows .*the sidecar says 7 of one row each"):
        PackedDataset.open(copy).read("train", 0)


def test_shard_with_many_rows_in_a_row_group(copy):
    path = copy / "train-00000.parquet"
    pq.write_table(pq.read_table(path), path)
    edit(copy, lambda sidecar: sidecar["splits"]["train"][0].pop("footer_sha256"))
    with pytest.raises(ValueError, match="rows in 1 row groups"):
        PackedDataset.open(copy).read("train", 0)


def test_truncated_shard(copy):
    path = copy / "train-00000.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    dataset = PackedDataset.open(copy)
    with pytest.raises(ValueError, match=r"train-00000\.parquet, row 0 cannot be read"):
        dataset.read("train", 0)
    with pytest.raises(ValueError, match=r"train-00000\.parquet: its SHA-256"):
        dataset.verify()


@pytest.mark.slow
@pytest.mark.faults
def test_every_bit_that_flips_in_a_shard_is_found_or_changes_nothing(copy):
    """In every third byte, one bit after the other; all 21,952 flips were tried once (tests/faults/flips.py)."""
    sidecar = json.loads((copy / "dataset.json").read_text())
    path = copy / sidecar["splits"]["val"][-1]["file"]
    whole, found = path.read_bytes(), Counter()
    index = PackedDataset.open(copy).size("val") - 1
    row = PackedDataset.open(copy).read("val", index)
    places = range(0, len(whole), 3)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        dataset = PackedDataset.open(copy)
        try:
            found["the same" if dataset.read("val", index) == row else "another image"] += 1
        except ValueError as error:
            assert f"{path.name}, row" in str(error) and "copy it again" in str(error)
            found["checksum" if "CRC" in str(error) or "SHA-256" in str(error) else "named"] += 1
    assert found["checksum"] > 0.6 * len(places) and not found["another image"], found


def test_shards_packed_without_checksums_can_still_be_read(copy, small):
    path = copy / "train-00000.parquet"
    table = pq.read_table(path)
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    with pq.ParquetWriter(path, table.schema, **options) as shard:
        for row in range(len(table)):
            shard.write_table(table.slice(row, 1), row_group_size=1)
    edit(copy, lambda sidecar: sidecar["splits"]["train"][0].pop("footer_sha256"))
    assert PackedDataset.open(copy).read("train", 0) == small.read("train", 0)


def test_decoding_names_the_id(small):
    row = small.read("train", 0)
    image, mask = decode(row)
    assert image.shape == (12, 16, 3) and image.dtype == mask.dtype == np.uint8 and mask.shape == (12, 16)
    for bad in (
        PackedRow("the id", row.image[:-60], row.mask, 12, 16),
        PackedRow("the id", b"x", row.mask, 12, 16),
        PackedRow("the id", row.image, b"x", 12, 16),
        PackedRow("the id", row.image, row.mask, 12, 17),
        PackedRow("the id", row.mask, row.mask, 12, 16),
    ):
        with pytest.raises(ValueError, match=r"the id: .*pack the data set again"):
            decode(bad)
