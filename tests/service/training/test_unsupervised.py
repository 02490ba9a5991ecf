"""Methods without labels in the loop, under Ray Train, in MLflow and in the evaluation."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import torch.distributed as dist
from mlflow import MlflowClient
from torch import Tensor

from miseg.data.configs import Augmentation
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from miseg.data.sources.textures import Textures
from miseg.evaluation import ConfusionMatrix, match_clusters
from miseg.interface import Batch
from miseg.methods.configs import InfoSeg, InvariantInformation, MethodConfig, PixelKMeans
from miseg.networks.configs import VGG, InfoSegNetwork
from miseg.recipes.experiment import Experiment, Optimiser
from miseg.service.checkpoints import checkpoint
from miseg.service.cluster import ray_cluster
from miseg.service.evaluation.evaluate import TrainedModel, evaluate
from miseg.service.tracking import mlflow_runs, models
from miseg.service.tracking.run_store import Workspace
from miseg.service.training import train
from miseg.service.training.loop import Loop
from miseg.service.training.run import FINISHED, TrainingOutcome, TrainingRun
from miseg.service.training.scoring import Evaluation, Scoring
from miseg.service.training.scoring import evaluate as evaluate_batches
from tests.support.loops import TASK, batch_of

NETWORK = InfoSegNetwork(features=16, width=4, normalisation="group")
IIC = InvariantInformation(VGG(4, normalisation="group"), displacement=2)


def experiment_of(method: MethodConfig, data: str = "nowhere", **settings: object) -> Experiment:
    base = Experiment(
        method,
        data=data,
        optimiser=Optimiser(learning_rate=1e-3, warmup_steps=0),
        augmentation=Augmentation(flip=0.5),
        steps=6,
        batch_size=4,
        validate_every=3,
    )
    return replace(base, **settings)  # type: ignore[arg-type]


def loop_of(method: MethodConfig) -> Loop:
    loop = Loop(experiment_of(method), TASK)
    for step in range(2):
        loop.train_step(batch_of(step))
    loop.flush()
    return loop


def predicted(loop: Loop, batch: Batch) -> Tensor:
    loop.method.eval()
    with torch.no_grad():
        return loop.method.predict(batch.images_NCHW).argmax(1)


def test_the_score_is_of_the_best_match_over_all_batches_and_the_objective_reads_no_label() -> None:
    loop = loop_of(InfoSeg(NETWORK, jitter=0.0))
    batches = [batch_of(7), batch_of(8)]
    found = loop.evaluate(batches, keep=4)
    clusters = torch.cat([predicted(loop, batch) for batch in batches])
    truth = torch.cat([batch.labels_NHW for batch in batches if batch.labels_NHW is not None])
    assert found.clusters is not None
    match = match_clusters(found.clusters.counts)
    expected = ConfusionMatrix(3)
    expected.update(match[clusters], truth)
    assert torch.equal(found.matrix.counts, expected.counts)
    assert torch.equal(found.samples[0][1], match[clusters[:4]])

    held_out = loop.method.eval().held_out()
    with torch.no_grad():
        for batch in batches:
            held_out.update(batch.without_labels())
    assert found.objective == pytest.approx(-held_out.loss(), rel=1e-6)
    shuffled = [replace(b, labels_NHW=torch.where(b.labels_NHW == 255, 255, 2 - b.labels_NHW)) for b in batches]
    assert loop.evaluate(shuffled).objective == found.objective


def test_a_match_that_is_given_is_kept() -> None:
    loop, batch = loop_of(IIC), batch_of(7)
    given = torch.tensor([1, 1, 0])
    found = evaluate_batches(loop.method, TASK, [batch], loop.device, scoring=Scoring(match_K=given))
    expected = ConfusionMatrix(3)
    assert batch.labels_NHW is not None
    expected.update(given[predicted(loop, batch)], batch.labels_NHW)
    assert torch.equal(found.matrix.counts, expected.counts)


def test_what_a_step_draws_is_a_function_of_seed_step_and_rank() -> None:
    def losses(start: int, seed: int = 0) -> list[float]:
        loop = Loop(replace(experiment_of(IIC), seed=seed), TASK)
        loop.step = start
        torch.manual_seed(99)
        torch.rand(start + 3)
        loop.train_step(batch_of(0))
        return [record.values["train/loss"] for record in loop.flush()]

    # The same weights and images: the losses differ by the colours and flips of the second views alone.
    assert losses(1) == losses(1) and losses(1) != losses(2)


SHARES = (slice(0, 2), slice(2, 4))


def _evaluate_on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    loop = Loop(experiment_of(InfoSeg(NETWORK, jitter=0.0)), TASK)
    loop.train_step(_part(batch_of(0), SHARES[rank]))
    # Rank 1 has nothing to evaluate.
    found = loop.evaluate([batch_of(7)] if rank == 0 else [])
    assert found.clusters is not None
    torch.save((found.objective, found.clusters.counts, found.matrix.counts), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def _part(batch: Batch, part: slice) -> Batch:
    assert batch.labels_NHW is not None
    return Batch(batch.images_NCHW[part], batch.labels_NHW[part], batch.ids[part])


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_rank_without_images_has_the_same_scores(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_evaluate_on_rank, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first[0] == second[0] and all(map(torch.equal, first[1:], second[1:]))
    one = Loop(experiment_of(InfoSeg(NETWORK, jitter=0.0)), TASK)
    one.train_step(batch_of(0))
    found = one.evaluate([batch_of(7)])
    assert isinstance(found, Evaluation) and first[0] == pytest.approx(found.objective, rel=1e-4)


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    source = Textures({"train": 8, "val": 4}, size=32)
    return PackedDataset.open(pack(source, tmp_path_factory.mktemp("textures") / "packed", source.available()).path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("storage")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow_runs.check(uri, str(folder))
    return folder, uri


def fit(
    place: tuple[Path, str], data: PackedDataset, method: MethodConfig, name: str, **how: object
) -> TrainingOutcome:
    folder, uri = place
    resources = replace(ray_cluster.resources(1, 1), cpus=1)
    return train.fit(TrainingRun(name, experiment_of(method, data.uri), data.uri, str(folder), uri, resources, **how))  # type: ignore[arg-type]


ray_tests = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_here")]


class TestUnderRay:
    pytestmark = ray_tests

    def test_a_run_logs_the_objective_both_matches_and_how_it_matched(self, place, textures) -> None:
        outcome = fit(place, textures, InfoSeg(NETWORK, clusters=3), "infoseg")
        run = MlflowClient(place[1]).get_run(outcome.run_id)
        metrics, tags = run.data.metrics, run.data.tags
        assert outcome.ended == FINISHED and outcome.score == metrics["val/objective"] != outcome.mean_iou
        assert -2 < metrics["val/objective"] < 0
        assert 0 <= metrics["val/train_match/mean_iou"] <= metrics["val/mean_iou"] + 0.05
        assert 0 <= metrics["val/cluster_entropy"] <= np.log(3) and metrics["val/unused_clusters"] in (0, 1, 2)
        assert tags["miseg.match"] == "many to one, 3 clusters with 2 classes" and "miseg.collapsed" in tags
        assert (run.data.params["clusters"], run.data.params["tau"]) == ("3", "0.25")
        history = {key: MlflowClient(place[1]).get_metric_history(outcome.run_id, key) for key in metrics}
        assert [m.step for m in history["val/objective"]] == [3, 6]
        # The training images are passed through once, at the end.
        assert [m.step for m in history["val/train_match/mean_iou"]] == [6]
        again = fit(place, textures, InfoSeg(NETWORK, clusters=3), "infoseg")
        assert again.reused and again.score == pytest.approx(outcome.score)

    def test_evaluation_reports_both_matches_and_the_model_answers_in_classes(self, place, textures) -> None:
        folder, uri = place
        outcome = fit(place, textures, PixelKMeans(clusters=3), "kmeans", selection="labels")
        assert outcome.score == outcome.mean_iou
        with tempfile.TemporaryDirectory() as beside:
            saved = models.download(uri, outcome.run_id, "last", beside)
            resources = replace(ray_cluster.resources(1, 1), cpus=1)
            workspace = Workspace(str(folder), uri, resources)
            scores = evaluate(TrainedModel(saved), textures.uri, "val", workspace).scores
            method, experiment, task = checkpoint.open_method(saved)
        logged = MlflowClient(uri).get_run(outcome.run_id).data.metrics
        for key in ("val/mean_iou", "val/train_match/mean_iou", "val/train_match/iou/across", "val/cluster_entropy"):
            assert scores[key] == pytest.approx(logged[key], abs=1e-6), key
        assert 0 < scores["val/train_match/boundary_iou"] < 1
        # What K-means found is a part of the checkpoint: the model needs no images to be fitted again.
        with models.pointed_at(uri):
            (last,) = models.of_role(uri, outcome.run_id, "last")
            served = mlflow.pyfunc.load_model(last.model_uri)
        images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
        probabilities = served.predict(images)
        assert probabilities.shape == (2, 2, 32, 32)
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
        assert method.num_clusters == 3 and task.num_classes == 2 and experiment.method.clusters == 3
