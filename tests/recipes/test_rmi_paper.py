"""Every recipe of the RMI paper builds, and trains and evaluates a step on a tiny tree in its data set's layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import VocTree
from PIL import Image

from miseg.data.camvid import CamVid
from miseg.data.packed import PackedDataset
from miseg.data.packing import pack
from miseg.data.sources import open_source
from miseg.methods import build_method
from miseg.networks.configs import networks_of
from miseg.recipes import rmi_paper, streets
from miseg.recipes.experiment import Experiment, from_dict, to_dict
from miseg.service import ingest
from miseg.service.loop import Loop

RECIPES = rmi_paper.RECIPES | {name: streets.RECIPES[name] for name in ("camvid-affinity", "camvid-mutual")}
each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


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
    pack(open_source("voc-aug", folder / "voc"), folder / "voc-aug", ["train", "val"])
    _camvid_tree(folder / "camvid")
    pack(CamVid(folder / "camvid"), folder / "camvid-packed", ["train", "val"])
    return {
        "voc-aug": PackedDataset.open(folder / "voc-aug"),
        "camvid": PackedDataset.open(folder / "camvid-packed"),
    }


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


def shrunk(experiment: Experiment) -> Experiment:
    """The same experiment at a size that a test can bear: small crop, batch and network, no pretrained weights."""
    method = experiment.method
    network = method.network
    if hasattr(network, "encoder"):
        network = replace(network, encoder="resnet18d", weights=None)
    else:
        network = replace(network, initial_features=4)
    augmentation = experiment.augmentation
    if augmentation.crop is not None:
        augmentation = replace(augmentation, crop=(49, 49))
    else:
        augmentation = replace(augmentation, resize=(48, 64))
    return replace(
        experiment, method=replace(method, network=network), augmentation=augmentation, batch_size=2, steps=2
    )


@each_recipe
def test_it_builds_whole(recipe: Callable[[], Experiment], packed: dict[str, PackedDataset]) -> None:
    experiment = recipe()
    with torch.device("meta"):
        method = build_method(experiment.method, ingest.task_of(packed[experiment.data]), pretrained=False)
    assert sum(p.numel() for p in method.parameters()) > 1e5
    assert from_dict(to_dict(experiment)) == experiment
    assert experiment.id != recipe(seed=1).id
    if recipe in rmi_paper.RECIPES.values():
        (network,) = networks_of(experiment.method)
        assert (network.encoder, network.output_stride, network.weights) == ("resnet101d", 16, "imagenet")


@each_recipe
def test_it_trains_and_evaluates_a_step(recipe: Callable[[], Experiment], packed: dict[str, PackedDataset]) -> None:
    experiment = shrunk(recipe())
    dataset = packed[experiment.data]
    convert = ingest.Converter(dataset, experiment)
    loop = Loop(experiment, ingest.task_of(dataset))
    for columns in ingest.training_plan(dataset, experiment)(start_step=0, stop_step=2):
        loop.train_step(convert(columns))
    records = loop.flush()
    assert len(records) == 2 and np.isfinite([record.values["train/loss"] for record in records]).all()
    rows = [convert(columns) for columns in ingest.evaluation_plan(dataset, "val", experiment)()]
    found = loop.evaluate(rows)
    assert 0 <= found.matrix.mean_iou() <= 1 and found.matrix.counts.sum() > 0


def test_every_recipe_has_a_command_of_its_name() -> None:
    for name, recipe in RECIPES.items():
        assert f"`{name}`" in (recipe.__doc__ or "") and len(RECIPES) == len({r().id for r in RECIPES.values()})
