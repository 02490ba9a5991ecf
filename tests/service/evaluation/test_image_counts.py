"""Each image's own confusion matrix: together they are the split's, and a file holds them for whoever draws images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from miseg.evaluation import ClusterCounts, ConfusionMatrix, match_clusters
from miseg.interface import Batch
from miseg.methods.configs import CrossEntropy, InvariantInformation, MethodConfig
from miseg.networks.configs import VGG, UNet
from miseg.recipes.experiment import Experiment
from miseg.service.evaluation.image_counts import write_images
from miseg.service.training.loop import Loop
from miseg.service.training.scoring import Counted, Evaluation, Scoring
from miseg.service.training.scoring import evaluate as evaluate_batches
from tests.support.loops import TASK, batch_of

CLASSES = CrossEntropy(UNet(2, "group"))
CLUSTERS = InvariantInformation(VGG(4, normalisation="group"), displacement=2, clusters=4)


def measured(method: MethodConfig) -> tuple[Evaluation, Counted]:
    loop = Loop(Experiment(method, data="nowhere", batch_size=4), TASK)
    batches = [replace(batch_of(7), ids=("a", "b", "c", "d")), replace(batch_of(8), ids=("e", "f", "g", "h"))]
    unlabelled = Batch(batches[0].images_NCHW, None, ("i", "j", "k", "l"))
    image_counts: Counted = []
    found = evaluate_batches(
        loop.method, TASK, [*batches, unlabelled], loop.device, scoring=Scoring(image_counts=image_counts)
    )
    return found, image_counts


def rows_of(path: Path, column: str) -> dict[str, torch.Tensor]:
    table = pq.read_table(path)
    assert table.schema.field("id").type == pa.string()
    assert table.schema.field(column).type == pa.list_(pa.field("element", pa.int64()))
    return {row["id"]: torch.tensor(row[column]).view(3, 3) for row in table.to_pylist()}


def test_the_images_of_classes_add_up_to_the_split(tmp_path: Path) -> None:
    found, image_counts = measured(CLASSES)
    assert [name for name, _ in image_counts] == list("abcdefgh")
    write_images(tmp_path / "images.parquet", image_counts, None, None)
    rows = rows_of(tmp_path / "images.parquet", "counts")
    assert list(rows) == list("abcdefgh")
    assert torch.equal(torch.stack(list(rows.values())).sum(0), found.matrix.counts)
    # Truth is in rows: a row's sum is how often the image has the class.
    truth = batch_of(7).labels_NHW
    assert truth is not None
    assert rows["b"].sum(1).tolist() == [int((truth[1] == label).sum()) for label in range(3)]


def test_the_images_of_clusters_add_up_by_either_match(tmp_path: Path) -> None:
    found, image_counts = measured(CLUSTERS)
    given = torch.tensor([2, 0, 1, 1])
    assert found.clusters is not None
    write_images(tmp_path / "images.parquet", image_counts, found.clusters, given)
    for column, match in {"counts": match_clusters(found.clusters.counts), "counts_train_match": given}.items():
        rows = rows_of(tmp_path / "images.parquet", column)
        assert torch.equal(torch.stack(list(rows.values())).sum(0), found.clusters.matched(match).counts)
    write_images(tmp_path / "own.parquet", image_counts, found.clusters, None)
    assert pq.read_schema(tmp_path / "own.parquet").names == ["id", "counts"]


def test_many_images_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miseg.service.evaluation.image_counts.IMAGES_AT_ONCE", 3)
    image_counts: Counted = []
    for number in range(8):
        matrix = ConfusionMatrix(3)
        matrix.counts[number % 3, 0] = number
        image_counts.append((f"image {number}", matrix))
    write_images(tmp_path / "images.parquet", image_counts, None, None)
    rows = rows_of(tmp_path / "images.parquet", "counts")
    assert [int(counts.sum()) for counts in rows.values()] == list(range(8))
    assert pq.ParquetFile(tmp_path / "images.parquet").num_row_groups == 3
    write_images(tmp_path / "none.parquet", [], ClusterCounts(2, 3), None)
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
