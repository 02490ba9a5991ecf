"""Variants of the similarity, each trained in a plain loop and measured by maps from labels drawn in the very image.

OMP_NUM_THREADS=1 python -m tests.measurements.few_label_variants --steps 300 --seeds 0 1 flanders-similarity …

Prints a line of JSON for each run, number of labels and terms of algorithm 2: a trained network is measured by both.
Changes after a recipe's name, such as `flanders-similarity:method.negatives=batch`, make a variant of it. With
`random=encoder` the encoder φ stays as it was drawn, and the statistics networks learn; with `random=all` nothing does.
It needs no Ray. Scores are over the pixels of all images that are mapped, means over the draws.
"""

from __future__ import annotations

import argparse
import ast
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from miseg.data.loading.pairs import scene_batches
from miseg.data.packed.dataset import PackedDataset
from miseg.data.sources.catalog import ensure_packed
from miseg.evaluation import ConfusionMatrix
from miseg.interface import Batch
from miseg.methods import build_method
from miseg.methods.few.similarity import MutualInformationSimilarityMethod
from miseg.methods.ranges import changed
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.service.training import streams
from miseg.service.training.loop import Loop

RANDOM = "random"
"""What a text calls the part that is not trained, as in the last row of Sanchez's table 3."""


def variant(text: str, seed: int, steps: int) -> Experiment:
    """The recipe that a text names, with its changes."""
    name, *changes = text.split(":")
    experiment = replace(RECIPES[name](seed=seed), steps=steps)
    values: dict[str, Any] = {}
    for change in changes:
        path, _, value = change.partition("=")
        if path == RANDOM:
            continue
        try:
            values[path] = ast.literal_eval(value)
        except ValueError:
            values[path] = value
    return changed(experiment, values) if values else experiment


def trained(experiment: Experiment, dataset: PackedDataset, random: str) -> Loop:
    """The loop after all its steps; `random` is "", "encoder" or "all", which is not trained then."""
    loop, convert = Loop(experiment, streams.task_of(dataset)), streams.Converter(dataset, experiment)
    if random == "all":
        return loop
    if random == "encoder":
        loop.method.encoder.requires_grad_(False)
    for columns in streams.training_plan(dataset, experiment)(start_step=0, stop_step=experiment.steps):
        loop.train_step(convert(columns))
        if loop.step % 50 == 0:
            loop.flush()
    loop.flush()
    return loop


def chips(dataset: PackedDataset, experiment: Experiment, most: int) -> list[Batch]:
    """At most so many clear and labelled chips of the split that is validated on, at equal distances."""
    split, convert = experiment.validation_split(dataset.splits), streams.Converter(dataset, experiment)
    scenes = scene_batches(dataset, split, min_valid=experiment.pairs.min_valid)
    labelled = [convert(columns) for columns in scenes if (columns["labels"] != dataset.info.ignore_index).any()]
    places = np.unique(np.linspace(0, len(labelled) - 1, min(most, len(labelled))).round().astype(int))
    return [labelled[place] for place in places]


def measured(loop: Loop, images: list[Batch], points: list[int], draws: int) -> Iterator[dict[str, Any]]:
    """Accuracy and mean IoU by labels, comparison and terms, of the very images."""
    weights, task = loop.method.state_dict(), loop.task
    for terms in ("one", "all"):
        method = build_method(replace(loop.experiment.method, terms=terms), task).eval()  # type: ignore[call-arg]
        assert isinstance(method, MutualInformationSimilarityMethod)
        method.load_state_dict(weights)
        if terms == "all" and method.config.discriminator == "concatenate":
            continue  # P² times as long
        compared = ("local", "global", "representation") if terms == "one" else ("local", "global")
        for number in points:
            for name in (name for name in compared if name in method.comparisons()):
                scores = []
                for draw in range(draws):
                    matrix = ConfusionMatrix(task.num_classes, task.ignore_index)
                    for image in images:
                        own = streams.own_examples(image, number, draw)
                        assert own is not None and image.labels_NHW is not None
                        method.fit_support([own])
                        matrix.update(method.predict_by(name, image.images_NCHW).argmax(1), image.labels_NHW)
                    scores.append((matrix.pixel_accuracy(), matrix.mean_iou()))
                accuracy, mean_iou = np.mean(scores, 0)
                yield {
                    "terms": terms,
                    "M": number,
                    "by": name,
                    "pixel_accuracy": round(float(accuracy), 4),
                    "mean_iou": round(float(mean_iou), 4),
                }


def main() -> None:
    """Train and measure each variant with each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="+")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--points", type=int, nargs="+", default=[10])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--chips", type=int, default=6)
    parser.add_argument("--storage", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for seed in arguments.seeds:
        for text in arguments.variants:
            experiment = variant(text, seed, arguments.steps)
            dataset = PackedDataset.open(ensure_packed(experiment.data, arguments.storage))
            started = time.process_time()
            part = next((change for change in text.split(":") if change.startswith(f"{RANDOM}=")), "")
            loop = trained(experiment, dataset, part.partition("=")[2])
            about = {"variant": text, "seed": seed, "steps": arguments.steps}
            about["processor_s"] = round(time.process_time() - started)
            for row in measured(loop, chips(dataset, experiment, arguments.chips), arguments.points, arguments.draws):
                print(json.dumps(about | row), flush=True)


if __name__ == "__main__":
    main()
