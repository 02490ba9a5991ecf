"""Own images with outlines in COCO's JSON: from an export to packed labels."""

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from miseg.commands.prepare_data import PrepareData, prepare
from miseg.data.folders.description import Description
from miseg.data.folders.encoding import MaskOptions
from miseg.data.folders.names.layout import Layout
from miseg.data.folders.outlines import OutlineError, draw_outline
from miseg.data.folders.source import open_folders
from miseg.data.packed.dataset import PackedDataset, decode
from miseg.data.packed.packing import pack
from tests.support.layouts import box, crowd, noise, picture

SIZE = (12, 16)
CATEGORIES = [{"id": 3, "name": "möwe"}, {"id": 90, "name": "boat"}]


class Export:
    """A COCO file under construction."""

    def __init__(self, path: Path, images: Path) -> None:
        self.path, self.images = path, images
        self.content: dict = {"images": [], "annotations": [], "categories": CATEGORIES}

    def add(self, name: str, *outlines: tuple[int, dict], write: bool = True, listed: str | None = None) -> None:
        """An image with outlines of (category, outline), listed under its name or another."""
        number = 10 * len(self.content["images"]) + 7
        entry = {"id": number, "file_name": listed or name, "height": SIZE[0], "width": SIZE[1]}
        self.content["images"].append(entry)
        for category, outline in outlines:
            numbers = {"id": 100 + len(self.content["annotations"]), "image_id": number, "category_id": category}
            self.content["annotations"].append({"iscrowd": 0} | numbers | outline)
        if write:
            picture(self.images / name, noise(number, SIZE))
        self.save()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.content))


@pytest.fixture
def export(tmp_path):
    return Export(tmp_path / "export" / "annotations.json", tmp_path / "photos")


def described(tmp_path, *coco, ignore=(), images=("photos",), **layout):
    options = {name: layout.pop(name) for name in ("split", "seed") if name in layout}
    coco = coco or ("export/annotations.json",)
    return Description("own", Layout(images=images, coco=coco, **layout), MaskOptions(ignore=ignore), **options)


def labels(tmp_path, description, split="train"):
    source = open_folders(description, tmp_path)
    packing = pack(source, tmp_path / "out", source.available())
    dataset = PackedDataset.open(packing.path)
    rows = [dataset.read(split, index) for index in range(dataset.size(split))]
    return {row.id: decode(row)[1] for row in rows}, source, packing


def test_outlines_become_labels_with_smaller_objects_on_top(tmp_path, export):
    covered = np.zeros(SIZE, bool)
    covered[:, 8:] = True
    export.add("a.png", (90, box(2, 2, 4, 4)), (3, box(0, 0, 8, 8)), (3, crowd(covered)))
    export.add("b.png", (90, crowd(covered) | {"iscrowd": 0}))
    found, source, _ = labels(tmp_path, described(tmp_path, split=(1.0, 0.0)))
    expected = np.zeros(SIZE, np.uint8)
    expected[:, 8:], expected[:8, :8], expected[2:4, 2:4] = 255, 1, 2
    np.testing.assert_array_equal(found["train/a"], expected)
    np.testing.assert_array_equal(found["train/b"], np.where(covered, 2, 0))
    assert source.info.classes == ("background", "möwe", "boat"), "labels follow ids with gaps"
    assert any("1 outlines of crowds" in sentence for sentence in source.sentences)


@pytest.mark.parametrize(("iscrowd", "label"), [("0", 2), ("1", 255), (True, 255), (0.0, 2), (None, 2), ("false", 2)])
def test_crowds_written_as_text(tmp_path, export, iscrowd, label):
    export.add("a.png", (90, box(2, 2, 4, 4) | {"iscrowd": iscrowd}), (3, box(6, 6, 9, 9)))
    found, _, _ = labels(tmp_path, described(tmp_path, split=(1.0, 0.0)))
    assert (found["train/a"][2:4, 2:4] == label).all()


def test_a_crowd_that_is_neither(tmp_path, export):
    export.add("a.png", (90, box(2, 2, 4, 4) | {"iscrowd": "maybe"}))
    with pytest.raises(ValueError, match=r"annotations\[0\] has iscrowd = 'maybe': use 0 or 1"):
        open_folders(described(tmp_path), tmp_path)


def test_ignored_categories_and_background(tmp_path, export):
    export.add("a.png", (90, box(2, 2, 4, 4)), (3, box(6, 6, 9, 9)))
    description = described(tmp_path, split=(1.0, 0.0), ignore=("background", "boat"))
    found, source, _ = labels(tmp_path, description)
    expected = np.full(SIZE, 255, np.uint8)
    expected[6:9, 6:9] = 0
    np.testing.assert_array_equal(found["train/a"], expected)
    assert source.info.classes == ("möwe",)


def test_names_as_programs_write_them(tmp_path, export):
    composed = unicodedata.normalize("NFC", "bögen/é 1.png")
    outline = (3, box(0, 0, 4, 4))
    export.add(unicodedata.normalize("NFD", composed), outline, listed=composed)
    export.add("flight/b.png", outline, listed="flight\\b.png")
    export.add("flight/c.png", outline, listed="C:\\Users\\anna\\c.png")
    export.add("gone.png", outline, write=False)
    picture(export.images / "unlisted.png", noise(5, SIZE))
    found, source, packing = labels(tmp_path, described(tmp_path, split=(1.0, 0.0)))
    assert set(found) == {"train/bögen/é 1", "train/flight/b", "train/C:/Users/anna/c"}
    assert [rejection.file for rejection in packing.rejected] == ["gone.png"]
    assert "is not under" in packing.rejected[0].reason
    assert any("1 pictures" in sentence and "left out" in sentence for sentence in source.sentences)


