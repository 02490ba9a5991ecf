"""The tutorial of the documentation, as a newcomer follows it: each of its commands, in its order, in one folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
BLOCKS = [block for language, block in FENCED if language == "bash"]
EXPORT = re.compile(r"^export (\w+)=(.*)$")


class Shell:
    """A user's shell in a folder, in which miseg is found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        for name in ("MLFLOW_TRACKING_URI", "MISEG_STORAGE", "MISEG_DATA"):
            self.environment.pop(name, None)

    def run(self, block: str) -> str:
        """What a block prints; it must succeed."""
        if exported := EXPORT.match(block):
            name, value = exported.groups()
            self.environment[name] = value.replace("$PWD", str(self.folder))
            return ""
        if block.strip() == "miseg ui":
            return self._page()
        done = subprocess.run(
            ["bash", "-euc", block],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, block + done.stdout + done.stderr
        assert "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
        return done.stdout

    def _page(self) -> str:
        """The page of `miseg ui` once it answers; then Ctrl-C."""
        with subprocess.Popen(
            ["miseg", "ui"],
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server:
            try:
                deadline = time.monotonic() + 120
                while True:
                    try:
                        with urllib.request.urlopen("http://127.0.0.1:5000", timeout=5) as answer:
                            return answer.read().decode()
                    except OSError:
                        assert time.monotonic() < deadline, "miseg ui does not answer"
                        time.sleep(0.5)
            finally:
                server.send_signal(signal.SIGINT)
                server.wait(60)


PASTED = r"^- .*:\n(miseg .*)$"
"""A command that a job prints to be pasted, below its purpose."""


def test_every_command_of_the_tutorial_runs_in_its_order(tmp_path: Path) -> None:
    shell, printed = Shell(tmp_path), []
    for block in BLOCKS:
        printed.append(shell.run(block))
        if trained := re.search(r"^MLflow run ([0-9a-f]{32}) at", printed[-1], re.MULTILINE):
            shell.environment["RUN"] = trained[1]
    tuned, *studies = (text for text in printed if "next, to paste:" in text)
    assert "RMI as published" in tuned and "2 fresh seeds" in tuned
    of_tuning, *_, of_study = ([*re.findall(PASTED, text, re.MULTILINE)] for text in (tuned, *studies))
    assert [command.split()[1] for command in of_tuning] == ["ui", "report", "evaluate"], tuned
    assert [command.split()[1] for command in of_study] == ["report", "ui"], studies[-1]
    for command in [*of_tuning[1:], of_study[0]]:
        shell.run(command)
    maps = {path.name for path in (tmp_path / "maps").iterdir()}
    assert {"00.tif", "00_confidence.tif", "47.tif"} <= maps
    assert next(iter((tmp_path / "tutorial-runs" / "reports").rglob("*.html")), None)
    assert "tuned and confirmed before" in printed[-1], "a study that grows trains nothing twice"


def test_the_other_commands_of_the_page_are_the_shell_s_own() -> None:
    others = [block for language, block in FENCED if language != "bash"]
    assert others == ["source .venv/bin/activate\n", "RUN=ID\n"]
