"""A real browser for the tests of pages."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver


@contextlib.contextmanager
def chromium(folder: Path, size: tuple[int, int]) -> Iterator[webdriver.Chrome]:
    """A Chromium with a profile and downloads of its own in `folder`; the test is skipped where none is installed."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if browser is None or chromedriver is None:
        pytest.skip("no Chromium with its driver is installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    quiet = ["disable-gpu", "disable-dev-shm-usage", "no-first-run", "hide-scrollbars", "disable-background-networking"]
    quiet += ["headless=new", "no-sandbox", "disable-component-update", "disable-sync"]
    for argument in (*quiet, f"user-data-dir={folder}/profile", f"window-size={size[0]},{size[1]}"):
        options.add_argument(f"--{argument}")
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.unhandled_prompt_behavior = "accept"
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    try:
        yield driver
    finally:
        driver.quit()
