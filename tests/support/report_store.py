"""A store of MLflow that holds a study as the study writes it, with differences that are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from miseg.evaluation.pictures import PanelRow, panels
from miseg.one_class import ONE_CLASS

CLASSES = ("sky", "road", "pole")
COLOURS = ((90, 140, 200), (70, 70, 70), (220, 160, 40))
STEPS = (50, 100, 150, 200)
PIXELS = 1000


@dataclass
class Study:
    """Writes the runs of one study of one data set.

    The true mean IoU of a row is its `level`; every seed, image and measurement adds its own deviation.
    """

    uri: str
    root: Path
    name: str = "night"
    data: str = "camvid"
    budget: str = "all"
    supervision: str = "dense"
    baseline: str = "BCE tuned"
    images: int = 30
    of_seed: float = 0.004
    of_image: float = 0.05
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    cells: list[dict] = field(default_factory=list)
    one_class: dict[tuple[str, int], str] = field(default_factory=dict)
    """The only class that a row's model of a seed predicts, where it is so: tagged as an evaluation tags it."""

    def __post_init__(self) -> None:
        self.client = MlflowClient(self.uri)
        name = f"miseg/{self.data}"
        known = self.client.get_experiment_by_name(name)
        place = f"{self.root}/artifacts/{name}"
        self.experiment = known.experiment_id if known else self.client.create_experiment(name, place)
        self.parent = self.run(self.name, {"miseg.kind": "study", "miseg.study": self.name})
        self.shared_N = self.rng.normal(0, self.of_image, self.images)

    def run(
        self,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, object] | None = None,
        metrics: Sequence[Metric] = (),
        parent: str | None = None,
    ) -> str:
        tags = dict(tags) | ({"mlflow.parentRunId": parent} if parent else {})
        run_id = self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id
        described = [Param(key, str(value)) for key, value in (params or {}).items()]
        self.client.log_batch(run_id, metrics=metrics, params=described, tags=[RunTag("miseg.ended", "finished")])
        self.client.set_terminated(run_id)
        return run_id

    def cell(self, family: str, method: str, rows: Sequence[str], recipe: str, seeds: int, trials: int = 0) -> str:
        """A cell of the plan, and its tuning with trials; the id of the cell."""
        cell = f"{self.data}/{self.budget}/{family}"
        self.cells.append(
            {"id": cell, "method": method, "recipe": recipe, "rows": list(rows), "trials": trials}
            | {"steps": STEPS[-1], "confirm_seeds": seeds}
        )
        tags = {"miseg.kind": "tuning", "miseg.study": self.name, "miseg.cell": cell, "miseg.experiment_id": "0"}
        tuning = self.run(f"tune {family}", tags, {"seed": 0, "trials": trials, "selection": "labels"}, (), self.parent)
        for number in range(trials):
            weight, whole = self.rng.random(), number % 3 < 2
            params = {"seed": 0, "lambda": weight, "region_size": int(self.rng.integers(1, 5)), "steps": STEPS[-1]}
            params |= {
                "downsampling": ("average", "max")[number % 2],
                "optimiser.learning_rate": 10 ** self.rng.uniform(-4, -2),
            }
            score = 0.4 - (weight - 0.6) ** 2 + self.rng.normal(0, 0.01)
            trial = self.run(
                f"trial {number}",
                {"miseg.kind": "trial", "miseg.experiment_id": str(number), "miseg.method": method},
                params,
                [Metric("val/mean_iou", score, 0, 200 if whole else 50)],
                tuning,
            )
            if not whole:
                self.client.set_tag(trial, "miseg.ended", "stopped early by ASHA at step 50")
        self.tuning = tuning
        return cell

    def row(
        self, cell: str, row: str, method: str, level: float, seeds: Sequence[int], *, test: bool = True,
        counts: bool = True, pictures: bool = True,
    ) -> None:  # fmt: skip
        """Confirmation runs of a row and, with `test`, their evaluations."""
        common = {"miseg.study": self.name, "miseg.cell": cell, "miseg.row": row, "miseg.method": method}
        for seed in seeds:
            own = level + self.rng.normal(0, self.of_seed)
            metrics = [Metric("val/mean_iou", own * step / STEPS[-1], step, step) for step in STEPS]
            metrics += [Metric("val/micro_iou", own, 0, STEPS[-1]), Metric("val/pixel_accuracy", own, 0, STEPS[-1])]
            params = {"seed": seed, "method.network": "UNet", "steps": STEPS[-1]}
            tags = {"miseg.kind": "trial", "miseg.confirmed": "yes", "mlflow.source.git.commit": "abcdef1234567890"}
            only = self.one_class.get((row, seed))
            tagged = {ONE_CLASS: f"step {STEPS[-1]}: {only}" if only else "no"}
            training = self.run(f"{row} seed {seed}", tags | common | tagged, params, metrics, self.tuning)
            if test:
                self._evaluation(training, common | tagged, params, own, counts, pictures)

    def _evaluation(
        self, training: str, common: Mapping[str, str], params: Mapping, own: float, counts: bool, pictures: bool
    ) -> None:
        ious_N = np.clip(own + self.shared_N + self.rng.normal(0, 0.01, self.images), 0.01, 0.99)
        # Of each class PIXELS in union, of which ious_N are hits; the misses are taken for the next class.
        hits_N = np.round(ious_N * PIXELS).astype(np.int64)
        misses_N = (PIXELS - hits_N) // 2
        confusion = np.zeros((self.images, 3, 3), dtype=np.int64)
        for label in range(3):
            confusion[:, label, label] = hits_N
            confusion[:, label, (label + 1) % 3] = misses_N
        hits, total = confusion.sum(0).diagonal(), confusion.sum(0)
        per_class = hits / (total.sum(0) + total.sum(1) - hits)
        accuracy = float(hits.sum() / total.sum())
        metrics = [Metric(f"test/iou/{name}", float(v), 0, 0) for name, v in zip(CLASSES, per_class, strict=True)]
        metrics += [
            Metric("test/mean_iou", float(per_class.mean()), 0, 0),
            Metric("test/pixel_accuracy", accuracy, 0, 0),
        ]
        metrics += [Metric("test/expected_calibration_error", 0.2 * (1 - own), 0, 0)]
        metrics += [Metric("test/micro_iou", float(hits.sum() / (3 * PIXELS * self.images)), 0, 0)]
        tags = {"miseg.kind": "evaluation"} | common
        if self.supervision == "none":
            metrics.append(Metric("test/train_match/mean_iou", 0.8 * float(per_class.mean()), 0, 0))
            tags |= {"miseg.match": "one to one, 3 clusters with 3 classes", "miseg.collapsed": "no"}
        run_id = self.run("evaluate", tags, {**params, "split": "test"}, metrics, training)
        folder = self.root / "files" / run_id
        folder.mkdir(parents=True)
        if counts:
            flat = confusion.reshape(self.images, 9).tolist()
            ids = [f"image-{number:03d}" for number in range(self.images)]
            table = pa.table({"id": ids, "counts": pa.array(flat, pa.list_(pa.int64()))})
            pq.write_table(table, folder / "test-images.parquet")
            self.client.log_artifact(run_id, str(folder / "test-images.parquet"), "images")
        if pictures:
            shown = [self._row(own, number) for number in range(2)]
            panels(shown, COLOURS, CLASSES).save(folder / "panels-test-step-000200.png")
            self.client.log_artifact(run_id, str(folder / "panels-test-step-000200.png"), "panels")

    def _row(self, own: float, number: int) -> PanelRow:
        scene = np.random.default_rng(number)
        truth = np.zeros((48, 64), np.int64)
        truth[24:], truth[10:40, 20 + 9 * number : 24 + 9 * number], truth[40:43, :30] = 1, 2, 255
        image = np.asarray(COLOURS, np.uint8)[np.where(truth == 255, 1, truth)]
        image = np.clip(image + scene.normal(0, 18, image.shape), 0, 255).astype(np.uint8)
        wrong = self.rng.random(truth.shape) > 0.5 + own
        return PanelRow(image, truth, np.where(wrong, (truth + 1) % 3, np.where(truth == 255, 0, truth)))

    def finish(self, more: Sequence[Study] = ()) -> None:
        """Keep the plan, which makes it a study."""
        plan = {"study": self.name, "created": "2026-11-28T12:00:00", "cost": {"GPU hours": 1.5}, "tables": []}
        for study in (self, *more):
            plan["tables"].append(
                {"data": study.data, "budget": study.budget, "supervision": study.supervision}
                | {"baseline": study.baseline, "cells": study.cells}
            )
        for study in (self, *more):
            path = study.root / "plan.json"
            path.write_text(json.dumps(plan))
            study.client.log_artifact(study.parent, str(path))
