"""Columns of Parquet files: which is the image, which the mask, and what holds no pictures."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from miseg.data.checks import encode_png
from miseg.data.folders.hf_parquet import read_rows
from tests.support.layouts import noise

PICTURES = [encode_png(noise(number)) for number in range(3)]
MASKS = [encode_png(noise(number)[..., 0] // 128) for number in range(3)]
ADDRESSES = [f"https://pictures.example/{number}.jpg" for number in range(3)]


def written(tmp_path, **columns):
    path = tmp_path / "own.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("name", ["mask", "annotation", "label", "segmentation", "gt", "pet_mask_png"])
def test_a_mask_is_never_taken_as_the_image(tmp_path, name):
    with pytest.raises(ValueError, match="say which is the image and which the mask"):
        read_rows(written(tmp_path, url=ADDRESSES, **{name: MASKS}), ())


def test_an_image_column_of_addresses_is_told(tmp_path):
    path = written(tmp_path, image=ADDRESSES, mask=MASKS)
    with pytest.raises(ValueError, match=r"column image holds no pictures' bytes \(text\)"):
        read_rows(path, ())
    with pytest.raises(ValueError, match="--columns mask mask"):
        read_rows(path, ("mask", "mask"))


def test_a_mask_column_of_addresses_is_told_but_not_a_class_of_the_image(tmp_path):
    with pytest.raises(ValueError, match=r"column mask holds no pictures' bytes \(text\).*--columns image"):
        read_rows(written(tmp_path, image=PICTURES, mask=ADDRESSES), ())
    rows = read_rows(written(tmp_path, image=PICTURES, label=[0, 1, 2]), ())
    assert [row.image.read() for row in rows] == PICTURES and {row.masks for row in rows} == {None}
    (first, *_) = read_rows(written(tmp_path, image=PICTURES, mask=ADDRESSES), ("image",))
    assert first.image.read() == PICTURES[0] and first.masks is None


def test_a_column_of_another_name_beside_a_mask_is_the_image(tmp_path):
    (first, *_) = read_rows(written(tmp_path, photo=PICTURES, mask=MASKS), ())
    assert (first.image.column, first.masks[0].column) == ("photo", "mask")


@pytest.mark.parametrize("stored", ["dictionary", "view", "large"])
def test_bytes_as_arrow_may_store_them(tmp_path, stored):
    kind = {"dictionary": pa.binary(), "view": pa.binary_view(), "large": pa.large_binary()}[stored]
    pictures, masks = (pa.array(values, kind) for values in (PICTURES, [*MASKS[:2], None]))
    if stored == "dictionary":
        pictures, masks = pictures.dictionary_encode(), masks.dictionary_encode()
    rows = read_rows(written(tmp_path, image=pictures, mask=masks), ())
    assert [row.image.read() for row in rows] == PICTURES
    assert [row.masks and row.masks[0].read() for row in rows] == [*MASKS[:2], None]
