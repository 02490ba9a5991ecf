"""MLflow's page on a tuning that was really trained, in a real browser: runs side by side, two compared, a picture."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from miseg.service.tracking import registry, views
from miseg.service.tracking.pages import images
from tests.support import tuning_store
from tests.support.pages.mlflow_page import Page, mlflow_page
from tests.support.processes import processes
from tests.support.servers.mlflow_servers import MlflowServer
from tests.support.tuning_store import Written

SCORE, PHASE = "metrics.`val/mean_iou`", "tags.`miseg.phase`"

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(480)]


@pytest.fixture(scope="module")
def written(template: Path, small, tiny, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """In a store that is no server, like a newcomer's."""
    storage = tmp_path_factory.mktemp("storage")
    shutil.copyfile(template, storage / "mlflow.db")
    return tuning_store.write(f"sqlite:///{storage}/mlflow.db", small, tiny, storage)


@pytest.fixture(scope="module")
def server(written: Written) -> Iterator[MlflowServer]:
    """A server on that store, as `miseg ui` starts one."""
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
    searched = ["lambda", "downsampling_factor", "region_size", "downsampling", "optimiser.learning_rate"]
    of_searched = [f"params.`{name}`" for name in searched]
    ended = ["metrics.`step`", "tags.`miseg.ended`"]
    # The seed's column is beyond the window, where the table draws none.
    assert runs_table.columns()[:10] == ["attributes.`Run Name`", SCORE, PHASE, *of_searched, *ended]
    client = MlflowClient(server.url)
    runs = [client.get_run(run_id) for run_id in (*written.trials["run_id"], *written.confirmation["run_id"])]
    runs.sort(key=lambda run: run.data.metrics["val/mean_iou"], reverse=True)
    table = runs_table.rows()
    assert len(table) == len(runs) == 5
    for row, run in zip(table, runs, strict=True):
        assert run.info.run_name in row["attributes.`Run Name`"]
        assert float(row[SCORE]) == pytest.approx(run.data.metrics["val/mean_iou"])
        assert row["metrics.`step`"] == f"{run.data.metrics['step']:.0f}"
        assert row["tags.`miseg.ended`"] == run.data.tags["miseg.ended"]
        assert row[PHASE] == ("search" if run.data.params["seed"] == "0" else "confirmation")
        for name in searched:
            assert row[f"params.`{name}`"] == run.data.params.get(name, "-")
    assert [row["metrics.`step`"] for row in table if "ASHA" in row["tags.`miseg.ended`"]] == ["8"]


def test_confirmations_have_a_view_of_their_own(
    page: Page, server: MlflowServer, written: Written, tmp_path: Path
) -> None:
    page.driver.get(views.address(server.url, written.parent) + "-confirmation")
    page.until(lambda: len(page.rows()) == 2, "two runs")
    assert {row[PHASE] for row in page.rows()} == {"confirmation"}
    assert "workflowType=machine_learning" in page.driver.current_url
    page.shows("Model training", "confirmation of tuning")
    page.picture(tmp_path / "confirmation.png")


def test_charts_begin_with_the_results(page: Page, server: MlflowServer, written: Written, tmp_path: Path) -> None:
    page.driver.get(f"{views.address(server.url, written.parent)}&compareRunsMode=CHART")
    page.shows("Results", "val/mean_iou", "train/loss")
    charts = page.text().partition("Results")[2]
    assert "val/mean_iou" in charts and "system/" not in charts[:500]
    page.picture(tmp_path / "charts.png")


def test_pictures_of_all_runs_stand_beside_each_other_at_the_last_step(
    page: Page, server: MlflowServer, written: Written, tmp_path: Path
) -> None:
    page.driver.get(f"{views.address(server.url, written.parent)}&compareRunsMode=CHART")
    page.shows("Pictures")
    grid = """return [...document.images].filter(one => one.src.includes("artifact") && one.naturalWidth > 0).length"""
    # Sections are drawn once they are in the window.
    bring = """[...document.querySelectorAll("*")].filter(one => /^Pictures/.test(one.textContent)).pop()
        .scrollIntoView()"""

    def pictures() -> bool:
        page.driver.execute_script(bring)
        return page.driver.execute_script(grid) >= 4

    # The trial that ASHA stopped has none of the last step.
    page.until(pictures, "the pictures of the four whole runs")
    page.shows("val/panels")
    assert "optimiser.weight_decay=" not in page.text(), "each run's parameters take the pictures' place"
    page.picture(tmp_path / "pictures.png")


