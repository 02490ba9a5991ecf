"""Page of a measurement with its figure, in MLflow and in a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from miseg.evaluation.estimates import Estimated, estimates_figure
from miseg.files import replacing
from miseg.service.estimators.measure import EstimatorReport
from miseg.service.tracking import mlflow_runs

PAGE, FIGURE = "information.md", "information.png"


def log(report: EstimatorReport, uri: str, command: str = "") -> None:
    """Keep cells, table, page and figure among the artifacts of the measurement's run."""
    mlflow_runs.log_table(uri, report.run_id, "cells.csv", report.cells)
    mlflow_runs.log_table(uri, report.run_id, "table.csv", report.table)
    with tempfile.TemporaryDirectory() as folder:
        for path in write(report, Path(folder), command):
            mlflow_runs.log_file(uri, report.run_id, path)


def write(report: EstimatorReport, folder: Path, command: str = "") -> list[Path]:
    """Write `PAGE` and `FIGURE` into a folder, which is made where it is missing; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    figure(report.cells).savefig(folder / FIGURE)
    with replacing(folder / PAGE) as new:
        new.write_text(page(report, command), encoding="utf-8")
    return [folder / PAGE, folder / FIGURE]


def figure(cells: pd.DataFrame) -> Figure:
    """Estimates against truth, a panel for each estimator."""
    names = list(dict.fromkeys(cells["estimator"]))
    groups = cells.groupby(["estimator", "distribution", "samples"], sort=False)
    rows = [
        Estimated(str(estimator), int(samples), float(group["truth"].iloc[0]), group["nats"].tolist())
        for (estimator, _, samples), group in groups
    ]
    return estimates_figure(sorted(rows, key=lambda row: names.index(row.estimator)))


def page(report: EstimatorReport, command: str = "") -> str:
    """Markdown: bias and spread for each N, time for each estimator, and what failed."""
    table = report.table
    names = list(dict.fromkeys(table["estimator"]))
    text = ["# Estimators where mutual information is known", ""]
    if command:
        text += [f"`{command}`", ""]
    seeds = report.cells["seed"].nunique()
    fewer = " In brackets: how many of them have an estimate, where not all." if (table["cells"] < seeds).any() else ""
    text += [
        f"MLflow run {report.run_id}. Bias ± spread in nats: the mean over {seeds} seeds less the truth, and the "
        f"standard deviation over seeds. – is what was not measured or not found.{fewer}",
        "",
        f"![Estimate against truth]({FIGURE})",
        "",
        "The figure shows the mean, and a line from the lowest to the highest, against the truth (diagonal). Dotted is "
        "ln N, which no distribution-free lower bound from N samples can exceed with confidence by much.",
        "",
    ]
    for samples, group in table.groupby("samples"):
        text += [f"## N = {samples:,}", "", _header(["distribution", "truth", *names])]
        for distribution, rows in group.groupby("distribution", sort=False):
            by_name = rows.set_index("estimator")
            cells = [_cell(by_name.loc[name], seeds) if name in by_name.index else "–" for name in names]
            text.append(_line([str(distribution), f"{rows['truth'].iloc[0]:.3f}", *cells]))
        text.append("")
    seconds = table.pivot_table(index="estimator", columns="samples", values="seconds", aggfunc="median").loc[names]
    text += ["## Seconds", "", "Median over the cells of an estimator, on one thread.", ""]
    text.append(_header(["estimator", *(f"N = {samples:,}" for samples in seconds.columns)]))
    for name, row in seconds.iterrows():
        text.append(_line([str(name), *("–" if np.isnan(value) else f"{value:.3g}" for value in row)]))
    failed = table[table["failed"] > 0].groupby(["estimator", "distribution"], sort=False)
    if len(failed):
        text += ["", "## What failed", "", _header(["estimator", "distribution", "N", "cells", "reason of the first"])]
        for (estimator, distribution), rows in failed:
            sizes = ", ".join(str(samples) for samples in rows["samples"])
            count = str(rows["failed"].sum())
            text.append(_line([str(estimator), str(distribution), sizes, count, rows["failure"].iloc[0]]))
    return "\n".join(text) + "\n"


def _cell(row: pd.Series, seeds: int) -> str:
    if not row["cells"]:
        return "–"
    spread = "" if np.isnan(row["spread"]) else f" ± {_short(row['spread'])}"
    fewer = f" ({row['cells']})" if row["cells"] < seeds else ""
    return f"{_short(row['bias'], sign=True)}{spread}{fewer}"


def _short(value: float, *, sign: bool = False) -> str:
    plus = "+" if sign else ""
    return f"{value:{plus}.2f}" if abs(value) < 100 else f"{value:{plus}.0e}"


def _header(names: list[str]) -> str:
    return _line(names) + "\n" + "|---" * len(names) + "|"


def _line(values: list[str]) -> str:
    return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"
