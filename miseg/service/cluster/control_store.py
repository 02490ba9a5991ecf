"""A watch over what a job's driver cannot do without: Ray's control store (GCS), and the raylet that it started.

Ray's own library waits 60 s in silence for the store and some seconds for the raylet, and then ends the process by a
line of C++: no run is closed, and nobody says how to go on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import psutil
import ray

LOOK = 2.0
"""Seconds between two looks."""

STORE_PATIENCE = 40.0
"""Seconds that the store may be away; after 60 Ray ends the process, and closing the run takes a moment."""


_closers: list[Callable[[str], None]] = []
"""Of the blocks that this process is in, from the outermost: a study's, and its tuning's."""


@contextlib.contextmanager
def ray_watched(close: Callable[[str], None], how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """Say at once when Ray's control store is away, and end this process in order where it stays so.

    A block inside another one has its runs closed first.

    Args:
        close: closes the runs that are at work, and is told why.
        how_to_go_on: the end of the error's sentence.
    """
    _closers.append(close)
    try:
        with contextlib.nullcontext() if len(_closers) > 1 else _watching(how_to_go_on):
            yield
    finally:
        _closers.remove(close)


@contextlib.contextmanager
def _watching(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    address = ""
    with contextlib.suppress(Exception):  # through a client server (ray://) nobody knows it: nothing is watched then
        address = ray.get_runtime_context().gcs_address
    raylets = [child for child in psutil.Process().children() if _name(child) == "raylet"]
    done = threading.Event()
    arguments = (address, raylets, how_to_go_on, done)
    threading.Thread(target=_watch, args=arguments, name="miseg-control-store", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _watch(
    address: str, raylets: Sequence[psutil.Process], how_to_go_on: Callable[[], str], done: threading.Event
) -> None:
    away_since: float | None = None
    while not done.wait(LOOK):
        reason = ""
        if not address or _answers(address):
            away_since = None
        elif away_since is None:
            away_since = time.monotonic()
            waiting = f"waiting {STORE_PATIENCE:.0f} s for it"
            print(f"Ray's control store (GCS) at {address} does not answer: {waiting}", flush=True)
        elif time.monotonic() - away_since > STORE_PATIENCE:
            reason = f"Ray's control store (GCS) at {address} was lost"
        if any(_ended(raylet) for raylet in raylets):
            reason = "Ray's own process on this machine (raylet) ended"
        if reason and not done.is_set():
            try:
                _close(reason)
            finally:
                print(f"error: {reason}: {how_to_go_on()}", file=sys.stderr, flush=True)
                os._exit(1)  # Ray's own end would wait for what is gone
            return


def _close(reason: str) -> None:
    for close in reversed(_closers):
        try:
            close(reason)
        except Exception as error:  # the others are closed all the same
            print(f"a run stays open: {error}", file=sys.stderr, flush=True)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK).close()
    except OSError:
        return False
    return True


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return ""


def _ended(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True
