"""Settings that a command line gives: SETTING=VALUE, and a training's own options."""

from __future__ import annotations

import pytest

from miseg.methods.configs import RegionMutualInformation
from miseg.recipes.experiment import Experiment
from miseg.recipes.planning.given import named_settings, with_settings

RMI = Experiment(RegionMutualInformation())


def test_values_are_of_the_settings_types() -> None:
    texts = ("batch-size=4", "augmentation.crop=64,96", "augmentation.scale=0.5,2", "pairs.turn=false")
    experiment, given = with_settings(RMI, (*texts, "method.downsampling=max", "optimiser.clip=None"))
    assert given == {
        "batch_size": 4,
        "augmentation.crop": (64, 96),
        "augmentation.scale": (0.5, 2.0),
        "pairs.turn": False,
        "method.downsampling": "max",
        "optimiser.clip": None,
    }
    assert experiment.augmentation.crop == (64, 96) and not experiment.pairs.turn and experiment.batch_size == 4
    assert with_settings(RMI, ("augmentation.resize=80",))[1] == {"augmentation.resize": 80}
    assert with_settings(RMI, ("augmentation.resize=80,90",))[1] == {"augmentation.resize": (80, 90)}
    assert with_settings(RMI, ()) == (RMI, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch_size", "--set batch_size: give a setting and its value, such as batch_size=4"),
        ("batch=4", r"Experiment has no setting batch; did you mean batch_size\?"),
        ("batch_size=four", "--set batch_size=four: 'four' is no whole number"),
        ("batch_size=0", "--set batch_size=0: batch_size = 0: use 1 or more"),
        ("augmentation.crop=1,2,3", "give 2 values, with commas between them"),
        ("augmentation=1", "augmentation is a group of settings; name one of augmentation.resize"),
        ("seed=1", "--set seed=1: --seed says it"),
    ],
)
def test_what_is_no_setting_is_told(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        with_settings(RMI, (text,))


def test_a_setting_is_given_once() -> None:
    with pytest.raises(ValueError, match="steps has a value already"):
        with_settings(RMI, ("steps=4", "steps=5"))


def test_a_training_s_options_are_settings_by_their_paths() -> None:
    line = "rmi --data pets --steps=4 --batch_size 2 --method.downsampling-factor 2 --pairs.no-turn --workers 1"
    assert named_settings(line.split(), RMI) == {
        "data": "embedded",
        "steps": 1000,
        "batch_size": 8,
        "method.downsampling_factor": 4,
        "pairs.turn": True,
    }
    assert named_settings([], Experiment(label_budget=3)) == {"label_budget": 3}
