"""MLflow's page on a tuning that was really trained, in a real browser: runs side by side, two compared, a picture."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tuning_store
from mlflow import MlflowClient
from mlflow_page import Page, mlflow_page
from mlflow_servers import MlflowServer
from processes import processes
from selenium.webdriver.common.by import By
from tuning_store import Written

from miseg.service import registry, tables, views

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def written(template: Path, small, tiny, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """In a store that is no server, like a newcomer's."""
    storage = tmp_path_factory.mktemp("storage")
    shutil.copyfile(template, storage / "mlflow.db")
    return tuning_store.write(f"sqlite:///{storage}/mlflow.db", small, tiny, storage)


@pytest.fixture(scope="module")
def server(written: Written) -> Iterator[MlflowServer]:
    """A server on that store, as `make ui` starts one."""
    with processes() as started:
        yield MlflowServer(started, backend=written.tuning.tracking_uri)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with mlflow_page(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def runs_table(written: Written, server: MlflowServer, page: Page) -> Page:
    """The runs table as the address opens it that a job prints, in a browser that has never seen it."""
    page.driver.get(views.address(server.url, written.parent))
    page.until(lambda: len(page.rows()) >= 5, "five runs")
    return page


def test_the_printed_address_shows_a_tunings_runs_by_their_score(
    runs_table: Page, written: Written, server: MlflowServer, tmp_path: Path
) -> None:
    runs_table.picture(tmp_path / "runs.png")
    expected = ["lambda", "downsampling_factor", "region_size", "downsampling", "optimiser.learning_rate"]
    expected += ["val/mean_iou", "step", "miseg.ended", "seed"]
    assert [title for title in runs_table.headers() if title in expected] == expected
    client = MlflowClient(server.url)
    table = runs_table.rows()
    everything = [*written.trials["run_id"], *written.confirmation["run_id"]]
    scores = sorted((client.get_run(run_id).data.metrics["val/mean_iou"] for run_id in everything), reverse=True)
    column = [row for row in table if any(cell.startswith("stopped early by ASHA") for cell in row)]
    assert len(table) == 5 and len(column) == 1
    shown = [[cell for cell in row if _number(cell) in {_rounded(score) for score in scores}] for row in table]
    assert [_number(cells[0]) for cells in shown] == [_rounded(score) for score in scores]
    for run_id in everything:
        run = client.get_run(run_id)
        of_run = next(row for row in table if any(run.info.run_name in cell for cell in row))
        for name in expected[:5]:
            if name in run.data.params:
                assert run.data.params[name] in of_run


def _number(cell: str) -> float | None:
    try:
        return _rounded(float(cell))
    except ValueError:
        return None


def _rounded(value: float) -> float:
    return round(value, 3)


def test_two_runs_are_compared_by_what_they_differ_in(runs_table: Page, written: Written, tmp_path: Path) -> None:
    names = [
        tables.describe({key.removeprefix("params/"): row[key] for key in row.index if key.startswith("params/")})
        for _, row in written.trials.head(2).iterrows()
    ]
    for box in _boxes(runs_table, names):
        box.click()
    runs_table.button("Compare").click()
    runs_table.until(lambda: "compare-runs" in runs_table.driver.current_url, "the comparison")
    runs_table.shows(*names, "lambda", "downsampling_factor", "0.125", "val/mean_iou", "Show diff only")
    runs_table.picture(tmp_path / "compared.png")


def _boxes(page: Page, names: list[str]) -> list:
    """The boxes that choose the runs of these names."""
    found = []
    for name in names:
        [row] = [row for row in page.driver.find_elements(By.CSS_SELECTOR, "[role=row][row-index]") if name in row.text]
        index = row.get_attribute("row-index")
        parts = page.driver.find_elements(By.CSS_SELECTOR, f"[role=row][row-index='{index}'] input[type=checkbox]")
        found.append(parts[0])
    return found


def test_a_run_shows_its_picture(page: Page, server: MlflowServer, written: Written, tmp_path: Path) -> None:
    client = MlflowClient(server.url)
    run = client.get_run(written.confirmation["run_id"].iloc[0])
    [*_, newest] = sorted(item.path for item in client.list_artifacts(run.info.run_id, "panels"))
    start = f"{server.url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    page.driver.get(f"{start}/artifacts/{newest}")
    wide = "return Math.max(0, ...[...document.images].map(one => one.naturalWidth))"
    page.until(lambda: page.driver.execute_script(wide) > 300, "the picture")
    page.shows(newest.rsplit("/", 1)[1])
    seen = page.picture(tmp_path / "picture.png")
    # The colours of the classes, which only the panels have.
    assert len(seen.getcolors(2**24) or []) > 1000


def test_the_tuning_says_what_came_of_it(page: Page, server: MlflowServer, written: Written) -> None:
    run = MlflowClient(server.url).get_run(written.parent)
    page.driver.get(f"{server.url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")
    [name, *_] = written.registered
    page.shows("RMI as published", "fresh seeds", f"models:/{name}@best", "jobs/train.py --from-run")


def test_a_registered_model_is_shown_with_its_alias(page: Page, server: MlflowServer, written: Written) -> None:
    assert sorted(written.registered) == sorted(
        registry.name_of(method, written.tuning.base.data)
        for method in ("BinaryCrossEntropy", "RegionMutualInformation")
    )
    page.driver.get(f"{server.url}/#/models/{written.registered[0]}")
    page.shows(written.registered[0], "Version 1", "best")
