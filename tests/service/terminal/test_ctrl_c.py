"""Ctrl-C in a training: the step is kept, and the command that is printed goes on from it."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support import ROOT
from tests.support.processes import processes, wait_until

LINE = re.compile(
    r"--steps 60: a warm-up of 12 steps and a validation every 50, |training: |run goes; |starts: |"
    r"goes on from step |step +\d+/60 |stopping once |interrupted; |miseg train|"
    r" +step +mean IoU| +\d+ +0\.\d{4} |finished at step |MLflow run "
)
"""A line that a training may print."""


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_ctrl_c_keeps_the_step_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = ["miseg", "train", "embedded-ce", "--steps", "60", "--validate-every", "50", "--name", "goes"]
    with processes() as started:
        environment = started.environment(MISEG_STORAGE=str(tmp_path), OMP_NUM_THREADS="1", COLUMNS="80")

        def start(name: str, words: list[str]) -> subprocess.Popen:
            return started.start(name, [sys.executable, "-m", *words], environment, ROOT)

        first = start("first", command)
        wait_until(lambda: re.search(r"step +\d+/60", started.text("first")) is not None, 120, "a step", [first])
        first.send_signal(signal.SIGINT)
        assert first.wait(60) == 130, started.text("first")
        ended = re.search(r"interrupted; kept at step (\d+); to go on:\n(.*)\n", started.text("first"))
        assert ended is not None, started.text("first")
        step, printed = ended.groups()
        assert 0 < int(step) < 50, "no validation was before it"
        assert shlex.split(printed) == command, "it has its name already"

        second = start("second", shlex.split(printed))
        assert second.wait(120) == 0, started.text("second")
        assert f"goes on from step {step}: " in started.text("second")
        lines = started.text("first").splitlines() + started.text("second").splitlines()

    assert not [line for line in lines if not LINE.match(line)], "only what is for people"
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [known for known in client.search_experiments() if known.name != "Default"]
    (trained,) = client.search_runs([experiment.experiment_id])
    assert trained.info.status == "FINISHED"
    history = client.get_metric_history(trained.info.run_id, "train/loss")
    assert [metric.step for metric in history] == list(range(60)), "no step twice, none left out"
    logs = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert "Started training worker group of size 1" in logs, "what Ray says is kept"
