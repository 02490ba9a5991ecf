"""MLflow's page in a real Chromium: what a person reads there, and clicks on."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.pages.chromium import chromium

Answer = TypeVar("Answer")


class Page:
    """A window on MLflow's page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def text(self) -> str:
        """All that is to be read."""
        return self.driver.execute_script("return document.body.innerText")

    def until(self, look: Callable[[], Answer], what: str, seconds: float = 60) -> Answer:
        """What `look` finds once it finds something; the page's text is told where it does not."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(WebDriverException):  # the page is drawing itself anew
                if found := look():
                    return found
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:.0f} s for {what}; the page says: {self.text()}")
            time.sleep(0.1)

    def shows(self, *texts: str) -> None:
        """Wait until all the texts are to be read."""
        for text in texts:
            self.until(lambda text=text: text in self.text(), repr(text))

    def columns(self) -> list[str]:
        """The runs table's columns by MLflow's names for them, such as params.`lambda`, from left to right."""
        return self.driver.execute_script(
            """return [...document.querySelectorAll("[role=columnheader][col-id*='`']")]
                .sort((a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left)
                .map(header => header.getAttribute("col-id"))"""
        )

    def rows(self) -> list[dict[str, str]]:
        """The runs table from the top, each row's texts by column; AG Grid keeps a row in several parts."""
        found: dict[int, dict[str, str]] = {}
        for index, column, text in self.driver.execute_script(
            """return [...document.querySelectorAll("[role=row][row-index] > [role=gridcell][col-id]")]
                .map(cell => [cell.parentElement.getAttribute("row-index"), cell.getAttribute("col-id"),
                              cell.textContent.trim()])"""
        ):
            found.setdefault(int(index), {})[column] = text
        return [found[index] for index in sorted(found)]

    def choose(self, row: int) -> None:
        """Tick the box of a row of the runs table."""
        self.until(lambda: self._tick(row), f"the box of row {row}")

    def _tick(self, row: int) -> bool:
        box = self.driver.find_element(By.CSS_SELECTOR, f"[role=row][row-index='{row}'] input[type=checkbox]")
        if not box.is_selected():
            box.click()
        return box.is_selected()

    def button(self, name: str) -> WebElement:
        """The button of that name, once it can be clicked."""
        found = f"//button[normalize-space()='{name}']"
        return self.until(
            lambda: next((one for one in self.driver.find_elements(By.XPATH, found) if one.is_enabled()), None),
            f"the button {name}",
        )

    def picture(self, path: Path | None = None) -> Image.Image:
        """The window as it is seen."""
        png = self.driver.get_screenshot_as_png()
        if path is not None:
            path.write_bytes(png)
        return Image.open(io.BytesIO(png)).convert("RGB")


@contextlib.contextmanager
def mlflow_page(folder: Path, size: tuple[int, int] = (1700, 900)) -> Iterator[Page]:
    """A Chromium with a profile of its own in `folder`; the test is skipped where none is installed."""
    with chromium(folder, size) as driver:
        yield Page(driver)
