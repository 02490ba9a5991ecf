"""Tightness of RMI's bound: it, and estimates of the mutual information, on a model's own predictions."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from ray.exceptions import RayError, RayTaskError

from miseg.data.packed.dataset import PackedDataset
from miseg.evaluation.estimates import Followed, followed_figure
from miseg.information import ESTIMATORS, gaussian_label_bound, label_entropy
from miseg.interface import lot
from miseg.losses import region_vectors
from miseg.losses.information.region_mutual_information import Downsampling
from miseg.methods import METHODS
from miseg.methods.configs import RegionMutualInformation
from miseg.nearest_names import in_place_of
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.estimators.cells import reason
from miseg.service.evaluation.closing import closing
from miseg.service.evaluation.evaluate import check
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunDetails, Workspace
from miseg.service.training import streams as ingest

CEILING, BOUND = "label entropy", "bound for labels"
"""Rows beside those of estimators: H(Y), which nothing exceeds, and `gaussian_label_bound`."""

Vectors = dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]
"""(class, R) -> truth [N, R²] and probabilities [N, R²]."""


@dataclass(frozen=True)
class Regions:
    """Settings of the region vectors, and the estimators that are run on them.

    Attributes:
        region_sizes: R, 1 or more each.
        downsampling_factor, downsampling: as `miseg.losses.RegionMutualInformationLoss`.
        samples: regions N of the split, as many from each image, drawn with `seed`; the same for every class.
        classes: their names; none: those that fill at least 2 % of the split's valid pixels.
        estimators: names of `ESTIMATORS`.
        seed: of the draw, and of estimators that draw.
    """

    region_sizes: tuple[int, ...] = (1, 2, 3)
    downsampling_factor: int = 4
    downsampling: Downsampling = "average"
    samples: int = 2000
    classes: tuple[str, ...] = ()
    estimators: tuple[str, ...] = ("gaussian", "ksg", "lsmi", "mine")
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.region_sizes or min(self.region_sizes) < 1:
            raise ValueError(f"region_sizes = {self.region_sizes}: use 1 or more each")
        if self.downsampling_factor < 1:
            raise ValueError(f"downsampling_factor = {self.downsampling_factor}: use 1 (none) or more")
        if self.samples < 2:
            raise ValueError(f"samples = {self.samples}: use 2 or more")
        for name in self.estimators:
            if name not in ESTIMATORS or name == "plug_in":
                meant = in_place_of(name, [known for known in ESTIMATORS if known != "plug_in"], "docs/information.md")
                raise ValueError(f"there is no estimator {name!r} of numbers; {meant}")

    @property
    def spacing(self) -> float:
        """The distance between values of the truth: one-hot labels, or averages of them; see gaussian_label_bound."""
        return 1 / self.downsampling_factor**2 if self.downsampling == "average" else 1.0


def measure(
    folders: Sequence[str | Path],
    data: str,
    split: str,
    settings: Regions,
    workspace: Workspace,
) -> tuple[str, pd.DataFrame]:
    """The MLflow run's id and a row for each checkpoint, class, R and quantity.

    Args:
        folders: checkpoints of methods that learn from dense labels; those of one experiment become one line.
        data: the packed data set.
        split: which of its splits.
        settings: the regions, and what is estimated.
        workspace: where the run is kept, and whether a GPU is to be had.

    Returns:
        Columns model, step, mean_iou (of the checkpoint's own validation), class, region_size, quantity (an estimator,
        `CEILING` or `BOUND`), nats, and failure, the reason where nats is nan.

    Raises:
        ValueError: a method that emits clusters or takes few labels, unknown classes, or as `evaluate.check`.
        CheckpointError: a damaged checkpoint.
    """
    dataset = PackedDataset.open(data)
    manifests = [check(folder, dataset, split) for folder in folders]
    experiments = [checkpoint_files.read_experiment(folder) for folder in folders]
    if unknown := set(settings.classes) - set(dataset.info.classes):
        raise ValueError(f"classes {', '.join(sorted(unknown))}: {dataset.uri} has {', '.join(dataset.info.classes)}")
    for experiment in experiments:
        method = METHODS[type(experiment.method)]
        if method.emits != "classes" or method.supervision != "dense":
            raise ValueError(f"{type(experiment.method).__name__} gives no probabilities that RMI could be of")
    names = _names(experiments)
    steps = [f"{experiment.id}-{manifest['step']}" for experiment, manifest in zip(experiments, manifests, strict=True)]
    tracking_uri = workspace.tracking_uri
    details = RunDetails(
        f"RMI's bound on {split}, {len(folders)} checkpoints",
        tags={"miseg.kind": "bound", "miseg.data": data, "miseg.data_fingerprint": dataset.fingerprint},
        params={
            "split": split,
            "region_sizes": str(settings.region_sizes),
            "downsampling_factor": str(settings.downsampling_factor),
            "downsampling": settings.downsampling,
            "samples": str(settings.samples),
            "checkpoints": " ".join(steps),
        },
    )
    run_name = f"bound-{split}-{dataset.fingerprint}-{_digest((settings, steps))}"
    run_id = mlflow_runs.open_run(workspace, mlflow_runs.experiment_name(data), run_name, details)
    rows: list[dict[str, Any]] = []
    with closing(tracking_uri, run_id):
        for folder, manifest, name in zip(folders, manifests, names, strict=True):
            checkpoint_columns = {
                "model": name,
                "step": manifest["step"],
                "mean_iou": manifest["metrics"].get("mean_iou", float("nan")),
            }
            quantities = _quantities(folder, data, split, settings, workspace.resources)
            rows += [checkpoint_columns | row for row in quantities]
            print(f"{name} step {manifest['step']}: {len(quantities)} quantities", flush=True)
            # After each, so that what was measured stays whatever becomes of the next.
            table = pd.DataFrame(rows)
            _log(table, tracking_uri, run_id)
    return run_id, table


def _quantities(
    folder: str | Path, data: str, split: str, settings: Regions, resources: Resources
) -> list[dict[str, Any]]:
    """A checkpoint's rows: each quantity of each class and R is a task of its own."""
    draw = ray.remote(_draw).options(num_cpus=resources.per_worker["CPU"], num_gpus=int(resources.use_gpu))
    estimate = ray.remote(_estimate).options(num_cpus=1)
    vectors = ray.get(draw.remote(checkpoint_files.files_of(folder), data, split, settings, resources.threads))
    waiting = {
        (label, region, quantity): estimate.remote(quantity, *pair, settings)
        for (label, region), pair in vectors.items()
        for quantity in (CEILING, BOUND, *settings.estimators)
    }
    rows = []
    for (label, region, quantity), reference in waiting.items():
        nats, failure = _value_or_failure(reference)
        row = {"class": label, "region_size": region, "quantity": quantity, "nats": nats, "failure": failure}
        rows.append(row)
    return rows


