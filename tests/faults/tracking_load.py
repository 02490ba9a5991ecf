"""How many trainings one MLflow store keeps up with, and that every value of theirs arrives once.

python -m tests.faults.tracking_load
python -m tests.faults.tracking_load --writers 8 --rates 100 --backends postgres

Each writer is a process with a journal that logs as a training does: six values a step, and every fifty steps a
validation of twenty values, two pictures and a table. A row says how far behind its slowest writer was after half of
the time and at the end of it, and how long everything took to arrive. A store keeps up where the two are alike.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro
from mlflow import MlflowClient

from miseg.service.journal.journal import Journal
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore
from tests.support.processes import Processes, processes
from tests.support.servers.mlflow_servers import MlflowServer, Postgres

STEP_VALUES, VALIDATION_VALUES, VALIDATION_EVERY = 6, 20, 50
PICTURE = b"\x89PNG" + bytes(range(256)) * 200

Backend = Literal["sqlite", "server", "postgres"]
BACKENDS: dict[str, str] = {
    "sqlite": "SQLite, written directly",
    "server": "a server on SQLite",
    "postgres": "a server on PostgreSQL",
}

# Forked, so that sixteen processes do not import MLflow sixteen times; this process opens no store of its own.
fork = multiprocessing.get_context("fork")


@dataclass
class Load:
    """What is measured."""

    backends: tuple[Backend, ...] = ("sqlite", "server", "postgres")
    writers: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Trainings at a time."""
    rates: tuple[float, ...] = (10, 100)
    """Steps a second of each."""
    seconds: float = 15
    """How long they log."""


class Written(NamedTuple):
    """What one writer did."""

    run_id: str
    steps: int
    values: int
    half: float
    """Seconds behind after half of the time."""
    behind: float
    """Seconds behind when it stopped logging."""
    arrived: float
    """Seconds from the first step until all had arrived; infinity where it did not."""
    longest: float
    """Seconds that the longest call of the journal took."""


def write(uri: str, folder: Path, name: str, rate: float, seconds: float, ready: Any) -> Written:
    """Log as a training of `rate` steps a second does."""
    opened = partial(mlflow_runs.open_run, RunStore(str(folder), uri), "miseg/load", name)
    run_id = mlflow_runs.patiently(uri, f"opening {name}", opened)
    log = Journal(folder / "journals", uri, run_id)
    picture = folder / f"{name}.png"
    picture.write_bytes(PICTURE)
    ready.wait()
    began, step, values, half, longest = time.monotonic(), 0, 0, 0.0, 0.0
    while (now := time.monotonic() - began) < seconds:
        called = time.monotonic()
        log.metrics(step, {f"train/{index}": step + index / 8 for index in range(STEP_VALUES)})
        values += STEP_VALUES
        if step % VALIDATION_EVERY == VALIDATION_EVERY - 1:
            log.metrics(step, {f"val/{index}": step + index / 8 for index in range(VALIDATION_VALUES)})
            values += VALIDATION_VALUES
            for kind in ("panels", "confusion", "tables"):
                log.artifact(picture, f"{kind}/{step}")
        longest = max(longest, time.monotonic() - called)
        if now < seconds / 2:
            half = log.backlog.seconds
        step += 1
        time.sleep(max(0.0, began + step / rate - time.monotonic()))
    behind = log.backlog.seconds
    whole = log.close(timeout=900)
    refused = log.path.with_suffix(".refused")
    if refused.exists():
        print(f"{run_id}: set aside: {refused.read_text()[:2000]}", file=sys.stderr, flush=True)
    return Written(run_id, step, values, half, behind, time.monotonic() - began if whole else float("inf"), longest)


