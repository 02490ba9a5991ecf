"""What a run in MLflow says of the command that made it."""

from __future__ import annotations

import sys

import pytest

from miseg.service.tracking import description


@pytest.mark.parametrize(
    ("argv", "name", "command"),
    [
        (["miseg tune-rmi", "--name", "two words"], "miseg tune-rmi", "miseg tune-rmi --name 'two words'"),
        (["/anywhere/jobs/tune_rmi.py", "--trials", "2"], "miseg tune-rmi", "miseg tune-rmi --trials 2"),
        (["jobs/study.py"], "miseg study", "miseg study"),
        (["/lib/ray/default_worker.py", "--node-ip"], "", ""),
        (["misegment"], "", ""),
    ],
)
def test_the_command_is_told_as_it_is_called_everywhere(
    argv: list[str], name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert description.command_name() == name
    assert description.command() == command
    assert description.source_tags() == ({"mlflow.source.name": name, "mlflow.source.type": "LOCAL"} if name else {})
