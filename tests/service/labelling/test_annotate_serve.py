"""`miseg annotate` as people run it: behind Ray Serve, in a real browser, ended and started again."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from miseg.data.labels.store import FILE
from tests.support import ROOT
from tests.support.labelled_fields import BANDS, write_fields, write_model
from tests.support.pages.page_driver import labelling_page
from tests.support.processes import Processes, http, processes, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.browser, pytest.mark.long, pytest.mark.timeout(600)]

SECONDS = 180
"""For a start on a busy machine."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a series of 512 x 512 pixels."""
    folder = tmp_path_factory.mktemp("labelled")
    write_model(folder)
    write_fields(folder / "series", 512)
    return folder


@pytest.fixture
def started() -> Iterator[Processes]:
    with processes() as found:
        yield found


def command(place: Path, labels: Path, *options: str) -> list[str]:
    job = [sys.executable, str(ROOT / "jobs" / "annotate.py"), "--model", str(place / "checkpoint")]
    return [*job, "--series", str(place / "series"), "--bands", *BANDS, "--out", str(labels), "--port", "0", *options]


def start(started: Processes, place: Path, labels: Path, *options: str) -> tuple[subprocess.Popen, str]:
    """The job, and the address that it printed."""
    name = f"annotate-{len(list(started.folder.glob('annotate*')))}"
    environment = started.environment(MISEG_STORAGE=str(started.folder / "storage"), RAY_TMPDIR=str(started.folder))
    job = started.start(name, command(place, labels, *options), environment, ROOT)
    with started.explained():
        wait_until(lambda: "Ctrl-C ends it" in started.text(name), SECONDS, name, [job])
    address = re.search(r"labelling page: (\S+)", started.text(name))
    assert address is not None
    return job, address.group(1)


def listening(job: subprocess.Popen) -> set[str]:
    mine = {job.pid, *(child.pid for child in psutil.Process(job.pid).children(recursive=True))}
    found = [one for one in psutil.net_connections("inet") if one.pid in mine and one.status == psutil.CONN_LISTEN]
    return {one.laddr.ip.removeprefix("::ffff:") for one in found}


def end(job: subprocess.Popen, how: signal.Signals) -> None:
    below = psutil.Process(job.pid).children(recursive=True)
    job.send_signal(how)
    assert job.wait(60) == 0
    _, alive = psutil.wait_procs(below, 30)
    assert not alive, "what it started ends with it"


def test_labels_outlive_the_page_and_the_server(started, place, tmp_path):
    labels = tmp_path / "labels"
    job, url = start(started, place, labels)
    assert url.startswith("http://127.0.0.1:")
    assert listening(job) <= {"127.0.0.1", "::1"}
    with labelling_page(tmp_path / "chromium") as page:
        page.open(url)
        for column, name in ((80, "wheat"), (250, "maize"), (430, "beet")):
            page.add_class(name)
            page.label([(column, 300)])
        page.wait_for_map()
        page.keys("l")
        page.label([(400, 100), (420, 110), (450, 115)])
        page.keys("b", "1")
        page.label([(20, 20), (30, 28)])
        page.wait_for_map()
        assert page.js("Math.max(...miseg.timings.map((one) => one.seconds))") < 5
        page.keys("]")
        page.wait_for_map()
        before = json.loads((labels / FILE).read_text())
        assert len(before["drawings"]) == 5
        page.driver.refresh()
        page.wait("window.miseg?.page.state?.drawings.length === 5")

        refused = subprocess.run(command(place, labels), capture_output=True, text=True, timeout=120)
        assert refused.returncode == 2 and "another labelling page has these labels" in refused.stderr
        end(job, signal.SIGTERM)
        port = url.partition("/#")[0].rpartition(":")[2]
        job, url = start(started, place, labels, "--port", port)
        page.wait("document.getElementById('saved').textContent.startsWith('saved')", 60)
        page.label([(60, 400)])
        page.open(url)
        page.wait("miseg.page.state.drawings.length === 6")
        page.wait_for_map()
        assert page.console() == [] or all("ERR_CONNECTION" in line for line in page.console())
    end(job, signal.SIGINT)
    assert json.loads((labels / FILE).read_text())["drawings"][:5] == before["drawings"]


def test_on_an_address_that_others_reach_it_wants_the_token(started, place, tmp_path):
    labels = tmp_path / "labels"
    job, url = start(started, place, labels, "--host", "127.0.0.2")
    plain, _, token = url.partition("#token=")
    assert len(token) >= 32 and (labels / "token").stat().st_mode & 0o077 == 0
    # The token alone is not enough: a page of another site has no such header.
    assert http(f"{plain}api/state")[0] == 401 and http(f"{plain}api/state", token)[0] == 403
    assert token not in " ".join(command_line for _, _, command_line in started.titles())
    with labelling_page(tmp_path / "chromium") as page:
        page.driver.get(plain)
        page.wait("document.getElementById('token-dialog').open")
        page.element("token").send_keys(token + "\n")
        page.wait("miseg.page.state && miseg.image")
        page.driver.get(url)
        page.wait("location.hash === '' && window.miseg?.image?.picture.getSource()")  # it does not stay in the address
        page.add_class("wheat")
    end(job, signal.SIGTERM)
