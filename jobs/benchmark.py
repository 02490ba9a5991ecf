"""Measure miseg's speed as ratios in one run; the figures go to MLflow.

python jobs/benchmark.py
python jobs/benchmark.py --rows data-path --data camvid --repetitions 5
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

from miseg.recipes.experiment import Experiment
from miseg.service.command import Place, main


@dataclass
class Benchmark(Place):
    """Measure rows of the benchmark table."""

    rows: tuple[Literal["data-path"], ...] = ("data-path",)
    """Which rows; data-path: Ray Data beside a DataLoader with 2 workers, in images a second."""
    data: str = "camvid"
    """embedded, camvid, voc, voc-aug, cityscapes, or the folder or URI of a packed data set."""
    batch_size: int = 8
    """Images a step."""
    steps: int = 300
    """Steps timed in each repetition, after 100 that are not."""
    repetitions: int = 3
    """How often each variant is timed, in turn."""


def run(arguments: Benchmark) -> int:
    """Measure, print and record."""
    from miseg.data.packed import PackedDataset
    from miseg.service import benchmark, tracking
    from miseg.service.start import prepare

    job = prepare(arguments, [Experiment(data=arguments.data, batch_size=arguments.batch_size)])
    dataset = PackedDataset.open(job.data)
    name = f"benchmark-{job.started:%Y%m%d-%H%M%S}"
    run_id = tracking.open_run(
        job.tracking_uri,
        tracking.experiment_name(arguments.data),
        name,
        storage=job.storage,
        tags={"miseg.kind": "benchmark"},
        params={"batch_size": str(arguments.batch_size), "steps": str(arguments.steps)},
    )
    for row_name in arguments.rows:
        row = benchmark.ROWS[row_name](dataset, arguments.batch_size, arguments.steps, arguments.repetitions)
        print(row.text(), flush=True)
        medians = {f"{row.name}/{variant}": statistics.median(values) for variant, values in row.values.items()}
        tracking.log_metrics(job.tracking_uri, run_id, medians | {f"{row.name}/ratio": statistics.median(row.ratios)})
        tracking.log_json(job.tracking_uri, run_id, f"{row.name}.json", {"unit": row.unit, "values": dict(row.values)})
    tracking.end_run(job.tracking_uri, run_id, "FINISHED", "finished")
    print(f"MLflow run {run_id} at {job.tracking_uri}; look at it with: {job.ui_command}")
    return 0


if __name__ == "__main__":
    main(Benchmark, run, __doc__)
