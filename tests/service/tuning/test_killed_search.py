"""Tune itself, killed at random moments: it goes on from the last signed state, and from nothing else."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1500)]

TRIALS, KILLS = 6, 2


class Search:
    """The search as a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.support.killed_search", str(folder), str(TRIALS)]
        patient = os.environ | {"RAY_TMPDIR": "/tmp", "RAY_raylet_start_wait_time_s": "240"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=patient, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []

    def until(self, text: str) -> bool:
        """Whether a line with this came before the end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if text in line:
                return True
        return False

    def kill(self) -> None:
        """SIGKILL the driver and, so that the next one has the machine, its Ray."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        os.kill(self.process.pid, signal.SIGKILL)
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.close()

    def close(self) -> None:
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


def newest(folder: Path) -> int:
    """Number of the newest state."""
    return max((int(path.stem.removeprefix("state-")) for path in folder.glob("state-*.zip")), default=-1)


def test_a_search_that_is_killed_again_and_again_goes_on_from_what_was_signed(tmp_path):
    folder, chance = tmp_path / "tunings/street-search", random.Random(0)
    for number in range(KILLS):
        search = Search(folder)
        assert search.until("searches") and ("goes on" in search.lines) == bool(number), "\n".join(search.lines)
        before, deadline = newest(folder), time.monotonic() + 300
        while newest(folder) < before + 2:
            assert time.monotonic() < deadline, "no new state"
            time.sleep(0.1)
        time.sleep(chance.uniform(0, 4))
        search.kill()
        for path in folder.iterdir():
            assert path.name.startswith(("state-", ".state-")), "Tune wrote something else into the storage"
    last = Search(folder)
    last.until("nothing like this")
    last.close()
    output = "\n".join(last.lines)
    assert last.process.returncode == 0 and "goes on" in last.lines, output
    trials = [line.split()[1:] for line in last.lines if line.startswith("trial ")]
    assert len({name for name, *_ in trials}) == TRIALS, output
    assert len({x for _, x, _ in trials}) == TRIALS, "the sampler forgot what it had drawn"
    assert max(int(step) for *_, step in trials) == 4, output
    assert "Failed to fetch metrics" not in output and "Traceback" not in output, output
