"""The functions of `miseg`: there without their extra, light to have, and as strict as the commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import miseg
from miseg.api.session import session
from miseg.commands import train as train_command
from miseg.service.command.parsing import with_flag
from miseg.service.remarks import remark

FUNCTIONS = ("load", "study", "train", "tune")


def test_the_functions_bring_nothing_along_before_they_are_called() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'matplotlib', 'pyarrow', 'tyro', 'timm'}"
    code = (
        f"import sys, miseg; [getattr(miseg, name) for name in {FUNCTIONS}]; print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_package_lists_them() -> None:
    assert set(FUNCTIONS) <= set(miseg.__all__) and set(FUNCTIONS) <= set(dir(miseg))
    assert all(getattr(miseg, name).__doc__ and getattr(miseg, name).__annotations__ for name in FUNCTIONS)
    with pytest.raises(AttributeError, match="module 'miseg' has no attribute 'trian'"):
        _ = miseg.trian  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that is found only by then would take seconds."""

    def start(*arguments: Any, **options: Any) -> None:
        raise AssertionError("Ray is started")

    monkeypatch.setattr("miseg.service.cluster.ray_cluster.connect", start)


MISTAKES: dict[str, tuple[tuple[str, ...], dict[str, Any], list[str]]] = {
    "a recipe": (("embedded-rmy",), {}, ["embedded-rmy"]),
    "a data set": (("embedded-rmi",), {"data": "camvdi"}, ["embedded-rmi", "--data", "camvdi"]),
    "an encoder": (
        ("embedded-rmi",),
        {"settings": {"network": "unet", "encoder": "resnet19"}},
        ["embedded-rmi", "--network", "unet", "--encoder", "resnet19"],
    ),
    "a network twice": (
        ("rmi",),
        {"data": "embedded", "settings": {"network": "unet:resnet18", "encoder": "resnet34"}},
        ["rmi", "--data", "embedded", "--network", "unet:resnet18", "--encoder", "resnet34"],
    ),
    "batches that workers cannot share": (
        ("embedded-rmi",),
        {"settings": {"workers": 3}},
        ["embedded-rmi", "--workers", "3"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_the_sentence_of_the_command(
    mistake: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    positional, named, line = MISTAKES[mistake]
    with pytest.raises(ValueError) as error:
        miseg.train(*positional, **named)
    monkeypatch.setattr(sys, "argv", ["miseg train", *line])
    with pytest.raises(SystemExit) as ended:
        train_command.main()
    assert ended.value.code == 2
    # Where a setting is at fault, the command line names it as it was typed there.
    assert capsys.readouterr().err.strip().splitlines() == [f"error: {with_flag(str(error.value), line)}"]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: miseg.train(3), "experiment = 3: give a recipe's name, a method's name or an Experiment"),
        (lambda: miseg.train("embedded-rmi", name="a/b"), "name 'a/b': "),
        (lambda: miseg.tune("embedded-rmy"), "embedded-rmy: there is no such recipe or method; did you mean"),
        (lambda: miseg.tune("embedded-rmi", trials=0), "trials 0: use 1 or more"),
        (lambda: miseg.tune("embedded-rmi", settings={"trails": 2}), "trails: there is no such setting; did you mean"),
        (lambda: miseg.tune("embedded-rmi", settings={"steps": "20"}), "steps = '20': expected int"),
        (lambda: miseg.study("embedded", ["rmy"]), "methods = rmy: there is no such method; did you mean rmi"),
        (lambda: miseg.study("embedded", settings={"confirm_sedes": 2}), "did you mean confirm_seeds"),
        (lambda: miseg.study("embedded", settings={"storage": "s3://nobody/x"}), "so give a folder"),
    ],
)
def test_a_mistake_is_told_before_ray_starts(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        call()
    assert "\n" not in str(error.value)


def test_a_job_prints_nothing_and_its_remarks_are_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="no effect"), session("this test", verbose=False):
        print("a table")
        remark("the warm-up has no effect")
    assert capsys.readouterr().out == ""
    with warnings.catch_warnings(), session("this test", verbose=True):
        warnings.simplefilter("error")
        print("a table")
        remark("the warm-up has no effect")
    assert capsys.readouterr().out == "a table\nthe warm-up has no effect\n"


def test_a_job_leaves_handlers_and_environment_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_ID", "of before")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(ValueError, match="mistake"), session("this test", verbose=False):
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        monkeypatch.setenv("RAY_JOB_ID", "of the job")
        raise ValueError("mistake")
    assert {number: signal.getsignal(number) for number in before} == before
    assert os.environ["RAY_JOB_ID"] == "of before"


@pytest.mark.slow
def test_editors_see_the_functions(tmp_path: Path) -> None:
    """The names are imported for type checkers, so that calls are checked."""
    script = tmp_path / "script.py"
    script.write_text('import miseg\n\nreveal_type(miseg.train("embedded-rmi").history)\nmiseg.train(3)\n')
    command = [sys.executable, "-m", "mypy", "--follow-imports", "silent", str(script)]
    done = subprocess.run(command, cwd=Path(miseg.__file__).parents[1], capture_output=True, text=True, timeout=280)
    assert 'Argument 1 to "train" has incompatible type "int"' in done.stdout, done.stdout + done.stderr
    assert "no attribute" not in done.stdout
