"""Chips of any bands and depth: packed and read back bit by bit."""

import json
import pickle
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from miseg.data.checks import encode_png
from miseg.data.packed.chips import decode_chip, encode_chip, store
from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import pack
from miseg.data.packed.row import PackedRow
from miseg.data.samples import DataSetInfo, Sample

INFO = DataSetInfo("chips", ("a", "b"), ((0, 0, 0), (1, 1, 1)), channels=5, full_scale=10_000, nodata=0)


@dataclass
class Chips:
    """A source of given samples."""

    info: DataSetInfo
    given: list[Sample] = field(default_factory=list)

    def available(self):
        return tuple(dict.fromkeys(sample.split for sample in self.given))

    def samples(self, split):
        return (sample for sample in self.given if sample.split == split)


def chip(seed, size=(12, 16), bands=5, kind=np.uint16):
    return np.random.default_rng(seed).integers(1, np.iinfo(kind).max, (*size, bands), dtype=kind, endpoint=True)


def sample(name, image, split="train", mask=None, place=None, date=None):
    return Sample(name, split, image, mask, place, date, '{"height": 12}')


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("size", [(1, 1), (12, 16), (256, 255)])
def test_encoding_loses_nothing_and_is_the_same_each_time(kind, bands, size):
    pixels = chip(0, size, bands, kind)
    data = encode_chip(pixels)
    np.testing.assert_array_equal(decode_chip(data, pixels.shape[:2]), pixels, strict=True)
    assert encode_chip(pixels.copy()) == data


def test_packing_bit_by_bit(tmp_path):
    images = {f"{number}": chip(number) for number in range(5)}
    images["2"][3:5, 4:8] = 0
    mask = np.random.default_rng(9).integers(0, 2, (12, 16), dtype=np.uint8)
    given = [
        sample(
            name, image, mask=encode_png(mask), place=f"farm/r{int(name) % 2}", date=f"2019-07-{10 + int(name) // 2}"
        )
        for name, image in images.items()
    ]
    source = Chips(INFO, given)
    packing = pack(source, tmp_path / "one", ["train"])
    dataset = PackedDataset.open(packing.path)
    assert dataset.info.full_scale == 10_000 and dataset.info.nodata == 0 and not packing.rejected
    for index, (name, image) in enumerate(images.items()):
        row = dataset.read("train", index)
        assert row.id == name and row.georeference == '{"height": 12}'
        decoded, labels = decode(row)
        np.testing.assert_array_equal(decoded, image, strict=True)
        np.testing.assert_array_equal(labels, mask)
    again = PackedDataset.open(pack(source, tmp_path / "two", ["train"]).path)
    assert again.fingerprint == dataset.fingerprint
    check_statistics(dataset, given)


def check_statistics(dataset, given):
    """Means and deviations are those of the pixels with data, over the split and by date, in units of full scale."""

    def close(found, samples):
        pixels = np.concatenate([s.image[s.image.any(2)] for s in samples]) / 10_000
        np.testing.assert_allclose(found[0], pixels.mean(0), atol=1e-6)
        np.testing.assert_allclose(found[1], pixels.std(0), atol=1e-6)

    close((dataset.info.mean, dataset.info.std), given)
    assert set(dataset.info.dates) == {"farm"} and list(dataset.info.dates["farm"]) == sorted({s.date for s in given})
    for date in dataset.info.dates["farm"]:
        close(dataset.info.at("farm/r0", date), [s for s in given if s.date == date])
    with pytest.raises(ValueError, match="no statistics of farm/r0 at 2020-01-01"):
        dataset.info.at("farm/r0", "2020-01-01")


def test_the_index_reads_no_image(tmp_path, monkeypatch):
    given = [sample(f"{n}", chip(n), ("train", "val")[n % 2], place="farm", date=f"2019-07-{10 + n}") for n in range(6)]
    dataset = PackedDataset.open(pack(Chips(INFO, given), tmp_path / "out", ["train", "val"], shard_bytes=1).path)
    monkeypatch.setattr(PackedDataset, "read", lambda *_: pytest.fail("a row was read"))
    for split in ("train", "val"):
        expected = [(s.id, s.series, s.date) for s in given if s.split == split]
        assert dataset.index(split) == expected
        dataset.index(split).clear()
        assert dataset.index(split) == expected == pickle.loads(pickle.dumps(dataset)).index(split)
    for shard in (tmp_path / "out").glob("*.parquet"):
        shard.write_bytes(b"")
    assert len(dataset.index("train")) == 3
    with pytest.raises(ValueError, match=r"train-00000\.parquet cannot be read"):
        PackedDataset.open(tmp_path / "out").index("train")
    with pytest.raises(ValueError, match="split 'test'"):
        dataset.index("test")


