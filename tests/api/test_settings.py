"""Settings of a call by their names on the command line: options here, the experiment's there, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from miseg.api.settings import check_names, joined, sorted_out, texts, with_values
from miseg.commands.train import Train
from miseg.commands.tune.any_recipe import TuneAnyRecipe
from miseg.recipes.streets import embedded_rmi


def test_settings_are_options_or_the_experiments() -> None:
    values = joined({"--method.weight": 0.3, "workers": 2, "augmentation.crop": [32, 48]}, steps=7, data=None)
    named = sorted_out(values, Train, reserved=("experiment",))
    assert named.options == {"workers": 2}
    changed = with_values(embedded_rmi(), named.rest, Train)
    assert (changed.method.weight, changed.steps, changed.augmentation.crop) == (0.3, 7, (32, 48))  # type: ignore


def test_a_setting_has_one_value() -> None:
    with pytest.raises(ValueError, match="steps has a value already; name each setting once"):
        joined({"steps": 3}, steps=7)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"stesp": 3}, "stesp: there is no such setting; did you mean steps"),
        ({"method.wieght": 0.3}, "method.wieght: there is no such setting; did you mean method.weight"),
        ({"worker": 2}, "worker: there is no such setting; did you mean workers"),
        ({"experiment": None}, "experiment: there is no such setting"),
        ({"batch_size": "4"}, "batch_size = '4': expected int"),
        ({"method": "rmi"}, "method: there is no such setting"),
        ({"method.weight": 1.5}, r"λ \(weight\) = 1.5: it lies in 0..1"),
    ],
)
def test_a_mistake_is_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        named = sorted_out(joined(settings), Train, reserved=("experiment",))
        with_values(embedded_rmi(), named.rest, Train)
    assert "\n" not in str(error.value)


def test_an_option_of_another_type_is_told() -> None:
    with pytest.raises(ValueError, match="workers = 'two': expected int"):
        sorted_out({"workers": "two"}, Train)


def test_values_are_written_as_the_command_line_takes_them() -> None:
    values = {"batch_size": 4, "augmentation.crop": [32, 48], "method.squared": True, "augmentation.scale": None}
    assert texts(values) == (
        "batch_size=4",
        "augmentation.crop=32,48",
        "method.squared=true",
        "augmentation.scale=None",
    )


def test_of_several_methods_settings_the_first_part_is_known() -> None:
    check_names({"method.anything": 1, "batch_size": 2}, TuneAnyRecipe)
    with pytest.raises(ValueError, match="confirm_sedes: there is no such setting; did you mean confirm_seeds"):
        check_names({"confirm_sedes": 2}, TuneAnyRecipe)
