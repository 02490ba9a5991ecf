"""The clock of tests on waiting: a busy machine is no wait, a sleep is one."""

import sys
import time

import pytest

from tests.support.waiting import waited


def test_a_sleep_is_waited_for():
    before = waited()
    time.sleep(0.3)
    assert waited() - before > 0.29


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a thread ran")
def test_work_is_no_wait():
    began, before = time.monotonic(), waited()
    while time.monotonic() - began < 0.6:
        pass
    assert waited() - before < 0.3
