"""Every recipe builds, and trains and evaluates a step on a tiny tree in its data set's layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from miseg.data.checks import encode_png
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.samples import Sample
from miseg.data.sources.registry import Embedded, open_source
from miseg.data.sources.textures import Textures
from miseg.methods import build_method
from miseg.methods.configs import PixelKMeans
from miseg.networks.configs import VGG, DeepLab, EncoderDecoder, InfoSegNetwork, PatchEncoder, UNet, networks_of
from miseg.recipes import rmi_paper
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment, from_dict, to_dict
from miseg.service.training import streams as ingest
from miseg.service.training.loop import Loop
from tests.support.layouts import Ade20kTree, CityscapesTree, VocTree
from tests.support.scene_layouts import UTM, place, raster, reflectances

each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


def kind_of(experiment: Experiment) -> tuple[str, ...]:
    """The types of a recipe's method and networks: recipes of one kind differ in values alone."""
    return type(experiment.method).__name__, *sorted({type(n).__name__ for n in networks_of(experiment.method)})


def first_of_each_kind_first() -> Iterator[Any]:
    """All recipes, those after the first of their kind as slow ones."""
    seen = set()
    for name, recipe in RECIPES.items():
        kind = kind_of(recipe())
        yield pytest.param(recipe, id=name, marks=[pytest.mark.slow] if kind in seen else [])
        seen.add(kind)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PackedDataset]:
    """Tiny packed data sets by the name that a recipe gives."""
    folder = tmp_path_factory.mktemp("data")
    voc = VocTree(folder / "voc")
    for name in ("2007_000032", "2007_000039"):
        voc.add(name, "train")
        voc.add(name.replace("2007", "2008"), "val")
        voc.add_sbd(name.replace("2007", "2009"), "train")
        voc.add_sbd(name.replace("2007", "2010"), "val")
    cityscapes, ade20k = CityscapesTree(folder / "cityscapes"), Ade20kTree(folder / "ade20k")
    for frame in ("aachen_000000_000019", "bochum_000000_000313"):
        for split in ("train", "val"):
            cityscapes.add(frame, split)
    for part in ("training", "validation"):
        for name in ("ADE_00000001", "ADE_00000002"):
            ade20k.add(name, part)
    _camvid_tree(folder / "camvid")
    sources = {name: open_source(name, folder / name) for name in ("voc", "camvid", "cityscapes", "ade20k")}
    _flanders_tree(folder / "flanders")
    chips = ("naip-landcover", "naip-series", "potsdam", "potsdam-3", "coco-stuff-15", "coco-persons")
    sources |= {name: Chips(name) for name in chips}
    sources |= {
        "sentinel2-flanders": open_source("sentinel2-flanders", folder / "flanders"),
        "voc-aug": open_source("voc-aug", folder / "voc"),
        "embedded": Embedded({"train": 3, "val": 2, "test": 0}, height=48, width=64),
        "textures": Textures({"train": 3, "val": 2}, size=32),
    }
    return {
        name: PackedDataset.open(pack(source, folder / f"packed-{name}", source.available()[:2]).path)
        for name, source in sources.items()
    }


class Chips:
    """Two chips with the bands and classes of a data set whose files are too large for a test."""

    def __init__(self, name: str) -> None:
        self.info = open_source(name, Path("nowhere")).info

    def available(self) -> tuple[str, ...]:
        return ("train",)

    def samples(self, split: str) -> Iterator[Sample]:
        generator = np.random.default_rng(0)
        for number in range(2):
            pixels = generator.integers(1, 256, (24, 30, self.info.channels), dtype=np.uint8)
            labels = generator.integers(0, max(1, len(self.info.classes)), (24, 30), dtype=np.uint8)
            mask = encode_png(labels) if self.info.classes else None
            series, date = ("place", f"20{10 + number}-07-01") if self.info.name == "naip-series" else (None, None)
            yield Sample(f"{split}/{number}", split, pixels, mask, series, date)