def test_pictures_have_no_series(small):
    assert small.index("val")[1] == ("val/001", None, None) and small.info.dates == {}


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (chip(0, bands=4), r"shape \(12, 16, 4\) and type uint16: chips has uint8 or uint16 of \[H, W, 5\]"),
        (chip(0).astype(np.float32), "type float32"),
        (chip(0)[..., 0], r"shape \(12, 16\)"),
        (np.zeros((12, 16, 5), np.uint16), r"no pixel with data \(all are 0\): leave the chip out"),
    ],
)
def test_bad_chips_are_rejected(tmp_path, image, reason):
    packing = pack(Chips(INFO, [sample("good", chip(1)), sample("bad", image)]), tmp_path / "out", ["train"])
    (rejection,) = packing.rejected
    assert rejection.file == "bad" and packing.rows == {"train": 1}
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(rejection.reason)


def test_sizes_and_labels_of_chips_are_checked(tmp_path):
    mask = encode_png(np.full((12, 16), 7, np.uint8))
    given = [sample("good", chip(1)), sample("label", chip(2), mask=mask), sample("good", chip(3))]
    packing = pack(Chips(INFO, given), tmp_path / "out", ["train"], min_size=(12, 16))
    assert [r.reason.split(":")[0] for r in packing.rejected] == [
        "label 7 is outside 0..1 and 255 (unlabelled)",
        "id 'good' is there already",
    ]


def test_without_nodata_every_pixel_counts(tmp_path):
    image = np.zeros((4, 4, 5), np.uint8)
    image[:2] = 200
    source = Chips(replace(INFO, full_scale=255, nodata=None), [sample("a", image)])
    info = PackedDataset.open(pack(source, tmp_path / "out", ["train"]).path).info
    assert info.mean == (0.392157,) * 5 and info.nodata is None and info.full_scale == 255


def test_sidecars_from_before_chips_still_open(small, tmp_path):
    sidecar = json.loads((tmp_path.__class__(small.uri) / "dataset.json").read_text("utf-8"))
    assert sidecar["format"] == 1 and not {"full_scale", "nodata", "dates"} & set(sidecar)
    assert (small.info.full_scale, small.info.nodata, small.info.dates) == (255, None, {})


def test_damaged_chips_name_the_id():
    data = encode_chip(chip(0))
    for bad in (data[:-200], data[:10], data):
        with pytest.raises(ValueError, match=r"the id: .*pack the data set again"):
            decode(PackedRow("the id", bad, None, 12, 17 if bad is data else 16))


def test_storing_is_exact_and_keeps_nodata_apart():
    stored = np.arange(1, 65_536, dtype=np.uint16).reshape(-1, 1, 1)
    valid = np.ones(stored.shape[:2], bool)
    np.testing.assert_array_equal(store(stored.astype(np.float32) / np.float32(10_000), valid, INFO), stored)
    dark = store(np.array([[[-0.05, 0.0], [0.1, 7.0], [0.2, 0.2]]], np.float32), np.array([[True, True, False]]), INFO)
    np.testing.assert_array_equal(dark, np.array([[[1, 0], [1000, 65_535], [0, 0]]], np.uint16))
    one = np.ones((1, 1, 4), np.float32), np.ones((1, 1), bool)
    assert store(*one, DataSetInfo("bytes", (), ())).dtype == np.uint8


def test_storing_float_keeps_every_value_and_tells_zero_from_nodata():
    values = np.array([[[-12.25, 0.5], [0, 0], [3, 4]]], np.float32)
    valid = np.array([[True, True, False]])
    info = DataSetInfo("decibels", (), (), channels=2, full_scale=1, nodata=0, dtype="float32")
    stored = store(values, valid, info)
    assert stored.dtype == np.float32 and (stored.any(2) == valid).all()
    np.testing.assert_allclose(stored[0, :2], values[0, :2], atol=1e-29)
    whole = store(np.array([[[-0.0123]]], np.float32), np.ones((1, 1), bool), replace(info, full_scale=10_000))
    assert whole.item() == -123
