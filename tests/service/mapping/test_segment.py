"""`miseg segment` on real files: the maps it writes are what the method predicts, tile by tile and as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from mlflow import MlflowClient
from rasterio.warp import transform

from miseg.commands import segment
from miseg.data.labels.annotations import Annotations
from miseg.data.loading import tiles
from miseg.data.loading.tiles import StandardScene
from miseg.data.raster.maps import MapWriter
from miseg.data.raster.scene_files import SceneOptions, open_scene
from miseg.interface import Batch, Task
from miseg.methods.configs import CrossEntropy
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.mapping import scene_maps
from miseg.service.training.loop import Loop
from tests.support.labelled_fields import write_tiny_model
from tests.support.scene_layouts import UTM, place, raster, smooth

SIZE = (40, 50)
BANDS = ("B04", "B03", "B02", "B08")
POINTS = [(5, 6, "wheat"), (30, 8, "maize"), (12, 40, "maize"), (35, 45, "wheat"), (20, 25, "beet")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny similarity, trained a little."""
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A UTM scene with clouds and nodata, with points in longitude and latitude beside it."""
    noise = np.random.default_rng(0).normal(0, 150, (*SIZE, 4))
    pixels = (smooth(SIZE, place()) + noise).round().astype(np.uint16)
    pixels[:4, 44:] = 0
    path = raster(tmp_path / "2019-07-20.tif", pixels)
    classes = np.full(SIZE, 4, np.uint8)
    classes[24:27, :9] = 9
    raster(tmp_path / "2019-07-20_SCL.tif", classes)
    features = []
    for row, column, name in [*POINTS, (2, 47, "wheat"), (25, 3, "maize")]:
        x, y = middle(row, column)
        (longitude,), (latitude,) = transform(UTM, "EPSG:4326", [x], [y])
        point = {"type": "Point", "coordinates": [longitude, latitude]}
        features.append({"type": "Feature", "properties": {"class": name}, "geometry": point})
    (tmp_path / "points.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def middle(row: int, column: int) -> tuple[float, float]:
    here = place()
    return here.c + here.a * (column + 0.5), here.f + here.e * (row + 0.5)


def expected_map(model: Path, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The classes of the whole scene at once, with the labels put on their pixels by hand."""
    method, _, _ = checkpoint.open_method(model)
    scene = StandardScene.measure(open_scene(path, SceneOptions(bands=BANDS)))
    tile = scene.tile((0, 0, *SIZE), 0)
    names = sorted({name for *_, name in POINTS})
    labels = torch.full((1, *SIZE), 255)
    for row, column, name in POINTS:
        labels[0, row, column] = names.index(name)
    image = torch.from_numpy(tile.images)
    method.task = Task(3, 4)
    method.fit_support([Batch(image, labels)])
    return np.where(tile.valid, method.predict(image)[0].argmax(0).numpy(), 255), tile.valid


@pytest.mark.parametrize("compare", ["local", "global", "representation"])
def test_windows_give_the_whole_map(model, scene, monkeypatch, compare):
    monkeypatch.setattr(tiles, "TILE", 16)
    standard = StandardScene.measure(open_scene(scene, SceneOptions(bands=BANDS)))
    tile = standard.tile((0, 0, *SIZE), 0)
    labels = np.full((1, *SIZE), 255, np.uint8)
    for row, column, name in POINTS:
        labels[0, row, column] = ("beet", "maize", "wheat").index(name)
    examples = scene_maps.Examples(((tile.images, labels),), ("beet", "maize", "wheat"))
    settings = scene_maps.NeighbourSettings(compare)
    method = scene_maps.open_for_maps(model, examples, settings, torch.device("cpu"))
    whole, sure = scene_maps.map_window(method, standard, (0, 0, *SIZE), torch.device("cpu"))
    for window in standard.scene.grid.windows(16):
        row, column, height, width = window
        classes, confidence = scene_maps.map_window(method, standard, window, torch.device("cpu"))
        part = slice(row, row + height), slice(column, column + width)
        np.testing.assert_allclose(confidence, sure[part], atol=1e-4)
        assert ((classes == whole[part]) | (confidence < 1e-4)).all()
    assert (sure >= 0).all() and (sure <= 1).all()


def test_other_bands_another_method_and_an_unknown_comparison_are_named(model, tmp_path):
    labels = np.zeros((1, 9, 9), np.uint8)
    three = scene_maps.Examples(((np.zeros((1, 3, 9, 9), np.float32), labels),), ("a", "b"))
    with pytest.raises(ValueError, match="3 bands, the model was trained on 4"):
        scene_maps.open_for_maps(model, three, scene_maps.NeighbourSettings(), torch.device("cpu"))
    four = scene_maps.Examples(((np.zeros((1, 4, 9, 9), np.float32), labels),), ("a", "b"))
    with pytest.raises(ValueError, match="compare = 'nearest': this model has representation"):
        scene_maps.open_for_maps(model, four, scene_maps.NeighbourSettings("nearest"), torch.device("cpu"))
    dense = Loop(Experiment(method=CrossEntropy(UNet(2))), Task(num_classes=2, in_channels=4))
    folder = checkpoint.save(tmp_path / "checkpoint", dense, {}, {})
    with pytest.raises(ValueError, match="CrossEntropy learns from dense labels"):
        scene_maps.open_for_maps(folder, four, scene_maps.NeighbourSettings(), torch.device("cpu"))
    assert checkpoint_files.read_experiment(model).patch == 7