def test_runs_have_their_data_sets(page: Page, server: MlflowServer, written: Written, tmp_path: Path) -> None:
    run = MlflowClient(server.url).get_run(written.trials["run_id"].iloc[0])
    stem = written.tuning.data.rstrip("/").rsplit("/", 1)[-1]
    assert f"{stem}/train" in {entry.dataset.name for entry in run.inputs.dataset_inputs}
    (entry,) = (entry for entry in run.inputs.dataset_inputs if entry.dataset.name == f"{stem}/train")
    page.driver.get("about:blank")
    page.driver.get(f"{server.url}/#/experiments/{run.info.experiment_id}/runs?workflowType=machine_learning")
    page.shows("Dataset", f"{stem}/")
    page.button("Datasets").click()
    page.shows(f"{stem}/train ({entry.dataset.digest})", f"{stem}/val ({entry.dataset.digest})")
    page.picture(tmp_path / "data-sets.png")


def test_the_classes_of_runs_are_compared_in_a_table(page: Page, server: MlflowServer, written: Written) -> None:
    page.driver.get("about:blank")
    page.driver.get(f"{views.address(server.url, written.parent)}&compareRunsMode=ARTIFACT")
    page.shows("tables/iou-val.json", "RMI as published", "class", "iou", "bicyclist")


def test_models_are_told_apart_by_their_names(
    page: Page, server: MlflowServer, written: Written, tmp_path: Path
) -> None:
    page.driver.get("about:blank")
    experiment = MlflowClient(server.url).get_run(written.parent).info.experiment_id
    page.driver.get(f"{server.url}/#/experiments/{experiment}/models?workflowType=machine_learning")
    page.shows("best of seed 1 BCE", "last of seed 1 BCE", "best of seed 1 RMI as published", "best of λ=0·5")
    page.picture(tmp_path / "models.png")


def test_two_runs_are_compared_by_what_they_differ_in(runs_table: Page, tmp_path: Path) -> None:
    table = runs_table.rows()
    trials = [index for index, row in enumerate(table) if row[PHASE] == "search"][:2]
    for index in trials:
        runs_table.choose(index)
    runs_table.button("Compare").click()
    runs_table.until(lambda: "compare-runs" in runs_table.driver.current_url, "the comparison")
    runs_table.shows("Comparing 2 Runs", "Show diff only", "train/loss")
    told = _by_name(runs_table)
    for name in ("lambda", "downsampling_factor", "region_size"):
        values = [table[index][f"params.`{name}`"] for index in trials]
        assert told[name] in (values, values[::-1]) and len(set(values)) == 2
    runs_table.picture(tmp_path / "compared.png")


def _by_name(page: Page) -> dict[str, list[str]]:
    """The rows of the comparison's tables: what is compared, and each run's value."""
    rows = page.driver.execute_script(
        "return [...document.querySelectorAll('tr')].map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )
    return {name: values for name, *values in filter(None, rows)}


def test_a_run_shows_its_picture(page: Page, server: MlflowServer, written: Written, tmp_path: Path) -> None:
    client = MlflowClient(server.url)
    run = client.get_run(written.confirmation["run_id"].iloc[0])
    stem = images.stem_of("val/panels")
    names = [Path(item.path).name for item in client.list_artifacts(run.info.run_id, images.FOLDER)]
    pictures = [name for name in names if name.startswith(stem) and name.endswith(".png")]
    newest = f"{images.FOLDER}/{max(pictures, key=images.step_of)}"
    start = f"{server.url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    page.driver.get(f"{start}/artifacts/{newest}")
    with Image.open(client.download_artifacts(run.info.run_id, newest, str(tmp_path))) as logged:
        size = list(logged.size)
    sizes = "return [...document.images].map(one => [one.naturalWidth, one.naturalHeight])"
    page.until(lambda: size in page.driver.execute_script(sizes), f"the picture of {size}")
    page.shows(newest.rsplit("/", 1)[1])
    seen = page.picture(tmp_path / "picture.png")
    # The colours of the classes, which only the panels have.
    assert len(seen.getcolors(2**24) or []) > 1000


def test_the_tuning_says_what_came_of_it(page: Page, server: MlflowServer, written: Written) -> None:
    run = MlflowClient(server.url).get_run(written.parent)
    page.driver.get(f"{server.url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")
    [name, *_] = written.registered
    page.shows("RMI as published", "fresh seeds", f"models:/{name}@best", "miseg train --from-run")


def test_a_registered_model_is_shown_with_its_alias(page: Page, server: MlflowServer, written: Written) -> None:
    assert sorted(written.registered) == sorted(
        registry.name_of(method, written.tuning.base.data)
        for method in ("BinaryCrossEntropy", "RegionMutualInformation")
    )
    page.driver.get(f"{server.url}/#/models/{written.registered[0]}")
    page.shows(written.registered[0], "Version 1", "best")
