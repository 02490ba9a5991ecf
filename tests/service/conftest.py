"""A small packed data set, and a Ray of this machine's own for the tests that need one."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from miseg.data.checks import encode_png
from miseg.data.configs import Augmentation
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.sources.registry import Embedded
from miseg.data.sources.street_scenes.streets import draw_scene
from miseg.methods.configs import RegionMutualInformation
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment, Optimiser


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """Thirteen training and seven validation scenes of 48x64."""
    source = Embedded({"train": 13, "val": 7, "test": 2}, height=48, width=64)
    return PackedDataset.open(pack(source, tmp_path_factory.mktemp("small") / "packed", source.available()).path)


@pytest.fixture(scope="session")
def tiny(small: PackedDataset) -> Experiment:
    """An experiment on `small` that trains in seconds; group norm, so that ranks agree exactly."""
    return Experiment(
        method=RegionMutualInformation(UNet(2, "group")),
        data=small.uri,
        optimiser=Optimiser(learning_rate=3e-3, warmup_steps=2),
        augmentation=Augmentation(crop=(32, 32), scale=(0.75, 1.25)),
        steps=24,
        batch_size=4,
        validate_every=6,
    )


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """A Ray of this process' own: starting one takes ten seconds."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    from miseg.service.cluster import ray_cluster

    ray_cluster.connect("local")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store: making one takes seconds, copying it nothing."""
    from miseg.service.tracking import mlflow_runs

    folder = tmp_path_factory.mktemp("template")
    mlflow_runs.check(f"sqlite:///{folder}/mlflow.db", str(folder))
    return folder / "mlflow.db"


@pytest.fixture
def uri(template: Path, tmp_path: Path) -> str:
    """The URI of an MLflow store of the test's own."""
    shutil.copyfile(template, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


class _Mixed(Embedded):
    """Validation scenes of three sizes, in turn."""

    def samples(self, split):
        for number, sample in enumerate(super().samples(split)):
            height, width = ((48, 64), (40, 56), (33, 47))[number % 3]
            image, mask = draw_scene(0, number, height=height, width=width)
            yield type(sample)(sample.id, split, encode_png(image), encode_png(mask))


@pytest.fixture(scope="session")
def mixed_sizes(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """Training scenes of one size, seven validation scenes of three."""
    source = _Mixed({"train": 3, "val": 7, "test": 0}, height=48, width=64)
    return PackedDataset.open(pack(source, tmp_path_factory.mktemp("mixed") / "packed", source.available()).path)
