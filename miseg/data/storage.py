"""Storage: a folder, or a URI that pyarrow reads, with retries where a network lies between."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from pyarrow import fs
from tenacity import Retrying, before_sleep_log, retry_if_exception, stop_before_delay, wait_exponential

from miseg.file_names import check_plain
from miseg.files import replacing

logger = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds for which what fails on storage behind a network is tried again; $MISEG_STORAGE_PATIENCE is for others."""

SILENCE = 10.0
"""Seconds without a byte after which a request is given up; $MISEG_STORAGE_SILENCE is for others."""

CONNECT = 3.0
"""Seconds in which an object store must take a connection."""

ATTEMPTS = 2
"""Requests that pyarrow makes in place of one that fails; pauses of `patiently` are longer."""

OBJECT_STORES = ("s3", "gcs", "abfs")
"""Types of pyarrow's file systems that rename nothing."""

_FOR_GOOD = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)

_NOT_CARRIED = {"tls_ca_dir_path", "tls_verify_certificates", "smart_defaults"}
"""Options of an S3 URI that pyarrow's constructor lacks: who gives one has pyarrow's own waits."""

Result = TypeVar("Result")


def file_system(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a folder or URI, and the path in it; no request of it waits for ever.

    Of one request to an S3 store that takes connections and says nothing pyarrow makes 31, of 3 s each, and to Google's
    it is tried for a quarter of an hour. Here the first has `SILENCE` and `ATTEMPTS`, the second `PATIENCE`.

    Raises:
        OSError, ValueError, pyarrow.ArrowException: a URI that pyarrow does not understand, or a number of seconds
            in the environment that is none.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    system, path = fs.FileSystem.from_uri(_with_retry_limit(uri))
    return _bounded(system, uri), path.rstrip("/")


def _with_retry_limit(uri: str) -> str:
    if urlsplit(uri).scheme not in ("gs", "gcs") or "retry_limit_seconds" in _options(uri):
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={max(1, round(patience_seconds()))}"


def _bounded(system: fs.FileSystem, uri: str) -> fs.FileSystem:
    if system.type_name != "s3" or _NOT_CARRIED & _options(uri):
        return system
    # As pickling has it: keys that a URI named are among them, those of the environment are not.
    _, (options,) = system.__reduce__()
    limits = {"connect_timeout": CONNECT, "request_timeout": _seconds("MISEG_STORAGE_SILENCE", SILENCE)}
    return fs.S3FileSystem(**options | limits, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS))


def _options(uri: str) -> set[str]:
    return {name for name, _ in parse_qsl(urlsplit(uri).query, keep_blank_values=True)}


def patience_seconds() -> float:
    """Seconds for which `patiently` tries again.

    Raises:
        ValueError: the environment's is no number.
    """
    return _seconds("MISEG_STORAGE_PATIENCE", PATIENCE)


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name} = {text!r}: give a number of seconds, such as {default:.0f}")
    return seconds


def is_local(system: fs.FileSystem) -> bool:
    """Whether an error is the machine's own: trying again at once meets it again."""
    return isinstance(system, fs.LocalFileSystem)


def listed(system: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    """Files and folders in a folder; none where it does not exist.

    Raises:
        OSError: it cannot be listed.
    """
    selector = fs.FileSelector(folder, allow_not_found=True)
    try:
        return list(system.get_file_info(selector))
    except FileNotFoundError:
        # Made by another thread just now: pyarrow did not find it, looked whether it is missing, and it was there.
        return list(system.get_file_info(selector))


def fetch_files(system: fs.FileSystem, folder: str, target: Path) -> None:
    """Copy the files right in a folder of the storage into the local folder `target`, which exists.

    Folders below it are left: an object's key may hold `..`, and a copy of whatever a store lists would follow it.

    Raises:
        OSError: it cannot be read, or `target` not written.
        ValueError: a file whose name is not plain.
    """
    for info in listed(system, folder):
        if info.is_file:
            name = check_plain(info.base_name)
            fs.copy_files(f"{folder}/{name}", str(target / name), source_filesystem=system)


def write_whole(system: fs.FileSystem, path: str, content: bytes) -> None:
    """Write a file so that at every moment, and after a loss of power, it is the one before or the new one.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    if is_local(system):
        with replacing(Path(path), durable=True) as unfinished_file:
            unfinished_file.write_bytes(content)
        return
    # An object store shows an object once all of it is there, and renames by copying.
    unfinished = path if system.type_name in OBJECT_STORES else "/.".join(path.rsplit("/", 1)) + ".writing"
    with system.open_output_stream(unfinished) as stream:
        stream.write(content)
    if unfinished != path:
        system.move(unfinished, path)


def patiently(system: fs.FileSystem, work: Callable[[], Result], patience: float | None = None) -> Result:
    """Result of `work`, tried again after an error with growing pauses where `system` is behind a network.

    An object store refuses requests when there are many (503 SlowDown), and pyarrow itself repeats only those that did
    not connect. What `work` does it must be able to do twice.

    Args:
        system: what `work` works on.
        work: reads, writes or lists.
        patience: seconds after which the last error stands. Default: `patience_seconds`.

    Raises:
        OSError: what `work` raised: at once where it tells of a file or a permission, or the system is local.
    """

    def worth_it(error: BaseException) -> bool:
        return isinstance(error, OSError) and not isinstance(error, _FOR_GOOD) and not is_local(system)

    return Retrying(
        retry=retry_if_exception(worth_it),
        wait=wait_exponential(multiplier=0.2, max=8),
        stop=stop_before_delay(patience_seconds() if patience is None else patience),
        before_sleep=before_sleep_log(logger, logging.INFO),
        reraise=True,
    )(work)
