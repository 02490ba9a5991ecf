"""The labelling page in a real browser: by mouse, keys and touch, by what it shows, and when its server goes away."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from miseg.data.labels.store import FILE
from miseg.data.raster.scene_files import SceneOptions, open_series
from miseg.methods.few.nearest import NearestLabelMethod
from miseg.service.checkpoints import checkpoint
from miseg.service.labelling import http
from miseg.service.labelling.session import FirstView, Session
from tests.support.labelled_fields import BANDS, DATES, write_fields, write_model
from tests.support.pages.page_driver import SETTLED, LabellingPage, labelling_page
from tests.support.processes import free_ports

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BLUE, ORANGE, GREEN = (31, 119, 180), (255, 127, 14), (44, 160, 44)


class Server:
    """The page's server without Ray, which can go away and come back."""

    def __init__(self, model: Path, series: Path, labels: Path) -> None:
        self.model, self.series, self.labels = model, series, labels
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}/"

    @contextlib.contextmanager
    def up(self) -> Iterator[Session]:
        method = checkpoint.open_method(self.model)[0]
        assert isinstance(method, NearestLabelMethod)
        scenes = {str(scene.date): scene for scene in open_series(self.series, SceneOptions(bands=BANDS))}
        session = Session(method, scenes, self.labels, FirstView("fields"))
        app = http.application(session, http.PAGE, ["127.0.0.1"])
        server = uvicorn.Server(
            uvicorn.Config(app, port=self.port, log_level="error", ws="none", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        try:
            yield session
        finally:
            server.should_exit = True
            thread.join(20)
            session.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fields(tmp_path_factory.mktemp("fields"))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabellingPage]:
    with labelling_page(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def server(model: Path, series: Path, tmp_path: Path) -> Server:
    return Server(model, series, tmp_path / "labels")


def fields(page: LabellingPage) -> list[tuple[int, ...]]:
    """What is seen in the middle of each field, in the map's own colours."""
    return [page.colour(column, 30) for column in (16, 48, 80)]


def opaque(page: LabellingPage) -> None:
    page.driver.execute_script(
        "const o = document.getElementById('opacity'); o.value = 100; o.dispatchEvent(new Event('input'))"
    )


def test_clicks_scribbles_and_boxes_make_a_map_that_stays(server, chromium, tmp_path):
    page = chromium
    with server.up() as session:
        page.open(server.url)
        page.shows("notice", "No label yet")
        page.shows("told", "no map yet")
        page.drag([(16, 60)])
        page.shows("trouble", "Add a class first")
        opaque(page)
        page.add_class("wheat")
        page.shows("notice", "A map needs two classes")
        page.label([(16, 60)])
        page.add_class("maize")
        page.shows("notice", "second class has a label")
        page.label([(48, 60)])
        page.wait_for_map()
        seen = fields(page)
        assert seen[:2] == [BLUE, ORANGE] and seen[2] in (BLUE, ORANGE)
        assert page.js("miseg.timings.length") == 1 and page.js("miseg.timings[0].seconds") < 5

        page.add_class("beet")
        page.label([(80, 60)])
        page.wait_for_map()
        assert fields(page) == [BLUE, ORANGE, GREEN]
        page.keys("b", "1")
        page.label([(5, 70), (12, 76)])
        page.wait_for_map()
        drawn = session.store.drawings.drawings
        assert [json.loads(one.geometry)["type"] for one in drawn] == ["Point", "Point", "Point", "Polygon"]
        page.keys("l", "3")
        page.label([(70, 10), (75, 20), (85, 22), (90, 60)])
        page.wait_for_map()
        corners = json.loads(session.store.drawings.drawings[3].geometry)["coordinates"][0]
        assert corners[0] == [5, 70] and corners[2] == [13, 77], "whole pixels"
        line = json.loads(session.store.drawings.drawings[4].geometry)
        assert line["type"] == "LineString" and abs(line["coordinates"][0][0] - 70.5) < 0.2

        page.chord(Keys.CONTROL, "z")
        page.wait("miseg.page.state.drawings.length === 4")
        page.chord(Keys.CONTROL, "y")
        page.wait("miseg.page.state.drawings.length === 5")
        page.keys("u", "u", "u")
        page.wait("miseg.page.state.drawings.length === 2")
        page.keys("r", "r", "r")
        page.wait("miseg.page.state.drawings.length === 5")
        page.wait_for_map()
        assert fields(page) == [BLUE, ORANGE, GREEN]

        page.keys("m")
        confident = fields(page)
        assert all(red < green < blue or red == green == blue == 255 for red, green, blue in confident)
        page.keys("m", "m")
        page.keys("]")
        page.wait(f"miseg.page.scene === '{DATES[1]}'")
        page.wait_for_map()
        assert fields(page) == [BLUE, ORANGE, GREEN] and page.drawn() == 0
        page.keys("[")
        page.wait_for_map()
        assert page.drawn() == 5

        page.driver.refresh()
        page.wait("window.miseg?.page.state?.drawings.length === 5 && miseg.image")
        page.wait_for_map()
        opaque(page)
        assert page.drawn() == 5 and fields(page) == [BLUE, ORANGE, GREEN]

        page.keys("e")
        page.driver.find_element(By.CSS_SELECTOR, "input[value=geojson]").click()
        page.driver.find_element(By.CSS_SELECTOR, "#export-dialog button[value=export]").click()
        exported = page.downloaded(f"{DATES[0]}-labels.geojson")
        features = json.loads(exported.read_text())["features"]
        assert [one["properties"]["class"] for one in features] == ["wheat", "maize", "beet", "wheat", "beet"]

        page.driver.find_element(By.ID, "remove-" + session.store.drawings.classes[2].id).click()
        page.wait("miseg.page.state.drawings.length === 3")
        bad = tmp_path / "bad.geojson"
        features[0]["geometry"]["coordinates"] = [200, 95]
        bad.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        page.keys("o")
        outside = "bad.geojson, feature 1: (200, 95) is no longitude"
        for file, told in ((bad, outside), (exported, "2 drawings added, 3")):
            page.element("file").send_keys(str(file))
            page.element("load-go").click()
            page.wait(f"document.getElementById('load-told').textContent.includes({json.dumps(told)})")
        page.driver.find_element(By.CSS_SELECTOR, "#load-dialog button[value=cancel]").click()
        page.wait_for_map()
        assert page.drawn() == 5 and fields(page)[2] == GREEN
        assert page.console() == []
        kept = (server.labels / FILE).read_bytes()

    # The server goes away: what is drawn meanwhile waits, over a reload of the tab's own, and arrives.
    page.keys("p", "1")
    page.drag([(20, 20)])
    page.wait("document.getElementById('trouble').textContent.includes('1 change is kept in this tab')")
    assert "not saved: 1" in page.text("saved") and page.drawn() == 6
    assert (server.labels / FILE).read_bytes() == kept
    with server.up() as session:
        page.wait(f"miseg.page.state.drawings.length === 6 && {SETTLED}")
        assert len(session.store.drawings.drawings) == 6
        page.wait_for_map()
    page.console()


def test_two_windows_see_each_other_and_overwrite_nothing(server, chromium, tmp_path):
    with server.up() as session:
        page = chromium
        page.open(server.url)
        page.add_class("wheat")
        page.label([(16, 60)])
        page.driver.switch_to.new_window("window")
        page.open(server.url)
        page.label([(18, 62)])
        second, first = page.driver.current_window_handle, page.driver.window_handles[0]
        page.driver.switch_to.window(first)
        page.wait("miseg.page.state.drawings.length === 2")
        # One that is not yet seen.
        session.store.apply(0, {"do": "add_class", "id": "m", "name": "maize"})
        page.driver.execute_script("document.getElementById('undo').click()")
        page.wait("document.getElementById('trouble').textContent.includes('another window has changed the labels')")
        assert [one.name for one in session.store.drawings.classes] == ["wheat", "maize"]
        page.wait("miseg.page.state.classes.length === 2")
        page.driver.switch_to.window(second)
        page.driver.close()
        page.driver.switch_to.window(first)


def test_everything_can_be_done_by_keys(server, chromium):
    with server.up() as session:
        page = chromium
        page.open(server.url)
        page.keys("n")
        page.keys("a", Keys.ENTER)
        page.wait("miseg.page.state.classes.length === 1")
        page.keys("b", Keys.ENTER)
        page.wait("miseg.page.state.classes.length === 2")
        page.driver.execute_script("document.activeElement.blur(); document.getElementById('map').focus()")
        page.keys("1", "p", Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ENTER)
        page.wait("miseg.page.state.drawings.length === 1")
        page.shows("pointed", "column 47, row 48")
        page.keys("2", "l", Keys.ARROW_UP, Keys.ENTER)
        page.chord(Keys.SHIFT, Keys.ARROW_RIGHT)
        page.keys(Keys.ENTER, Keys.ENTER)
        page.wait("miseg.page.state.drawings.length === 2")
        page.keys("b", Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
        page.chord(Keys.SHIFT, Keys.ARROW_DOWN)
        page.keys(Keys.ARROW_RIGHT, Keys.ENTER)
        page.wait(f"miseg.page.state.drawings.length === 3 && {SETTLED}")
        shapes = [json.loads(one.geometry)["coordinates"] for one in session.store.drawings.drawings]
        assert shapes[0] == [47.5, 48.5] and shapes[1] == [[47.5, 47.5], [57.5, 47.5]]
        assert shapes[2][0][0] == [57, 49] and shapes[2][0][2] == [59, 60]
        page.wait_for_map()
        page.keys("s", Keys.ENTER)
        page.wait("miseg.page.selected.size === 1")
        page.keys(Keys.DELETE)
        page.wait("miseg.page.state.drawings.length === 2")
        page.driver.execute_script("document.getElementById('single-keys').click()")
        page.keys("u")
        time.sleep(0.5)
        assert len(session.store.drawings.drawings) == 2, "single keys can be turned off"
        unnamed = page.js(
            "[...document.querySelectorAll('button, input, select')].filter((one) => one.checkVisibility() && !("
            "one.labels?.length || one.ariaLabel || one.textContent.trim())).map((one) => one.outerHTML)"
        )
        assert unnamed == []
        # Every control is reached by Tab, and its focus is seen.
        page.driver.execute_script("document.activeElement.blur()")
        reached = set()
        for _ in range(60):
            page.keys(Keys.TAB)
            id, outline = page.js("[document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]")
            reached.add(id)
            if id:
                assert outline == "solid", id
        wanted = page.js(
            "[...document.querySelectorAll('button[id], input[id], select[id]')].filter((one) => one.checkVisibility()"
            " && !one.disabled && one.type !== 'radio').map((one) => one.id)"
        )
        assert set(wanted) <= reached and "map" in reached


def test_a_tap_labels_and_a_swipe_scribbles_on_a_small_screen(server, model, tmp_path):
    with labelling_page(tmp_path / "phone", (480, 900)) as page, server.up() as session:
        page.open(server.url)
        page.add_class("wheat")
        page.label([(16, 60)], touch=True)
        page.js("document.getElementById('tool-line').click()")
        page.label([(20, 20), (22, 40), (25, 60)], touch=True)
        kinds = [json.loads(one.geometry)["type"] for one in session.store.drawings.drawings]
        assert kinds == ["Point", "LineString"]
        assert page.js("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off at the side"


def test_a_date_that_cannot_be_mapped_says_why(server, chromium, series, tmp_path):
    (folder := tmp_path / "fields").mkdir()
    for path in series.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    server.series = folder
    with server.up():
        page = chromium
        page.open(server.url)
        for column, name in ((16, "wheat"), (48, "maize")):
            page.add_class(name)
            page.label([(column, 60)])
        page.wait_for_map()
        broken = folder / f"{DATES[2]}.tif"
        broken.write_bytes(broken.read_bytes()[:2000])
        page.js("document.getElementById('scene').value = '2019-08-24'")
        page.driver.execute_script("document.getElementById('scene').dispatchEvent(new Event('change'))")
        page.wait("document.getElementById('notice').classList.contains('error')")
        page.shows("notice", "2019-08-24 cannot be shown: ")
        page.shows("notice", "2019-08-24.tif")
        page.keys("[")
        page.wait_for_map()
