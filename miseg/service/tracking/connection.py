"""MLflow may be away: what is an error of the server's, what is one of the request, and how long one waits."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_exponential

# The client's own defaults retry a dead server for minutes, and the journal retries anyway.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
# Of files in a bucket: boto3 waits a minute for an answer, and would five times.
os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")
# Whoever opens a new store first would read how its tables are made.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)

UNREACHABLE = (MlflowException, OSError, SQLAlchemyError)
"""Errors that MLflow's client raises where the server does not answer, or the database behind a store."""

PATIENCE = 1800.0
"""Seconds that what was begun waits for a server that went away, where $MISEG_MLFLOW_PATIENCE does not say."""

LOGIN_REFUSED = {"CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED", "UNAUTHENTICATED"}
"""MLflow's codes for what the HTTP status 401 or 403 says."""

REFUSALS = LOGIN_REFUSED | {
    "ENDPOINT_NOT_FOUND",
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
"""MLflow's codes for what the same request would meet again."""

Answer = TypeVar("Answer")


class TrackingError(RuntimeError):
    """MLflow cannot be reached or does not hold what was asked for."""


AWAY = (TrackingError, MlflowException, OperationalError, ConnectionError, TimeoutError, requests.RequestException)
"""Errors of a request that may be answered later, where it is no refusal."""


def first_line(error: BaseException) -> str:
    """First line of an error's message, or its type."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def is_refusal(error: BaseException) -> bool:
    """Whether MLflow answered that the request itself is wrong, so that it need not be sent again."""
    cause = error.__cause__ if isinstance(error, TrackingError) and error.__cause__ is not None else error
    return isinstance(cause, MlflowException) and cause.error_code in REFUSALS


def patiently(uri: str, task: str, call: Callable[[], Answer], patience: float | None = None) -> Answer:
    """Result of `call`, which is called again while MLflow is away, with a line for the user.

    Args:
        uri: the MLflow server or store.
        task: for the line: "opening run x".
        call: what needs MLflow.
        patience: seconds to wait; None for $MISEG_MLFLOW_PATIENCE, else `PATIENCE`.

    Raises:
        TrackingError: it was away for all that time, or refuses what is asked.
        ValueError: the variable is no number of seconds.
    """
    limit = _patience() if patience is None else patience

    def say_once(state: RetryCallState) -> None:
        if state.attempt_number == 2:  # the first try again comes too soon to speak of
            print(f"MLflow at {uri} does not answer: {task} waits for it, up to {limit / 60:.0f} min", flush=True)

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, AWAY) and not is_refusal(error)),
        stop=stop_before_delay(limit),
        wait=wait_exponential(multiplier=0.5, max=10),
        before_sleep=say_once,
        reraise=True,
    )
    try:
        return retrying(call)
    except AWAY as error:
        if is_refusal(error):
            raise TrackingError(f"MLflow at {uri} refuses it, {task}: {first_line(error)}") from error
        raise error if isinstance(error, TrackingError) else unreachable(uri, error) from error


def _patience() -> float:
    text = os.environ.get("MISEG_MLFLOW_PATIENCE") or str(PATIENCE)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"MISEG_MLFLOW_PATIENCE = {text!r}: give a number of seconds, such as 1800") from None


def unreachable(uri: str, error: Exception) -> TrackingError:
    """Error for the user in place of `error`, which MLflow's client raised."""
    if getattr(error, "error_code", "") in LOGIN_REFUSED:
        return TrackingError(
            f"MLflow at {uri} refuses the login: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write "
            "both to ~/.mlflow/credentials ([mlflow], mlflow_tracking_username = …, mlflow_tracking_password = …); on "
            "a cluster every node needs them"
        )
    return TrackingError(
        f"MLflow at {uri} does not answer ({_reason(error)}): start it, set MLFLOW_TRACKING_URI, or "
        "record with --offline and send it later with `miseg sync`"
    )


def missing(uri: str, problem: str, error: Exception) -> TrackingError:
    """Error for the user in place of `error`, which came while something was read: MLflow is away, or has it not.

    Args:
        uri: the MLflow server or store.
        problem: what is said of something that MLflow does not have; the error's text goes behind it.
        error: of MLflow's client.
    """
    return unreachable(uri, error) if is_away(error) else TrackingError(f"{problem}: {first_line(error)}")


def is_away(error: BaseException | None) -> bool:
    """Whether an error of MLflow's client, or one that it came from, says that nobody answered."""
    while error is not None:
        if isinstance(error, (requests.ConnectionError, requests.Timeout, OperationalError)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: Exception) -> str:
    """The system's reason where there is one, such as "Connection refused": libraries wrap it in several of theirs."""
    system = re.search(r"\[Errno -?\d+\] ([\w ]+)", str(error))
    return system[1] if system is not None else first_line(error)[:200]


@contextlib.contextmanager
def reachable(uri: str) -> Iterator[None]:
    """Turn the errors of MLflow's client in the block into a TrackingError."""
    try:
        yield
    except UNREACHABLE as error:
        raise unreachable(uri, error) from error
