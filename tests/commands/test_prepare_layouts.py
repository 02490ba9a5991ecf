"""Strangers' layouts from files to a packed data set by `miseg prepare-data` alone."""

import csv
import io
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from miseg.commands import prepare_data
from miseg.data.packed.dataset import PackedDataset, decode
from tests.support.layouts import box, crowd, noise, picture
from tests.support.rasters import write_raster

SIZE = (12, 16)


@pytest.fixture
def prepare(tmp_path, monkeypatch, capsys):
    """Runs the command in the test's folder; its status, what it printed, its errors, and the packed data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MISEG_STORAGE", str(tmp_path / "storage"))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["miseg prepare-data", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            prepare_data.main()
        out = tmp_path / "storage" / "data" / "own"
        return ended.value.code, *capsys.readouterr(), PackedDataset.open(out) if out.exists() else None

    return call


def rows(dataset, split):
    """(image, mask) by id."""
    read = [dataset.read(split, index) for index in range(dataset.size(split))]
    return {row.id: decode(row) for row in read}


def everything(dataset):
    """(image, mask) by name, of all splits."""
    return {name.split("/", 1)[1]: pair for split in dataset.splits for name, pair in rows(dataset, split).items()}


def test_patients_with_several_images_each(tmp_path, prepare):
    for patient in range(9):
        for view in range(1 + patient % 3):
            labels = np.zeros(SIZE, np.uint8)
            labels[: 2 + patient, : 3 + view] = 255
            stem = f"study/P{patient:03d}/P{patient:03d}_view{view}"
            picture(tmp_path / f"{stem}.png", noise(patient * 5 + view)[..., 0])
            picture(tmp_path / f"{stem}_seg.png", labels)
    status, printed, errors, dataset = prepare(
        *("--images", "study/*/{stem}.png", "--masks", "study/*/{stem}_seg.png", "--group", r"P(\d+)"),
        *("--foreground", "255", "--classes", "lesion", "--out", "own"),
    )
    assert status == 0, errors
    assert "9 groups of 18 images" in printed and "by groups" in printed
    patients = [{name.split("P")[1][:3] for name in rows(dataset, split)} for split in dataset.splits]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 9, "no patient is in two splits"
    assert dataset.info.classes == ("background", "lesion") and dataset.info.channels == 1
    for name, (_, mask) in everything(dataset).items():
        patient, view = int(name.rpartition("P")[2][:3]), int(name[-1])
        assert mask.sum() == (2 + patient) * (3 + view) and mask.max() == 1


def test_drone_tiles_of_four_bands_with_masks_of_colours(tmp_path, prepare):
    colours = {"bare soil": (155, 118, 83), "crop": (0, 200, 0), "weed": (255, 0, 0), "no label": (0, 0, 0)}
    with (tmp_path / "colours.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name", "r", "g", "b"], *([name, *rgb] for name, rgb in colours.items())])
    table = np.array(list(colours.values()), np.uint8)
    tiles, labels = {}, {}
    (tmp_path / "ortho").mkdir()
    for n in range(6):
        rng = np.random.default_rng(n)
        name = f"field A_r{n // 3}_c{n % 3}"
        tiles[name] = rng.integers(100, 4000, (*SIZE, 4), dtype=np.uint16)
        labels[name] = rng.integers(0, 4, SIZE)
        write_raster(tmp_path / "ortho" / f"{name}.tif", tiles[name])
        picture(tmp_path / "annotation" / f"{name}.png", table[labels[name]])
    status, _, errors, dataset = prepare(
        *("--images", "ortho", "--masks", "annotation", "--colours", "colours.csv", "--ignore", "no label"),
        *("--split", "0.5", "0.5", "--out", "own"),
    )
    assert status == 0, errors
    assert dataset.info.classes == ("bare soil", "crop", "weed")
    assert dataset.info.colours == tuple(list(colours.values())[:3])
    assert (dataset.info.channels, dataset.info.full_scale) == (4, 4095)
    packed = everything(dataset)
    assert packed.keys() == tiles.keys()
    for name, (image, mask) in packed.items():
        assert np.array_equal(image, tiles[name]) and image.dtype == np.uint16
        assert np.array_equal(mask, np.where(labels[name] == 3, 255, labels[name]))


def export(path, names, annotations, folder="", categories=("sign", "car")):
    """A COCO file of images of SIZE, of which each has the annotations at its place."""
    content = {
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, 3)],
        "images": [
            {"id": 10 + n, "file_name": f"{folder}{name}.jpg", "height": SIZE[0], "width": SIZE[1]}
            for n, name in enumerate(names)
        ],
        "annotations": [
            {"id": 100 * n + k, "image_id": 10 + n, "iscrowd": 0} | annotation
            for n, some in enumerate(annotations)
            for k, annotation in enumerate(some)
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_a_coco_export_with_its_images_in_a_folder(tmp_path, prepare):
    names = [f"street {n}" for n in range(6)]
    for n, name in enumerate(names):
        picture(tmp_path / "photos" / f"{name}.jpg", noise(n))
    covered = np.zeros(SIZE, bool)
    covered[8:, 10:] = True
    annotations = [[box(0, 0, 4, 1 + n) | {"category_id": 3}, box(2, 0, 9, 8) | {"category_id": 4}] for n in range(5)]
    annotations[0].append(crowd(covered) | {"category_id": 4})
    export(tmp_path / "annotations.json", names, [*annotations, []])
    picture(tmp_path / "photos" / "of no use.jpg", noise(9))
    status, printed, errors, dataset = prepare("--coco", "annotations.json", "--images", "photos", "--out", "own")
    assert status == 0, errors
    assert "1 pictures under" in printed and "1 of 6 images have no outline" in printed
    assert dataset.info.classes == ("background", "sign", "car") and dataset.splits == ("train", "val", "test")
    masks = {name: mask for name, (_, mask) in everything(dataset).items()}
    assert masks.keys() == set(names)
    for n, name in enumerate(names[:5]):
        expected = np.zeros(SIZE, np.uint8)
        expected[8:, 10:] = 255 if n == 0 else 0
        # The smaller object lies on the larger one.
        expected[2:9, :8] = 2
        expected[:4, : 1 + n] = 1
        assert np.array_equal(masks[name], expected)
    assert not masks[names[5]].any()
    # The description does the same again, and a category may be left out of all counts.
    first = (tmp_path / "storage/data/own/dataset.json").read_bytes()
    assert prepare("--description", "storage/data/own/dataset.yaml")[0] == 0
    assert (tmp_path / "storage/data/own/dataset.json").read_bytes() == first
    *_, dataset = prepare("--coco", "annotations.json", "--images", "photos", "--ignore", "car", "--out", "own")
    mask = everything(dataset)["street 2"][1]
    assert dataset.info.classes == ("background", "sign") and (mask == 255).sum() == 7 * 8 - 2 * 3


def test_coco_exports_of_a_split_each(tmp_path, prepare):
    # As Roboflow has them: a folder a split, and the pictures beside the file.
    for number, split in enumerate(("train", "valid", "test")):
        names = [f"{n}" for n in range(3 - number)]
        for n, name in enumerate(names):
            picture(tmp_path / split / f"{name}.jpg", noise(10 * number + n))
        some = [[box(0, 0, 4, 4 + number) | {"category_id": 3}] for _ in names]
        export(tmp_path / split / "_annotations.coco.json", names, some)
    status, _, errors, dataset = prepare("--coco", "*/_annotations.coco.json", "--out", "own")
    assert status == 0, errors
    assert {split: dataset.size(split) for split in dataset.splits} == {"train": 3, "val": 2, "test": 1}
    for number, split in enumerate(dataset.splits):
        assert {int((mask == 1).sum()) for _, mask in rows(dataset, split).values()} == {4 * (4 + number)}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--coco", "a.json"), "none of its 2 images is under"),
        (("--coco", "a.json", "--images", "nowhere"), "--images nowhere: no such folder, and beside --coco"),
        (("--coco", "a.json", "--images", "i", "--masks", "i"), "--coco beside --masks"),
        (("--coco", "a.json", "--images", "i", "--foreground", "1"), "--foreground beside --coco"),
        (("--coco", "a.json", "--images", "i", "--ignore", "255"), "--ignore 255 beside --coco"),
        (("--coco", "a.json", "--images", "i", "--ignore", "tree"), "--ignore tree: "),
        (("--coco", "b.json", "--images", "i"), "category_id 9"),
        (("--coco", "i/x.jpg", "--images", "i"), "is damaged or no JSON"),
        (("--columns", "image"), "--columns is for own images"),
        (("--parquet", "a.json"), "is damaged or no Parquet"),
    ],
)
def test_exports_that_cannot_be_read(tmp_path, prepare, arguments, reason):
    for n, name in enumerate(("x", "y")):
        picture(tmp_path / "i" / f"{name}.jpg", noise(n))
    (tmp_path / "elsewhere").mkdir()
    export(tmp_path / "elsewhere" / "a.json", ("x", "y"), [[box(0, 0, 4, 4) | {"category_id": 3}], []])
    export(tmp_path / "b.json", ("x", "y"), [[box(0, 0, 4, 4) | {"category_id": 9}], []])
    arguments = [f"elsewhere/{word}" if word == "a.json" else word for word in arguments]
    status, _, errors, dataset = prepare(*arguments, "--out", "own")
    assert status == 2 and reason in errors and len(errors.strip().splitlines()) == 1, errors
    assert dataset is None


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_parquet_as_hugging_face_writes_it(tmp_path, prepare):
    images, labels = {}, {}
    (tmp_path / "data").mkdir()
    for split, count in (("train", 5), ("validation", 2)):
        table = []
        for n in range(count):
            name = f"{split} {n}"
            images[name], labels[name] = noise(n), np.random.default_rng(n).integers(0, 3, SIZE, dtype=np.uint8)
            mask = {"bytes": encoded(labels[name]), "path": None}
            row = {"image": {"bytes": encoded(images[name]), "path": f"{name}.png"}, "annotation": mask, "scene": "x"}
            table.append(row)
        # More than one row group, as large files have.
        pq.write_table(pa.Table.from_pylist(table), tmp_path / f"data/{split}-00000-of-00001.parquet", row_group_size=2)
    status, _, errors, dataset = prepare("--parquet", "data", "--classes", "a", "b", "c", "--out", "own")
    assert status == 0, errors
    assert {split: dataset.size(split) for split in dataset.splits} == {"train": 5, "val": 2}
    packed = everything(dataset)
    assert packed.keys() == images.keys()
    for name, (image, mask) in packed.items():
        assert np.array_equal(image, images[name]) and np.array_equal(mask, labels[name])


def test_parquet_whose_columns_are_not_clear(tmp_path, prepare):
    table = [{"photo": encoded(noise(n)), "truth": encoded(np.eye(12, 16, dtype=np.uint8))} for n in range(8)]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "own.parquet")
    status, _, errors, _ = prepare("--parquet", "own.parquet", "--out", "own")
    assert status == 2 and "columns photo, truth hold pictures" in errors and "--columns photo truth" in errors
    status, _, errors, dataset = prepare("--parquet", "own.parquet", "--columns", "photo", "truth", "--out", "own")
    assert status == 0, errors
    assert {int(mask.sum()) for _, mask in everything(dataset).values()} == {12}
    status, _, errors, dataset = prepare("--parquet", "own.parquet", "--columns", "photo", "--out", "own")
    assert status == 0 and dataset.splits == ("train",) and dataset.info.classes == (), errors
    *_, errors, _ = prepare("--parquet", "own.parquet", "--columns", "foto", "--out", "own")
    assert "--columns foto: " in errors
    table[2]["photo"], table[3]["truth"] = b"no picture", None
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "own.parquet")
    status, _, errors, dataset = prepare("--parquet", "own.parquet", "--columns", "photo", "truth", "--out", "own")
    assert status == 1 and "2 files rejected" in errors and len(everything(dataset)) == 6, errors


@pytest.mark.parametrize("of_structs", [True, False])
def test_parquet_with_a_list_of_masks_a_row(tmp_path, prepare, of_structs):
    table, labels = [], {}
    for n in range(7):
        objects = np.zeros((n % 3, *SIZE), np.uint8)
        for number in range(len(objects)):
            objects[number, number * 4 : number * 4 + 3, 2 : 4 + n] = 255
        labels[f"photo {n}"] = objects.any(0).astype(np.uint8) if len(objects) else np.zeros(SIZE, np.uint8)
        masks = [{"bytes": encoded(mask), "path": None} if of_structs else encoded(mask) for mask in objects]
        table.append({"image": {"bytes": encoded(noise(n)), "path": f"photo {n}.png"}, "masks": masks})
    table.append({"image": {"bytes": encoded(noise(7)), "path": "photo 7.png"}, "masks": None})
    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema({"image": picture, "masks": pa.list_(picture if of_structs else pa.binary())})
    pq.write_table(pa.Table.from_pylist(table, schema), tmp_path / "own.parquet", row_group_size=3)
    status, printed, errors, dataset = prepare("--parquet", "own.parquet", "--classes", "cell", "--out", "own")
    assert status == 1 and "photo 7" not in errors and "row 7, column image: row without mask" in printed + errors
    assert "rows have lists of masks: each of a list is an object" in printed
    assert dataset.info.classes == ("background", "cell")
    packed = everything(dataset)
    assert packed.keys() == labels.keys()
    assert all(np.array_equal(mask, labels[name]) for name, (_, mask) in packed.items())
    *_, errors, _ = prepare("--parquet", "own.parquet", "--columns", "masks", "--out", "other")
    assert "--columns masks: " in errors and "lists of pictures" in errors


def test_objects_whose_files_begin_with_the_images_name(tmp_path, prepare):
    for n in (1, 2, 10, 11):
        picture(tmp_path / "i" / f"img_{n}.jpg", noise(n))
        for k in range(n % 3):
            labels = np.zeros(SIZE, np.uint8)
            labels[k, :n] = 255
            picture(tmp_path / "m" / f"img_{n}_cell_{k}.png", labels)
    arguments = ("--images", "i", "--masks", "m", "--instances", "--split", "0.5", "0.5", "--out", "own")
    picture(tmp_path / "i" / "img_3.jpg", noise(3))
    status, printed, errors, _ = prepare(*arguments)
    assert status == 1 and "img_3.jpg: image without mask" in errors and "background" in errors
    status, printed, errors, dataset = prepare(*arguments, "--without-mask", "background")
    assert status == 0 and "1 image without mask taken as background" in printed, errors
    sums = {name: int(mask.sum()) for name, (_, mask) in everything(dataset).items()}
    assert sums == {"img_1": 1, "img_2": 4, "img_3": 0, "img_10": 10, "img_11": 22}


def test_names_that_differ_by_a_word_in_their_midst(tmp_path, prepare):
    for shape in ("circle", "square"):
        for n in range(2):
            picture(tmp_path / "samples" / f"{shape}_image_{n}.png", noise(n))
            labels = np.zeros(SIZE, np.uint8)
            labels[: 2 + n, : len(shape) + n] = 1
            picture(tmp_path / "samples" / f"{shape}_mask_{n}.png", labels)
    status, printed, errors, dataset = prepare(
        *("--images", "samples/*_image_*.png", "--masks", "samples/*_mask_*.png", "--split", "0.5", "0.5"),
        *("--out", "own"),
    )
    assert status == 0 and "the same words and numbers but for 'image' ↔ 'mask'" in printed, errors
    for name, (_, mask) in everything(dataset).items():
        number = int(name[-1])
        assert mask.sum() == (2 + number) * (6 + number)


def test_names_of_classes_in_a_text_file(tmp_path, prepare):
    for n in range(4):
        picture(tmp_path / "i" / f"{n}.png", noise(n))
        picture(tmp_path / "m" / f"{n}.png", np.random.default_rng(n).integers(0, 3, SIZE, dtype=np.uint8))
    (tmp_path / "class_names.txt").write_text("_background_\ndog house\r\ncat\n")
    arguments = ("--images", "i", "--masks", "m", "--split", "0.5", "0.5", "--out", "own", "--classes")
    status, _, errors, dataset = prepare(*arguments, "class_names.txt")
    assert status == 0 and dataset.info.classes == ("_background_", "dog house", "cat"), errors
    assert prepare(*arguments, "no.txt")[0] == 2


def test_arrays_and_test_sets_alone_are_told(tmp_path, prepare):
    for n in range(3):
        picture(tmp_path / "test" / "i" / f"{n}.png", noise(n))
        picture(tmp_path / "test" / "m" / f"{n}.png", np.eye(12, 16, dtype=np.uint8))
        (tmp_path / f"{n}.mat").write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(200))
    status, _, errors, _ = prepare("--images", "test/i", "--masks", "*.mat", "--out", "own")
    assert status == 2 and "file of MATLAB: save the map of ids in it as a PNG" in errors
    arguments = ("--images", "{split}/i/*", "--masks", "{split}/m/*", "--out", "own")
    status, printed, errors, dataset = prepare(*arguments)
    assert status == 0 and "no split is train (test 3)" in printed and "--no-split-folders" in printed, errors
    assert dataset.splits == ("test",)


def test_slices_of_a_stack_are_cut_into_runs_where_the_report_says_so(tmp_path, prepare):
    rng = np.random.default_rng(0)
    # Each slice is like the one before.
    slices = 128 + 40 * np.cumsum(rng.normal(size=(24, 40, 40)), axis=0) / 5
    for n, pixels in enumerate(np.clip(slices, 0, 255).astype(np.uint8)):
        picture(tmp_path / "i" / f"slice{n}.png", pixels)
        picture(tmp_path / "m" / f"slice{n}.png", (pixels > 128).astype(np.uint8))
    arguments = ("--images", "i", "--masks", "m", "--out", "own")
    status, printed, errors, _ = prepare(*arguments)
    assert status == 0 and "cut one stack into runs with --split-blocks" in printed, errors
    status, printed, errors, dataset = prepare(*arguments, "--split-blocks")
    assert status == 0 and "splits cut into runs of names (0.7 0.15 0.15): train 17, val 3, test 4" in printed, errors
    numbers = [sorted(int(name.rpartition("slice")[2]) for name in rows(dataset, split)) for split in dataset.splits]
    assert [list(range(some[0], some[-1] + 1)) for some in numbers] == numbers, "no slice lies in another split's run"
    first = (tmp_path / "storage/data/own/dataset.json").read_bytes()
    assert prepare("--description", "storage/data/own/dataset.yaml")[0] == 0
    assert (tmp_path / "storage/data/own/dataset.json").read_bytes() == first
    assert "--seed 3: --split-blocks draws nothing" in prepare(*arguments, "--split-blocks", "--seed", "3")[2]
    (tmp_path / "train.txt").write_text("\n".join(f"slice{n}" for n in range(20)))
    (tmp_path / "val.txt").write_text("\n".join(f"slice{n}" for n in range(20, 24)))
    status, _, errors, _ = prepare(*arguments, "--lists", "{split}.txt", "--split-blocks")
    assert status == 2 and "--split-blocks is for images whose splits are drawn" in errors