def at_once(tasks: list[Callable[[], Any]]) -> list[Any]:
    """What the tasks return, each in a process of its own.

    Raises:
        RuntimeError: one of them failed.
    """
    found = fork.SimpleQueue()

    def run(number: int, task: Callable[[], Any]) -> None:
        found.put((number, task()))

    started = [fork.Process(target=run, args=item) for item in enumerate(tasks)]
    for process in started:
        process.start()
    results: dict[int, Any] = {}
    while len(results) < len(tasks):
        while not found.empty():
            number, result = found.get()
            results[number] = result
        if any(process.exitcode for process in started):
            for process in started:
                process.kill()
            raise RuntimeError("a writer failed")
        time.sleep(0.05)
    for process in started:
        process.join()
    return [results[number] for number in range(len(tasks))]


def missing_or_twice(uri: str, written: list[Written]) -> int:
    """Values that are not at MLflow exactly once, with their steps."""
    client, wrong = MlflowClient(uri), 0
    for writer in written:
        steps = list(range(writer.steps))
        expected = {f"train/{index}": steps for index in range(STEP_VALUES)}
        validated = steps[VALIDATION_EVERY - 1 :: VALIDATION_EVERY]
        expected |= {f"val/{index}": validated for index in range(VALIDATION_VALUES) if validated}
        for key, wanted in expected.items():
            found = client.get_metric_history(writer.run_id, key)
            values = sorted((metric.step, metric.value) for metric in found)
            differ = set(values) ^ {(step, step + int(key.split("/")[1]) / 8) for step in wanted}
            twice = len(values) - len(set(values))
            if differ or twice:
                print(f"{writer.run_id} {key}: {twice} twice, missing {sorted(differ)}", file=sys.stderr, flush=True)
            wrong += len(differ) + twice
        kinds = {item.path for item in client.list_artifacts(writer.run_id)}
        wrong += 3 * bool(validated) - len(kinds)
    return wrong


class Measured(NamedTuple):
    """A row of the table."""

    offered: float
    """Values a second."""
    arrived: float
    """Values a second until the last was there."""
    half: float
    behind: float
    longest: float
    wrong: int


def measure(uri: str, folder: Path, writers: int, rate: float, seconds: float) -> Measured:
    """Load the store at `uri`."""
    folder.mkdir(parents=True)
    if uri.startswith("sqlite"):
        at_once([partial(mlflow_runs.check, uri, str(folder))])
    ready = fork.Barrier(writers)
    # A server keeps the runs of the measurements before: a name is a run.
    names = [f"{folder.name}-writer-{number}" for number in range(writers)]
    tasks = [partial(write, uri, folder, name, rate, seconds, ready) for name in names]
    written: list[Written] = at_once(list(tasks))
    (wrong,) = at_once([partial(missing_or_twice, uri, written)])
    values = sum(writer.values for writer in written)
    return Measured(
        values / seconds,
        values / max(writer.arrived for writer in written),
        max(writer.half for writer in written),
        max(writer.behind for writer in written),
        max(writer.longest for writer in written),
        wrong,
    )


def stores(started: Processes, backend: Backend) -> Callable[[int], str]:
    """Makes the URI of a store of that kind; a server is started once, and its database stays."""
    if backend == "sqlite":
        return lambda number: f"sqlite:///{started.folder}/sqlite-{number}/mlflow.db"
    place = Postgres(started).database("mlflow") if backend == "postgres" else None
    server = MlflowServer(started, place, name=f"mlflow-{backend}")
    return lambda number: server.url


def main(load: Load) -> None:
    """Print a row for each backend, rate and number of writers."""
    columns = ("store", "writers", "steps/s each", "offered, values/s", "arrived, values/s")
    columns += ("behind at half, s", "at the end, s", "longest call, ms", "missing or twice")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    number = 0
    with processes() as started:
        for backend in load.backends:
            store = stores(started, backend)
            for rate in load.rates:
                for writers in load.writers:
                    number += 1
                    folder = started.folder / f"{backend}-{number}"
                    found = measure(store(number), folder, writers, rate, load.seconds)
                    cells = (BACKENDS[backend], writers, f"{rate:g}", f"{found.offered:.0f}", f"{found.arrived:.0f}")
                    cells += (f"{found.half:.1f}", f"{found.behind:.1f}", f"{1000 * found.longest:.0f}", found.wrong)
                    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Load, description=__doc__))
