"""An experiment's description: its id, its JSON form, and what it refuses."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest

from miseg.data.configs import Augmentation, Pairs
from miseg.methods.cluster_configs import InfoSeg, InvariantInformation, PixelKMeans
from miseg.methods.configs import (
    BinaryCrossEntropy,
    CrossEntropy,
    MutualInformationSimilarity,
    PatchAutoencoder,
    RegionMutualInformation,
)
from miseg.networks.configs import UNet
from miseg.recipes import streets
from miseg.recipes.experiment import LABELLED_PIXELS, Experiment, Optimiser, from_dict, to_dict
from miseg.recipes.streets import RECIPES
from miseg.settings import ADDED_LATER

# Should one of these change, runs made before no longer resume and no longer compare: say so in the change.
IDS = {"embedded-rmi": "49e83bd5cd6d", "camvid-ce": "4ffbecb82e8f"}

BASE = Experiment(method=RegionMutualInformation())

CHANGES: dict[str, Callable[[Experiment], Experiment]] = {
    "method": lambda e: replace(e, method=CrossEntropy()),
    "method of equal settings": lambda e: replace(e, method=BinaryCrossEntropy()),
    "weight": lambda e: replace(e, method=RegionMutualInformation(weight=0.25)),
    "downsampling_factor": lambda e: replace(e, method=RegionMutualInformation(downsampling_factor=2)),
    "region_size": lambda e: replace(e, method=RegionMutualInformation(region_size=2)),
    "downsampling": lambda e: replace(e, method=RegionMutualInformation(downsampling="max")),
    "initial_features": lambda e: replace(e, method=RegionMutualInformation(UNet(16))),
    "normalisation": lambda e: replace(e, method=RegionMutualInformation(UNet(normalisation="group"))),
    "data": lambda e: replace(e, data="camvid"),
    "non_finite": lambda e: replace(e, non_finite="skip"),
    "steps": lambda e: replace(e, steps=1001),
    "accumulate": lambda e: replace(e, accumulate=2),
    "compile": lambda e: replace(e, compile=True),
    "batch_size": lambda e: replace(e, batch_size=4),
    "order": lambda e: replace(e, order="replacement"),
    "examples": lambda e: replace(e, examples="image"),
    "label_budget": lambda e: replace(e, label_budget=10),
    "validate_every": lambda e: replace(e, validate_every=50),
    "precision": lambda e: replace(e, precision="float32"),
    "seed": lambda e: replace(e, seed=1),
    "optimiser.name": lambda e: replace(e, optimiser=Optimiser(name="sgd")),
    "optimiser.learning_rate": lambda e: replace(e, optimiser=Optimiser(learning_rate=2e-3)),
    "optimiser.momentum": lambda e: replace(e, optimiser=Optimiser(momentum=0.8)),
    "optimiser.weight_decay": lambda e: replace(e, optimiser=Optimiser(weight_decay=1e-4)),
    "optimiser.clip": lambda e: replace(e, optimiser=Optimiser(clip=1.0)),
    "optimiser.warmup_steps": lambda e: replace(e, optimiser=Optimiser(warmup_steps=0)),
    "optimiser.power": lambda e: replace(e, optimiser=Optimiser(power=1.0)),
    "optimiser.schedule": lambda e: replace(e, optimiser=Optimiser(schedule="cosine")),
    "optimiser.decayed": lambda e: replace(e, optimiser=Optimiser(decayed="weights")),
    "optimiser.decay_from": lambda e: replace(e, optimiser=Optimiser(decay_from="warmup")),
    "optimiser.ema_decay": lambda e: replace(e, optimiser=Optimiser(ema_decay=0.99)),
    "augmentation.resize": lambda e: replace(e, augmentation=Augmentation(resize=234)),
    "augmentation.resize to a size": lambda e: replace(e, augmentation=Augmentation(resize=(176, 240))),
    "augmentation.scale": lambda e: replace(e, augmentation=Augmentation(scale=(0.5, 2.0))),
    "augmentation.crop": lambda e: replace(e, augmentation=Augmentation(crop=(96, 128))),
    "augmentation.flip": lambda e: replace(e, augmentation=Augmentation(flip=0.0)),
    "augmentation.interpolation": lambda e: replace(e, augmentation=Augmentation(interpolation="bicubic")),
    "augmentation.padding": lambda e: replace(e, augmentation=Augmentation(padding="end")),
    "augmentation.mean and std": lambda e: replace(e, augmentation=Augmentation(mean=(0.4,), std=(0.3,))),
}


def test_id_is_the_one_that_earlier_runs_have() -> None:
    assert {name: RECIPES[name]().id for name in IDS} == IDS


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_id_is_the_same_in_every_process(hash_seed: str) -> None:
    code = "from miseg.recipes.streets import RECIPES; print({n: r().id for n, r in RECIPES.items()})"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str({name: recipe().id for name, recipe in RECIPES.items()})


def test_id_differs_for_every_changed_field() -> None:
    ids = {BASE.id: "unchanged"}
    for name, change in CHANGES.items():
        changed = change(BASE)
        assert changed.id not in ids, f"{name} has the id of {ids[changed.id]}"
        ids[changed.id] = name


def test_the_list_of_changes_holds_every_field() -> None:
    """A new field has to be added to CHANGES: else nothing shows that it is part of the id."""
    tried = " ".join(CHANGES).replace(".", " ").split()
    for part in (BASE, BASE.optimiser, BASE.augmentation, BASE.method, BASE.method.network):
        missing = {field.name for field in fields(part)} - {"optimiser", "augmentation", "network", "pairs"}
        assert not missing - set(tried), f"{type(part).__name__}: {missing}"


@dataclass(frozen=True)
class Inner:
    """Settings inside others, with a field of before and one that was added."""

    width: int = 1
    rate: float = field(default=1.0, metadata=ADDED_LATER)


@dataclass(frozen=True)
class Outer:
    """Settings whose nested ones are of before and added, alone and as a tuple."""

    inner: Inner = field(default_factory=Inner)
    several: tuple[Inner, ...] = ()
    more: Inner = field(default_factory=Inner, metadata=ADDED_LATER)
    size: int | None = field(default=None, metadata=ADDED_LATER)


def test_workers_and_parts_share_a_batch_equally() -> None:
    for workers, accumulate in [(1, 8), (2, 4), (4, 2), (8, 1)]:
        replace(BASE, batch_size=8, accumulate=accumulate).check_shares(workers)
    with pytest.raises(ValueError, match="3 workers cannot share batches of 8: use a divisor of it"):
        replace(BASE, batch_size=8).check_shares(3)
    with pytest.raises(ValueError, match=r"accumulate = 4: .* use a divisor of 2 \(batch_size = 8 on 4 workers\)"):
        replace(BASE, batch_size=8, accumulate=4).check_shares(4)
    pairs = replace(
        BASE, method=MutualInformationSimilarity(), augmentation=Augmentation(), batch_size=12, accumulate=2
    )
    with pytest.raises(ValueError, match=r"takes images by 2, and batch_size = 12 on 2 workers gives parts of 3"):
        pairs.check_shares(2)


def test_a_field_that_was_added_later_counts_where_it_is_not_at_its_default() -> None:
    def counts(value: Outer) -> dict[str, Any]:
        return to_dict(value, later_defaults=False)

    before = {"type": "Inner", "width": 1}
    assert counts(Outer(several=(Inner(),))) == {"type": "Outer", "inner": before, "several": [before]}
    assert counts(Outer(Inner(rate=1), more=Inner(1, 1))) == counts(Outer())
    assert counts(Outer(Inner(rate=2)))["inner"] == before | {"rate": 2.0}
    assert counts(Outer(several=(Inner(), Inner(rate=2))))["several"] == [before, before | {"rate": 2.0}]
    assert counts(Outer(more=Inner(2)))["more"] == {"type": "Inner", "width": 2}
    assert counts(Outer(size=0))["size"] == 0
    # What is written down has every field.
    assert to_dict(Outer())["more"] == to_dict(Inner()) == before | {"rate": 1.0}


def test_an_added_field_is_out_of_the_id_at_its_default_alone() -> None:
    assert "non_finite" in {f.name for f in fields(BASE) if f.metadata == ADDED_LATER}
    assert replace(BASE, non_finite="stop").id == BASE.id != replace(BASE, non_finite="skip").id


@pytest.mark.parametrize(
    "pairs",
    [
        Pairs(shift=2),
        Pairs(turn=False),
        Pairs(jitter=0.2),
        Pairs(other_date=0.5),
        Pairs(min_valid=0.9),
        Pairs(turns="flips"),
        Pairs(unlabelled=True),
    ],
)
def test_how_pairs_are_drawn_counts_for_methods_that_learn_from_them(pairs: Pairs) -> None:
    similarity = replace(BASE, method=MutualInformationSimilarity(), augmentation=Augmentation())
    assert replace(similarity, pairs=pairs).id != similarity.id
    assert replace(BASE, pairs=pairs).id == BASE.id
    tried = {"shift", "turn", "jitter", "other_date", "min_valid", "turns", "unlabelled"}
    assert {field.name for field in fields(pairs)} == tried
    assert from_dict(json.loads(json.dumps(to_dict(replace(similarity, pairs=pairs))))).pairs == pairs


def test_a_label_budget_is_of_images_or_of_pixels_of_each_class() -> None:
    images, pixels, clusters = BASE, Experiment(MutualInformationSimilarity()), Experiment(PixelKMeans())
    named = [
        (experiment.labelled_images, experiment.labelled_pixels_per_class)
        for method in (images, pixels, clusters)
        for experiment in (method, replace(method, label_budget=7))
    ]
    assert named == [(None, None), (7, None), (None, LABELLED_PIXELS), (None, 7), (None, None), (7, None)]
    assert images.with_labels(images=7) == replace(images, label_budget=7) and images.with_labels() is images
    assert pixels.with_labels(pixels_per_class=7) == replace(pixels, label_budget=7)
    with pytest.raises(ValueError, match="labelled images = 7: MutualInformationSimilarity takes labelled pixels of"):
        pixels.with_labels(images=7)
    with pytest.raises(ValueError, match="labelled pixels per class = 7: PixelKMeans takes labelled images"):
        clusters.with_labels(pixels_per_class=7)


def test_equal_experiments_have_one_id_whether_numbers_are_written_with_a_point_or_not() -> None:
    whole = Experiment(
        RegionMutualInformation(weight=1),
        optimiser=Optimiser(learning_rate=1, clip=2, power=0),
        augmentation=Augmentation(flip=0, scale=(1, 2)),
    )
    real = Experiment(
        RegionMutualInformation(weight=1.0),
        optimiser=Optimiser(learning_rate=1.0, clip=2.0, power=0.0),
        augmentation=Augmentation(flip=0.0, scale=(1.0, 2.0)),
    )
    assert whole == real and whole.id == real.id
    # Sizes and counts stay whole.
    assert to_dict(Augmentation(crop=(96, 128)))["crop"] == [96, 128]
    assert isinstance(to_dict(real)["steps"], int)


@pytest.mark.parametrize("name", RECIPES)
def test_json_gives_every_recipe_back(name: str) -> None:
    experiment = RECIPES[name](seed=3)
    found = from_dict(json.loads(json.dumps(to_dict(experiment))))
    assert found == experiment and found.id == experiment.id and hash(found) == hash(experiment)
    assert found.seed == 3


@pytest.mark.parametrize("name", CHANGES)
def test_json_gives_every_field_back(name: str) -> None:
    experiment = CHANGES[name](BASE)
    assert from_dict(json.loads(json.dumps(to_dict(experiment)))) == experiment


@pytest.mark.parametrize("path", [(), ("method",), ("method", "network"), ("optimiser",), ("augmentation",)])
def test_an_unknown_type_or_field_is_named(path: tuple[str, ...]) -> None:
    for key, value, message in [
        ("type", "Nonsense", "type = 'Nonsense': expected one of "),
        ("nonsense", 1, "has no field nonsense; it has "),
    ]:
        data = to_dict(BASE)
        part = data
        for step in path:
            part = part[step]
        part[key] = value
        with pytest.raises(ValueError, match=message):
            from_dict(data)


def test_a_description_without_its_type_is_refused() -> None:
    with pytest.raises(ValueError, match="type = None: expected one of Experiment"):
        from_dict({"steps": 3})


NAN, INFINITY = math.nan, math.inf


@pytest.mark.parametrize(
    ("make", "value", "bounds"),
    [
        (lambda: RegionMutualInformation(weight=1.5), "1.5", r"0\.\.1"),
        (lambda: RegionMutualInformation(weight=-0.1), "-0.1", r"0\.\.1"),
        (lambda: RegionMutualInformation(weight=NAN), "nan", r"0\.\.1"),
        (lambda: RegionMutualInformation(region_size=0), "0", "use 1 or more"),
        (lambda: RegionMutualInformation(downsampling_factor=0), "0", r"use 1 \(none\) or more"),
        (lambda: RegionMutualInformation(downsampling="median"), "median", "average, max or interpolation"),
        (lambda: UNet(0), "0", "use 1 or more"),
        (lambda: Optimiser(name="rmsprop"), "rmsprop", "use one of adam, sgd, adamw"),
        (lambda: Optimiser(schedule="step"), "step", "use one of polynomial, cosine"),
        (lambda: Optimiser(decayed="none"), "none", "use one of all, weights"),
        (lambda: Optimiser(ema_decay=1.0), "1.0", "between 0 and 1, such as 0.999"),
        (lambda: Optimiser(ema_decay=NAN), "nan", "between 0 and 1, such as 0.999"),
        (lambda: Optimiser(learning_rate=0.0), "0.0", "above 0, such as 1e-3"),
        (lambda: Optimiser(learning_rate=NAN), "nan", "above 0, such as 1e-3"),
        (lambda: Optimiser(learning_rate=INFINITY), "inf", "above 0, such as 1e-3"),
        (lambda: Optimiser(momentum=1.0), "1.0", r"0\.\.1"),
        (lambda: Optimiser(weight_decay=-1.0), "-1.0", "use 0 or more"),
        (lambda: Optimiser(weight_decay=NAN), "nan", "use 0 or more"),
        (lambda: Optimiser(clip=0.0), "0.0", "above 0; leave it out"),
        (lambda: Optimiser(clip=NAN), "nan", "above 0; leave it out"),
        (lambda: Optimiser(warmup_steps=-1), "-1", "use 0 or more"),
        (lambda: Optimiser(power=-0.9), "-0.9", r"use 0 \(constant rate\) or more"),
        (lambda: Experiment(steps=0), "0", "use 1 or more"),
        (lambda: Experiment(batch_size=0), "0", "use 1 or more"),
        (lambda: Experiment(accumulate=0), "0", r"use 1 \(a step's batch is not cut\) or more parts"),
        (lambda: Experiment(accumulate=3), "3", r"equal parts; use a divisor of 8 \(batch_size = 8\)"),
        (
            lambda: Experiment(InvariantInformation(), accumulate=2),
            "2",
            "is one of the whole batch, .* lower batch_size",
        ),
        (
            lambda: Experiment(InfoSeg(), accumulate=8),
            "8",
            "InfoSeg takes images by 2, and batch_size = 8 gives parts of 1",
        ),
        (lambda: Experiment(validate_every=0), "0", "use 1 or more"),
        (lambda: Experiment(label_budget=0), "0", "use 1 or more labelled images, or leave it out for all"),
        (lambda: Experiment(PatchAutoencoder(), label_budget=0), "0", "1 or more labelled pixels of each class, .* 50"),
        (lambda: Experiment(seed=-1), "-1", "use 0 or more"),
        (lambda: Experiment(order="sorted"), "sorted", "use one of shuffle, replacement"),
        (lambda: Experiment(precision="float8"), "float8", "use one of auto, float32"),
        (lambda: Experiment(CrossEntropy(UNet(normalisation="layer"))), "layer", "use one of batch, group"),
        (lambda: Augmentation(flip=1.5), "1.5", r"0\.\.1"),
        (lambda: Augmentation(crop=(0, 32)), "0, 32", "at least 1"),
        (lambda: Augmentation(scale=(2.0, 0.5)), "2.0, 0.5", "low, high"),
        (lambda: Augmentation(std=(0.0,), mean=(0.5,)), "0.0", "above 0"),
    ],
)
def test_a_value_out_of_range_is_refused_with_value_and_range(make: Callable[[], Any], value: str, bounds: str) -> None:
    with pytest.raises(ValueError, match=bounds) as refused:
        make()
    assert value in str(refused.value)


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(crop=(32, 48)), Augmentation(resize=(32, 48)), Augmentation(resize=99, crop=(48, 32))],
    ids=["crop", "resize", "crop after resize"],
)
def test_df_and_r_that_leave_no_region_in_a_training_image_are_refused(augmentation: Augmentation) -> None:
    method = RegionMutualInformation(downsampling_factor=11, region_size=3)
    with pytest.raises(ValueError, match=r"factor 11 with region size 3 .* 33 x 33 .* lower one of the two"):
        Experiment(method, augmentation=augmentation)
    Experiment(replace(method, downsampling_factor=10), augmentation=augmentation)


def test_a_size_that_only_the_data_settle_is_left_to_the_data() -> None:
    for augmentation in (Augmentation(), Augmentation(resize=8), Augmentation(resize=(8, 8), scale=(4.0, 8.0))):
        assert Experiment(RegionMutualInformation(), augmentation=augmentation).training_size is None


@pytest.mark.parametrize("recipe", [streets.ce, streets.bce, streets.rmi])
def test_recipes_of_a_name_fit_any_data(recipe: Callable[..., Experiment]) -> None:
    assert recipe("camvid", seed=2).data == "camvid" and recipe("camvid").augmentation.resize == (176, 240)
    own = recipe("/data/own", seed=2)
    assert own.data == "/data/own" and own.seed == 2 and own.augmentation == recipe("embedded").augmentation


def test_ce_bce_and_rmi_of_one_data_set_differ_in_the_method_alone() -> None:
    for data in ("embedded", "camvid"):
        ce, bce, rmi = (recipe(data) for recipe in (streets.ce, streets.bce, streets.rmi))
        assert replace(bce, method=ce.method) == ce == replace(rmi, method=ce.method)
        assert ce.method.network == bce.method.network == rmi.method.network
