"""Measure estimators of mutual information where its value is known.

Bias, spread and time of every cell are in MLflow.

miseg measure-information
miseg measure-information --estimators ksg ksg:form=2 lsmi --distributions normal-5x5-dense --samples 100 1000
miseg measure-information --distributions bmi --estimators cca ksg doe latent_mi --samples 1000
miseg measure-information --resume --out docs/results
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from miseg.service.command.options import JobOptions, execute


@dataclass
class Measure(JobOptions):
    """Measure estimators x distributions x sample sizes x seeds."""

    estimators: tuple[str, ...] | None = None
    """Estimators, with settings after a colon where they are not the default's: ksg:form=2,neighbours=5. Default: every
    one, and mutual_info_regression, scikit-learn's for x and y of one column."""
    distributions: tuple[str, ...] | None = None
    """Distributions with known mutual information; labels go to plug_in alone, numbers to all others. bmi stands for
    the 40 tasks of Czyż et al. (2023), miseg for all others. Default: miseg."""
    samples: tuple[int, ...] | None = None
    """Pairs N of a sample. Default: 200, 1000 and 5000."""
    seeds: int | None = None
    """Samples of each N; bias and spread are over them. Default: 5."""
    limit: float | None = None
    """Seconds after which a cell is given up, and is a row with that reason; 0: none is. Default: 600."""
    name: str | None = None
    """Name of the measurement. Default: the time."""
    resume: bool = False
    """Continue the measurement called --name (default: the last one) without measuring again what it has found; cells
    that failed are tried again. Options that are left out are as it has them. Others add rows, or seeds to every row;
    fewer seeds are refused. The page shows all that it holds then."""
    out: str | None = None
    """Folder for the page and its figure too; they are among the run's artifacts in any case."""


def run(arguments: Measure) -> int:
    """Measure, print the table and write the page; a cell that failed is a row of it."""
    # Not at the top: --help must not wait for them.
    from miseg.service.cluster import ray_cluster
    from miseg.service.estimators import page as measure_page
    from miseg.service.estimators.asked import AskedGrid, growth
    from miseg.service.estimators.measure import measure
    from miseg.service.estimators.record import EXPERIMENT, KIND, EstimatorRecord, begun_grid
    from miseg.service.terminal.fitted_tables import fitted
    from miseg.service.tracking import description, mlflow_runs, queries
    from miseg.service.tracking.run_store import RunStore

    asked = AskedGrid(
        arguments.estimators, arguments.distributions, arguments.samples, arguments.seeds, arguments.limit
    )
    # Its names and numbers are checked at once, of one that goes on too.
    grid = asked.first()
    uri = mlflow_runs.tracking_uri(arguments.root, arguments.offline)
    mlflow_runs.check(uri, arguments.root)
    name = arguments.name or f"measure-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    mlflow_run = (
        queries.find_run(uri, EXPERIMENT, name) if arguments.name else queries.latest_run(uri, EXPERIMENT, KIND)
    )
    if arguments.resume:
        if mlflow_run is None:
            raise ValueError(f"no measurement {arguments.name or ''} at {uri}: leave --resume out to start one")
        name = mlflow_run.data.tags[queries.RUN_KEY]
        begun = begun_grid(uri, mlflow_run)
        grid = asked.continued(begun)
        print(f"measurement {name} goes on: {growth(begun, grid)}", flush=True)
    elif arguments.name and mlflow_run is not None:
        raise ValueError(f"a measurement called {name} exists: continue it with --resume, or choose another --name")
    ray_cluster.connect(arguments.address)
    cells = len(grid.rows()) * grid.seeds
    print(f"measurement {name}: {len(grid.rows())} rows of {grid.seeds} seeds, {cells} cells", flush=True)
    record = EstimatorRecord(name, grid, RunStore(arguments.root, uri))
    report = measure(grid, record)
    command = description.command()
    measure_page.log(report, uri, command)
    failed = int(report.table["failed"].sum())
    record.end("FINISHED", f"finished; {failed} cells failed" if failed else "finished")
    columns = ["distribution", "samples", "estimator", "truth", "bias", "spread", "seconds", "failed"]
    print(fitted(report.table[columns], "{:.3f}"))
    if arguments.out is not None:
        print("written:", *measure_page.write(report, Path(arguments.out), command))
    print(f"{len(report.cells) - failed} cells measured, {failed} failed; MLflow run {report.run_id} at {uri}")
    return 0


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(Measure, run, __doc__)
