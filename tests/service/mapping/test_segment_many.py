"""`miseg segment --images`: maps of many images by any method, whole or not there, and not made twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from pyarrow import fs

from miseg.commands import segment
from miseg.data.configs import Augmentation
from miseg.data.loading.augmentation import prepare
from miseg.data.loading.tiles import StandardScene
from miseg.data.raster.maps import MapWriter
from miseg.data.raster.rasters import open_raster
from miseg.data.raster.scene_files import SceneOptions, open_scene
from miseg.evaluation.clusters import of_classes
from miseg.evaluation.tiled import Tiling
from miseg.interface import Batch, Task
from miseg.methods.cluster_configs import PixelKMeans
from miseg.methods.configs import CrossEntropy, MutualInformationSimilarity
from miseg.networks.configs import PatchEncoder, UNet
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.mapping import image_maps
from miseg.service.mapping.image_actor import MapSettings, StoreError, map_image
from miseg.service.mapping.scene_maps import Examples
from miseg.service.training.loop import Loop
from tests.support import ROOT
from tests.support.processes import processes, wait_until
from tests.support.scene_layouts import UTM, SafeTree, place, raster, reflectances
from tests.support.servers.faulty_s3 import BUCKET, faulty_s3

JOB = ROOT / "jobs" / "segment.py"
DATA = {"mean": [0.4, 0.5, 0.3], "std": [0.25, 0.2, 0.3], "colours": [[255, 0, 0], [0, 255, 0], [0, 0, 255]]}
TASK = Task(3, 3, ("road", "sky", "tree"))


def trained(folder: Path, experiment: Experiment, task: Task = TASK, data: dict[str, Any] | None = None) -> Path:
    """A checkpoint after a few steps on noise: far enough from its start for its classes to differ."""
    loop = Loop(experiment, task)
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        images = torch.randn(4, task.in_channels, 32, 32, generator=generator)
        loop.train_step(Batch(images, (images.mean(1) > 0).long() + (images[:, 0] > 1).long()))
    return checkpoint.save(folder / "checkpoint", loop, {"mean_iou": 0.0, "score": 0.0}, DATA | (data or {}))


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Path:
    experiment = Experiment(CrossEntropy(UNet(2, "group")), steps=6, batch_size=4)
    return trained(tmp_path_factory.mktemp("dense"), experiment)


def smooth(size: tuple[int, int], seed: int, channels: int = 3) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, channels), dtype=np.uint8)
    layers = [
        Image.fromarray(coarse[..., c]).resize((size[1], size[0]), Image.Resampling.BICUBIC) for c in range(channels)
    ]
    return np.stack([np.asarray(layer) for layer in layers], -1)


@pytest.fixture
def images(tmp_path) -> Path:
    """A picture of each kind, one in a folder below, and one that is cut short."""
    here = tmp_path / "images"
    (here / "below").mkdir(parents=True)
    Image.fromarray(smooth((40, 56), 0)).save(here / "a.png")
    Image.fromarray(smooth((90, 130), 1)).save(here / "below" / "b.jpg")
    raster(here / "c.tif", smooth((70, 64), 2))
    content = (here / "a.png").read_bytes()
    (here / "cut.png").write_bytes(content[: len(content) // 2])
    return here


def mapped(checkpoint_folder: Path, places: list[Any], out: Any, settings: MapSettings | None = None) -> dict[str, str]:
    """What the actor does, in this process; why images were left out, by the ends of their names."""
    plan = planned(checkpoint_folder, places, out, settings)
    left_out = {}
    with_model = plan.settings.predictor(checkpoint_folder, torch.device("cpu"))
    for found, made_from in zip(plan.todo, plan.made_from, strict=True):
        try:
            rows = list(map_image(with_model, found, made_from, plan.out, plan.settings, {}))
            assert sum(row.get("pixels", 0) for row in rows) == rows[0]["size"] > 0
        except ValueError as error:
            left_out[found.name] = str(error)
    return left_out


def planned(checkpoint_folder: Path, places: list[Any], out: Any, settings: MapSettings | None = None):
    files = checkpoint_files.files_of(checkpoint_folder)
    return image_maps.plan(files, [str(one) for one in places], str(out), settings or MapSettings(Tiling(64, 16)))


def classes_in(path: Path) -> np.ndarray:
    """The one band of a map or its confidence."""
    with open_raster(path) as file:
        return file.read(1)


def predicted(folder: Path, pixels: np.ndarray, resize: Any = None) -> np.ndarray:
    """Probabilities [K, H, W] of the whole image at once, as evaluation sees it."""
    method, _, _ = checkpoint.open_method(folder)
    data = checkpoint_files.verify(folder)["data"]
    image, _ = prepare(pixels, None, Augmentation(resize=resize))
    mean, std = (torch.tensor(data[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        found = method.predict((torch.tensor(image).permute(2, 0, 1)[None].float() / 255 - mean) / std)
    if "match" in data:
        found = of_classes(found, torch.tensor(data["match"]), 3)
    return torch.nn.functional.interpolate(found, pixels.shape[:2], mode="bilinear", align_corners=False)[0].numpy()


def assert_is_the_map_of(path: Path, probabilities: np.ndarray) -> None:
    classes = classes_in(path)
    confidence = classes_in(path.with_name(f"{path.stem}_confidence.tif"))
    second, best = np.sort(probabilities, 0)[-2:]
    np.testing.assert_allclose(confidence, (best - second) / (best + second), atol=2e-4)
    assert ((classes == probabilities.argmax(0)) | (confidence < 2e-4)).all() and len(np.unique(classes)) > 1


def test_maps_are_what_evaluation_predicts(dense, images, tmp_path):
    left_out = mapped(dense, [images], tmp_path / "maps", MapSettings(Tiling(512, 64)))
    assert list(left_out) == ["cut"] and "truncated or damaged" in left_out["cut"]
    for name, source in (("a", "a.png"), ("below/b", "below/b.jpg")):
        pixels = np.asarray(Image.open(images / source))
        assert_is_the_map_of(tmp_path / "maps" / f"{name}.tif", predicted(dense, pixels))
    with open_raster(tmp_path / "maps" / "c.tif") as file:
        assert file.crs == UTM and file.transform == place()
        assert [file.colormap(1)[label][:3] for label in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    made = json.loads((tmp_path / "maps" / "below" / "b.json").read_text())
    counts = np.bincount(classes_in(tmp_path / "maps" / "below" / "b.tif").ravel(), minlength=3)
    assert made["pixels"] == dict(zip(TASK.class_names, counts.tolist(), strict=True))
    existing = {str(path.relative_to(tmp_path / "maps")) for path in (tmp_path / "maps").rglob("*") if path.is_file()}
    kinds = (".json", ".tif", ".tif.aux.xml", "_confidence.tif")
    assert existing == {f"{name}{kind}" for name in ("a", "below/b", "c") for kind in kinds}


@pytest.mark.parametrize("size", [(24, 40), (80, 100)])
def test_a_model_of_another_size_sees_images_at_it_and_maps_them_at_their_own(tmp_path, size):
    experiment = Experiment(
        CrossEntropy(UNet(2, "group")), augmentation=Augmentation(resize=size), steps=6, batch_size=4
    )
    folder = trained(tmp_path, experiment)
    pixels = smooth((50, 70), 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert mapped(folder, [tmp_path / "a.png"], tmp_path / "maps", MapSettings(Tiling(128, 64))) == {}
    assert_is_the_map_of(tmp_path / "maps" / "a.tif", predicted(folder, pixels, size))


@pytest.mark.parametrize("match", [None, [1, 0, 2, 2]])
def test_clusters_are_the_classes_they_were_matched_with_or_themselves(tmp_path, match):
    data = {} if match is None else {"match": match}
    folder = trained(tmp_path, Experiment(PixelKMeans(clusters=4), steps=6, batch_size=4), data=data)
    pixels = smooth((50, 70), 4)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert mapped(folder, [tmp_path / "a.png"], tmp_path / "maps", MapSettings(Tiling(32, 8))) == {}
    assert_is_the_map_of(tmp_path / "maps" / "a.tif", predicted(folder, pixels))
    names = list(json.loads((tmp_path / "maps" / "a.json").read_text())["pixels"])
    assert names == ([f"cluster {number}" for number in range(4)] if match is None else list(TASK.class_names))


def test_a_few_label_method_maps_scenes_tiled_as_whole(tmp_path):
    method = MutualInformationSimilarity(PatchEncoder(7, (6, 5), 4), hidden=8)
    loop = Loop(Experiment(method=method, steps=5, batch_size=8), Task(num_classes=5, in_channels=4))
    folder = checkpoint.save(tmp_path / "checkpoint", loop, {}, {})
    scene = raster(tmp_path / "scenes" / "2019-07-20.tif", reflectances(0, (70, 90)))
    raster(tmp_path / "scenes" / "2019-08-24.tif", reflectances(1, (5, 90)))
    options = SceneOptions(bands=("B04", "B03", "B02", "B08"))
    labels = np.full((1, 70, 90), 255, np.uint8)
    labels[0, 40, (10, 30, 60)] = (0, 1, 2)
    seen = StandardScene.measure(open_scene(scene, options)).tile((0, 0, 70, 90), 0)
    examples = Examples(((seen.images, labels),), ("a", "b", "c"))
    whole = MapSettings(Tiling(512, 64), options, examples)
    left_out = mapped(folder, [scene.parent], tmp_path / "whole", whole)
    assert list(left_out) == ["2019-08-24"] and "5 x 90 pixels is smaller than a patch of 7" in left_out["2019-08-24"]
    mapped(folder, [scene], tmp_path / "tiled", MapSettings(Tiling(32, 8), options, examples))
    expected, found = (classes_in(tmp_path / name / "2019-07-20.tif") for name in ("whole", "tiled"))
    sure = classes_in(tmp_path / "whole" / "2019-07-20_confidence.tif")
    assert ((found == expected) | (sure < 1e-4)).all() and set(np.unique(expected)) == {0, 1, 2}
    with pytest.raises(ValueError, match="overlap = 6: this method needs 7 or more pixels"):
        planned(folder, [scene], tmp_path / "x", MapSettings(Tiling(32, 6), options, examples))
    with pytest.raises(ValueError, match="maps from labelled pixels: give --labels"):
        planned(folder, [scene], tmp_path / "x")


def test_only_what_is_not_there_whole_and_the_same_is_made(dense, images, tmp_path):
    (images / "cut.png").unlink()
    out = tmp_path / "maps"

    def todo(settings: MapSettings | None = None, model: Path = dense) -> list[str]:
        return [one.name for one in planned(model, [images], out, settings).todo]

    assert todo() == ["a", "below/b", "c"]
    mapped(dense, [images], out)
    assert todo() == [] and planned(dense, [images], out).existing == 3
    assert todo(MapSettings(Tiling(64, 16, batch=4))) == [], "how many at once changes no map"
    assert len(todo(MapSettings(Tiling(64, 32)))) == 3
    other = Experiment(CrossEntropy(UNet(2, "group")), steps=6, batch_size=4, seed=1)
    assert len(todo(model=trained(tmp_path, other))) == 3
    os.utime(images / "a.png", (1, 1))
    (out / "c_confidence.tif").write_bytes(b"cut short")
    assert todo() == ["a", "c"]
    (out / "below" / "b.json").write_text("{")
    assert todo() == ["a", "below/b", "c"]
    mapped(dense, [images], out)
    assert todo() == []


def test_an_attempt_that_failed_leaves_no_record_and_nothing_half_written(dense, images, tmp_path, monkeypatch):
    out = tmp_path / "maps"
    mapped(dense, [images / "a.png"], out)
    os.utime(images / "a.png", (1, 1))
    # As a kill leaves it.
    (out / ".a.tif.writing-killed").mkdir()
    (out / ".a.tif.writing-killed" / "a.tif").write_bytes(b"half")
    (out / ".a.tif.writing-record").write_bytes(b"half")
    before = (out / "a.tif").read_bytes()

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(MapWriter, "write", full)
        with pytest.raises(StoreError, match=r"a\.tif cannot be written .*No space left"):
            mapped(dense, [images / "a.png"], out)
    names = {path.name for path in out.iterdir()}
    assert names == {"a.tif", "a.tif.aux.xml", "a_confidence.tif"} and (out / "a.tif").read_bytes() == before
    assert len(planned(dense, [images / "a.png"], out).todo) == 1


@pytest.mark.slow
def test_images_and_maps_may_lie_in_a_bucket(dense, images, tmp_path):
    with faulty_s3(0.0):
        system, _ = fs.FileSystem.from_uri(f"s3://{BUCKET}")
        fs.copy_files(str(images), f"{BUCKET}/images", destination_filesystem=system)
        left_out = mapped(dense, [f"s3://{BUCKET}/images"], f"s3://{BUCKET}/maps")
        assert list(left_out) == ["cut"]
        assert [one.name for one in planned(dense, [f"s3://{BUCKET}/images"], f"s3://{BUCKET}/maps").todo] == ["cut"]
        fs.copy_files(f"{BUCKET}/maps", str(tmp_path / "copied"), source_filesystem=system)
        # Changed since: the map is made again, and its record is of the new image.
        fs.copy_files(str(images / "c.tif"), f"{BUCKET}/images/a.tif", destination_filesystem=system)
        system.delete_file(f"{BUCKET}/images/a.png")
        assert "a" in [one.name for one in planned(dense, [f"s3://{BUCKET}/images"], f"s3://{BUCKET}/maps").todo]
    mapped(dense, [images], tmp_path / "maps")
    for name in ("a", "below/b", "c"):
        assert np.array_equal(*(classes_in(tmp_path / where / f"{name}.tif") for where in ("maps", "copied")))


@pytest.mark.ray
@pytest.mark.slow
def test_the_job_maps_a_folder_and_makes_nothing_twice(dense, images, tmp_path, ray_here, capsys):
    raster(images / "large.tif", smooth((200, 300), 5))
    common = {"model": str(dense), "images": (str(images),), "out": str(tmp_path / "maps"), "tile": 64, "overlap": 16}
    common["storage"] = str(tmp_path / "storage")
    assert segment.run(segment.Segment(**common)) == 0
    told = capsys.readouterr()
    assert "5 images, of 0 there is a whole map" in told.out and "5/5 images" in told.out and "left" in told.out
    assert "cut.png: " in told.err and "truncated or damaged" in told.err
    (line,) = (tmp_path / "maps" / "left_out.jsonl").read_text().splitlines()
    assert json.loads(line)["image"] == str(images / "cut.png")

    client = MlflowClient(f"sqlite:///{tmp_path}/storage/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("miseg/embedded").experiment_id])
    assert run.data.tags["miseg.kind"] == "maps" and run.data.params["tile"] == "64"
    sizes = {"a": 40 * 56, "below/b": 90 * 130, "c": 70 * 64, "large": 200 * 300}
    assert run.data.metrics["images_mapped"] == 4 and run.data.metrics["images_left_out"] == 1
    assert run.data.metrics["pixels"] == sum(sizes.values()) and run.data.metrics["pixels_per_second"] > 0
    tables = {f"{name}.{kind}" for name in ("maps", "left_out") for kind in ("csv", "json")}
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == tables
    # The actor's maps are those of the test above.
    mapped(dense, [images], tmp_path / "here")
    for name in sizes:
        assert np.array_equal(*(classes_in(tmp_path / where / f"{name}.tif") for where in ("maps", "here")))

    (images / "cut.png").unlink()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "maps").rglob("*.tif")}
    assert segment.run(segment.Segment(**common)) == 0
    assert "4 images, of 4 there is a whole map" in capsys.readouterr().out
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "maps").rglob("*.tif")}
    assert not (tmp_path / "maps" / "left_out.jsonl").exists()
    products = SafeTree(tmp_path / "products").add().parent
    assert segment.run(segment.Segment(**common | {"images": (str(products),), "out": str(tmp_path / "none")})) == 1
    assert "a file a band, and the model was trained on images of one file" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.faults
@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_kill_leaves_whole_maps_alone_and_the_next_run_goes_on(dense, tmp_path):
    here, out = tmp_path / "images", tmp_path / "maps"
    here.mkdir()
    for number in range(12):
        Image.fromarray(smooth((500, 700), number)).save(here / f"{number:02}.png")
    command = [sys.executable, str(JOB), "--model", str(dense), "--images", str(here), "--out", str(out)]
    command += ["--storage", str(tmp_path / "storage"), "--tile", "64", "--overlap", "32"]

    def whole() -> dict[str, int]:
        return {path.stem: path.stat().st_mtime_ns for path in out.glob("*.json")}

    with processes() as started:
        first = started.start("first", command, started.environment(), JOB.parents[1])
        wait_until(lambda: len(whole()) >= 2, 120, "two maps", [first])
        first.kill()
        first.wait()
        # Ray's two agents may stay; they write no maps.
        wait_until(lambda: not [name for _, name, _ in started.titles() if "Agent" not in name], 60, "its Ray's end")
        before = whole()
        assert 2 <= len(before) < 12
        for name in before:
            assert classes_in(out / f"{name}.tif").shape == (500, 700)
        # What has its place is whole, record or not.
        for path in out.glob("[!.]*.tif"):
            classes_in(path)
        second = started.start("second", command, started.environment(), JOB.parents[1])
        assert second.wait(timeout=150) == 0, started.text("second")
        assert f"12 images, of {len(before)} there is a whole map" in started.text("second")
    after = whole()
    assert len(after) == 12 and {name: after[name] for name in before} == before
    assert not [path for path in out.iterdir() if path.name.startswith(".")], "what the kill left is gone"
    assert Counter(path.suffix for path in out.iterdir()) == {".json": 12, ".tif": 24, ".xml": 12}


MEASURE = """
import re, sys, torch
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from tests.service.mapping.test_segment_many import MapSettings, Tiling, mapped
torch.set_num_threads(1)
assert mapped(Path(sys.argv[1]), [sys.argv[2]], sys.argv[3], MapSettings(Tiling(256, 32))) == {}
# Not getrusage: its peak is that of the process that started this one, where that was larger.
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_ten_times_the_pixels_take_no_more_memory(dense, tmp_path, ending):
    peaks = {}
    for name, size in (("one", (1600, 1250)), ("ten", (5000, 4000))):
        path = tmp_path / f"{name}.{ending}"
        Image.fromarray(smooth(size, 0)).save(path)
        paths = [path for path in sys.path if path]
        command = [sys.executable, "-c", MEASURE, str(dense), str(path), str(tmp_path / "maps"), *paths]
        done = subprocess.run(command, capture_output=True, text=True, timeout=140)
        assert done.returncode == 0, done.stderr
        peaks[name] = int(done.stdout.split()[-1])
    print({name: f"{peak / 2**10:.0f} MiB" for name, peak in peaks.items()})
    assert peaks["ten"] <= 1.2 * peaks["one"]
