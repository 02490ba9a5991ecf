"""How long after a click the map is there: jobs/annotate.py in a real browser, at 512x512 pixels.

python -m tests.measurements.click_times --model FOLDER --clicks 25

The scene is a date of Flanders, repeated eight times in each direction. Seconds are from the click to the painted map.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from rasterio.transform import Affine

from miseg.data.raster.raster_files import created
from miseg.data.raster.scene_files import SceneOptions, open_scene
from tests.support import ROOT
from tests.support.pages.page_driver import LabellingPage, labelling_page
from tests.support.processes import processes, wait_until

BANDS = ("B04", "B03", "B02", "B08")
DATES = ("2019-05-16", "2019-07-20")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of a checkpoint, or runs:/ID")
    parser.add_argument("--clicks", type=int, default=25, help="single points for each comparison")
    parser.add_argument("--compare", nargs="+", default=["local", "representation"])
    parser.add_argument("--picture", type=Path, help="PNG of the page after the last click")
    arguments = parser.parse_args()
    data = Path(os.environ["MISEG_DATA"]) / "sentinel2_flanders"
    with tempfile.TemporaryDirectory() as folder, processes() as started:
        place = Path(folder)
        dates = [path for path in sorted(data.glob("????-??-??.tif")) if _clear(path)][:2]
        for name, path in zip(DATES, dates, strict=True):
            values, _ = open_scene(path, SceneOptions(bands=BANDS)).read()
            _write(place / "series" / f"{name}.tif", np.tile((values * 10_000).round().astype(np.uint16), (8, 8, 1)))
        command = [sys.executable, str(ROOT / "jobs" / "annotate.py"), "--model", arguments.model, "--port", "0"]
        command += ["--series", str(place / "series"), "--bands", *BANDS, "--out", str(place / "labels")]
        kept = {"MISEG_STORAGE": os.environ.get("MISEG_STORAGE", str(place)), "PYTHONPATH": str(ROOT)}
        job = started.start("annotate", command, started.environment(**kept), ROOT)
        wait_until(lambda: "Ctrl-C ends it" in started.text("annotate"), 300, "annotate", [job])
        found = re.search(r"labelling page: (\S+)", started.text("annotate"))
        assert found is not None
        print("| compared by | what | times | median, s | worst, s | server, median, s |\n|---|---|---|---|---|---|")
        with labelling_page(place / "chromium") as page:
            page.open(found.group(1))
            for name in "abcde":
                page.add_class(name)
            for compare in arguments.compare:
                _measure(page, compare, arguments.clicks)
            if arguments.picture is not None:
                page.picture(arguments.picture)


def _measure(page: LabellingPage, compare: str, clicks: int) -> None:
    page.driver.execute_script(
        f"const c = document.getElementById('compare'); c.value = '{compare}'; c.dispatchEvent(new Event('change'))"
    )
    drawn = random.Random(0)
    for number in range(5):
        page.keys("p", str(number + 1))
        page.label([(drawn.randrange(512), drawn.randrange(512))])
    page.wait_for_map(60)
    page.wait("document.getElementById('ready').hidden", 120)
    for number in range(clicks):
        page.keys(str(number % 5 + 1))
        _timed(page, [(drawn.randrange(512), drawn.randrange(512))])
    _say(page, compare, "a point", clicks)
    for number in range(5):
        page.keys("b", str(number % 5 + 1))
        row, column = drawn.randrange(480), drawn.randrange(480)
        _timed(page, [(column, row), (column + 9, row + 9)])
    _say(page, compare, "a box of 100 pixels, first answer", 5)
    page.keys("]")
    page.wait_for_map(120)
    page.keys("[")
    page.wait_for_map(120)
    page.keys("p")


def _timed(page: LabellingPage, places: list[tuple[float, float]]) -> None:
    page.label(places)
    page.wait_for_map(120)


def _say(page: LabellingPage, compare: str, what: str, times: int) -> None:
    every = [one for one in page.js("miseg.timings") if one["first"]][-times:]
    assert len(every) == times
    seconds, server = [one["seconds"] for one in every], [one["server"] for one in every]
    told = f"{statistics.median(seconds):.2f} | {max(seconds):.2f} | {statistics.median(server):.2f} |"
    print(f"| {compare} | {what} | {times} | {told}", flush=True)


def _write(path: Path, pixels_HWC: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    height, width, count = pixels_HWC.shape
    shape = {"height": height, "width": width, "count": count, "dtype": "uint16"}
    transform = Affine(10, 0, 574_680, 0, -10, 5_622_440)
    with created(path, driver="GTiff", crs="EPSG:32631", transform=transform, **shape) as file:
        file.write(pixels_HWC.transpose(2, 0, 1))


def _clear(path: Path) -> bool:
    return open_scene(path, SceneOptions(bands=BANDS)).read()[1].all()


if __name__ == "__main__":
    main()
