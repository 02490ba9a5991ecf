"""`miseg.load(…).predict(…)`: the classes of `miseg segment`, from a file or an array, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import miseg
from miseg.data.configs import Augmentation
from miseg.data.raster.rasters import open_raster
from miseg.evaluation.tiled import Tiling
from miseg.interface import Batch, Task
from miseg.methods.cluster_configs import PixelKMeans
from miseg.methods.configs import CrossEntropy, MutualInformationSimilarity
from miseg.networks.configs import PatchEncoder, UNet
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.mapping import image_maps
from miseg.service.mapping.image_actor import MapSettings, map_image
from miseg.service.tracking import mlflow_runs
from miseg.service.training.loop import Loop
from tests.support.scene_layouts import raster

TASK = Task(3, 3, ("road", "sky", "tree"))
MOMENTS = {"mean": [0.4, 0.5, 0.3], "std": [0.25, 0.2, 0.3]}
SMALL = CrossEntropy(UNet(2, "group"))


def saved(folder: Path, experiment: Experiment, data: dict[str, Any] | None = None) -> Path:
    """A checkpoint after steps on noise: far enough from its start for its classes to differ."""
    loop = Loop(experiment, TASK)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4 if experiment.supervision == "dense" else 0):
        images = torch.randn(4, 3, 32, 32, generator=generator)
        loop.train_step(Batch(images, (images.mean(1) > 0).long() + (images[:, 0] > 1).long()))
    return checkpoint.save(folder / "checkpoint", loop, {"mean_iou": 0.0, "score": 0.0}, MOMENTS | (data or {}))


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("dense"), Experiment(SMALL, steps=4, batch_size=4))


def smooth(height: int, width: int, channels: int = 3) -> np.ndarray:
    coarse = np.random.default_rng(1).integers(0, 256, (5, 6, channels), dtype=np.uint8)
    layers = [
        Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)
    ]
    return np.stack([np.asarray(layer) for layer in layers], -1)


def segmented(folder: Path, image: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Classes and confidence that `miseg segment --images` writes, by its actor in this process."""
    settings = MapSettings(Tiling(64, 16))
    plan = image_maps.plan(checkpoint_files.files_of(folder), [str(image)], str(out), settings)
    predictor = settings.predictor(folder, torch.device("cpu"))
    list(map_image(predictor, plan.todo[0], plan.made_from[0], str(out), settings, {}))
    maps = []
    for name in (f"{image.stem}.tif", f"{image.stem}_confidence.tif"):
        with open_raster(out / name) as file:
            maps.append(file.read(1))
    return maps[0], maps[1]


@pytest.mark.parametrize("resize", [None, (48, 64), 80], ids=["as it is", "to a size", "by its shorter side"])
def test_a_picture_gets_the_classes_of_miseg_segment(resize: Any, tmp_path: Path) -> None:
    experiment = Experiment(SMALL, augmentation=Augmentation(resize=resize), steps=4, batch_size=4)
    folder = saved(tmp_path, experiment)
    pixels = smooth(90, 130)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    classes, confidence = segmented(folder, tmp_path / "a.png", tmp_path / "maps")
    model = miseg.load(folder, device="cpu")
    assert model.class_names == TASK.class_names and model.channels == 3 and model.dtype == "uint8"
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), pixels):
        prediction = model.predict(image, tile=64, overlap=16)
        assert prediction.labels.dtype == np.uint8 and (prediction.labels == classes).all()
        np.testing.assert_allclose(prediction.confidence, confidence, atol=1e-6)
        assert prediction.probabilities.shape == (3, 90, 130)
        np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-5)
        assert (prediction.probabilities.argmax(0) == classes).all() and (np.asarray(prediction) == classes).all()
    assert len(np.unique(classes)) > 1