def means(table: pd.DataFrame) -> pd.DataFrame:
    """The mean over the classes that have a value, quantities across."""
    keys = ["model", "step", "mean_iou", "region_size"]
    by_quantity = table.groupby([*keys, "quantity"], sort=False)["nats"].mean().unstack("quantity", sort=False)
    return by_quantity.reset_index().rename_axis(columns=None)


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def _names(experiments: Sequence[Experiment]) -> list[str]:
    """Names of the figure's lines: the settings that the question is about, or the method."""
    names = {}
    for experiment in experiments:
        method = experiment.method
        if isinstance(method, RegionMutualInformation):
            name = f"λ = {method.weight:g}, R = {method.region_size}, DF = {method.downsampling_factor}"
        else:
            name = type(method).__name__
        names[experiment.id] = name
    alike = {name for name in names.values() if list(names.values()).count(name) > 1}
    return [
        f"{names[experiment.id]} ({experiment.id})" if names[experiment.id] in alike else names[experiment.id]
        for experiment in experiments
    ]


def _draw(files: dict[str, bytes], data: str, split: str, settings: Regions, threads: int) -> Vectors:
    """Region vectors of a model's predictions, a random share from each image."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = PackedDataset.open(data)
    with tempfile.TemporaryDirectory() as folder:
        method, experiment, task = checkpoint.open_method(checkpoint_files.unpack(files, Path(folder)), device)
    method.eval()
    generator = torch.Generator()
    per_image = -(-settings.samples // dataset.size(split))
    drawn_vectors: dict[int, dict[str, tuple[torch.Tensor, torch.Tensor]]] = {
        region: {} for region in settings.region_sizes
    }
    pixels_K = torch.zeros(task.num_classes)
    for batch in ingest.evaluation_stream(dataset, split, experiment):
        assert batch.labels_NHW is not None
        with torch.no_grad():
            probabilities_NCHW = method.predict(batch.images_NCHW.to(device)).cpu()
        labels = batch.labels_NHW[(batch.labels_NHW >= 0) & (batch.labels_NHW < task.num_classes)]
        pixels_K += torch.bincount(labels, minlength=task.num_classes)
        vectors = functools.partial(
            region_vectors,
            probabilities_NCHW,
            batch.labels_NHW,
            downsampling_factor=settings.downsampling_factor,
            downsampling=settings.downsampling,
            ignore_index=task.ignore_index,
        )
        for region in settings.region_sizes:
            parts_N = zip(batch.names(), *vectors(region_size=region), strict=True)
            for name, truth_CDP, probabilities_CDP, whole_P in parts_N:
                indices = whole_P.nonzero()[:, 0]
                generator.manual_seed(lot(str(settings.seed), str(region), name))
                indices = indices[torch.randperm(len(indices), generator=generator)[:per_image]]
                drawn_vectors[region][name] = truth_CDP[..., indices], probabilities_CDP[..., indices]
    shares_K = pixels_K / pixels_K.sum()
    classes = settings.classes or [
        name for name, share in zip(task.class_names, shares_K, strict=True) if share >= 0.02
    ]
    by_class: Vectors = {}
    for region, parts in drawn_vectors.items():
        # By the images' ids, so that their order changes nothing.
        columns_of_images = zip(*(parts[name] for name in sorted(parts)), strict=True)
        truth_CDN, probabilities_CDN = (torch.cat(columns, -1) for columns in columns_of_images)
        generator.manual_seed(settings.seed)
        order = torch.randperm(truth_CDN.shape[-1], generator=generator)[: settings.samples]
        for name in classes:
            index = task.class_names.index(name)
            pair = (truth_CDN[index][:, order].T.numpy(), probabilities_CDN[index][:, order].T.numpy())
            by_class[name, region] = pair
    return by_class


def _estimate(quantity: str, truth_ND: np.ndarray, probabilities_ND: np.ndarray, settings: Regions) -> float:
    if quantity == CEILING:
        return label_entropy(truth_ND)
    if quantity == BOUND:
        return float(gaussian_label_bound(probabilities_ND, truth_ND, spacing=settings.spacing))
    estimator = ESTIMATORS[quantity]
    own = {"seed": settings.seed} if "seed" in signature(estimator).parameters else {}
    return float(estimator(probabilities_ND, truth_ND, **own))


def _value_or_failure(reference: Any) -> tuple[float, str]:
    try:
        return ray.get(reference), ""
    except RayError as error:
        return float("nan"), reason(error.cause if isinstance(error, RayTaskError) else error)


def _log(table: pd.DataFrame, uri: str, run_id: str) -> None:
    mlflow_runs.log_table(uri, run_id, "bound-classes.csv", table)
    mean = means(table)
    mlflow_runs.log_table(uri, run_id, "bound.csv", mean)
    last = mean[mean["model"] == mean["model"].iloc[-1]]
    for row in last[last["step"] == last["step"].iloc[-1]].to_dict("records"):
        nats = {name: row[name] for name in table["quantity"].unique() if row[name] == row[name]}
        values = {f"{row['model']}/R{row['region_size']}/{name}": value for name, value in nats.items()}
        mlflow_runs.log_metrics(uri, run_id, values, step=row["step"])
    with tempfile.TemporaryDirectory() as folder:
        mlflow_runs.log_file(uri, run_id, write(table, Path(folder)))


def write(table: pd.DataFrame, folder: Path) -> Path:
    """Draw the figure into a folder, which is made where it is missing; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    mean = means(table)
    quantities = list(dict.fromkeys(table["quantity"]))
    lines = [
        Followed(str(model), f"R = {region}", quantity, group["step"].tolist(), group[quantity].tolist())
        for (model, region), group in mean.sort_values("step").groupby(["model", "region_size"], sort=False)
        for quantity in quantities
        if quantity in group
    ]
    followed_figure(lines).savefig(folder / "rmi-bound.png")
    return folder / "rmi-bound.png"