def _camvid_tree(root: Path) -> None:
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        lines = []
        for name in ("a.png", "b.png", "c.png"):
            for folder, shape, high in ((split, (40, 48, 3), 256), (f"{split}annot", (40, 48), 12)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                pixels = generator.integers(0, high, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(root / folder / name)
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}\n")
        (root / f"{split}.txt").write_text("".join(lines))


def _flanders_tree(root: Path) -> None:
    root.mkdir()
    for number, date in enumerate(("2019-05-16", "2019-07-20", "2019-08-24")):
        raster(root / f"{date}.tif", reflectances(number), place(), UTM)
        raster(root / f"{date}_SCL.tif", np.full((24, 30), 4, np.uint8), place(), UTM)
    crops = np.repeat([1110, 1200], 15)[None].repeat(24, 0)
    raster(root / "labels_CT.tif", crops.astype(np.uint16), place(), UTM)


def shrunk(experiment: Experiment) -> Experiment:
    """The same experiment at a size that a test can bear: small crop, batch and networks, no pretrained weights."""
    augmentation = experiment.augmentation
    if augmentation.crop is not None:
        augmentation = replace(augmentation, crop=(49, 49), resize=augmentation.resize and 64)
    else:
        augmentation = replace(augmentation, resize=(48, 64))
    return replace(experiment, method=smaller(experiment.method), augmentation=augmentation, batch_size=2, steps=2)


def smaller(settings: Any) -> Any:
    """A method's settings with every network at its smallest."""
    if isinstance(settings, UNet):
        return replace(settings, initial_features=4)
    if isinstance(settings, VGG):
        return replace(settings, width=4)
    if isinstance(settings, InfoSegNetwork):
        return replace(settings, width=4, features=64)
    if isinstance(settings, PatchEncoder):
        return replace(settings, patch=5, features=(4, 4))
    if isinstance(settings, DeepLab):
        return replace(settings, encoder="resnet18d", weights=None)
    if isinstance(settings, EncoderDecoder):
        return replace(settings, encoder="test_resnet", weights=None)
    if isinstance(settings, tuple):
        return tuple(map(smaller, settings))
    if not is_dataclass(settings):
        return settings
    return replace(settings, **{field.name: smaller(getattr(settings, field.name)) for field in fields(settings)})


@each_recipe
def test_it_builds_whole(recipe: Callable[[], Experiment], packed: dict[str, PackedDataset]) -> None:
    experiment = recipe()
    with torch.device("meta"):
        method = build_method(experiment.method, ingest.task_of(packed[experiment.data]), pretrained=False)
    assert sum(p.numel() for p in method.parameters()) > (5e4 if method.supervision == "dense" else 1e4) or isinstance(
        experiment.method, PixelKMeans
    )
    assert from_dict(to_dict(experiment)) == experiment
    assert experiment.id != recipe(seed=1).id
    if recipe in rmi_paper.RECIPES.values():
        (network,) = networks_of(experiment.method)
        assert (network.encoder, network.output_stride, network.weights) == ("resnet101d", 16, "imagenet")


@pytest.mark.parametrize("recipe", list(first_of_each_kind_first()))
def test_it_trains_and_evaluates_a_step(recipe: Callable[[], Experiment], packed: dict[str, PackedDataset]) -> None:
    experiment = shrunk(recipe())
    dataset = packed[experiment.data]
    convert = ingest.Converter(dataset, experiment)
    loop = Loop(experiment, ingest.task_of(dataset))
    for columns in ingest.training_plan(dataset, experiment)(start_step=0, stop_step=2):
        loop.train_step(convert(columns))
    records = loop.flush()
    assert len(records) == 2 and np.isfinite([record.values["train/loss"] for record in records]).all()
    if not dataset.info.classes:
        return
    split = experiment.validation_split(dataset.splits)
    rows = [convert(columns) for columns in ingest.evaluation_plan(dataset, split, experiment)()]
    if loop.method.supervision == "few":
        loop.method.fit_support(ingest.examples(dataset, split, experiment))
    elif loop.method.supervision == "none":
        loop.method.fit_support(row.without_labels() for row in rows)
    found = loop.evaluate(rows)
    assert 0 <= found.matrix.mean_iou() <= 1 and found.matrix.counts.sum() > 0


def test_every_recipe_has_a_command_of_its_name() -> None:
    for name, recipe in RECIPES.items():
        assert f"`{name}`" in (recipe.__doc__ or "") and len(RECIPES) == len({r().id for r in RECIPES.values()})
