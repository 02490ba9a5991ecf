"""Mistakes in a command line: one sentence each, with the option as it was typed and the nearest right one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import tyro

from miseg.service.command.parsing import nearest, options_of, parse, understood, unknown, with_flag


@dataclass
class Inner:
    learning_rate: float = 1.0
    decay: float = 0.0

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate = {self.learning_rate}: use a value above 0")


@dataclass
class Options:
    """Options of a test."""

    inner: Inner = field(default_factory=Inner)
    other: Inner = field(default_factory=Inner)
    steps: int = 1
    mode: Literal["a", "b", "c"] = "a"
    size: tuple[int, int] | None = None


@dataclass
class Single:
    inner: Annotated[Inner, tyro.conf.arg(name="optimiser")] = field(default_factory=Inner)
    steps: int = 1


def parsed(*line: str, arguments: type = Options) -> Options:
    made: Options = parse(arguments, "miseg test", "About.", list(line))
    return made


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--stesp 2", "--stesp: miseg test has no such option; did you mean --steps?"),
        ("--stesp=2", "--stesp: miseg test has no such option; did you mean --steps?"),
        ("--zzz 2", "--zzz: miseg test has no such option; miseg test --help shows them"),
        ("--learning-rat 2", "did you mean --inner.learning-rate or --other.learning-rate?"),
        # Two options end so: which of them is meant is asked.
        ("--lr 2", "--lr: miseg test has no such option; did you mean --inner.learning-rate"),
        ("--steps", "--steps: give its value, INT, behind it"),
        ("--steps x", "--steps x: give a whole number"),
        ("--inner.decay x", "--inner.decay x: give a number"),
        ("--inner.decay=x", "--inner.decay: give a number"),
        ("--mode d", "--mode d: choose a, b or c"),
        ("--inner.learning-rate 0", "--inner.learning-rate 0.0: use a value above 0"),
        ("--inner.learning_rate 0", "--inner.learning_rate 0.0: use a value above 0"),
        ("--steps 2 word", "word: miseg test"),
    ],
)
def test_a_mistake_is_one_sentence(line: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        parsed(*line.split())
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("line", ["--lr 0.5", "--lr=0.5", "--learning-rate 0.5", "--learning_rate=0.5"])
def test_a_last_word_stands_for_the_one_option_that_ends_so(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["miseg test", *line.split()])
    options = parsed(*line.split(), "--steps", "3", arguments=Single)
    assert (options.inner.learning_rate, options.steps) == (0.5, 3)
    # What was given is read from here by a job that plans the rest.
    assert sys.argv[1].startswith("--optimiser.learning-rate")
    assert f"{line.split('=')[0].split()[0]} is taken as --optimiser.learning-rate" in capsys.readouterr().err


def test_a_right_line_is_taken_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed("--steps", "4", "--mode", "b", "--size", "2", "3") == Options(steps=4, mode="b", size=(2, 3))
    assert capsys.readouterr() == ("", "")


def test_help_is_printed_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--help")
    assert ended.value.code == 0
    assert "--inner.learning-rate" in capsys.readouterr().out


def test_options_are_those_of_the_help() -> None:
    names = ["--inner.learning-rate", "--inner.decay", "--other.learning-rate", "--other.decay"]
    assert {*names, "--steps", "--mode", "--size"} <= set(options_of(Options, "miseg test", []))


def test_words_that_mean_several_options_or_none_stay() -> None:
    options = ["--a.rate", "--b.rate", "--steps", "--c.learning-rate"]
    assert understood("--rate", options) is None
    assert understood("--nothing", options) is None
    assert understood("-rate", options) is None
    assert understood("--lr=3", options) == "--c.learning-rate=3"


def test_an_abbreviation_that_no_option_has_is_spelt_out_in_the_question() -> None:
    assert "did you mean --learning-rates?" in unknown("--lr", "miseg x", [], ["--learning-rates"])


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("batch_size = 0: use 1 or more", "--batch-size 0: use 1 or more"),
        ("λ (weight) = 2.0: it lies in 0..1", "--method.weight: λ (weight) = 2.0: it lies in 0..1"),
        # A path that holds an option's name is no setting.
        ("/tmp/batch_size/a = b: nothing there", "/tmp/batch_size/a = b: nothing there"),
        ("no weight is there", "no weight is there"),
        ("seed = -1: use 0 or more", "seed = -1: use 0 or more"),
    ],
)
def test_a_message_on_a_setting_names_the_option_that_gave_it(message: str, named: str) -> None:
    assert with_flag(message, ["rmi", "--batch-size", "0", "--method.weight=2"]) == named


def test_at_most_three_names_are_near() -> None:
    names = [f"camvid-rmi{end}" for end in "abcde"]
    assert len(nearest("camvid_rmi", names)) == 3
    assert nearest("xyz", names) == []


def test_a_reader_of_the_help_that_has_seen_enough_is_no_error() -> None:
    line = f"{sys.executable} -m miseg study --help | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
