"""Kills what tunings and trainings are made of, at random times, and compares what comes out with undisturbed ones.

python -m tests.faults.kills --kills 24
python -m tests.faults.kills --kills 6 --kinds node "job supervisor" --seed 3

A real head, a second node on the same machine, a real MLflow server; jobs are submitted as the README says. The script
does what an operator, or the autoscaler, would: a job that failed is submitted again, with --resume where it tunes, and
a node that went is replaced. Status 1 where a job was not finished, a metric differs, a step is missing or there twice,
a checkpoint is not whole, or a process, an actor or a placement group is left behind. Linux only.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil
from mlflow import MlflowClient

from miseg.service.journal import journal
from miseg.service.tracking import models, queries
from tests.faults.victims import Site, kill, logged, open_journals, site, until
from tests.faults.wholeness import checkpoints_not_whole, differences, histories, last_checkpoint

STEPS = 60
VALIDATE_EVERY = 12
RECOVERY = 300
"""Seconds after which a kill counts as not survived."""
GONE = 45
"""Seconds in which what a job had must be gone."""
PAUSE = (0.0, 8.0)
"""Seconds from when all goes on to the next kill."""


@dataclass(frozen=True)
class Work:
    """What is submitted, and what of it can be killed."""

    name: str
    command: tuple[str, ...]
    kinds: tuple[str, ...]
    resume: tuple[str, ...] = ()
    """Further arguments after a job that failed."""


OF_A_JOB = ("driver", "job supervisor", "node")
OF_TRAIN = ("train worker", "train controller")
TUNE = (
    "jobs/tune_rmi.py",
    "--grid.region-size",
    "2",
    "3",
    "--confirm-seeds",
    "1",
    "--initial-features",
    "4",
    "--steps",
    str(STEPS),
)
TRAIN = (
    "jobs/train.py",
    "embedded-rmi",
    "--method.network.initial-features",
    "4",
    "--steps",
    str(STEPS),
    "--validate-every",
    str(VALIDATE_EVERY),
)
WORKS = (
    Work("trials", (*TUNE, "--concurrent", "2"), ("trial", "decoding task", *OF_A_JOB), ("--resume",)),
    Work(
        "pairs",
        (*TUNE, "--concurrent", "1", "--workers-per-trial", "2"),
        ("driver of a trial", *OF_TRAIN, *OF_A_JOB),
        ("--resume",),
    ),
    Work("training", (*TRAIN, "--workers", "2"), (*OF_TRAIN, *OF_A_JOB)),
)
KINDS = tuple(dict.fromkeys(kind for work in WORKS for kind in work.kinds))
AT_ONCE = 5
"""Kills in one submitted work, after which it is left to end."""


@dataclass
class Kill:
    """A kill and what became of it."""

    kind: str
    work: str
    seconds: float | None = None
    """From the kill until every training that it touched logged a step that it had not before; None: it did not."""
    lost: int = 0
    """Steps that were logged and in no checkpoint, and so were trained again."""


@dataclass
class Record:
    """All that was found."""

    kills: list[Kill] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def breaks(self, text: str) -> None:
        """Something does not hold."""
        say(f"BROKEN: {text}")
        self.broken.append(text)


class Submitted:
    """One work on the cluster, submitted as often as it takes."""

    def __init__(self, cluster: Site, work: Work, name: str, record: Record) -> None:
        self.cluster, self.work, self.name, self.record = cluster, work, name, record
        self.storage = cluster.storage(name)
        self.times = 0
        self.client = MlflowClient(cluster.mlflow)

    @property
    def id(self) -> str:
        """The submission's."""
        return f"{self.name}-{self.times}"

    def submit(self) -> None:
        """Submit it, or submit it again."""
        resume = self.work.resume if self.times else ()
        self.times += 1
        command = (*self.work.command, "--data", str(self.cluster.data), "--name", self.name, *resume)
        self.cluster.submit(self.id, self.storage, command)

    def ended(self) -> bool:
        """Whether the last submission is over."""
        return self.cluster.status(self.id) in ("SUCCEEDED", "FAILED", "STOPPED")

    def succeeded(self) -> bool:
        """Whether all is done."""
        return self.cluster.status(self.id) == "SUCCEEDED"

    def under_way(self) -> bool:
        """Whether a training has logged steps and not its last."""
        return any(0 < steps < STEPS for steps in logged(self.storage).values())

    def kill_one(self, kind: str, chance: random.Random) -> bool:
        """Kill one of `kind` at a random time, do what an operator does, and record what comes; False: there was none.

        Raises:
            RuntimeError: the work does not go on.
        """
        if not until(lambda: self.under_way() or self.ended(), RECOVERY):
            raise RuntimeError(f"{self.id} does not get on:\n{self.cluster.log(self.id)}")
        time.sleep(chance.uniform(*PAUSE))
        found: list[list[psutil.Process]] = []

        def there() -> bool:
            found[:] = self.cluster.victims(kind)
            return bool(found) or self.ended()

        until(there, 30)
        if self.ended() or not found:
            return False
        victims = chance.choice(found)
        # Whose journal dies with them; a worker's, a controller's and a driver's death ends all trainings there are.
        dying = victims if kind in ("trial", "node") else [process for process, _ in self.cluster.titles()]
        touched = set() if kind == "decoding task" else open_journals(dying)
        before = logged(self.storage)
        start = time.monotonic()
        kill(victims)
        done = Kill(kind, self.work.name, lost=sum(self.lost(run, before.get(run, 0)) for run in touched))
        say(f"{self.name}: killed {kind} at {sorted(before.values())}")
        self.operate(kind)
        if until(lambda: self.recovered(before, touched), RECOVERY):
            done.seconds = time.monotonic() - start
        after = "lost" if done.seconds is None else f"on after {done.seconds:.1f} s"
        say(f"{self.name}: {after}, {done.lost} steps again")
        self.record.kills.append(done)
        if done.seconds is None:
            raise RuntimeError(f"{self.id} does not recover from the kill of a {kind}:\n{self.cluster.log(self.id)}")
        return True

    def kill_some(self, wanted: Counter[str], chance: random.Random) -> None:
        """Kill what is `wanted`, and take it off, while the work lasts."""
        for _ in range(AT_ONCE):
            there = [kind for kind in self.work.kinds if wanted[kind]]
            if not there or not self.kill_one(kind := chance.choice(there), chance):
                return
            wanted[kind] -= 1

    def lost(self, run: str, steps: int) -> int:
        """Steps of a run that are logged and in no checkpoint."""
        name = self.client.get_run(run).data.tags[queries.RUN_KEY]
        return max(0, steps - last_checkpoint(self.storage / "runs" / name))

    def operate(self, kind: str) -> None:
        """What an operator or the autoscaler does after a kill."""
        if kind == "node":
            self.cluster.add_node()
        if kind in ("driver", "job supervisor"):
            if not until(self.ended, 120):
                raise RuntimeError(f"Ray does not see that {self.id} is dead: {self.cluster.status(self.id)}")
            self.clean(f"after the kill of a {kind}")
            self.submit()
        elif self.cluster.status(self.id) == "FAILED":
            self.record.breaks(f"{self.id} failed after the kill of a {kind}:\n{self.cluster.log(self.id)}")
            self.submit()

    def recovered(self, before: dict[str, int], touched: set[str]) -> bool:
        """Whether all trainings touched have logged a step that they had not before, or have all."""
        if self.cluster.status(self.id) == "SUCCEEDED":
            return True
        if self.cluster.status(self.id) == "FAILED":
            self.operate("failure")
        now = logged(self.storage)
        open_runs = [run for run in (touched or before) if before.get(run, 0) < STEPS]
        if open_runs:
            return all(now.get(run, 0) > before.get(run, 0) for run in open_runs)
        return sum(now.values()) > sum(before.values())

    def clean(self, when: str) -> None:
        """Record what is left of a job that is over."""
        if not until(lambda: not self.cluster.left(), GONE):
            self.record.breaks(f"{self.id} {when} leaves {self.cluster.left()}")

    def finish(self, expected: dict | None) -> dict:
        """Wait for the end; what was logged, compared with `expected`."""
        while not until(self.ended, RECOVERY * 2):
            raise RuntimeError(f"{self.id} does not end:\n{self.cluster.log(self.id)}")
        if not self.succeeded():
            raise RuntimeError(f"{self.id} failed:\n{self.cluster.log(self.id)}")
        self.clean("at its end")
        try:
            found = histories(self.cluster.mlflow, str(self.cluster.data), self.name)
        except ValueError as error:
            self.record.breaks(str(error))
            return {}
        for run in logged(self.storage):
            kept = sorted(models.role_of(model) for model in models.of_run(self.cluster.mlflow, run))
            if kept != ["best", "last"]:
                self.record.breaks(f"{self.name}: run {run} has the models {kept}")
        for told in [] if expected is None else differences(expected, found):
            self.record.breaks(f"{self.name}: {told}")
        for told in checkpoints_not_whole(self.storage / "runs"):
            self.record.breaks(told)
        for path in self.storage.glob("journals/*.jsonl"):
            if journal.pending(path):
                self.record.breaks(f"{path} was not sent whole")
        return found


