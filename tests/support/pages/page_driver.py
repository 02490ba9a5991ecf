"""A real Chromium on the labelling page: clicks and keys at pixels of the image, and what is to be seen there."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions import interaction
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.pages.chromium import chromium

SETTLED = "miseg.page.state && !document.getElementById('saved').textContent.match(/saving|not saved|Opening/)"


class LabellingPage:
    """A window of the labelling page."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads

    def open(self, url: str) -> None:
        """Open the page and wait for its image."""
        self.driver.get(url)
        self.wait(f"window.miseg && {SETTLED} && miseg.image.picture.getSource()")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self.driver.execute_script(f"return ({expression})")

    def wait(self, expression: str, seconds: float = 20) -> None:
        """Until an expression is true in the page."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(WebDriverException):  # the page is being loaded
                if self.js(f"!!({expression})"):
                    return
            if time.monotonic() > deadline:
                told = self.js("document.body.innerText")
                raise AssertionError(f"waited {seconds:.0f} s for {expression}; the page says: {told}")
            time.sleep(0.05)

    def text(self, id: str) -> str:
        """What an element says."""
        return self.js(f"document.getElementById('{id}').textContent")

    def shows(self, id: str, text: str) -> None:
        """Until an element says a text: what follows from an answer of the server's is there after the answer."""
        self.wait(f"document.getElementById('{id}').textContent.includes({json.dumps(text)})")

    def element(self, id: str) -> Any:
        """An element, to click or type into."""
        return self.driver.find_element(By.ID, id)

    def keys(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def chord(self, modifier: str, key: str) -> None:
        """Press a key while another is held."""
        ActionChains(self.driver).key_down(modifier).send_keys(key).key_up(modifier).perform()

    def add_class(self, name: str) -> None:
        """Add a class, which is then the chosen one."""
        before = self.js("miseg.page.state.classes.length")
        field = self.element("new-class")
        field.clear()
        field.send_keys(name + Keys.ENTER)
        self.wait(f"{SETTLED} && miseg.page.state.classes.length === {before + 1}")
        self.driver.execute_script("document.activeElement.blur()")

    def place(self, column: float, row: float) -> tuple[int, int]:
        """Where a pixel's middle is in the window."""
        x, y = self.js(
            "(() => { const at = miseg.image.map.getPixelFromCoordinate(miseg.image.toView("
            f"[{column} + 0.5, {row} + 0.5])); const box = document.getElementById('map').getBoundingClientRect();"
            " return [box.left + at[0], box.top + at[1]]; })()"
        )
        return round(x), round(y)

    def drag(self, places: Sequence[tuple[float, float]], *, touch: bool = False) -> None:
        """Press at the first (column, row), go on to the others, and let go; at one place a click or a tap."""
        kind = interaction.POINTER_TOUCH if touch else interaction.POINTER_MOUSE
        self.driver.execute_script("document.getElementById('map').scrollIntoView({block: 'nearest'})")
        actions = ActionBuilder(self.driver, mouse=PointerInput(kind, kind), duration=20)
        first, *others = (self.place(*place) for place in places)
        actions.pointer_action.move_to_location(*first)
        actions.pointer_action.pointer_down()
        for other in others:
            actions.pointer_action.move_to_location(*other)
        actions.pointer_action.pointer_up()
        actions.perform()

    def label(self, places: Sequence[tuple[float, float]], *, touch: bool = False, seconds: float = 20) -> None:
        """Draw, and wait until it is saved."""
        before = self.js("miseg.page.state.revision")
        self.drag(places, touch=touch)
        self.wait(f"{SETTLED} && miseg.page.state.revision === {before + 1}", seconds)

    def wait_for_map(self, seconds: float = 20) -> None:
        """Until the map of all labels is painted."""
        self.wait("document.getElementById('told').textContent.match(/^Map from .*(click|classes)$/)", seconds)

    def drawn(self) -> int:
        """Drawings that are shown on the image."""
        return self.js("miseg.image.drawings.getFeatures().length")

    def picture(self, path: Path | None = None) -> Image.Image:
        """The window as it is seen."""
        png = self.driver.get_screenshot_as_png()
        if path is not None:
            path.write_bytes(png)
        return Image.open(io.BytesIO(png)).convert("RGB")

    def colour(self, column: float, row: float) -> tuple[int, ...]:
        """What is seen in the middle of a pixel of the image."""
        return self.picture().getpixel(self.place(column, row))

    def console(self) -> list[str]:
        """What the page complained of since it was asked last, but for requests that the server answered with a no."""
        said = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        return [line for line in said if "Failed to load resource" not in line]

    def downloaded(self, name: str, seconds: float = 20) -> Path:
        """A file that the page saved."""
        deadline = time.monotonic() + seconds
        while not (self.downloads / name).exists():
            assert time.monotonic() < deadline, f"no {name} among {list(self.downloads.iterdir())}"
            time.sleep(0.1)
        return self.downloads / name


@contextlib.contextmanager
def labelling_page(folder: Path, size: tuple[int, int] = (1200, 860)) -> Iterator[LabellingPage]:
    """A Chromium with a profile of its own in `folder`; the test is skipped where none is installed."""
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    with chromium(folder, size) as driver:
        yield LabellingPage(driver, downloads)
