import io
import json
import logging
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import SCHEMA, example_of, pack
from miseg.data.samples import IGNORE_LABEL, DataSetInfo, Rejection, Sample
from miseg.data.sources.camvid import CLASSES, COLOURS, CamVid
from miseg.data.sources.registry import Embedded

RGB = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)
NOISE = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
LABELS = (np.arange(12 * 16, dtype=np.uint8) % 12).reshape(12, 16)


@dataclass
class Listed:
    """A source of the given (image bytes, mask bytes) pairs."""

    pairs: list
    info = DataSetInfo("listed", CLASSES, COLOURS, ignore_values=(11,))

    def available(self):
        return ("train",)

    def samples(self, split):
        for number, (image, mask) in enumerate(self.pairs):
            yield Sample(f"{number}", split, image, mask)


def encoded(pixels, mode=None, file_format="PNG", **options):
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, file_format, **options)
    return buffer.getvalue()


def sixteen_bit_rgb_png():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + RGB.astype(">u2")[y].tobytes() for y in range(12))
    header = struct.pack(">IIBBBBB", 16, 12, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def palette(indices):
    picture = Image.fromarray(indices).convert("P")
    picture.frombytes(indices.tobytes())
    picture.putpalette([value for colour in COLOURS for value in colour] + [0] * (768 - 33))
    return picture


def rgba(alpha):
    return np.dstack([RGB, np.full((12, 16), alpha, np.uint8)])


def exif_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(RGB, file_format="JPEG", exif=exif)


GOOD = (encoded(RGB), encoded(LABELS))
DEEP_GREY = encoded(np.full((12, 16), 300, np.uint16))

BAD_IMAGES = {
    "empty": (b"", "empty file.*copy it again"),
    "no picture": (b"<html>404</html>", "not a picture.*html"),
    "truncated png": (encoded(NOISE)[:-700], "truncated or damaged"),
    "truncated jpeg": (encoded(NOISE, file_format="JPEG")[:-700], "truncated or damaged"),
    "cut in its header": (GOOD[0][:20], "not a picture|truncated"),
    "16-bit grey": (DEEP_GREY, r"16 bits a channel, .*with one scaling for all images"),
    "16-bit rgb": (sixteen_bit_rgb_png(), "16 bits a channel"),
    "16-bit tiff": (encoded(np.full((12, 16), 300, np.uint16), file_format="TIFF"), "16 bits"),
    "float tiff": (encoded(np.zeros((12, 16), np.float32), file_format="TIFF"), "32 bits"),
    "cmyk": (encoded(RGB, "CMYK", "JPEG"), "CMYK colours: convert it to RGB"),
    "see-through": (encoded(rgba(7)), "alpha channel with 192 transparent pixels: flatten"),
    "see-through grey": (encoded(Image.fromarray(rgba(7)), "LA"), "alpha channel with 192"),
    "see-through palette": (encoded(palette(LABELS), transparency=3), "alpha channel with 16"),
    "turned by exif": (exif_turned(), "EXIF orientation 6"),
    "black and white": (encoded(LABELS, "1"), "colour mode 1: save it as 8-bit RGB"),
    "two pages": (
        encoded(RGB, file_format="TIFF", save_all=True, append_images=[Image.fromarray(RGB)]),
        "holds 2 pictures",
    ),
    "other size": (encoded(np.zeros((6, 16, 3), np.uint8)), "image is 6x16 and mask 12x16 pixels.*nearest"),
}
BAD_MASKS = {
    "empty": (b"", "empty file"),
    "no picture": (b"abc", "not a picture"),
    "truncated": (encoded(np.random.default_rng(0).integers(0, 9, (90, 90), dtype=np.uint8))[:-900], "truncated"),
    "label outside": (encoded(LABELS + 1), r"label 12 is outside 0\.\.10 and 11 \(unlabelled\)"),
    "many labels outside": (encoded(np.arange(192, dtype=np.uint8).reshape(12, 16)), "label 12, 13, 14, 15, 16, …"),
    "binary": (encoded(LABELS % 2 * 255), "label 255 is outside"),
    "published colours": (encoded(palette(LABELS), "RGB"), "all of them published colours of listed"),
    "other colours": (encoded(RGB), r"mask of \d+ RGB colours: save label numbers"),
    "alpha": (encoded(rgba(255)), "mask in colour mode RGBA"),
    "16-bit": (DEEP_GREY, "mask of 16 bits: .* unscaled as 8-bit grey PNG"),
    "jpeg": (encoded(LABELS, file_format="JPEG"), "JPEG mask.*alters labels"),
    "one bit": (encoded(LABELS, "1"), "fewer than 8 bits"),
    "other size": (encoded(LABELS[:, :8]), "image is 12x16 and mask 12x8"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_images_are_rejected_and_good_ones_kept(tmp_path, kind):
    data, reason = BAD_IMAGES[kind]
    check_one_rejected(tmp_path, (data, GOOD[1]), reason)


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_bad_masks_are_rejected_and_good_ones_kept(tmp_path, kind):
    data, reason = BAD_MASKS[kind]
    check_one_rejected(tmp_path, (GOOD[0], data), reason)


def check_one_rejected(tmp_path, bad, reason):
    packing = pack(Listed([GOOD, bad, GOOD]), tmp_path / "out", ["train"])
    assert packing.rows == {"train": 2} and packing.rejected_by_split == {"train": 1}
    (line,) = (tmp_path / "out" / "rejected.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["file"] == "1"
    assert re.search(reason, json.loads(line)["reason"])


ACCEPTED = {
    "grey": (encoded(LABELS * 20), np.dstack([LABELS * 20] * 3)),
    "palette": (encoded(palette(LABELS)), np.asarray(palette(LABELS).convert("RGB"))),
    "opaque alpha": (encoded(rgba(255)), RGB),
    "bmp": (encoded(RGB, file_format="BMP"), RGB),
    "tiff": (encoded(RGB, file_format="TIFF"), RGB),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_images_that_become_rgb_without_loss(tmp_path, kind):
    data, pixels = ACCEPTED[kind]
    dataset = PackedDataset.open(pack(Listed([(data, GOOD[1])]), tmp_path / "out", ["train"]).path)
    image, _ = decode(dataset.read("train", 0))
    assert np.array_equal(image, pixels)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_rgb_png_and_jpeg_go_in_as_they_are(tmp_path, file_format):
    data = encoded(RGB, file_format=file_format)
    dataset = PackedDataset.open(pack(Listed([(data, GOOD[1])]), tmp_path / "out", ["train"]).path)
    assert dataset.read("train", 0).image == data


@pytest.mark.parametrize("mask", [encoded(LABELS), encoded(palette(LABELS)), encoded(LABELS, file_format="TIFF")])
def test_masks_are_stored_as_grey_png_with_255_ignored(tmp_path, mask):
    dataset = PackedDataset.open(pack(Listed([(GOOD[0], mask)]), tmp_path / "out", ["train"]).path)
    row = dataset.read("train", 0)
    stored = Image.open(io.BytesIO(row.mask))
    assert stored.format == "PNG" and stored.mode == "L"
    assert np.array_equal(np.asarray(stored), np.where(LABELS == 11, IGNORE_LABEL, LABELS))


def test_images_without_labels_have_a_null_mask(tmp_path):
    dataset = PackedDataset.open(pack(Listed([(GOOD[0], None)]), tmp_path / "out", ["train"]).path)
    assert dataset.read("train", 0).mask is None
    assert decode(dataset.read("train", 0))[1] is None


def test_images_smaller_than_the_crop(tmp_path, tree):
    tree.add("small.png", size=(12, 15))
    tree.add("large.png", size=(12, 16))
    packing = pack(CamVid(tree.root), tmp_path / "out", ["train"], min_size=(12, 16))
    assert packing.rows == {"train": 1}
    assert "12x15 pixels is smaller than the crop 12x16" in packing.rejected[0].reason
    assert packing.rejected[0].file.endswith("small.png")


def test_an_image_listed_twice(tmp_path, tree):
    tree.add("a.png")
    tree.list("train", "a.png")
    packing = pack(CamVid(tree.root), tmp_path / "out", ["train"])
    assert packing.rows == {"train": 1} and "'train/a' is there already" in packing.rejected[0].reason


def test_names_with_spaces_and_any_letters_survive(tmp_path, tree):
    tree.add("a b é 東京.png")
    dataset = tree.pack(tmp_path / "packed here é")
    assert dataset.read("train", 0).id == "train/a b é 東京"


def test_a_stray_file_does_not_stand_for_what_is_wrong_with_the_others():
    reasons = ["mask without image", "image of 64x64 with a mask of 60x64", "image of 32x64 with a mask of 60x64"]
    rejected = [Rejection(f"{number}.png", reason) for number, reason in enumerate(reasons)]
    assert example_of(rejected) == "1.png: image of 64x64 with a mask of 60x64 (and 1 like it)"
    assert example_of(rejected[:1]) == "0.png: mask without image"


def test_a_split_without_one_good_row(tmp_path):
    with pytest.raises(ValueError, match=r"split 'train' of listed: not one usable image; 0: empty file"):
        pack(Listed([(b"", GOOD[1])]), tmp_path / "out", ["train"])
    with pytest.raises(ValueError, match="not one usable image; the split's list is empty"):
        pack(Listed([]), tmp_path / "out", ["train"])
    assert not list(tmp_path.iterdir())


def test_too_many_rejections_write_nothing(tmp_path):
    source = Listed([GOOD, (b"", GOOD[1])])
    with pytest.raises(ValueError, match="1 files of listed were rejected, 0 allowed, such as 1: empty"):
        pack(source, tmp_path / "out", ["train"], max_rejected=0)
    assert not list(tmp_path.iterdir())
    assert pack(source, tmp_path / "out", ["train"], max_rejected=1).rows == {"train": 1}


def test_the_shards(small):
    names = [shard.file for shard in small.info.splits["train"]]
    assert len(names) > 1 and names == sorted(names)
    for split in small.splits:
        for shard in small.info.splits[split]:
            file = pq.ParquetFile(f"{small.uri}/{shard.file}")
            assert file.schema_arrow == SCHEMA
            assert file.num_row_groups == file.metadata.num_rows == shard.rows
            assert set(file.read(["split"])["split"].to_pylist()) == {split}
    small.verify()


def test_the_sidecar(small):
    sidecar = json.loads(Path(small.uri, "dataset.json").read_text("utf-8"))
    assert sidecar["name"] == "camvid" and sidecar["classes"] == list(CLASSES) and sidecar["ignore_index"] == 255
    pixels = np.concatenate([decode(small.read("train", i))[0].reshape(-1, 3) for i in range(11)]) / 255
    assert sidecar["mean"] == pytest.approx(pixels.mean(0).tolist(), abs=1e-5)
    assert sidecar["std"] == pytest.approx(pixels.std(0).tolist(), abs=1e-5)


def test_statistics_of_a_constant_image_stay_usable(tmp_path):
    flat = encoded(np.full((12, 16, 3), 255, np.uint8))
    dataset = PackedDataset.open(pack(Listed([(flat, GOOD[1])]), tmp_path / "out", ["train"]).path)
    assert dataset.info.mean == (1, 1, 1) and min(dataset.info.std) > 0


def test_packing_again_gives_the_same_bytes(tmp_path, tree):
    for number in range(3):
        tree.add(f"{number}.png")
    first, second = tree.pack(tmp_path / "a"), tree.pack(tmp_path / "b")
    for name in sorted(os.listdir(first.uri)):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert first.fingerprint == second.fingerprint
    tree.add("more.png")
    assert tree.pack(tmp_path / "a").fingerprint != first.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CamVid", "a", "b"]


def slow_packing(out: Path) -> subprocess.Popen:
    """A process amid its packing to `out`."""
    script = (
        "import sys, time\n"
        "from miseg.data.packed.packing import pack\n"
        "from miseg.data.sources.registry import Embedded\n"
        "class Slow(Embedded):\n"
        "    def samples(self, split):\n"
        "        for sample in super().samples(split):\n"
        "            yield sample; print('row', flush=True); time.sleep(0.05)\n"
        f"pack(Slow({{'train': 500}}, height=16, width=16), {str(out)!r}, ['train'])"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_a_killed_packing_leaves_no_half_data_set_and_the_next_removes_what_is_left(tmp_path, caplog):
    with slow_packing(tmp_path / "out") as killed, slow_packing(tmp_path / "out") as living:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        left = {path.name for path in tmp_path.iterdir()}
        assert len(left) == 4 and not (tmp_path / "out").exists(), "two folders, and the lock of each"
        with caplog.at_level(logging.WARNING):
            pack(Embedded({"train": 2}, height=16, width=16), tmp_path / "out", ["train"])
        of_living = {path.name for path in tmp_path.iterdir()} - {"out"}
        assert len(of_living) == 2 and of_living < left, "what a living process packs is its own"
        assert "which a process that was killed had left, is removed" in caplog.text
        living.send_signal(signal.SIGKILL)
        living.wait()
    assert PackedDataset.open(tmp_path / "out").size("train") == 2
    pack(Embedded({"train": 3}, height=16, width=16), tmp_path / "out", ["train"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_else_is_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"mine holds something that is no packed data set"):
        pack(Listed([GOOD]), tmp_path / "mine", ["train"])
    with pytest.raises(ValueError, match=r"thesis.tex is a file"):
        pack(Listed([GOOD]), tmp_path / "mine" / "thesis.tex", ["train"])
    with pytest.raises(ValueError, match="each once"):
        pack(Listed([GOOD]), tmp_path / "out", ["train", "train"])


def test_the_ignore_label_is_the_interface_s():
    from miseg.interface import IGNORE_INDEX

    assert IGNORE_LABEL == IGNORE_INDEX


def test_the_room_imports_no_torch_and_no_ray():
    script = (
        "import sys, miseg.data.loading.batches, miseg.data.sources.catalog\n"
        "print('torch' in sys.modules, 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_real_camvid(real_val):
    assert real_val.size("val") == 101
    images = [decode(real_val.read("val", index)) for index in (0, 50, 100)]
    for image, mask in images:
        assert image.shape == (360, 480, 3) and set(np.unique(mask)) <= set(range(11)) | {255}
