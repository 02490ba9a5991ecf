"""The list of differences names recipes that exist."""

from miseg.recipes.catalog import RECIPES
from miseg.recipes.differences import DIFFERENCES


def test_every_pattern_names_a_recipe() -> None:
    for difference in DIFFERENCES:
        for pattern in difference.recipes:
            one = type(difference)(difference.study, difference.what, (pattern,))
            assert any(map(one.changes, RECIPES)), f"{pattern}: {difference.what}"


def test_each_study_changes_its_own_recipes_alone() -> None:
    for difference in DIFFERENCES:
        changed = [name for name in RECIPES if difference.changes(name)]
        if difference.study == "Porto":
            assert all(name.startswith("porto-") for name in changed), difference.what
        if difference.study in ("IIC", "InfoSeg"):
            assert all(RECIPES[name]().supervision == "none" for name in changed), difference.what
    assert not any(d.changes("camvid-ce") or d.changes("embedded-bce") for d in DIFFERENCES)
