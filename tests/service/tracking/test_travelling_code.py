"""A logged model opens where miseg is not installed: its code travels with it as a wheel."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import mlflow
import numpy as np
import pytest

import miseg
from miseg import wheel
from miseg.interface import Task
from miseg.methods.configs import MethodConfig, MutualLearning, PixelKMeans, RegionMutualInformation
from miseg.networks.configs import DeepLab, UNet
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint
from miseg.service.tracking import mlflow_runs, models
from miseg.service.training.loop import Loop

ABSENT = """
import sys
from importlib import metadata
from pathlib import Path
# What an editable installation puts in the way, and the checkout itself.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path = [folder for folder in sys.path if not (Path(folder or ".") / "miseg" / "__init__.py").is_file()]
# What only the service needs.
sys.modules.update(dict.fromkeys(("ray", "optuna", "timm", "segmentation_models_pytorch", "scipy.optimize")))
"""

PREDICT = """
import sys
import mlflow
import numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
np.save(sys.argv[2], model.predict(np.load(sys.argv[3])))
print(sys.modules["miseg"].__file__)
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model in MLflow, of a U-Net."""
    folder = tmp_path_factory.mktemp("store")
    experiment = Experiment(data="own", method=RegionMutualInformation(network=UNet(2)))
    uri = mlflow_runs.tracking_uri(str(folder))
    mlflow_runs.check(uri, str(folder))
    experiment_id = mlflow.MlflowClient(uri).create_experiment("own", artifact_location=str(folder / "artifacts"))
    run_id = mlflow.MlflowClient(uri).create_run(experiment_id).info.run_id
    loop = Loop(experiment, Task(num_classes=3, class_names=("a", "b", "c")))
    data = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    models.log_model(uri, run_id, "best", checkpoint.save(folder / "checkpoint", loop, {"mean_iou": 0.5}, data))
    return models.download(uri, run_id, "best", folder / "model").parents[1]


def predict(model: Path, folder: Path, before: str, arguments: Sequence[str] = ()) -> tuple[np.ndarray, str]:
    """What the model predicts in a process of its own that runs `before` first, and the file of its miseg."""
    images, predicted = folder / "images.npy", folder / "predicted.npy"
    np.save(images, np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), dtype=np.uint8))
    command = [sys.executable, *arguments, "-c", before + PREDICT, str(model), str(predicted), str(images)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return np.load(predicted), done.stdout.strip()


@pytest.mark.slow
def test_a_model_opens_without_miseg(logged: Path, tmp_path: Path) -> None:
    """And predicts to the last bit what it does with the package that logged it."""
    travelled, travelled_from = predict(logged, tmp_path, ABSENT)
    installed, installed_from = predict(logged, tmp_path, "")
    assert travelled_from == str(logged / "artifacts" / wheel.NAME / "miseg" / "__init__.py")
    assert installed_from == miseg.__file__
    np.testing.assert_array_equal(travelled, installed)
    assert travelled.shape == (1, 3, 32, 48) and not np.allclose(travelled, travelled.mean())


@pytest.mark.slow
@pytest.mark.parametrize(("version", "travels"), [("0.1.9", True), ("99.0", False)])
def test_an_older_miseg_gives_way_and_a_newer_one_does_not(
    logged: Path, tmp_path: Path, version: str, travels: bool
) -> None:
    """The record of an installation is all that is told of its version before it is imported."""
    record = tmp_path / "site" / f"miseg-{version}.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: miseg\nVersion: {version}\n")
    _, file = predict(logged, tmp_path, f"import sys; sys.path.insert(0, {str(record.parent)!r})")
    assert file.startswith(str(logged / "artifacts")) == travels


def test_the_model_names_what_it_needs_with_versions(logged: Path) -> None:
    lines = (logged / "requirements.txt").read_text().split()
    names = {line.partition("==")[0] for line in lines}
    assert names == {"mlflow", f"artifacts/{wheel.NAME}", "numpy", "safetensors", "torch"}
    assert f"safetensors=={metadata.version('safetensors')}" in lines
    assert (logged / f"artifacts/{wheel.NAME}").is_file()


@pytest.mark.parametrize(
    ("method", "further"),
    [
        (RegionMutualInformation(network=DeepLab()), {"segmentation-models-pytorch", "timm"}),
        (MutualLearning(network=UNet(2), partners=(DeepLab(),)), {"segmentation-models-pytorch", "timm"}),
        (PixelKMeans(), set()),
    ],
)
def test_requirements_follow_the_networks(method: MethodConfig, further: set[str]) -> None:
    names = {line.partition("==")[0] for line in wheel.requirements(method)}
    assert names == {"numpy", "safetensors", "torch"} | further


@pytest.mark.slow
def test_a_method_from_outside_brings_its_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "miseg_dice-1.2.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: miseg-dice\nVersion: 1.2+local\n")
    (record / "top_level.txt").write_text("outside_dice\n")
    (tmp_path / "outside_dice.py").write_text(
        "import dataclasses\n@dataclasses.dataclass\nclass Dice:\n    a: int = 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(wheel, "_distributions", metadata.packages_distributions)
    settings = importlib.import_module("outside_dice").Dice()
    assert "miseg-dice==1.2" in wheel.requirements(settings)


def test_the_wheel_holds_all_that_predicts_and_is_the_same_each_time(tmp_path: Path) -> None:
    path = wheel.write(tmp_path)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        record = archive.read(f"miseg-{miseg.__version__}.dist-info/RECORD").decode().splitlines()
    package = Path(miseg.__file__).parent
    files = [file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    page = {f"miseg/{file.relative_to(package)}" for file in files if "page" in file.relative_to(package).parts}
    assert "miseg/service/labelling/page/index.html" in page and not names & page
    assert {f"miseg/{file.relative_to(package)}" for file in files} - page < names
    assert {line.split(",")[0] for line in record} == names
    content = path.read_bytes()
    wheel._wheel.cache_clear()
    assert wheel.write(tmp_path).read_bytes() == content


@pytest.mark.slow
def test_pip_installs_the_wheel(tmp_path: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        pytest.skip("there is no pip in this environment")
    path = wheel.write(tmp_path)
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(path)], check=True, timeout=120)
    code = "import miseg; print(miseg.__version__, miseg.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=target, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{miseg.__version__} {target}/miseg/__init__.py\n", done.stderr