def say(text: str) -> None:
    """Print with the time."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def run(kills: int, kinds: list[str], seed: int) -> Record:
    """Undisturbed works, then killed ones until there were so many kills, of each kind as many."""
    record, chance = Record(), random.Random(seed)
    works = [work for work in WORKS if set(work.kinds) & set(kinds)]
    wanted = Counter(kinds[number % len(kinds)] for number in range(kills))
    expected: dict[str, dict] = {}
    with site() as cluster:
        for turn in itertools.count():
            work = works[turn % len(works)]
            if not wanted.total():
                break
            if not any(wanted[kind] for kind in work.kinds):
                continue
            try:
                if work.name not in expected:
                    say(f"{work.name}, undisturbed")
                    whole = Submitted(cluster, work, f"whole-{work.name}", record)
                    whole.submit()
                    expected[work.name] = whole.finish(None)
                disturbed = Submitted(cluster, work, f"killed-{work.name}-{turn}", record)
                disturbed.submit()
                disturbed.kill_some(wanted, chance)
                disturbed.finish(expected[work.name])
            except RuntimeError as error:  # what is on the cluster now would disturb what comes
                record.breaks(str(error))
                break
            say(f"so far\n{table(record)}\n{len(record.broken)} things do not hold")
    return record


def table(record: Record) -> str:
    """A row a kind."""
    lines = ["| killed | kills | survived | on again after, s: median (worst) | steps trained again: median (worst) |"]
    lines += ["|---|---|---|---|---|"]
    for kind in dict.fromkeys(one.kind for one in record.kills):
        of_kind = [one for one in record.kills if one.kind == kind]
        seconds = [one.seconds for one in of_kind if one.seconds is not None]
        lost = [one.lost for one in of_kind]
        times = f"{statistics.median(seconds):.0f} ({max(seconds):.0f})" if seconds else ""
        lines.append(
            f"| {kind} | {len(of_kind)} | {len(seconds)} | {times} | {statistics.median(lost):g} ({max(lost)}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # So that what it started goes when it is stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    started = time.monotonic()
    record = run(arguments.kills, arguments.kinds, arguments.seed)
    print(f"\n{table(record)}\n\n{len(record.kills)} kills in {time.monotonic() - started:.0f} s")
    print("\n".join(["", "Does not hold:", *record.broken]) if record.broken else "All holds.")
    sys.exit(1 if record.broken else 0)


if __name__ == "__main__":
    main()