@pytest.mark.ray
@pytest.mark.slow
def test_the_job_maps_a_scene_a_series_and_another_scene(model, scene, tmp_path, ray_here, capsys):
    series = tmp_path / "series"
    for number, date in enumerate(("2019-05-16", "2019-08-24")):
        noise = np.random.default_rng(number + 1).normal(0, 150, (*SIZE, 4))
        raster(series / f"{date}.tif", (smooth(SIZE, place()) + noise).round().astype(np.uint16))
    raster(series / "2019-06-01.tif", np.zeros((*SIZE, 4), np.uint16))
    common = {"model": str(model), "scene": scene, "labels": tmp_path / "points.geojson", "bands": BANDS}
    common["storage"] = str(tmp_path / "storage")

    assert segment.run(segment.Segment(**common, out=tmp_path / "map.tif")) == 0
    told = capsys.readouterr()
    assert "points.geojson, feature 6" in told.err and "points.geojson, feature 7" in told.err
    assert "map.tif: of the 5 labelled pixels the map gives" in told.out
    expected, valid = expected_map(model, scene)
    with rasterio.open(scene) as source, rasterio.open(tmp_path / "map.tif") as found:
        assert (found.crs, found.transform, found.nodata) == (source.crs, source.transform, 255)
        classes = found.read(1)
    with rasterio.open(tmp_path / "map_confidence.tif") as found:
        confidence = found.read(1)
    assert ((classes == expected) | (confidence < 1e-4)).all()
    assert np.array_equal(np.isnan(confidence), ~valid) and (tmp_path / "map.png").stat().st_size > 1000

    assert segment.run(segment.Segment(**common, series=series, out=tmp_path / "maps")) == 0
    assert sorted(path.name for path in (tmp_path / "maps").glob("2*.tif") if "conf" not in path.name) == [
        "2019-05-16.tif",
        "2019-08-24.tif",
    ]
    told = capsys.readouterr()
    assert "2019-06-01: no valid pixel" in told.err and "labelled pixels the map gives" not in told.out, "another date"
    assert segment.run(segment.Segment(**common, apply_to=series / "2019-05-16.tif", out=tmp_path / "other.tif")) == 0
    with rasterio.open(tmp_path / "other.tif") as other, rasterio.open(tmp_path / "maps" / "2019-05-16.tif") as same:
        assert np.array_equal(other.read(1), same.read(1))

    client = MlflowClient(f"sqlite:///{tmp_path}/storage/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("miseg/embedded").experiment_id])
    assert {run.data.tags["miseg.kind"] for run in runs} == {"maps"} and len(runs) == 3
    pictures = [{item.path for item in client.list_artifacts(run.info.run_id, "maps")} for run in runs]
    assert pictures == [{"maps/other.png"}, {"maps/2019-05-16.png", "maps/2019-08-24.png"}, {"maps/map.png"}]


@pytest.mark.parametrize(("right", "share"), [(5, "100.0 %"), (2, "40.0 %"), (1, "20.0 %")])
def test_a_map_that_contradicts_its_labels_is_told(scene, tmp_path, right, share):
    grid = open_scene(scene, SceneOptions(bands=BANDS))
    rows, columns, names = zip(*POINTS, strict=True)
    classes = tuple(sorted(set(names)))
    labels = np.array([classes.index(name) for name in names])
    points = Annotations(np.array(rows), np.array(columns), labels, classes, ("points",), np.zeros(5, int))
    mapped = np.full(SIZE, 255, np.uint8)
    for point, (row, column, _) in enumerate(POINTS):
        mapped[row, column] = labels[point] if point < right else (labels[point] + 1) % 3
    with MapWriter(tmp_path / "map.tif", grid.grid, classes) as writer:
        writer.write((0, 0, *SIZE), mapped, np.ones(SIZE, np.float32))
    sentence = scene_maps.label_agreement({tmp_path / "map.tif": {}}, {tmp_path / "map.tif": grid}, grid, points)
    assert f"map.tif: of the 5 labelled pixels the map gives {share} their own class" in sentence
    assert ("one class alone would have 40.0 %: do not use it" in sentence) == (right == 1)


def test_missing_options_are_named():
    with pytest.raises(ValueError, match="--labels is missing"):
        segment.run(segment.Segment(model="m", scene=Path("a.tif"), out=Path("b.tif")))
