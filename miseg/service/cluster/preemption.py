"""The notice that a training's process or machine goes away in a moment, and how the training ends for it.

It comes as SIGTERM to the process, or as Ray's draining of one of the training's nodes, which SIGTERM to `ray start
--block`, `ray drain-node` and `miseg.service.cloud.spot` bring about. What is taken away without notice is Ray's to
notice.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any

from ray.exceptions import RayActorError

from miseg.service.cluster import ray_internals

DRAIN_POLL_S = 1.0
"""Seconds between two questions to Ray for nodes that drain."""


class PreemptedError(RayActorError):
    """A training stopped on a notice, with a checkpoint of its last step.

    To Tune and Train this is an actor whose node was taken away: they start the training again where there is room, and
    count no failure.

    Args:
        step: steps that the training has made.
        reason: the notice.
    """

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(error_msg=f"preempted at step {step}: {reason}", preempted=True)
        self.step, self.reason = step, reason


class Notice:
    """Listens, as a context, for the notice; `reason` is empty until one came, and stays from then on.

    Args:
        nodes: Ray's ids, in hexadecimal, of the nodes whose draining concerns this training.
        asked: gives the reason why somebody asks the training to stop; "" while nobody does.
    """

    def __init__(self, nodes: Iterable[str] = (), asked: Callable[[], str] | None = None) -> None:
        self._nodes, self._asked = frozenset(nodes), asked
        self._heard = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="miseg-drain-poll", daemon=True)

    @property
    def reason(self) -> str:
        """Reason of the preemption that was announced; empty without one."""
        return _sigterm.reason or self._heard

    def __enter__(self) -> Notice:
        _sigterm.listen(True)
        if self._nodes or self._asked is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _sigterm.listen(False)
        self._closing.set()

    def comes(self, seconds: float) -> bool:
        """Whether one has come, or comes within `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.reason and time.monotonic() < deadline:
            self._look()
            time.sleep(0.05)
        return bool(self.reason)

    def _poll(self) -> None:
        while not self._heard and not self._closing.wait(DRAIN_POLL_S):
            self._look()

    def _look(self) -> None:
        try:
            if self._asked is not None and (reason := self._asked()):
                self._heard = reason
                return
            draining = ray_internals.global_state.get_draining_nodes() if self._nodes else {}
        except Exception:  # Ray's control store is away for a moment, or this process ends
            return
        if leaving := sorted(self._nodes & set(draining)):
            deadline = draining[leaving[0]]
            left = f", gone in {deadline / 1000 - time.time():.0f} s" if deadline else ""
            self._heard = f"Ray drains node {leaving[0][:8]}{left}"


class _Sigterm:
    """SIGTERM to this process, which Ray would answer by ending it amid a step.

    Signals have handlers of the main thread's making alone, which is Ray's in a worker, and the training runs in
    another: Python runs what `Py_AddPendingCall` takes in the main thread. Ray's worker executes Python there several
    times a second.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._listening = 0
        self._before: Any = signal.SIG_DFL
        self._installed: int | None = None
        self._call: Any = None

    def listen(self, on: bool) -> None:
        """One more, or one less, who takes SIGTERM for a notice; while there is none it does what it did before."""
        self._listening += 1 if on else -1
        if not on or self._installed == os.getpid():
            return
        self._installed = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._install()
            return
        self._call = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(lambda _: self._install())
        ctypes.pythonapi.Py_AddPendingCall(self._call, None)

    def _install(self) -> int:
        self._before = signal.signal(signal.SIGTERM, self._heard)
        return 0

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._listening:
            self.reason = self.reason or "SIGTERM"
        elif callable(self._before):
            self._before(number, frame)
        else:
            signal.signal(number, self._before)
            signal.raise_signal(number)


_sigterm = _Sigterm()
