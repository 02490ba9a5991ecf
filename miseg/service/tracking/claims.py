"""Claims: one process at a time trains or tunes under one name, and one experiment, on whatever machine.

A claim is a tag of an MLflow experiment, for every machine of a store sees those. A process writes its claim first and
then looks for others, and goes on only where there is none, so that of two at the same time at most one goes on. Nobody
has to clean up after a process that was killed: on its own machine it is seen to be gone, and from elsewhere its claim
is seen to stand still. No clock is compared with another's.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
from mlflow import MlflowClient

from miseg.service.records import read_record
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.queries import all_pages
from miseg.service.tracking.run_store import RunStore, ensure_experiment

PREFIX = "miseg.claim."

BEAT = 10.0
"""Seconds between two signs of life."""

SILENCE = 60.0
"""Seconds without one after which a claim of another machine is given up."""

LOOK = 1.0
"""Seconds between two looks at the claims of others."""


class TakenError(ValueError):
    """Another process trains or tunes this."""


@dataclass(frozen=True)
class Claim:
    """A process and what it works on."""

    id: str
    name: str
    """The run's or the tuning's name."""
    subject: str
    """Work that must not be done twice at the same time under any name; empty where it may."""
    host: str
    machine: str
    """Machine on which `process` says something: processes of one kernel that see each other."""
    process: int
    born: str
    """Start time of the process, so that another of its number is not taken for it."""
    held: bool = False
    """Whether it goes on, and does not look for others any more."""
    beat: int = 0

    def excludes(self, other: Claim) -> bool:
        """Whether the two have a name or a subject in common."""
        same = other.name == self.name or (self.subject != "" and other.subject == self.subject)
        return same and other.id != self.id

    @property
    def gone(self) -> bool | None:
        """Whether its process ended; None where this machine cannot tell."""
        return _born(self.process) != self.born if self.machine == _machine() else None


@contextlib.contextmanager
def claimed(store: RunStore, experiment: str, name: str, subject: str = "") -> Iterator[None]:
    """Be the only process that works on `name`, and on `subject` where it is not empty, for as long as the block lasts.

    A claim of another machine is watched for up to `SILENCE` seconds. Should this process stand still for so long that
    another takes over, it is ended when it wakes.

    Args:
        store: where runs are kept.
        experiment: the MLflow experiment that the claim is kept with.
        name: of the run or tuning.
        subject: what is done.

    Raises:
        TakenError: another process does it.
        TrackingError: MLflow does not answer at the start.
    """
    client = MlflowClient(store.tracking_uri)
    own = Claim(secrets.token_hex(8), name, subject, socket.gethostname(), _machine(), os.getpid(), _born(os.getpid()))
    with mlflow_runs.reachable(store.tracking_uri):
        experiment_id = ensure_experiment(client, experiment, store)
        try:
            held = _take(client, experiment_id, own)
        except BaseException:
            _drop(client, experiment_id, own)
            raise
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(client, experiment_id, held, done), name="miseg-claim", daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
        _drop(client, experiment_id, own)


def _take(client: MlflowClient, experiment_id: str, own: Claim) -> Claim:
    watched: dict[str, tuple[Claim, float]] = {}
    while True:
        own = replace(own, beat=own.beat + 1)
        _write(client, experiment_id, own)
        rivals = [(rival_experiment, rival) for rival_experiment, rival in _read(client) if own.excludes(rival)]
        if not rivals:
            own = replace(own, held=True)
            _write(client, experiment_id, own)
            return own
        for rival_experiment, rival in rivals:
            if rival.id not in watched and rival.gone is None:
                print(
                    f"{_owner(rival)} has {rival.name}: looking for up to {SILENCE:.0f} s whether it lives",
                    flush=True,
                )
            last_seen, since = watched.setdefault(rival.id, (rival, time.monotonic()))
            if rival.gone or (rival == last_seen and time.monotonic() - since > SILENCE):
                # Whoever wakes and claims it again is seen at the next look.
                _drop(client, rival_experiment, rival)
            elif (rival.held or rival.id < own.id) and (rival.gone is False or rival != last_seen):
                # Of two that look, the lower id goes on. On another machine any change is a sign of life.
                raise TakenError(_taken_message(own, rival))
        time.sleep(LOOK)


def _beat(client: MlflowClient, experiment_id: str, own: Claim, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with contextlib.suppress(*mlflow_runs.UNREACHABLE):  # while the server is away nobody else can claim anything
            if PREFIX + own.id not in client.get_experiment(experiment_id).tags:
                print(f"{own.name} was taken over while this process stood still: it ends", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            own = replace(own, beat=own.beat + 1)
            _write(client, experiment_id, own)


def _taken_message(own: Claim, rival: Claim) -> str:
    if rival.name == own.name:
        return f"{own.name} is in work by {_owner(rival)}: wait for its end, or choose another --name"
    return (
        f"the same is in work by {_owner(rival)}, as {rival.name}: wait for its end, or choose a --name to do it twice"
    )


def _owner(claim: Claim) -> str:
    return f"process {claim.process} on {claim.host}"


def _write(client: MlflowClient, experiment_id: str, claim: Claim) -> None:
    client.set_experiment_tag(experiment_id, PREFIX + claim.id, json.dumps(asdict(claim)))


def _read(client: MlflowClient) -> Iterator[tuple[str, Claim]]:
    """Every claim of the store, with the experiment that it is kept with."""
    for experiment in all_pages(client.search_experiments):
        for key, value in experiment.tags.items():
            if key.startswith(PREFIX):
                with contextlib.suppress(ValueError):  # of another version, or none
                    claim = read_record(Claim, value)
                    # They are printed, and asked for.
                    if claim.process > 0 and f"{claim.name}{claim.host}".isprintable():
                        yield experiment.experiment_id, claim


def _drop(client: MlflowClient, experiment_id: str, claim: Claim) -> None:
    with contextlib.suppress(*mlflow_runs.UNREACHABLE):  # another dropped it, or it is seen that its process is gone
        client.delete_experiment_tag(experiment_id, PREFIX + claim.id)


def _machine() -> str:
    """This kernel, and the processes that see each other on it: containers do not."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _born(process: int) -> str:
    """Start time of a process of this machine; "" where there is none."""
    with contextlib.suppress(OSError, IndexError):
        # In ticks since the machine was: the time of the day may be set anew while a process runs.
        state, *_, ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:20]
        return "" if state == "Z" else ticks
    try:
        return str(psutil.Process(process).create_time())
    except psutil.NoSuchProcess:
        return ""
