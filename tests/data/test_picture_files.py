"""Pictures that lie: about their format, about their size, about what they take in memory. Nothing is decoded first."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFile

from miseg.data.checks import BadFileError, check_image, check_mask
from miseg.data.folders import coco_json, pixels
from miseg.data.folders.hf_parquet import read_rows
from miseg.data.folders.label_readers import turned_size
from miseg.data.folders.raster_bytes import read_raster
from miseg.data.packed.chips import encode_chip
from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import SCHEMA, SIDECAR, pack
from miseg.data.packed.row import PackedRow
from miseg.data.picture_files import PictureTooLargeError, open_header
from miseg.data.samples import DataSetInfo
from miseg.data.sources.registry import Embedded

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"
INFO = DataSetInfo("x", ("a", "b"), ((0, 0, 0), (1, 1, 1)))


def png(height: int, width: int) -> bytes:
    """A PNG file of zeros, made row by row so that it costs its maker nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def row(image: bytes, mask: bytes | None = None) -> PackedRow:
    return PackedRow("train/liar", image, mask, 16, 16)


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Programs that Pillow knows by name, which leave a mark where they are run."""
    for name in ("gs", "ghostscript"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    yield
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def never_decoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail(f"decoded {self.size}"))


def test_a_picture_that_is_a_program_starts_none(ghostscript, tmp_path: Path) -> None:
    with Image.open(io.BytesIO(EPS)) as picture:
        assert picture.format == "EPS", "Pillow would take it for a picture"
    file = tmp_path / "image.png"
    file.write_bytes(EPS)
    for read in (check_image, lambda data: check_mask(data, INFO), lambda data: pixels.survey_images([file])):
        with pytest.raises(ValueError, match="not a picture, or none of PNG, JPEG"):
            read(EPS)
    assert coco_json._size(file) == (0, 0) and turned_size(file) is None
    for image, mask in ((EPS, None), (png(16, 16), EPS)):
        with pytest.raises(ValueError, match="train/liar: cannot be decoded"):
            decode(row(image, mask))


@pytest.mark.parametrize("liar", ["image", "mask"])
def test_a_row_that_says_another_size_is_refused_before_it_is_decoded(liar: str, never_decoded) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "PNG")
    large = png(9000, 9000)
    with pytest.raises(ValueError, match="a picture of 9000x9000 pixels, not 16x16"):
        decode(row(large) if liar == "image" else row(encode_chip(np.zeros((16, 16, 3), np.uint8)), large))


def test_a_chip_that_says_another_size_is_refused_before_it_is_decoded() -> None:
    chip = encode_chip(np.zeros((300, 16, 3), np.uint16))
    with pytest.raises(ValueError, match="a chip of 300x16 pixels, not 16x16"):
        decode(row(chip))


def test_more_pixels_than_a_picture_may_have_are_the_projects_own_error(never_decoded, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for side in (40, 100):  # Pillow warns of the one, and raises at the other
        data = png(side, side)
        with pytest.raises(PictureTooLargeError, match="cut it into tiles"):
            open_header(data)
        with pytest.raises(BadFileError, match="cut it into tiles"):
            check_image(data)
        with pytest.raises(ValueError, match="cut it into tiles"):
            decode(PackedRow("a", data, None, side, side))


def test_a_raster_of_more_bytes_than_one_may_take_is_refused_before_it_is_decoded() -> None:
    """Empty blocks of a TIFF are not stored: 1,200 bands of a million pixels are a small file."""
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

    shape = {"height": 1000, "width": 1000, "count": 1200, "dtype": "float32"}
    shape["transform"] = Affine(1, 0, 0, 0, -1, 1000)
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", sparse_ok=True, tiled=True, interleave="pixel", **shape):
            pass
        data = bytes(memory.getbuffer())
    assert len(data) < 2**20
    with pytest.raises(BadFileError, match=r"1200 bands, float32, are 4\.47 GiB decoded, 4 are allowed"):
        read_raster(data)


def forged(folder: Path, **options: object) -> PackedDataset:
    """A packed data set whose first shard somebody wrote anew, with a value of 64 MiB of zeros."""
    source = Embedded({"train": 1, "val": 1, "test": 0}, height=16, width=16)
    path = pack(source, folder / "packed", ("train",)).path
    (values,) = pq.read_table(path / "train-00000.parquet").to_pylist()
    table = pa.Table.from_pylist([values | {"image": bytes(2**26)}], SCHEMA)
    pq.write_table(table, path / "train-00000.parquet", row_group_size=1, **options)
    sidecar = json.loads((path / SIDECAR).read_text())
    del sidecar["splits"]["train"][0]["footer_sha256"]
    (path / SIDECAR).write_text(json.dumps(sidecar))
    return PackedDataset.open(path)


def test_a_shard_that_is_compressed_is_refused_before_it_is_read(tmp_path: Path) -> None:
    dataset = forged(tmp_path, compression="zstd")
    assert (tmp_path / "packed" / "train-00000.parquet").stat().st_size < 2**16
    before = pa.total_allocated_bytes()
    for read in (lambda: dataset.read("train", 0), lambda: dataset.columns("train", "id")):
        with pytest.raises(ValueError, match=r"its column id is compressed \(ZSTD\)"):
            read()
    assert pa.total_allocated_bytes() - before < 2**20


def test_pictures_in_parquet_that_announce_far_more_than_they_are_stored_in(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": [bytes(2**27)]}), path, compression="zstd")
    with pytest.raises(ValueError, match=r"128 MiB in .* MiB of row group 0, which pictures are not"):
        read_rows(path, ())
