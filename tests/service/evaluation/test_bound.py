"""RMI's bound beside estimates, on the predictions of a model that was trained under Ray."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from miseg.data.packed.dataset import PackedDataset
from miseg.information import estimate, gaussian_label_bound, label_entropy
from miseg.losses import region_vectors
from miseg.methods.configs import CrossEntropy, PixelKMeans, RegionMutualInformation
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.cluster import ray_cluster
from miseg.service.evaluation import rmi_bound
from miseg.service.tracking.run_store import Workspace
from miseg.service.training import streams as ingest
from miseg.service.training import train
from miseg.service.training.loop import Loop
from miseg.service.training.run import TrainingRun


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_trainings_checkpoints_are_followed(
    ray_here: None, small: PackedDataset, tiny: Experiment, uri: str, tmp_path: Path
) -> None:
    resources = ray_cluster.resources(1, 1)
    run = TrainingRun("kept", tiny, small.uri, str(tmp_path), uri, resources, keep_all=True)
    train.fit(run)
    folders = checkpoint_files.within(tmp_path / "runs" / "kept")
    assert folders[1:2] == checkpoint_files.within(folders[1])
    with pytest.raises(checkpoint_files.CheckpointError, match="holds none"):
        checkpoint_files.within(tmp_path)
    assert [checkpoint_files.verify(folder)["step"] for folder in folders] == [6, 12, 18, 24]

    names = tuple(small.info.classes[index] for index in (0, 1))
    settings = rmi_bound.Regions((1, 2), 2, samples=70, classes=names, estimators=("gaussian", "ksg"))
    workspace = Workspace(str(tmp_path), uri, resources)
    run_id, table = rmi_bound.measure([folders[0], folders[-1]], small.uri, "val", settings, workspace)
    assert len(table) == 2 * 2 * 2 * 4  # checkpoints, classes, R, quantities
    assert set(table["step"]) == {6, 24} and set(table["model"]) == {"λ = 0.5, R = 3, DF = 4"}
    by = table.set_index(["step", "class", "region_size", "quantity"])["nats"]
    for key, value in by.items():
        if key[3] == rmi_bound.BOUND:
            assert value <= by[(*key[:3], rmi_bound.CEILING)]  # type: ignore[index]

    # Seven images give ten regions each, the same for each class; threads round probabilities differently.
    vectors = rmi_bound._draw(checkpoint_files.files_of(folders[-1]), small.uri, "val", settings, 1)
    truth, probabilities = vectors[names[0], 2]
    assert truth.shape == probabilities.shape == (70, 4)
    assert by[24, names[0], 2, "gaussian"] == pytest.approx(float(estimate("gaussian", probabilities, truth)), abs=1e-4)
    assert by[24, names[0], 2, rmi_bound.CEILING] == pytest.approx(label_entropy(truth))
    expected = gaussian_label_bound(probabilities, truth, spacing=0.25)
    assert by[24, names[0], 2, rmi_bound.BOUND] == pytest.approx(float(expected), abs=1e-4)
    _are_regions_of(folders[-1], small, names[0], truth, probabilities)

    client = MlflowClient(uri)
    tables = {f"{name}.{kind}" for name in ("bound", "bound-classes") for kind in ("csv", "json")}
    assert {item.path for item in client.list_artifacts(run_id)} == tables | {"rmi-bound.png"}
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run_id, "λ  0.5 R  3 DF  4/R2/ksg")
    assert {point.step: point.value for point in history} == pytest.approx(
        {row.step: row.ksg for row in rmi_bound.means(table).itertuples() if row.region_size == 2}
    )
    mean = rmi_bound.means(table)
    assert len(mean) == 4
    chosen = mean[(mean["step"] == 24) & (mean["region_size"] == 2)]["ksg"].item()
    assert chosen == pytest.approx(np.mean([by[24, name, 2, "ksg"] for name in names]))

    with pytest.raises(ValueError, match="no probabilities"):
        clusters = replace(tiny, method=PixelKMeans(clusters=3))
        loop = Loop(clusters, ingest.task_of(small))
        rmi_bound.measure([checkpoint.save(tmp_path / "clusters", loop, {})], small.uri, "val", settings, workspace)
    with pytest.raises(ValueError, match="classes Tiger"):
        rmi_bound.measure(folders[:1], small.uri, "val", replace(settings, classes=("Tiger",)), workspace)


def _are_regions_of(
    folder: Path, dataset: PackedDataset, name: str, truth: np.ndarray, probabilities: np.ndarray
) -> None:
    """Each drawn pair is a region of some validation image."""
    method, experiment, task = checkpoint.open_method(folder, torch.device("cpu"))
    method.eval()
    seen: list[np.ndarray] = []
    for batch in ingest.evaluation_stream(dataset, "val", experiment):
        assert batch.labels_NHW is not None
        with torch.no_grad():
            predicted = method.predict(batch.images_NCHW)
        y, p, whole = region_vectors(predicted, batch.labels_NHW, region_size=2, downsampling_factor=2)
        index = task.class_names.index(name)
        pairs = torch.cat((y[:, index], p[:, index]), 1).transpose(1, 2)[whole]
        seen.append(pairs.numpy())
    drawn = np.hstack((truth, probabilities))
    everything = np.concatenate(seen)
    nearest = np.abs(everything[None] - drawn[:, None]).max(2).min(1)
    assert nearest.max() < 1e-6


def test_what_cannot_be_estimated_is_nan_with_a_reason_and_means_leave_it_out() -> None:
    base = {"model": "m", "step": 1, "mean_iou": 0.5, "region_size": 1, "failure": ""}
    rows = [
        base | {"class": "sky", "quantity": "ksg", "nats": 0.2},
        base | {"class": "road", "quantity": "ksg", "nats": 0.4},
        base | {"class": "sky", "quantity": "gaussian", "nats": math.nan, "failure": "InfiniteInformationError: …"},
        base | {"class": "road", "quantity": "gaussian", "nats": 1.0},
    ]
    (mean,) = rmi_bound.means(pd.DataFrame(rows)).to_dict("records")
    assert mean["ksg"] == pytest.approx(0.3) and mean["gaussian"] == 1.0


def test_lines_are_named_by_what_the_question_is_about(tiny: Experiment) -> None:
    other = replace(tiny, method=RegionMutualInformation(UNet(2, "group"), weight=0.0))
    plain = replace(tiny, method=CrossEntropy(UNet(2, "group")))
    seeded = replace(other, seed=1)
    names = rmi_bound._names([tiny, other, plain, tiny])
    assert names == ["λ = 0.5, R = 3, DF = 4", "λ = 0, R = 3, DF = 4", "CrossEntropy", "λ = 0.5, R = 3, DF = 4"]
    assert rmi_bound._names([other, seeded])[1] == f"λ = 0, R = 3, DF = 4 ({seeded.id})"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"region_sizes": (0,)}, "region_sizes"),
        ({"region_sizes": ()}, "region_sizes"),
        ({"samples": 1}, "samples"),
        ({"estimators": ("plug_in",)}, "no estimator 'plug_in'"),
        ({"downsampling_factor": 0}, "downsampling_factor"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rmi_bound.Regions(**settings)
