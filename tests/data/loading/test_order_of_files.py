"""What is drawn of a split for training and as examples does not depend on the order in which its files are listed."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miseg.data.configs import Augmentation, Pairs
from miseg.data.loading import examples
from miseg.data.loading.batches import evaluation_batches, training_batches
from miseg.data.loading.examples import draw_examples
from miseg.data.loading.pairs import pair_batches
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import SIDECAR, pack
from tests.support.layouts import CamVidTree
from tests.support.places import Places


def relisted(dataset: PackedDataset, split: str, seed: int = 0) -> PackedDataset:
    """The same images, listed in another order."""
    order = np.random.default_rng(seed).permutation(dataset.size(split)).tolist()
    assert order != sorted(order)
    other: Any = copy.copy(dataset)
    other._reset()
    other.read = lambda name, index: dataset.read(name, order[index])
    ids = [dataset.index(split)[row][0] for row in order]
    by_id = tuple(sorted(range(len(ids)), key=ids.__getitem__))
    other.info = replace(dataset.info, by_id={split: by_id})
    other.columns = lambda name, *columns: [dataset.columns(name, *columns)[row] for row in order]
    assert [name for name, _, _ in other.index(split)] == ids
    return other


def same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    return len(one) == len(other) and all(
        first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)
        for first, second in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("order", ["shuffle", "replacement"])
@pytest.mark.parametrize("labelled_images", [None, 3])
def test_training_sees_the_same_images(small: PackedDataset, order: Any, labelled_images: int | None) -> None:
    settings: dict[str, Any] = {"seed": 0, "order": order, "batch_size": 2, "start_step": 0, "stop_step": 8}
    augmentation = Augmentation(scale=(0.5, 2.0), crop=(10, 14))
    streams = [
        list(training_batches(dataset, "train", augmentation, labelled_images=labelled_images, **settings))
        for dataset in (small, relisted(small, "train"))
    ]
    assert same(*streams)


def test_evaluation_sees_the_same_images(small: PackedDataset) -> None:
    listings = [
        {name: image for batch in batches for name, image in zip(batch["ids"], batch["images"], strict=True)}
        for batches in (
            evaluation_batches(dataset, "train", Augmentation(), batch_size=3)
            for dataset in (small, relisted(small, "train"))
        )
    ]
    assert listings[0].keys() == listings[1].keys()
    assert all(np.array_equal(image, listings[1][name]) for name, image in listings[0].items())


def test_pairs_and_examples_of_scenes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = PackedDataset.open(pack(Places(), tmp_path / "packed", ["train"]).path)
    other = relisted(dataset, "train")
    settings: dict[str, Any] = {"patch": 5, "seed": 0, "batch_size": 64, "start_step": 0, "stop_step": 2}
    assert same(*(list(pair_batches(data, "train", Pairs(), **settings)) for data in (dataset, other)))
    # Fewer than there are, so that some are drawn.
    monkeypatch.setattr(examples, "MOST_CHIPS", 1)
    assert same(*(draw_examples(data, "train", 3, seed=0) for data in (dataset, other)))


def packed_in(order: list[int], root: Path) -> PackedDataset:
    """The same images, by their numbers, listed in that order."""
    tree = CamVidTree(root / "CamVid")
    for number in sorted(order):
        tree.add(f"{number:03d}.png", "train")
    lines, tree.lines = tree.lines["train"], {}
    (tree.root / "train.txt").write_text("".join(f"{lines[number]}\n" for number in order))
    return tree.pack(root / "packed", "train")


def test_a_list_in_another_order_packs_what_is_drawn_alike(tmp_path: Path) -> None:
    dataset, other = packed_in([0, 1, 2, 3, 4, 5], tmp_path / "a"), packed_in([4, 1, 5, 0, 3, 2], tmp_path / "b")
    assert other.rows_by_id("train").tolist() == [3, 1, 5, 4, 0, 2]
    # The sidecar of a sorted list, and with it the fingerprint, is what it was.
    assert dataset.rows_by_id("train").tolist() == [0, 1, 2, 3, 4, 5]
    assert "by_id" not in json.loads((tmp_path / "a" / "packed" / SIDECAR).read_text())
    settings: dict[str, Any] = {"seed": 0, "order": "shuffle", "batch_size": 2, "start_step": 0, "stop_step": 8}
    assert same(*(list(training_batches(data, "train", Augmentation(), **settings)) for data in (dataset, other)))


def test_a_sidecar_that_leaves_a_row_out_is_refused(tmp_path: Path) -> None:
    packed_in([1, 0, 2], tmp_path)
    sidecar = tmp_path / "packed" / SIDECAR
    fields = json.loads(sidecar.read_text())
    fields["by_id"]["train"] = [0, 0, 2]
    sidecar.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="by_id does not name every row once"):
        PackedDataset.open(tmp_path / "packed")
