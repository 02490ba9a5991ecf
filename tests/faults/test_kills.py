"""A kill of each part of trainings by two workers, as kills.py records them."""

from __future__ import annotations

import sys

import pytest

from tests.support import ROOT
from tests.support.processes import processes

KINDS = ("train worker", "train controller", "node")


@pytest.mark.faults
@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_worker_its_controller_and_its_node_are_killed_and_nothing_is_lost_or_left():
    with processes() as started:
        command = [sys.executable, "-m", "tests.faults.kills", "--kills", str(len(KINDS)), "--kinds", *KINDS]
        script = started.start("kills", command, started.environment(), ROOT)
        with started.explained():
            assert script.wait(1400) == 0
        said = started.text("kills")
    assert "3 kills" in said and "All holds." in said
