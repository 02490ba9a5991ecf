"""Speed as ratios measured side by side in one run; nothing here judges, it only reports.

A row compares variants on the same work, in alternating repetitions, so that a machine whose speed drifts shifts both.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from miseg.data.configs import Augmentation
from miseg.data.packed import PackedDataset
from miseg.interface import Batch
from miseg.recipes.experiment import Experiment
from miseg.service import ingest

WARM_UP_STEPS = 100
"""Steps before the clock starts: workers start, and what they buffer ahead meanwhile (some 60 steps) is used up."""


@dataclass(frozen=True)
class Row:
    """One comparison: `values` by variant, one a repetition; the ratio is the first variant's over the second's."""

    name: str
    unit: str
    values: Mapping[str, list[float]]

    @property
    def ratios(self) -> list[float]:
        """The first variant over the second, repetition by repetition."""
        first, second = list(self.values.values())[:2]
        return [a / b for a, b in zip(first, second, strict=True)]

    def text(self) -> str:
        """Medians with their spread, a line a variant."""
        lines = [f"{self.name} ({self.unit}): median (lowest to highest) of {len(self.ratios)} repetitions"]
        for variant, values in [*self.values.items(), ("ratio", self.ratios)]:
            lines.append(f"  {variant:<28} {statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})")
        return "\n".join(lines)


def data_path(dataset: PackedDataset, batch_size: int, steps: int, repetitions: int) -> Row:
    """Images a second from the packed shards to batches in the trainer: Ray Data beside a DataLoader of 2 workers.

    Both read the same images in the same order with the same augmentation: random scale 0.5 to 2, crop 224, flip.
    """
    augmentation = Augmentation(scale=(0.5, 2.0), crop=(224, 224))
    experiment = Experiment(
        augmentation=augmentation, data=dataset.uri, batch_size=batch_size, steps=steps + WARM_UP_STEPS
    )
    variants: dict[str, Callable[[Experiment], Iterator[Batch]]] = {
        "Ray Data": lambda described: ingest.training_stream(dataset, described),
        "DataLoader, 2 workers": lambda described: _data_loader(dataset, described),
    }
    values: dict[str, list[float]] = {name: [] for name in variants}
    for repetition in range(repetitions):
        for name, stream in variants.items():
            described = replace(experiment, seed=repetition)
            values[name].append(_images_per_second(stream(described), batch_size))
    return Row("data-path", "images/s", values)


ROWS: dict[str, Callable[..., Row]] = {"data-path": data_path}
"""Every row by the name that selects it."""


class _Steps(torch.utils.data.Dataset):
    """The training plan as a map-style data set whose item is a step's batch."""

    def __init__(self, dataset: PackedDataset, experiment: Experiment) -> None:
        self.dataset, self.experiment = dataset, experiment

    def __len__(self) -> int:
        return self.experiment.steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        return next(ingest.training_plan(self.dataset, self.experiment)(start_step=step, stop_step=step + 1))


def _data_loader(dataset: PackedDataset, experiment: Experiment) -> Iterator[Batch]:
    # Ray's threads are running: a forked worker could inherit a lock that nobody will release.
    loader = torch.utils.data.DataLoader(
        _Steps(dataset, experiment), batch_size=None, num_workers=2, multiprocessing_context="spawn"
    )
    convert = ingest.Converter(dataset, experiment)
    for columns in loader:
        numpy = {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in columns.items()}
        yield convert(numpy)


def _images_per_second(batches: Iterator[Batch], batch_size: int) -> float:
    for _ in itertools.islice(batches, WARM_UP_STEPS):
        pass
    started, count = time.perf_counter(), 0
    for _ in batches:
        count += batch_size
    return count / (time.perf_counter() - started)
