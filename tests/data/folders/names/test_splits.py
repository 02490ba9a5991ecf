import itertools
import random

import pytest

from miseg.data.folders.names.splits import block_splits, draw_splits, in_order, leaks, shares_of, split_name

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("train", "train"), ("Training", "train"), ("train2017", "train"), ("images_train", "train")),
        *(("valid", "val"), ("validation", "val"), ("VAL", "val"), ("dev", "val"), ("testing", "test")),
        *(("trainval", None), ("train_val", None), ("trainannot", None), ("latest", None), ("", None), ("1", None)),
    ],
)
def test_names_of_splits(text, name):
    assert split_name(text) == name


def images(count, classes, seed=0):
    """Images by id with the classes that each shows: class k in about one of 2 to the k of them."""
    rng = random.Random(seed)
    return {f"i{n:03d}": frozenset(k for k in range(classes) if rng.random() < 0.5**k) for n in range(count)}


@pytest.mark.parametrize("seed", range(5))
def test_each_split_has_its_share_of_images_and_of_each_class(seed):
    shown = images(200, 5, seed)
    drawn = draw_splits({name: [name] for name in shown}, shown, SHARES, seed)
    assert drawn.keys() == shown.keys()
    for label in range(-1, 5):
        having = [name for name in shown if label < 0 or label in shown[name]]
        for split, share in SHARES.items():
            count = sum(drawn[name] == split for name in having)
            # A draw without regard to classes leaves a standard deviation of √(n · share · (1 − share)).
            assert abs(count - share * len(having)) <= 2, (label, split, count, len(having))


def test_the_order_of_files_does_not_matter_but_the_seed_does():
    shown = images(60, 3)
    shuffled = dict(sorted(shown.items(), key=lambda item: hash(item[0])))
    draws = [
        draw_splits({name: [name] for name in some}, some, SHARES, seed)
        for some, seed in ((shown, 0), (shuffled, 0), (shown, 1))
    ]
    assert draws[0] == draws[1] != draws[2]


def test_groups_stay_whole_and_large_ones_fit():
    members = {f"g{n}": [f"g{n}_{k}" for k in range(1 + 3 * (n % 4))] for n in range(20)}
    shown = {name: frozenset({n % 3}) for n, names in enumerate(members.values()) for name in names}
    drawn = draw_splits(members, shown, SHARES, 0)
    assert drawn.keys() == members.keys()
    total = sum(map(len, members.values()))
    for split, share in SHARES.items():
        count = sum(len(members[group]) for group in drawn if drawn[group] == split)
        assert abs(count - share * total) <= 10, split


def test_a_class_of_one_image_goes_to_train():
    shown = images(30, 1) | {"i007": frozenset({0, 9})}
    for seed in range(5):
        assert draw_splits({name: [name] for name in shown}, shown, SHARES, seed)["i007"] == "train"


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_no_split_is_left_empty(count):
    names = [f"i{n}" for n in range(count)]
    for classes in (frozenset(), frozenset({0})):
        drawn = draw_splits({name: [name] for name in names}, dict.fromkeys(names, classes), SHARES, 0)
        assert set(drawn.values()) == set(SHARES)


def test_fewer_groups_than_splits():
    with pytest.raises(ValueError, match="2 images or groups cannot be drawn into train, val, test"):
        draw_splits({"a": ["a1", "a2"], "b": ["b1"]}, {}, SHARES, 0)


@pytest.mark.parametrize(
    "shares", [(0.5,), (0.5, 0.4), (0, 0.5, 0.5), (1.2, -0.2), (0.4, 0.3, 0.2, 0.1), (float("nan"), 1)]
)
def test_shares_that_are_none(shares):
    with pytest.raises(ValueError, match=r"add up to 1, such as 0\.7"):
        shares_of(shares)


def test_shares_order_and_leaks():
    assert shares_of((0.8, 0, 0.2)) == {"train": 0.8, "test": 0.2} and shares_of((1, 0)) == {"train": 1}
    assert in_order(["zoo", "test", "val", "train", "test"]) == ("train", "val", "test", "zoo")
    assert leaks({"a1": "a", "a2": "a", "b1": "b"}, {"a1": "train", "a2": "val", "b1": "val"}) == ["a"]


@pytest.mark.parametrize("count", [3, 4, 7, 10, 30, 101])
@pytest.mark.parametrize("shares", [SHARES, {"train": 0.85, "val": 0.15}, {"train": 0.02, "val": 0.97, "test": 0.01}])
def test_blocks_follow_each_other_and_each_split_has_its_share(count, shares):
    names = [f"slice {n}" for n in range(count)]
    drawn = block_splits({name: [name] for name in reversed(names)}, shares)
    runs = [(split, len(list(run))) for split, run in itertools.groupby(names, drawn.__getitem__)]
    assert [split for split, _ in runs] == list(shares), "each split is one run, in order of the numbers"
    for split, number in runs:
        # To the nearest image at both ends; one image goes to a split whose share is none.
        room = 1 if min(shares.values()) * count >= 1 else 2
        assert abs(number - shares[split] * count) <= room, (split, number)


def test_blocks_hold_whole_groups():
    members = {f"clip {n}": [f"clip {n}/{k}" for k in range(1 + n % 4)] for n in range(20)}
    drawn = block_splits(members, SHARES)
    assert [drawn[f"clip {n}"] for n in (0, 13, 19)] == ["train", "train", "test"]
    assert [split for split, _ in itertools.groupby(drawn[name] for name in members)] == ["train", "val", "test"]
    for split, share in SHARES.items():
        assert abs(sum(len(members[name]) for name in members if drawn[name] == split) - share * 50) <= 4
    with pytest.raises(ValueError, match="2 images or groups cannot be drawn into train, val, test"):
        block_splits({"a": ["a"], "b": ["b"]}, SHARES)
