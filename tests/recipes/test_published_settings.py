"""Settings of the recipes that stand for a paper's systems are the paper's, number by number."""

from __future__ import annotations

from typing import Any

import pytest

from miseg.recipes.catalog import RECIPES

VOC = {
    "data": "voc-aug", "steps": 30_000, "batch_size": 16, "optimiser.learning_rate": 0.007,
    "optimiser.warmup_steps": 1_500, "augmentation.crop": (513, 513),
    "augmentation.scale": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
}  # fmt: skip
CAMVID = {
    "data": "camvid", "steps": 6_000, "batch_size": 16, "optimiser.learning_rate": 0.025,
    "optimiser.warmup_steps": 300, "augmentation.crop": (479, 479), "augmentation.scale": (0.75, 1.25),
}  # fmt: skip
OF_BOTH = {
    "optimiser.name": "sgd", "optimiser.power": 0.9, "augmentation.flip": 0.5, "augmentation.resize": None,
    "method.network.output_stride": 16, "method.network.weights": "imagenet",
}  # fmt: skip
RMI = {
    "method.weight": 0.5, "method.downsampling_factor": 4, "method.region_size": 3, "method.downsampling": "average",
}  # fmt: skip
INFOSEG = {
    "augmentation.crop": (128, 128), "optimiser.name": "adam", "optimiser.learning_rate": 1e-4, "batch_size": 64,
    "optimiser.warmup_steps": 0, "optimiser.power": 0.0, "method.network.features": 2048, "method.tau": 2048**-0.5,
    "method.network.sobel": True,
}  # fmt: skip


def of(recipe: str, path: str) -> Any:
    value: Any = RECIPES[recipe]()
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("loss", ["ce", "bce", "affinity", "rmi"])
@pytest.mark.parametrize("version", ["v3", "v3plus"])
@pytest.mark.parametrize(("data", "settings"), [("voc", VOC), ("camvid", CAMVID)], ids=["voc", "camvid"])
def test_the_rmi_papers_systems(data: str, settings: dict[str, Any], version: str, loss: str) -> None:
    expected = settings | OF_BOTH | (RMI if loss == "rmi" else {})
    assert {path: of(f"{data}-{version}-{loss}", path) for path in expected} == expected
    assert of(f"{data}-{version}-{loss}", "method.network.version") == version.replace("plus", "+")


@pytest.mark.parametrize("data", ["coco-stuff-15", "coco-persons", "potsdam", "potsdam-3"])
def test_infosegs_systems(data: str) -> None:
    assert {path: of(f"{data}-infoseg", path) for path in INFOSEG} == INFOSEG
