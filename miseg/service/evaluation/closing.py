"""Closing of runs whose work Ray does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayTaskError

from miseg.service.tracking import mlflow_runs


@contextmanager
def closing(tracking_uri: str, run_id: str) -> Iterator[None]:
    """End the MLflow run FINISHED after the block, FAILED with the error's text, or KILLED where it was interrupted.

    Raises:
        ValueError: one that a task raised: what a user can mend, without the trace of the process that found it.
    """
    try:
        yield
    except KeyboardInterrupt:
        mlflow_runs.interrupt_run(tracking_uri, run_id, "the same command does it again")
        raise
    except Exception as error:
        mlflow_runs.fail_run(tracking_uri, run_id, error)
        if isinstance(error, RayTaskError) and isinstance(error.cause, ValueError):
            raise ValueError(str(error.cause)) from error
        raise
    mlflow_runs.end_run(tracking_uri, run_id, "FINISHED", "finished")
