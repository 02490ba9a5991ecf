"""Of one name, and of one experiment, one process at a time; a killed one holds nothing, on whatever machine it was."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from miseg.service.tracking import claims
from miseg.service.tracking.claims import TakenError, claimed
from miseg.service.tracking.run_store import RunStore
from tests.support import ROOT
from tests.support.processes import Processes, processes, wait_until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def started() -> Iterator[Processes]:
    with processes() as found:
        yield found


def owner(started: Processes, uri: str, log: str, *, name: str, subject: str = "") -> subprocess.Popen:
    """A process that claims until it is killed, and shows a sign of life each 0.2 s."""
    code = f"""
        import time
        from miseg.service.tracking import claims
        from miseg.service.tracking.run_store import RunStore
        claims.BEAT = 0.2
        store = RunStore({uri.removeprefix("sqlite:///")!r}, {uri!r})
        with claims.claimed(store, "miseg/of-others", {name!r}, {subject!r}):
            print("held", flush=True)
            time.sleep(200)
    """
    environment = started.environment(PYTHONPATH=str(ROOT))
    return started.start(log, [sys.executable, "-c", textwrap.dedent(code)], environment, ROOT)


@pytest.mark.slow
def test_what_a_living_process_has_is_refused_and_what_a_killed_one_had_is_free(started, uri, tmp_path, monkeypatch):
    other = owner(started, uri, "other", name="street", subject="3f0c")
    with started.explained():
        wait_until(lambda: "held" in started.text("other"), 60, "the claim", [other])
    store = RunStore(str(tmp_path), uri)
    with pytest.raises(TakenError, match=f"street is in work by process {other.pid}"):
        claimed(store, "miseg/scenes", "street").__enter__()
    with pytest.raises(TakenError, match=r"the same is in work by .*, as street"):
        claimed(store, "miseg/scenes", "avenue", "3f0c").__enter__()
    with claimed(store, "miseg/scenes", "avenue", "another"):
        pass
    # As from another machine, where process numbers say nothing: it lives as long as its claim changes.
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(claims, "_machine", lambda: "elsewhere")
        elsewhere.setattr(claims, "SILENCE", 2.0)
        with pytest.raises(TakenError, match="street is in work"):
            claimed(store, "miseg/scenes", "street").__enter__()
        other.kill()
        other.wait()
        began = time.monotonic()
        with claimed(store, "miseg/scenes", "street"):
            assert time.monotonic() - began > 2
    again = owner(started, uri, "again", name="street")
    with started.explained():
        wait_until(lambda: "held" in started.text("again"), 60, "the claim", [again])
    again.kill()
    again.wait()
    with claimed(store, "miseg/scenes", "street"):
        pass
    assert not list(claims._read(claims.MlflowClient(uri)))


@pytest.mark.slow
def test_of_several_at_the_same_time_one_goes_on(started, uri):
    several = [owner(started, uri, f"one-{number}", name="street") for number in range(3)]

    def holders() -> list[int]:
        return [number for number in range(3) if "held" in started.text(f"one-{number}").splitlines()]

    def settled() -> bool:
        return sum(process.poll() is None for process in several) == 1 and bool(holders())

    with started.explained():
        wait_until(settled, 90, "one claim")
    held = holders()
    assert len(held) == 1 and several[held[0]].poll() is None
    others = [started.text(f"one-{number}") for number in range(3) if number not in held]
    assert all("TakenError" in said for said in others), others
