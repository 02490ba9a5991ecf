"""Ctrl-C: the driver asks the trainings of its job to keep the step that they are at, and waits until they have.

They hear of it through the control store of their Ray: its job has one key that asks, and one for each training.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType

import ray

from miseg.service.cluster.ray_internals import internal_kv
from miseg.service.terminal.interrupted import InterruptedJobError

KEEP_S = 30.0
"""Seconds that a driver waits for its trainings to keep their step."""

ENDED_WITHIN_S = 30.0
"""Seconds in which a driver ends a training that has kept its step."""

BY_USER = "Ctrl-C"
"""The notice that a training takes for its user's wish."""

_NAMESPACE = b"miseg"
_NOT_KEPT = b"-1"


def _job() -> str:
    return str(ray.get_runtime_context().get_job_id())


class StopRequest:
    """A training's side: listens, as a context, for its user's wish to stop.

    Args:
        run_id: MLflow's id of the run.
        answers: whether this process is the one of the training's that answers.
    """

    def __init__(self, run_id: str, *, answers: bool = True) -> None:
        self._answers = answers
        self._key = f"training/{_job()}/{run_id}".encode()
        self._asks = f"stop/{_job()}".encode()

    def __enter__(self) -> StopRequest:
        if self._answers:
            internal_kv._internal_kv_put(self._key, b"", True, namespace=_NAMESPACE)
        return self

    def __exit__(self, *error: object) -> None:
        if not self._answers:
            return
        with contextlib.suppress(Exception):  # the control store may be gone
            internal_kv._internal_kv_del(self._key, namespace=_NAMESPACE)

    def reason(self) -> str:
        """`BY_USER` once the driver asks; "" before."""
        return BY_USER if internal_kv._internal_kv_exists(self._asks, namespace=_NAMESPACE) else ""

    def answer(self, step: int | None) -> None:
        """Tell the driver which step is kept, None for none, and wait for it to end this process."""
        with contextlib.suppress(Exception):
            value = _NOT_KEPT if step is None else str(step).encode()
            internal_kv._internal_kv_put(self._key, value, True, namespace=_NAMESPACE)
            time.sleep(ENDED_WITHIN_S)


def ask(patience: float = KEEP_S) -> dict[str, int | None]:
    """Ask the trainings of this job to keep their step; the step of each by its run's id, None where none was kept."""
    job = _job()
    internal_kv._internal_kv_put(f"stop/{job}".encode(), b"1", True, namespace=_NAMESPACE)
    deadline = time.monotonic() + patience
    while True:
        answers = _answers(job)
        if b"" not in answers.values() or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return {run_id: int(value) if value not in (b"", _NOT_KEPT) else None for run_id, value in answers.items()}


def _answers(job: str) -> Mapping[str, bytes]:
    keys = internal_kv._internal_kv_list(f"training/{job}/".encode(), namespace=_NAMESPACE)
    values = {key: internal_kv._internal_kv_get(key, namespace=_NAMESPACE) for key in keys}
    return {key.decode().rpartition("/")[2]: value for key, value in values.items() if value is not None}


def withdraw() -> None:
    """Let later trainings of this job run: in a notebook the next one begins in the same job."""
    internal_kv._internal_kv_del(f"stop/{_job()}".encode(), namespace=_NAMESPACE)


class StoppedByUserError(KeyboardInterrupt):
    """Ctrl-C, after the trainings of this job have kept their step.

    Attributes:
        steps: the step of each by its run's id, None where none was kept.
    """

    def __init__(self, steps: Mapping[str, int | None]) -> None:
        super().__init__()
        self.steps = dict(steps)


@contextlib.contextmanager
def keeping_steps() -> Iterator[None]:
    """While the context lasts, Ctrl-C first has the trainings keep their step, and is a `StoppedByUserError` then.

    A second one is a KeyboardInterrupt at once. Only the main thread hears them: in another the context does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    steps: dict[str, int | None] = {}

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("stopping once the step is kept; Ctrl-C again stops at once", file=sys.stderr, flush=True)
        with contextlib.suppress(Exception):  # Ray is gone: nothing more can be kept
            steps.update(ask())
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):
            withdraw()
        # Ray makes a plain KeyboardInterrupt of whatever a handler raises while it waits.
        raise StoppedByUserError(steps) from None
    finally:
        signal.signal(signal.SIGINT, before)


def steps_text(error: KeyboardInterrupt) -> str:
    """Sentence on what the trainings of a job kept when it was interrupted."""
    if isinstance(error, InterruptedJobError):
        return error.kept
    steps = sorted(step for step in getattr(error, "steps", {}).values() if step is not None)
    if not steps:
        return "interrupted; the checkpoint of the last validation stays"
    return f"interrupted; kept at step {', '.join(map(str, steps))}"
