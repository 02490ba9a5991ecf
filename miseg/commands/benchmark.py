"""Measure miseg's speed as ratios in one run; the figures go to MLflow.

miseg benchmark
miseg benchmark --rows step step-memory --data camvid --repetitions 5
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal, get_args

from miseg.recipes.experiment import Experiment
from miseg.service.command.options import JobOptions, check_data, execute

RowName = Literal[
    "data-path",
    "data-path-cached",
    "data-memory",
    "step",
    "step-memory",
    "accumulate",
    "accumulate-memory",
    "average",
    "compile",
    "loop",
    "scaling",
    "trial",
    "loss",
    "loss-beside-bce",
    "loss-plain",
    "loss-plain-beside-bce",
    "loss-memory",
    "cwmi",
    "cwmi-plain",
    "mutual-learning",
    "iic",
    "crf",
    "map",
    "scene",
    "scene-terms",
    "scene-terms-13",
    "scene-memory",
]


@dataclass
class Benchmark(JobOptions):
    """Measure rows of the benchmark table."""

    rows: tuple[RowName, ...] = get_args(RowName)
    """Names of the rows that are measured.
    data-path: Ray Data beside a DataLoader with 2 workers, images/s;
    data-path-cached: the same from the second epoch on, with decoded images kept;
    data-memory: streaming ten times the data beside the data, MiB at the peak.
    step, step-memory: a training step with RMI beside BCE, ms and MiB at the peak;
    accumulate, accumulate-memory: a batch in parts of two images beside the same at once, ms and MiB at the peak;
    average: a step that an average of the weights follows beside one without, ms;
    compile: a step with the network compiled beside the same as it is written, ms;
    loop: a step with all that a run has beside a bare PyTorch loop, ms;
    scaling: two workers of a thread each beside one, ms of a worker's time;
    trial: one of a tuning, from its start to the next one's, beside its compute, s.
    loss: RMI and BCE, forward and backward, as published beside ours, ms;
    loss-beside-bce: ours beside PyTorch's BCE;
    loss-plain, loss-plain-beside-bce: these two where no compiler is;
    loss-memory: ours at its peak beside the logits, MiB;
    cwmi, cwmi-plain: CWMI beside RMI and BCE, ms, with and without a compiler.
    mutual-learning: its step beside those of its networks alone, ms;
    iic: a step of IIC at ±10 pixels beside its network's, ms;
    crf: the dense CRF over val on 2 cores beside 1 and 4, images/s.
    map: 512 x 512 pixels from 60 labels by the literal algorithm (extrapolated from a few rows) beside ours, s;
    scene-terms: 256 x 256 pixels by all terms of algorithm 2 beside one, s of the processor;
    scene-terms-13: the same with patches of 13 x 13 pixels in place of 9 x 9;
    scene, scene-memory: 512 x 512 by local information beside L1 between representations, s and MiB at the peak."""
    data: str = "camvid"
    """A name that `miseg prepare-data` knows, of 8-bit images, or the folder or URI of a packed data set."""
    batch_size: int = 8
    """Images a step."""
    steps: int | None = None
    """Steps of each repetition, after some that are not timed. Default: each row's own (`STEPS` in the code)."""
    repetitions: int = 3
    """Times that each variant is timed, in turn."""


def run(arguments: Benchmark) -> int:
    """Measure, print and record."""
    for option in ("steps", "repetitions"):
        if (value := getattr(arguments, option)) is not None and value < 1:
            raise ValueError(f"--{option} {value}: use 1 or more")
    check_data(arguments.data, arguments.root)
    # Not at the top: --help must not wait for them.
    from miseg.data.packed.dataset import PackedDataset
    from miseg.service.benchmarks import benchmark
    from miseg.service.command.start import prepare
    from miseg.service.tracking import mlflow_runs
    from miseg.service.tracking.run_store import RunDetails

    job = prepare(arguments, [Experiment(data=arguments.data, batch_size=arguments.batch_size)])
    dataset = PackedDataset.open(job.data)
    name = f"benchmark-{job.stamp}"
    run_id = mlflow_runs.open_run(
        job,
        mlflow_runs.experiment_name(arguments.data),
        name,
        RunDetails(
            tags={"miseg.kind": "benchmark"},
            params={"batch_size": str(arguments.batch_size), "repetitions": str(arguments.repetitions)},
        ),
    )
    for row_name in arguments.rows:
        steps = arguments.steps or benchmark.STEPS[row_name]
        row = benchmark.ROWS[row_name](dataset, arguments.batch_size, steps, arguments.repetitions)
        print(row.text(), flush=True)
        medians = {f"{row.name}/{variant}": statistics.median(values) for variant, values in row.values.items()}
        mlflow_runs.log_metrics(
            job.tracking_uri, run_id, medians | {f"{row.name}/ratio": statistics.median(row.ratios)}
        )
        details = {"unit": row.unit, "steps": steps, "values": dict(row.values)}
        mlflow_runs.log_json(job.tracking_uri, run_id, f"{row.name}.json", details)
    mlflow_runs.end_run(job.tracking_uri, run_id, "FINISHED", "finished")
    print(f"MLflow run {run_id} at {job.tracking_uri}; look at it with: {job.look(run_id)}")
    return 0


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(Benchmark, run, __doc__)
