"""The rows of the benchmark that are about one method: maps from few labels, mutual learning and IIC."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from miseg.data.packed.dataset import PackedDataset
from miseg.interface import IGNORE_INDEX, Batch, Step, Task
from miseg.methods import build_method
from miseg.methods.configs import (
    CrossEntropy,
    InvariantInformation,
    MethodConfig,
    MutualInformationSimilarity,
    MutualLearning,
)
from miseg.methods.few.similarity import MutualInformationSimilarityMethod
from miseg.methods.unsupervised.invariant_information import InvariantInformationMethod
from miseg.recipes import few_labels, streets, unsupervised
from miseg.service.benchmarks.rows import BenchmarkRow, device, peak_bytes_of
from miseg.service.training.loop import Loop

SCENE, LITERAL_ROWS = 512, 4
"""Pixels of a scene's side, and rows of it that the literal algorithm maps."""

IIC_IMAGES = {"cpu": 4, "cuda": 64}
"""A batch of IIC: as published on a GPU."""


@torch.no_grad()
def maps(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Seconds for the map of a scene of 512 x 512 pixels and four bands from 60 labelled pixels, by local information.

    The literal algorithm encodes every patch and scores it with every label by the statistics network, here a row of
    512 patches at a time. It maps four rows of the scene, and its time is extrapolated from them: times 128. Ours is
    `NearestLabelMethod.predict` of the whole scene, which is noise, whatever the data set: its content costs nothing.
    """
    method, image_1BHW = _labelled_scene(SCENE)
    values: dict[str, list[float]] = {"literal, extrapolated": [], "once over the image": []}
    for repetition in range(-1, repetitions):
        started = time.perf_counter()
        expected = _literal_rows(method, image_1BHW, LITERAL_ROWS).cpu()
        between = time.perf_counter()
        classes_HW = method.predict(image_1BHW)[0].argmax(0).cpu()
        ended = time.perf_counter()
        if repetition < 0:
            continue
        values["literal, extrapolated"].append((between - started) * SCENE / LITERAL_ROWS)
        values["once over the image"].append(ended - between)
        if differing := int((expected != classes_HW[:LITERAL_ROWS]).sum()):
            # Rounding may decide between labels that are equally near in single precision; more would be an error.
            print(f"map: {differing} of {expected.numel()} pixels differ")
    return BenchmarkRow("map", "s", values)


@torch.no_grad()
def scene(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Seconds for the map of a scene of 512 x 512 pixels and four bands from 60 labelled pixels, by two comparisons."""
    method, image_1BHW = _labelled_scene(SCENE)
    values: dict[str, list[float]] = {"local": [], "representation": []}
    for _ in range(repetitions):
        for name, seconds in values.items():
            started = time.perf_counter()
            method.predict_by(name, image_1BHW).argmax(1).cpu()
            seconds.append(time.perf_counter() - started)
    return BenchmarkRow("scene", "s", values)


def scene_terms(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Processor seconds for the map of a scene of 256 x 256 pixels from 60 labels, by all terms of algorithm 2 and one.

    By local information: all terms by the inner products of `flanders-similarity-as-published`, one term by the network
    of `flanders-similarity`. Of all threads together, for others may be at work on the machine.
    """
    return _terms("scene-terms", "flanders", repetitions)


def scene_terms_13(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """The same with the patches of 13 x 13 pixels of `potsdam-similarity`, and z of 32 values for both."""
    return _terms("scene-terms-13", "potsdam", repetitions)


def scene_memory(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """MiB at the peak of the same map, beyond scene and model, each time in a new process."""
    values: dict[str, list[float]] = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in ("local", "representation"):
            values[name] = [pool.apply(_peak_bytes_of_a_map, (name,)) / 2**20 for _ in range(repetitions)]
    return BenchmarkRow("scene-memory", "MiB", values)


def mutual_learning(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Milliseconds of a step of mutual learning beside the sum of its networks' own, each with cross-entropy alone.

    The two U-Nets of `camvid-mutual` on noise of its size (240 x 176 pixels, 11 classes), whatever the data set.
    """
    recipe = replace(streets.camvid_mutual(), steps=100_000)
    assert isinstance(recipe.method, MutualLearning)
    task = Task(11)
    alone = [Loop(replace(recipe, method=CrossEntropy(network)), task, device()) for network in recipe.method.networks]
    variants = {"together": [Loop(recipe, task, device())], "each alone, added": alone}
    return BenchmarkRow(
        "mutual-learning", "ms", _steps(variants, _noise(batch_size, (176, 240), 11), steps, repetitions)
    )


def invariant_information(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> BenchmarkRow:
    """Milliseconds of a step of IIC at ±10 pixels beside one of its network: both views and heads, a trivial loss.

    `coco-stuff-15-iic`, which is as published, on noise of its size (128 x 128), whatever the data set: 4 images on a
    CPU, 64 on a GPU, whatever the batch size.
    """
    recipe = replace(unsupervised.published("coco-stuff-15", "iic"), steps=100_000)
    assert isinstance(recipe.method, InvariantInformation) and recipe.method.displacement == 10
    whole, network = (Loop(recipe, Task(15), device()) for _ in range(2))
    assert isinstance(network.method, InvariantInformationMethod)
    network.model = _NetworkAlone(network.method)
    batch = _noise(IIC_IMAGES[device().type], (128, 128), 15)
    variants = {"IIC": [whole], "its network": [network]}
    return BenchmarkRow("iic", "ms", _steps(variants, batch, steps, repetitions))


class _NetworkAlone(nn.Module):
    """IIC's trunk and heads over both views, and the mean of what they give in place of the loss."""

    def __init__(self, method: InvariantInformationMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch) -> Step:
        features = self.method.trunk(torch.cat((batch.images_NCHW, batch.images_NCHW)))
        total = torch.stack([head(features).float().mean() for head in self.method.heads]).sum()[None]
        return Step(total, torch.ones_like(total), {})


def _noise(images: int, size: tuple[int, int], classes: int) -> Batch:
    torch.manual_seed(0)
    images_NCHW, labels_NHW = torch.randn(images, 3, *size), torch.randint(0, classes, (images, *size))
    return Batch(images_NCHW, labels_NHW, tuple(str(number) for number in range(images))).to(device())


def _steps(
    variants: Mapping[str, Sequence[Loop]], batch: Batch, steps: int, repetitions: int
) -> dict[str, list[float]]:
    """Milliseconds of a step of all loops of a variant, in turn; the first of each variant is not counted."""
    values: dict[str, list[float]] = {name: [] for name in variants}
    for repetition in range(-1, repetitions):
        for name, loops in variants.items():
            started = time.perf_counter()
            for _ in range(steps):
                for loop in loops:
                    loop.train_step(batch)
            for loop in loops:
                loop.flush()  # reads from the device, and so waits for it
            if repetition >= 0:
                values[name].append(1e3 * (time.perf_counter() - started) / steps)
    return values


@torch.no_grad()
def _terms(row: str, place: str, repetitions: int) -> BenchmarkRow:
    """Algorithm 2 in full beside its one term, for the recipes of a place at the variant's size of representation."""
    variant, published = (few_labels.RECIPES[f"{place}-similarity{end}"]().method for end in ("", "-as-published"))
    assert isinstance(variant, MutualInformationSimilarity) and isinstance(published, MutualInformationSimilarity)
    encoder = replace(published.encoder, representation=variant.encoder.representation)
    scenes = {
        "all terms": _labelled_scene(SCENE // 2, replace(published, encoder=encoder)),
        "one term": _labelled_scene(SCENE // 2, variant),
    }
    values: dict[str, list[float]] = {name: [] for name in scenes}
    for _ in range(repetitions):
        for name, (method, image_1BHW) in scenes.items():
            started = time.process_time()
            method.predict_by("local", image_1BHW).argmax(1).cpu()
            values[name].append(time.process_time() - started)
    return BenchmarkRow(row, "s", values)


def _labelled_scene(
    side: int, settings: MethodConfig | None = None
) -> tuple[MutualInformationSimilarityMethod, Tensor]:
    """A similarity, by default `flanders-similarity`, with 60 labelled pixels of noise, and the noise [1, 4, S, S]."""
    torch.manual_seed(0)
    method = build_method(settings or few_labels.flanders().method, Task(5, 4)).to(device()).eval()
    assert isinstance(method, MutualInformationSimilarityMethod)
    image_1BHW = torch.randn(1, 4, side, side, device=device())
    labels_1HW = torch.full((1, side, side), IGNORE_INDEX, device=device())
    labels_1HW.view(-1)[torch.randperm(side * side)[:60]] = torch.arange(60, device=device()) % 5
    method.fit_support([Batch(image_1BHW, labels_1HW)])
    return method, image_1BHW


@torch.no_grad()
def _peak_bytes_of_a_map(compare: str) -> int:
    method, image_1BHW = _labelled_scene(SCENE)
    return peak_bytes_of(lambda: method.predict_by(compare, image_1BHW))


def _literal_rows(method: MutualInformationSimilarityMethod, image_1BHW: Tensor, count: int) -> Tensor:
    """The classes [count, W] of the image's first rows: every patch encoded by itself, scored with every label."""
    assert method.support is not None and method.of_parts is not None
    score: Callable[[Tensor, Tensor], Tensor] = method.of_parts
    border = method.patch // 2
    padded = torch.nn.functional.pad(image_1BHW, (border,) * 4, mode="reflect")
    patches = padded[0].unfold(1, method.patch, 1).unfold(2, method.patch, 1)
    _, representations_LZ = method.encoder(method.support.patches_LBPP)
    rows = []
    for row in range(count):
        local, _ = method.encoder(patches[:, row].transpose(0, 1).contiguous())
        scores_LW = torch.stack([score(local, z.expand(len(local), -1)).mean((1, 2)) for z in representations_LZ])
        rows.append(method.support.labels_L[scores_LW.argmax(0)])
    return torch.stack(rows)
