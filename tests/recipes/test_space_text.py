"""Search spaces as they are typed: what is read, and what is refused with the text and the mend."""

from __future__ import annotations

import pytest

from miseg.methods.ranges import Around, Choice, Range, Uniform, Whole
from miseg.methods.registry import registered
from miseg.recipes.catalog import RECIPES
from miseg.recipes.space_text import parsed
from miseg.recipes.spaces import FixedTrial


@pytest.mark.parametrize(
    ("text", "path", "within"),
    [
        ("method.weight=0.1..0.9", "method.weight", Uniform(0.1, 0.9, name="lambda")),
        ("method.weight=1e-2..1:log", "method.weight", Uniform(0.01, 1.0, log=True, name="lambda")),
        ("optimiser.learning_rate=x10", "optimiser.learning_rate", Around(10)),
        ("method.region_size=1..4", "method.region_size", Whole(1, 4)),
        ("method.downsampling=average,max", "method.downsampling", Choice(("average", "max"))),
        ("method.region-size=1..5", "method.region_size", Whole(1, 5)),
        ("method.region_size=2,4", "method.region_size", Choice((2, 4))),
        ("method.network.initial_features=x2", "method.network.initial_features", Around(2, whole=True)),
        ("optimiser.clip=0.5..5", "optimiser.clip", Uniform(0.5, 5.0)),
        ("batch_size=4,8", "batch_size", Choice((4, 8))),
        ("augmentation.flip=0..1", "augmentation.flip", Uniform(0.0, 1.0)),
        ("optimiser.name=adam,sgd", "optimiser.name", Choice(("adam", "sgd"))),
    ],
)
def test_a_range_is_read_by_the_type_of_its_setting(text: str, path: str, within: Range) -> None:
    base = RECIPES["embedded-rmi"]()
    space = parsed([text], base)
    assert dict(space.ranges) == {path: within}
    changed = [corner for _, _, corner in space.corners(base)]
    assert len(changed) >= 2 and all(type(corner.method) is type(base.method) for corner in changed)
    again = parsed([f"{path}={within}"], base)
    assert again == space, "what a space is written as is read as the same one"


def test_a_switch_is_true_or_false() -> None:
    base = RECIPES["embedded-dice"]()
    space = parsed(["method.squared=true,false"], base)
    assert [corner.method.squared for _, _, corner in space.corners(base)] == [True, False]  # type: ignore[attr-defined]


def test_names_are_short_where_they_are_not_taken_twice_and_the_paper_s_where_there_is_one() -> None:
    base = RECIPES["embedded-rmi"]()
    assert list(parsed(["method.weight=0..1", "optimiser.learning_rate=x3"], base).point(base)) == [
        "lambda",
        "learning_rate",
    ]
    base = RECIPES["flanders-similarity"]()
    twice = ["method.encoder.normalisation=batch,none", "pairs.other_date=0..1", "optimiser.momentum=0..0.9"]
    assert list(parsed(twice, base).point(base)) == ["normalisation", "other_date", "momentum"]


def test_what_is_tried_first_is_the_recipe_or_what_is_nearest_to_it() -> None:
    base = RECIPES["embedded-rmi"]()
    space = parsed(["method.weight=0.6..0.9", "method.region_size=1..5", "method.downsampling=max,interpolation"], base)
    point = space.point(base)
    assert point == {"lambda": 0.6, "region_size": 3, "downsampling": "max"}
    first = space(FixedTrial(point), base).method
    assert (first.weight, first.region_size, first.downsampling) == (0.6, 3, "max")  # type: ignore[attr-defined]


def test_another_range_is_another_space_and_the_registered_ones_are_as_they_were() -> None:
    """What a finished tuning is recognised by."""
    base = RECIPES["embedded-rmi"]()
    one, other = (parsed([f"method.weight=0.1..{high}"], base).identity for high in (0.8, 0.9))
    assert (one, other) == ("method.weight=0.1..0.8", "method.weight=0.1..0.9")
    named = {method.key: method.space.identity for method in registered().values()}
    assert {key: named[key] for key in ("rmi", "similarity", "infoseg", "affinity", "kmeans", "ce")} == {
        "rmi": "miseg.recipes.spaces.region_mutual_information",
        "similarity": "miseg.recipes.spaces.similarity",
        "infoseg": "miseg.recipes.spaces.infoseg",
        "affinity": "miseg.recipes.spaces.affinity_field",
        "kmeans": "miseg.recipes.spaces.k_means",
        "ce": "miseg.recipes.spaces.learning_rate",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method.weight", "give a setting and its range, such as method.weight=0.1..0.9"),
        ("=0..1", "give a setting and its range"),
        ("method.wieght=0..1", r"RegionMutualInformation has no setting wieght; did you mean method.weight"),
        ("method=0..1", r"method is a group of settings; name one of method\.network, method\.weight"),
        ("steps.more=1..2", "steps has no settings of its own"),
        ("steps=10..20", "all trials share data, seed, steps, validate_every; the job's own options change them"),
        ("method.weight=0.9..0.1", "the lower end stands first, and below the higher"),
        ("method.weight=0.1..1.9", r"λ \(weight\) = 1.9: it lies in 0..1"),
        ("method.weight=a..b", "'a' is no number"),
        ("method.weight=nan..1", "'nan' is no number"),
        ("method.weight=0..1:log", "a log scale is of values above 0"),
        ("method.weight=0..1:square", ":square: the one scale besides the plain one is :log"),
        ("method.weight=0.5", "give two or more values with commas between them"),
        ("method.weight=0.5,0.5", "give two or more values with commas between them, each once"),
        ("method.region_size=1.5..3", "'1.5' is no whole number"),
        ("method.region_size=1..8:log", "whole numbers have no log scale; give values with commas"),
        ("method.region_size=0..2", "region size = 0: use 1 or more"),
        ("accumulate=1..4", "accumulate = 3: a step's batch is cut into equal parts"),
        ("method.downsampling=average,median", "'median' is none of its values; give some of average,max,interpol"),
        ("method.downsampling=1..2", "it takes no numbers; give some of average,max,interpolation"),
        ("optimiser.clip=x3", "x3 is around the recipe's own value, which is None; give two ends"),
        ("optimiser.learning_rate=x1", "x1: give a factor above 1, such as x10"),
        ("augmentation.crop=1,2", "'1' is none of its values; give another setting: this one takes neither"),
    ],
)
def test_a_text_that_is_no_range_is_told_with_the_mend(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        parsed([text], RECIPES["embedded-rmi"]())
    assert str(refused.value).startswith(f"--space {text}")


def test_a_setting_is_named_once() -> None:
    with pytest.raises(ValueError, match=r"--space method\.weight=0\.2\.\.1: method\.weight has a range already"):
        parsed(["method.weight=0..1", "method.weight=0.2..1"], RECIPES["embedded-rmi"]())
