"""Strangers' files to a study's report, by the commands of the documentation alone."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miseg.commands import program
from tests.support.layouts import box, noise, picture
from tests.support.rasters import write_raster

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.usefixtures("ray_here"), pytest.mark.timeout(1800)]

SIZE = (48, 64)
COLOURS = {"bare soil": (155, 118, 83), "crop": (0, 200, 0), "weed": (255, 0, 0), "no label": (0, 0, 0)}
OTHER_SIZES = {"small": (40, 33), "large": (150, 201)}
METHODS = {"ce": "CE", "rmi": "RMI", "dice": "Dice"}
CLASSES = {
    "patients": ["background", "lesion"],
    "drone": ["bare soil", "crop", "weed"],
    "street": ["background", "sign", "car"],
}


def patients() -> None:
    """Grey views of nine patients in a folder each, lesions drawn as 255."""
    for patient in range(9):
        for view in range(1 + patient % 3):
            labels = np.zeros(SIZE, np.uint8)
            labels[10 : 20 + patient, 8 : 30 + view] = 255
            stem = Path(f"study/P{patient:03d}/P{patient:03d}_view{view}")
            picture(stem.with_suffix(".png"), noise(patient * 5 + view, SIZE)[..., 0] // 2 + labels // 4)
            picture(stem.with_name(f"{stem.name}_seg.png"), labels)


def drone() -> None:
    """Tiles of four bands and 16 bits, with masks that are RGB pictures, and a table of their colours."""
    with Path("colours.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name", "r", "g", "b"], *([name, *rgb] for name, rgb in COLOURS.items())])
    table = np.array(list(COLOURS.values()), np.uint8)
    Path("ortho").mkdir()
    for number in range(10):
        rng = np.random.default_rng(number)
        labels = np.kron(rng.integers(0, 4, (6, 8)), np.ones((8, 8), int))
        name = f"field A_r{number // 5}_c{number % 5}"
        tile = rng.integers(100, 900, (*SIZE, 4)) + 900 * labels[..., None]
        write_raster(Path("ortho") / f"{name}.tif", tile.astype(np.uint16))
        picture(Path("annotation") / f"{name}.png", table[labels])


def street() -> None:
    """Photographs with outlines in one JSON file, as COCO has them."""
    images, annotations = [], []
    for number in range(10):
        picture(Path("photos") / f"street {number}.jpg", noise(number, SIZE))
        images.append({"id": 10 + number, "file_name": f"street {number}.jpg", "height": SIZE[0], "width": SIZE[1]})
        for category, outline in ((3, box(0, 0, 16, 10 + number)), (4, box(20, 4, 44, 40))):
            annotations.append({"id": len(annotations), "image_id": 10 + number, "iscrowd": 0, "category_id": category})
            annotations[-1] |= outline
    categories = [{"id": 3, "name": "sign"}, {"id": 4, "name": "car"}]
    content = {"categories": categories, "images": images, "annotations": annotations}
    Path("annotations.json").write_text(json.dumps(content))


@pytest.fixture
def miseg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `miseg …` in the test's folder, which must succeed; what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MISEG_STORAGE", str(tmp_path / "storage"))

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["miseg", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        printed, errors = capsys.readouterr()
        assert not ended.value.code, f"{' '.join(arguments)}: {errors[-2000:]}"
        return printed

    return run


def test_three_strangers_get_a_study_from_their_files(tmp_path: Path, miseg: Callable[..., str]) -> None:
    patients(), drone(), street()
    layout = ("--images", "study/*/{stem}.png", "--masks", "study/*/{stem}_seg.png", "--group", r"P(\d+)")
    miseg("prepare-data", *layout, "--foreground", "255", "--classes", "lesion", "--out", "patients")
    colours = ("--colours", "colours.csv", "--ignore", "no label")
    miseg("prepare-data", "--images", "ortho", "--masks", "annotation", *colours, "--out", "drone")
    miseg("prepare-data", "--coco", "annotations.json", "--images", "photos", "--out", "street")
    budget = ("--trials", "1", "--steps", "6", "--confirm-seeds", "1", "--concurrent", "1", "--initial-features", "4")
    printed = miseg("study", "--name", "strangers", "--data", *CLASSES, "--methods", *METHODS, *budget)
    for data in CLASSES:
        assert f"{data}/all, supervision dense, change a setting with --set" in printed, "plans are printed"
        assert f"{data}/all, supervision dense: Mean IoU on test" in printed
    said = miseg("report", "--study", "strangers")
    assert "missing:" not in said and "Nothing is measured" not in said
    folder = tmp_path / "storage" / "reports" / "strangers"
    results = read(folder / "results.csv")
    for data, classes in CLASSES.items():
        rows = [row for row in results if row["data"] == data]
        labels = {re.sub(r" (tuned|as planned)( \(= tuned\))?$", "", row["row"]) for row in rows}
        assert labels == set(METHODS.values()), "settings are planned, and nobody has published them"
        assert all(0 <= float(row["mean_iou"]) <= 100 and row["split"] == "test" for row in rows)
        scored = Counter(row["class"] for row in read(folder / "classes.csv") if row["data"] == data)
        assert scored == dict.fromkeys(classes, len(rows)), "every row scores every class, by its name"
    page = (folder / "report.html").read_text()
    assert all(f">{data.capitalize()}<" in page for data in CLASSES)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tile_of(path: Path, size: tuple[int, int], seed: int) -> np.ndarray:
    """Writes a tile of four bands of 16 bits, in which near infrared alone tells plants; where they are."""
    rng = np.random.default_rng(seed)
    blocks = rng.random((-(-size[0] // 8), -(-size[1] // 8))) < 0.5
    plants = np.kron(blocks, np.ones((8, 8), bool))[: size[0], : size[1]]
    tile = rng.integers(200, 400, (*size, 4))
    tile[..., 3] += 1500 * plants
    path.parent.mkdir(exist_ok=True)
    write_raster(path, tile.astype(np.uint16))
    return plants


def test_sixteen_bits_of_four_bands_train_under_ray_and_map_files_of_other_sizes(miseg: Callable[..., str]) -> None:
    for number in range(10):
        plants = tile_of(Path(f"tiles/{number}.tif"), SIZE, number)
        picture(Path(f"labels/{number}.png"), plants.astype(np.uint8))
    layout = ("--images", "tiles", "--masks", "labels", "--classes", "soil", "plants")
    miseg("prepare-data", *layout, "--out", "plants")
    settings = ("--steps", "60", "--method.network.initial-features", "4", "--optimiser.learning-rate", "0.02")
    printed = miseg("train", "ce", "--data", "plants", *settings)
    assert "4 channels, 2 classes" in printed and "expected: about" in printed
    (run_id,) = re.findall(r"MLflow run (\w+) at", printed)
    scores = miseg("evaluate", "--run", run_id, "--split", "test")
    score = re.search(r"mean_iou\D+(\d\.\d+)", scores)
    assert score is not None and float(score[1]) > 0.9, scores
    # A wrong scale or order of bands would leave the maps at chance, and end with 0 all the same.
    others = {name: tile_of(Path(f"later/{name}.tif"), size, 77) for name, size in OTHER_SIZES.items()}
    miseg(
        "segment", "--model", f"runs:/{run_id}", "--images", "later", "--out", "maps", "--tile", "96", "--overlap", "32"
    )
    for name, plants in others.items():
        with Image.open(f"maps/{name}.tif") as file:
            assert (np.asarray(file) == plants).mean() > 0.95, name
