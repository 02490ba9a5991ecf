"""Errors of libraries and of the system as one line with the mend: Ray's, MLflow's, SQLAlchemy's, pyarrow's, PyTorch's.

They are told apart by the names of their classes, since a command's start imports none of these libraries.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

from miseg.service.terminal.going_on import AGAIN, how_to_go_on
from miseg.service.terminal.messages import own_text

USAGE_ERROR, FAILED = 2, 1

LONGEST = 300
"""Characters of a library's own text, at most."""


@dataclass(frozen=True)
class Failure:
    """Sentence and exit status of a command that failed."""

    sentence: str
    status: int


@dataclass(frozen=True)
class _Kind:
    """A kind of errors.

    Attributes:
        classes: names of classes, with the package that defines them; subclasses count.
        words: one of which its text holds; (): whatever it says.
        mend: what the user can do.
        status: of the command.
    """

    classes: tuple[str, ...]
    mend: str
    status: int = FAILED
    words: tuple[str, ...] = ()


def _ray(*names: str) -> tuple[str, ...]:
    return tuple(f"ray.{name}" for name in names)


_LOGIN = (
    *("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "EXPIRED_TOKEN", "NO_CREDENTIALS"),
    *(
        "UNRECOGNIZED_CLIENT",
        "INVALID_CLIENT_TOKEN_ID",
        "INVALID_SIGNATURE",
        "MISSING_AUTHENTICATION_TOKEN",
        "HTTP 403",
    ),
    *("HTTP status 403", "HTTP status 401", "Could not connect to AWS credentials"),
)
"""Words of pyarrow's errors where an object store knows the caller not, or refuses him."""

_KINDS = (
    _Kind(
        _ray("OutOfMemoryError"),
        "use fewer workers (--workers, --concurrent), a smaller batch or image size, or a machine with more memory; "
        + AGAIN,
    ),
    _Kind(
        _ray("ObjectStoreFullError", "OutOfDiskError"),
        f"make room on the disk of Ray's folder (/tmp/ray), or keep fewer decoded images (--decoded-gib); {AGAIN}",
    ),
    _Kind(
        _ray("RuntimeEnvSetupError"),
        "correct the runtime environment that the job was submitted with (--runtime-env, --runtime-env-json)",
        USAGE_ERROR,
    ),
    _Kind(
        _ray("AuthenticationError"),
        "give this machine the cluster's token (RAY_AUTH_TOKEN, or ~/.ray/auth_token)",
        USAGE_ERROR,
    ),
    _Kind(
        _ray(
            "TaskUnschedulableError",
            "ActorUnschedulableError",
            "TaskPlacementGroupRemoved",
            "ActorPlacementGroupRemoved",
        ),
        f"the cluster lacks what the job asks for: use fewer workers (--workers, --concurrent) or more nodes; {AGAIN}",
    ),
    _Kind(
        _ray("GetTimeoutError", "RpcError", "RaySystemError"),
        f"see whether the machines of the cluster are up and reach each other (ray status); {AGAIN}",
    ),
    _Kind(
        (
            *_ray("RayActorError", "WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError", "ObjectLostError"),
            *_ray("WorkerHealthCheckTimeoutError", "PlasmaObjectNotAvailable", "TaskCancelledError"),
        ),
        f"a process or machine of the job was lost (ray status, and the logs in /tmp/ray); {AGAIN}",
    ),
    _Kind(
        ("mlflow.MlflowException",),
        "restore the run or its experiment in MLflow (its page lists what was deleted), or use another --name",
        USAGE_ERROR,
        ("'active' state", "state is deleted", "deleted state", "lifecycle_stage=deleted"),
    ),
    _Kind(
        ("mlflow.MlflowException", "sqlalchemy.SQLAlchemyError", "requests.RequestException"),
        "see whether MLflow's server or store is up and whole, and whether MLFLOW_TRACKING_URI names it; "
        "what was logged waits in the storage for `miseg sync`",
        USAGE_ERROR,
    ),
    _Kind(
        ("builtins.OSError", "pyarrow.ArrowException"),
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what the store has in their place, to ones that may read "
        "and write there; on a cluster every node needs them",
        USAGE_ERROR,
        _LOGIN,
    ),
    _Kind(
        ("builtins.OSError", "pyarrow.ArrowException"),
        "correct the bucket or path of --storage or --data",
        USAGE_ERROR,
        ("NO_SUCH_BUCKET", "NO_SUCH_UPLOAD", "RESOURCE_NOT_FOUND", "Bucket not found", "HTTP status 404"),
    ),
    _Kind(
        ("builtins.OSError", "pyarrow.ArrowException"),
        f"the storage does not answer: see whether it is up; {AGAIN}",
        FAILED,
        ("AWS Error", "curlCode", "GetFileInfo() yielded", "google::cloud::Status", "Azure"),
    ),
    _Kind(
        ("pyarrow.ArrowMemoryError", "torch.OutOfMemoryError", "builtins.MemoryError"),
        f"use a smaller batch or image size, or a machine with more memory; {AGAIN}",
    ),
    _Kind(
        ("pyarrow.ArrowException",),
        "a Parquet file or table is not what it should be: pack the data set anew, or put a whole copy there",
        USAGE_ERROR,
    ),
)

_SYSTEM = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"make room there; {AGAIN}"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make it readable and writable for this user"),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN), f"see to the disk or mount that it is on; {AGAIN}"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), f"raise the limit of open files (ulimit -n); {AGAIN}"),
}
"""Mends of the system's own errors by number. Others, as of a file that is not there, may be a fault of miseg's."""


