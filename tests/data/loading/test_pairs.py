"""Pairs of patches: what they show, and that they depend on seed and position alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from miseg.data.configs import Pairs
from miseg.data.loading.pairs import GROUP, open_chip, pair_batches, pairs_split, scene_batches
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import pack
from tests.support.places import BANDS, DATES, Places

PLAIN = Pairs(shift=0, turn=False, jitter=0.0, min_valid=0.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return PackedDataset.open(pack(Places(), tmp_path_factory.mktemp("places") / "packed", ["train"]).path)


def drawn(dataset: PackedDataset, pairs: Pairs = PLAIN, *, start: int = 0, stop: int = 6, **settings):
    settings = {"patch": 5, "seed": 0, "batch_size": 2 * GROUP} | settings
    return list(pair_batches(dataset, "train", pairs, start_step=start, stop_step=stop, **settings))


def chips(dataset: PackedDataset) -> dict:
    found = [open_chip(dataset, dataset.read("train", index)) for index in range(dataset.size("train"))]
    return {chip.id: chip for chip in found}


def places_of(patch: np.ndarray, values: np.ndarray) -> list[tuple[int, int]]:
    """Middles at which the reflected chip [H, W, C] shows this patch [C, P, P]."""
    border = patch.shape[-1] // 2
    padded = np.pad(values, ((border, border), (border, border), (0, 0)), mode="reflect").transpose(2, 0, 1)
    side = patch.shape[-1]
    return [
        (row, column)
        for row in range(values.shape[0])
        for column in range(values.shape[1])
        if np.array_equal(padded[:, row : row + side, column : column + side], patch)
    ]


def test_values_are_standardised_by_date(dataset):
    for chip in chips(dataset).values():
        assert np.abs(chip.values[chip.valid].mean(0)).max() < 1e-2
        assert np.abs(chip.values[chip.valid].std(0) - 1).max() < 1e-2
        assert (chip.values[~chip.valid] == 0).all() and (chip.labels[~chip.valid] == 255).all()


def test_both_views_show_one_place_at_two_dates(dataset):
    found = chips(dataset)
    seen = set()
    for batch in drawn(dataset):
        assert batch["images"].shape == batch["views"].shape == (2 * GROUP, BANDS, 5, 5)
        assert batch["images"].dtype == np.float32
        for image, view, name in zip(batch["images"], batch["views"], batch["ids"], strict=True):
            (middle,) = places_of(image, found[name].values)
            place, date = name.split("/")
            others = [
                other
                for other in DATES
                if middle in places_of(view, found[f"{place}/{other}"].values) and other != date
            ]
            assert others, "the second view is of the same place, at another date"
            seen.add((name, *others))
    assert len({name for name, *_ in seen}) == 6


def test_patches_are_whole_where_some_are(dataset):
    found = chips(dataset)["0/2019-06-01"]
    batches = [batch for batch in drawn(dataset, stop=12) if "0/2019-06-01" in batch["ids"]]
    patches = [image for b in batches for image, name in zip(b["images"], b["ids"], strict=True) if name == found.id]
    # Three columns are clear and a patch has five: none is whole, so middles are clear and no more.
    assert {column for patch in patches for _, column in places_of(patch, found.values)} <= {0, 1, 2}


def test_cloudy_chips_are_left_out(dataset):
    names = {name for batch in drawn(dataset, replace(PLAIN, min_valid=0.5), stop=12) for name in batch["ids"]}
    assert "0/2019-06-01" not in names and len(names) == 5


def test_one_date_where_that_is_asked_for(dataset):
    for batch in drawn(dataset, replace(PLAIN, other_date=0.0), stop=2):
        assert np.array_equal(batch["images"], batch["views"])


def test_a_shift_moves_the_second_view_alone(dataset):
    found, moved = chips(dataset), set()
    for batch in drawn(dataset, replace(PLAIN, shift=2, other_date=0.0), stop=4):
        for image, view, name in zip(batch["images"], batch["views"], batch["ids"], strict=True):
            if found[name].valid.all():
                ((row, column),) = places_of(image, found[name].values)
                ((other_row, other_column),) = places_of(view, found[name].values)
                moved.add((other_row - row, other_column - column))
    assert moved == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_views_are_turned_in_all_eight_ways(dataset):
    plain = drawn(dataset, replace(PLAIN, other_date=0.0), stop=4)
    turned = drawn(dataset, replace(PLAIN, other_date=0.0, turn=True), stop=4)
    ways = set()
    for before, after in zip(plain, turned, strict=True):
        for image, other in zip(before["images"], after["images"], strict=True):
            eight = [np.rot90(image, k, (1, 2)) for k in range(4)]
            eight += [way[..., ::-1] for way in eight]
            ways.update(number for number, way in enumerate(eight) if np.array_equal(way, other))
    assert ways == set(range(8))


@pytest.mark.parametrize(
    ("turns", "of_patch"),
    [
        ("rotations", [lambda p: np.rot90(p, 0, (1, 2)), *(lambda p, k=k: np.rot90(p, k, (1, 2)) for k in (1, 2, 3))]),
        ("flips", [lambda p: p, lambda p: p[:, ::-1], lambda p: p[:, :, ::-1], lambda p: p[:, ::-1, ::-1]]),
    ],
)
def test_flips_and_rotations_can_be_left_out(dataset, turns, of_patch):
    plain = drawn(dataset, replace(PLAIN, other_date=0.0), stop=4)
    turned = drawn(dataset, replace(PLAIN, other_date=0.0, turn=True, turns=turns), stop=4)
    seen = set()
    for before, after in zip(plain, turned, strict=True):
        for name in ("images", "views"):
            for patch, changed in zip(before[name], after[name], strict=True):
                which = [n for n, change in enumerate(of_patch) if np.array_equal(change(patch), changed)]
                assert which, "it is one of the four"
                if len(which) == 1:  # a patch whose border is reflected may look alike in two of them
                    seen.add((name, which[0]))
    assert seen == {(name, which) for name in ("images", "views") for which in range(4)}


def test_pairs_are_of_the_unlabelled_split_where_there_is_one():
    assert pairs_split(Pairs(), ("train", "unlabelled")) == "train"
    assert pairs_split(Pairs(unlabelled=True), ("train", "unlabelled")) == "unlabelled"
    assert pairs_split(Pairs(unlabelled=True), ("train", "val")) == "train"


def test_jitter_is_a_gain_and_an_offset_of_each_band(dataset):
    plain = np.concatenate([b["images"] for b in drawn(dataset, replace(PLAIN, other_date=0.0), stop=30)])
    jittered = np.concatenate(
        [b["images"] for b in drawn(dataset, replace(PLAIN, other_date=0.0, jitter=0.2), stop=30)]
    )
    gains, offsets = [], []
    for before, after in zip(plain.reshape(-1, 25), jittered.reshape(-1, 25), strict=True):
        if before.std() > 0.1:
            gain, offset = np.polyfit(before, after, 1)
            assert np.allclose(gain * before + offset, after, atol=1e-4)
            gains.append(gain)
            offsets.append(offset)
    assert abs(np.mean(gains) - 1) < 0.02 and abs(np.std(gains) - 0.2) < 0.02
    assert abs(np.mean(offsets)) < 0.02 and abs(np.std(offsets) - 0.2) < 0.02


def test_ranks_and_a_resume_see_what_one_uninterrupted_run_sees(dataset):
    pairs = Pairs(min_valid=0.0)
    whole = drawn(dataset, pairs, batch_size=20, stop=8)
    for world in (2, 5):
        ranks = [drawn(dataset, pairs, batch_size=20, start=3, stop=8, rank=rank, world=world) for rank in range(world)]
        for step, parts in enumerate(zip(*ranks, strict=True), 3):
            assert [part["step"] for part in parts] == [step] * world
            for name in ("images", "views"):
                assert np.array_equal(np.concatenate([part[name] for part in parts]), whole[step][name])
    assert not np.array_equal(whole[0]["images"], drawn(dataset, pairs, batch_size=20, stop=1, seed=1)[0]["images"])


def test_whole_chips_for_evaluation(dataset):
    found = chips(dataset)
    rows = list(scene_batches(dataset, "train"))
    assert [row["ids"][0] for row in rows] == list(found)
    for row in rows:
        chip = found[row["ids"][0]]
        assert np.array_equal(row["images"][0].transpose(1, 2, 0), chip.values)
        assert np.array_equal(row["labels"][0], chip.labels)
    parts = [[row["ids"][0] for row in scene_batches(dataset, "train", rank=rank, world=4)] for rank in range(4)]
    assert [name for part in parts for name in part] == list(found)
    clear = [row["ids"][0] for row in scene_batches(dataset, "train", min_valid=0.5)]
    assert clear == [name for name in found if name != "0/2019-06-01"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 4}, "patch = 4: use an odd number"),
        ({"batch_size": 5, "world": 2}, "batch_size = 5 does not divide by 2 workers"),
        ({"rank": 2, "world": 2}, "rank 2 of 2 workers"),
    ],
)
def test_settings_that_do_not_fit_are_named(dataset, settings, message):
    with pytest.raises(ValueError, match=message):
        drawn(dataset, **settings)


def test_too_large_patches_and_too_cloudy_series_are_named(dataset):
    with pytest.raises(ValueError, match="12 x 14 pixels are too few for patches of 25"):
        drawn(dataset, patch=25, stop=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"shift": -1}, "shift = -1"), ({"jitter": -0.1}, "jitter = -0.1"), ({"other_date": 2.0}, "other_date = 2.0")],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Pairs(**change)
