"""Programs that a command starts beside itself on this machine's loopback, and ends with itself."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from types import FrameType
from typing import IO

LOOPBACK = "127.0.0.1"
PATIENCE_S = 20.0
"""Seconds that a program has to end by itself."""


def check_free(option: str, port: int) -> None:
    """Raise ValueError where nothing can listen on the port that `option` names."""
    if not 1 <= port < 2**16:
        raise ValueError(f"{option} {port}: use 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ValueError(f"port {port} of {LOOPBACK} is taken ({error}): choose another {option}") from error


def interrupted_by_sigterm() -> None:
    """From now on SIGTERM is KeyboardInterrupt, so that what `start` started is ended."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def start(command: list[str], environment: dict[str, str], log: IO[bytes] | None = None) -> subprocess.Popen:
    """Start a program in a group of its own: Ctrl-C is for this process, which ends it in order."""
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def end(process: subprocess.Popen) -> None:
    """End a program and what it started, by force where it stays."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        # A second Ctrl-C waits no longer.
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(PATIENCE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