def library_failure(error: BaseException) -> Failure | None:
    """Sentence and status for a library's error; None for one that may be miseg's own fault, whose trace is needed.

    Args:
        error: as the command met it; what Ray wrapped around an error of its workers is taken off.
    """
    root, trace = _unwrapped(error)
    if root is not error and (type(root).__module__.startswith("miseg.") or _is_ours(root, trace)):
        return Failure(own_text(root), FAILED)
    classes = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(root).__mro__}
    text = str(root)
    for kind in _KINDS:
        if not classes.isdisjoint(kind.classes) and (not kind.words or any(word in text for word in kind.words)):
            return Failure(f"{_short(root)}: {_exact(kind.mend)}", kind.status)
    if isinstance(root, OSError) and root.errno in _SYSTEM:
        where = f"{root.filename}: " if root.filename else ""
        return Failure(f"{where}{os.strerror(root.errno)}: {_exact(_SYSTEM[root.errno])}", FAILED)
    return None


def _exact(mend: str) -> str:
    """A mend with the command that goes on, where it is known."""
    return mend.replace(AGAIN, how_to_go_on())


def _unwrapped(error: BaseException) -> tuple[BaseException, str]:
    """The error that one of Ray's, of a task, a worker or a controller, stands for, and its trace as Ray keeps it."""
    trace = ""
    for _ in range(10):
        of_task = any(base.__name__ == "RayTaskError" for base in type(error).__mro__)
        trace = str(error) if of_task else getattr(error, "_traceback_str", trace)
        workers = getattr(error, "worker_failures", None)
        inner = next(iter(workers.values()), None) if isinstance(workers, dict) else None
        inner = inner or getattr(error, "controller_failure", None) or getattr(error, "_base_exc", None)
        if inner is None and of_task:
            inner = getattr(error, "cause", None)
        if not isinstance(inner, BaseException) or inner is error:
            break
        error = inner
    return error, trace


def _is_ours(error: BaseException, trace: str) -> bool:
    """Whether miseg raised an error on purpose in another process: its text says what to do."""
    files = re.findall(r'File "([^"]+)", line', trace)
    return isinstance(error, ValueError | RuntimeError) and bool(files) and "/miseg/" in files[-1]


def _short(error: BaseException) -> str:
    """The first two lines of a library's text, without its indents, or the error's type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]).rstrip(".:") or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