def test_numbers_without_data_are_no_class(tmp_path: Path) -> None:
    experiment = Experiment(SMALL, steps=4, batch_size=4)
    folder = saved(tmp_path, experiment, {"dtype": "uint16", "full_scale": 10000, "nodata": 0})
    pixels = smooth(40, 56).astype(np.uint16) * 30 + 1
    pixels[:7, 10:20] = 0
    raster(tmp_path / "a.tif", pixels)
    classes, _ = segmented(folder, tmp_path / "a.tif", tmp_path / "maps")
    model = miseg.load(folder, device="cpu")
    prediction = model.predict(pixels)
    assert (prediction.labels == classes).all() and (model.predict(tmp_path / "a.tif").labels == classes).all()
    assert (prediction.labels[:7, 10:20] == 255).all() and (prediction.labels == 255).sum() == 70


def test_grey_stands_for_three_equal_channels(dense: Path, tmp_path: Path) -> None:
    grey = smooth(40, 56, 1)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    model = miseg.load(dense, device="cpu")
    expected = model.predict(np.stack([grey] * 3, -1)).labels
    assert (model.predict(grey).labels == expected).all() and (model.predict(grey[..., None]).labels == expected).all()
    assert (model.predict(tmp_path / "grey.png").labels == expected).all()


PIXELS = np.zeros((8, 9, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (PIXELS / 255, "image of float64: the model was trained on uint8; give 0..255 as uint8"),
        (PIXELS.astype(np.int64), "image of int64: the model was trained on uint8"),
        (PIXELS[..., :2], r"image of shape \(8, 9, 2\): the model takes 3 channels, \[H, W, 3\]$"),
        (np.zeros((8, 9, 4), np.uint8), "takes 3 channels.*; a fourth channel of transparency is none of them"),
        (PIXELS[None], r"image of shape \(1, 8, 9, 3\): give \[H, W, 3\]"),
        (PIXELS[:0], r"image of shape \(0, 9, 3\): give \[H, W, 3\]"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_nothing_is_guessed(image: Any, sentence: str, dense: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        miseg.load(dense, device="cpu").predict(image)


def test_a_few_label_method_says_what_maps_with_it(tmp_path: Path) -> None:
    experiment = Experiment(MutualInformationSimilarity(PatchEncoder(9, (4, 4), 4)), steps=4, batch_size=4)
    with pytest.raises(ValueError, match="MutualInformationSimilarity maps from labelled pixels: use miseg segment"):
        miseg.load(saved(tmp_path, experiment))


def test_clusters_without_a_match_are_named_by_their_numbers(tmp_path: Path) -> None:
    folder = saved(tmp_path, Experiment(PixelKMeans(clusters=4), steps=4, batch_size=4))
    model = miseg.load(folder, device="cpu")
    assert model.class_names == tuple(f"cluster {number}" for number in range(4))
    assert "4 classes, images [H, W, 3] of uint8" in repr(model)


def test_a_map_is_drawn_beside_its_image(dense: Path) -> None:
    pixels = smooth(40, 56)
    prediction = miseg.load(dense, device="cpu").predict(pixels)
    figure = prediction.plot(pixels)
    image, drawn = (axis.get_images()[0].get_array() for axis in figure.axes)
    assert (image == pixels).all() and (drawn == np.asarray(prediction.colours)[prediction.labels]).all()
    names = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert names == [TASK.class_names[number] for number in np.unique(prediction.labels)]
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("nowhere", "model = nowhere: no folder, nor the ID of an MLflow run"),
        (f"runs:/{'0' * 32}/newest", "behind a run's ID goes best or last"),
    ],
)
def test_a_model_that_is_none_is_told(model: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        miseg.load(model)


def test_a_registered_model_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISEG_STORAGE", str(tmp_path))
    with pytest.raises(ValueError, match=r"no run was recorded in .* \(it has no mlflow\.db\)"):
        miseg.load("models:/nobody@best")
    assert not (tmp_path / "mlflow.db").exists(), "to look makes no store"
    mlflow_runs.check(mlflow_runs.tracking_uri(str(tmp_path)), str(tmp_path))
    with pytest.raises(RuntimeError, match="models:/nobody@best is no registered model at sqlite"):
        miseg.load("models:/nobody@best")
