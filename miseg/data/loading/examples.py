"""A few labelled pixels of a packed data set: what a method that learns without labels is told before it maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from miseg.data.labels.annotations import sample_points
from miseg.data.loading.pairs import Chip, open_chip
from miseg.data.packed.dataset import PackedDataset
from miseg.data.samples import IGNORE_LABEL

MOST_CHIPS = 64
"""Chips among which points are drawn, where there are more: their truth is in memory at once."""


def draw_examples(
    dataset: PackedDataset, split: str, per_class: int, seed: int, date: str | None = None
) -> list[dict[str, Any]]:
    """`per_class` labelled pixels of each class, drawn from the truth of one date.

    For one seed and date a smaller number's pixels are among a larger one's. A class of fewer pixels gives all. The
    draw is among chips in the order of their ids.

    Args:
        dataset: where the chips are.
        split: which of its splits.
        per_class: labelled pixels of each class, 1 or more.
        seed: 0 or more.
        date: that of the chips; None takes the date with the most labelled pixels, the first of equals, or all chips
            where they have no date.

    Returns:
        A dict for each chip with an example: {"images": float32 [1, C, H, W] standardised, "labels": uint8 [1, H, W],
        255 but at the examples, "ids": list of 1, "dates": list of 1}.

    Raises:
        ValueError: no chip of that date, or none with a label.
    """
    chips = _chips(dataset, split, seed, date if date is not None else labelled_date(dataset, split))
    if not any((chip.labels != IGNORE_LABEL).any() for chip, _ in chips):
        known = sorted({when for _, _, when in dataset.index(split) if when is not None})
        raise ValueError(
            f"{dataset.uri}: no labelled pixel in split {split!r}{f' at {date}' if date else ''}; "
            f"its dates are {', '.join(known) or 'none'}"
        )
    truth = np.concatenate([chip.labels.ravel() for chip, _ in chips])
    points = sample_points(truth[None], per_class, seed, IGNORE_LABEL)
    sparse = np.full(truth.shape, IGNORE_LABEL, np.uint8)
    sparse[points.columns] = points.labels
    ends = np.cumsum([chip.labels.size for chip, _ in chips])
    examples = []
    for (chip, when), labels in zip(chips, np.split(sparse, ends[:-1]), strict=True):
        if (labels != IGNORE_LABEL).any():
            images = np.ascontiguousarray(chip.values.transpose(2, 0, 1))[None]
            examples.append({"images": images, "labels": labels.reshape(1, *chip.labels.shape), "ids": [chip.id]})
            examples[-1]["dates"] = [when]
    return examples


def drawn_of_each(labels_NHW: np.ndarray, per_class: int, seed: int) -> np.ndarray | None:
    """Labels uint8 [N, H, W] of which `per_class` of each class stay in each image, drawn by the seed, 255 elsewhere.

    None where no image has a label. Draws are nested as those of `draw_examples` are.
    """
    sparse = np.full(labels_NHW.shape, IGNORE_LABEL, np.uint8)
    for truth_HW, sparse_HW in zip(labels_NHW, sparse, strict=True):
        if (truth_HW != IGNORE_LABEL).any():
            points = sample_points(truth_HW, per_class, seed, IGNORE_LABEL)
            sparse_HW[points.rows, points.columns] = points.labels
    return sparse if (sparse != IGNORE_LABEL).any() else None


def labelled_date(dataset: PackedDataset, split: str) -> str | None:
    """The date with the most labelled pixels, the first of equals; None where chips have no date."""
    counts: dict[str, int] = {}
    for index, (_, _, date) in enumerate(dataset.index(split)):
        if date is not None:
            labelled = int((open_chip(dataset, dataset.read(split, index)).labels != IGNORE_LABEL).sum())
            counts[date] = counts.get(date, 0) + labelled
    return max(sorted(counts), key=counts.__getitem__) if counts else None


def _chips(dataset: PackedDataset, split: str, seed: int, date: str | None) -> list[tuple[Chip, str | None]]:
    index = dataset.index(split)
    rows = [row for row in dataset.rows_by_id(split).tolist() if date is None or index[row][2] == date]
    if len(rows) > MOST_CHIPS:
        rows = [rows[place] for place in sorted(np.random.default_rng(seed).permutation(len(rows))[:MOST_CHIPS])]
    return [(open_chip(dataset, row), row.date) for row in (dataset.read(split, index) for index in rows)]
