"""The process of a notebook while a job runs in it: what is printed, and what the job leaves behind."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator

from miseg.extras import require


@contextlib.contextmanager
def session(function: str, verbose: bool) -> Iterator[None]:
    """A job of its own in this process, which is afterwards as it was before.

    A Ray that the job starts or joins is left again, one that was there stays. Handlers of signals and $RAY_JOB_ID are
    put back. What the job prints goes nowhere unless `verbose`; remarks are warnings then.

    Args:
        function: what is called, such as "miseg.train".
        verbose: whether the job prints what its command prints.

    Raises:
        MissingExtraError: the extra 'service' is not installed.
    """
    require("service", function, "mlflow", "optuna", "pandas", "ray", "tyro")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_hushed())
        stack.enter_context(_own_ray())
        if not verbose:
            # Only now: it needs what is required above.
            from miseg.service.remarks import received_by

            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(received_by(_warn))
        yield


@contextlib.contextmanager
def _own_ray() -> Iterator[None]:
    """Leave a Ray that is started or joined inside, and put back what it changes in this process."""
    # Only now: it brings Ray along.
    import ray

    from miseg.service.cluster import ray_cluster

    joined_before, job_id = ray.is_initialized(), os.environ.get("RAY_JOB_ID")
    # Other threads can neither set handlers nor, then, have had them set.
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if not joined_before:
            ray_cluster.disconnect()
        for number, handler in handlers.items():
            # None: one that was not set from Python, which cannot be put back from here.
            if handler is not None:
                signal.signal(number, handler)
        if job_id is None:
            os.environ.pop("RAY_JOB_ID", None)
        else:
            os.environ["RAY_JOB_ID"] = job_id


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Leave out what Ray and tqdm say of themselves in a notebook: widgets that are missing, how Ray is locked."""
    # Only now: its package needs Ray.
    from miseg.service.cluster.ray_internals import LOGGERS_OF_ITSELF

    levels = {name: logging.getLogger(name).level for name in LOGGERS_OF_ITSELF}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        for name in LOGGERS_OF_ITSELF:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=3)