def test_a_file_a_split_with_its_images_beside_it(tmp_path):
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        export = Export(tmp_path / split / "_annotations.coco.json", tmp_path / split)
        for number in range(count):
            export.add(f"{number}.png", (3, box(0, 0, 4 + number, 4)))
    description = described(tmp_path, "*/_annotations.coco.json", images=())
    found, source, _ = labels(tmp_path, description, "val")
    assert set(found) == {"val/0-3", "val/1-2"} and source.available() == ("train", "val", "test")


def test_drawn_splits_keep_groups_whole_and_are_written_down(tmp_path, export):
    for clip in range(6):
        for frame in range(2):
            export.add(f"clip{clip}_{frame}.png", (3 if clip % 2 else 90, box(0, 0, 4, 4)))
    settings = PrepareData(
        images=(str(export.images),),
        coco=(str(export.path),),
        group=r"(clip\d)_",
        split=(0.5, 0.5),
        ignore=("boat",),
        out=str(tmp_path / "birds"),
    )
    packing = prepare(settings)
    assert packing.rows == {"train": 6, "val": 6}
    sidecar = json.loads((tmp_path / "birds" / "dataset.json").read_text())
    assert len(sidecar["drawn"]["groups"]) == 6 and sidecar["classes"] == ["background", "möwe"]
    again = prepare(PrepareData(description=tmp_path / "birds" / "dataset.yaml", out=str(tmp_path / "again")))
    assert again.rows == packing.rows
    assert json.loads((tmp_path / "again" / "dataset.json").read_text())["drawn"] == sidecar["drawn"]


def _damage(key, value):
    def damage(content):
        content["annotations"][0][key] = value

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content.pop("annotations"), "no list of annotations"),
        (_damage("category_id", 7), "category_id 7"),
        (_damage("image_id", 12345), "image_id 12345"),
        (_damage("segmentation", []), "none has an outline"),
        (lambda content: content["images"].append(dict(content["images"][0])), "id 7"),
        (lambda content: content["images"].append(content["images"][0] | {"id": 9}), "'a.png' stands twice"),
        (lambda content: content["images"][0].update(file_name="no.png"), "such as no.png"),
        (lambda content: content["images"][0].update(height=10**6), "1000000x16"),
        (lambda content: content.update(categories=[{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]), "category 3"),
        (lambda content: content.update(categories=[*CATEGORIES, {"id": 4, "name": "boat"}]), "'boat'"),
    ],
)
def test_files_that_contradict_themselves_are_told(tmp_path, export, damage, message):
    export.add("a.png", (3, box(0, 0, 4, 4)))
    damage(export.content)
    export.save()
    with pytest.raises(ValueError, match=message) as error:
        open_folders(described(tmp_path), tmp_path)
    assert "annotations.json" in str(error.value)


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ({"segmentation": [[0, 0, 9000, 0, 5, 5]]}, "reaches far beyond"),
        ({"segmentation": [[0, 0, float("nan"), 0, 5, 5]]}, "reaches far beyond"),
        ({"segmentation": [[0, 0, 1]]}, "no list of pairs"),
        ({"segmentation": []}, "box and no outline"),
        ({"segmentation": {"size": [12, 17], "counts": [204]}}, "size"),
        ({"segmentation": {"size": [12, 16], "counts": [190]}}, "190 pixels"),
        ({"segmentation": {"size": [12, 16], "counts": "P~zzzz"}}, "letters|midst"),
    ],
)
def test_an_outline_that_cannot_be_drawn_rejects_its_image(tmp_path, export, outline, message):
    export.add("a.png", (3, box(0, 0, 4, 4)))
    export.add("b.png", (3, outline))
    _, _, packing = labels(tmp_path, described(tmp_path, split=(1.0, 0.0)))
    assert packing.rows == {"train": 1} and len(packing.rejected) == 1
    assert packing.rejected[0].file.endswith("b.png")
    assert re.search(message, packing.rejected[0].reason)


def test_an_image_of_two_files_would_be_in_two_splits(tmp_path):
    for split in ("train", "val"):
        export = Export(tmp_path / "export" / f"{split}.json", tmp_path / "photos")
        export.add("a.png", (3, box(0, 0, 4, 4)))
        export.add(f"{split}.png", (3, box(0, 0, 4, 4)))
    with pytest.raises(ValueError, match=r"a\.png .*train\.json and .*val\.json"):
        open_folders(described(tmp_path, "export/*.json"), tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_are_drawn_as_pycocotools_draws_them(seed):
    covered = np.random.default_rng(seed).random(SIZE) < 0.4
    covered[seed:, :seed] = True
    letters = coco_mask.encode(np.asfortranarray(covered.astype(np.uint8)))
    outline = {"size": list(letters["size"]), "counts": letters["counts"].decode()}
    np.testing.assert_array_equal(draw_outline(outline, *SIZE), covered)
    np.testing.assert_array_equal(draw_outline(crowd(covered)["segmentation"], *SIZE), covered)


def test_a_point_or_a_line_covers_nothing():
    assert not draw_outline([[3, 3, 5, 5]], *SIZE).any()
    with pytest.raises(OutlineError, match="no polygon"):
        draw_outline("RLE", *SIZE)


def test_sizes_that_differ_from_the_images_are_rejected(tmp_path, export):
    export.add("a.png", (3, box(0, 0, 4, 4)))
    export.add("b.png", (3, box(0, 0, 4, 4)))
    Image.fromarray(noise(1, (24, 32))).save(export.images / "b.png")
    _, _, packing = labels(tmp_path, described(tmp_path, split=(1.0, 0.0)))
    assert packing.rows == {"train": 1} and "24x32" in packing.rejected[0].reason
