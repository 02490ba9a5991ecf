"""Storage: a folder, or a URI that pyarrow reads, with retries where a network lies between."""

from __future__ import annotations

import datetime
import logging
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
"""Seconds for which what fails on storage behind a network is tried again, in all."""

CONNECT_LIMIT = 5.0
"""Seconds in which an object store must take a connection."""

ANSWER_LIMIT = 10.0
"""Seconds for which an object store may send nothing while it is waited for."""

ATTEMPTS = 2
"""Times that a request is sent before `patiently` sees its error."""

OF_URIS_ALONE = frozenset({"tls_ca_dir_path", "tls_verify_certificates", "smart_defaults"})
"""Options of S3 that pyarrow takes in a URI alone: a store with one of them keeps pyarrow's own limits."""

OBJECT_STORES = ("s3", "gcs", "abfs")
"""Types of pyarrow's file systems that rename nothing."""

_FOR_GOOD = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)

Result = TypeVar("Result")


def file_system(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a folder or URI, and the path in it.

    Raises:
        OSError, ValueError, pyarrow.ArrowException: a URI that pyarrow does not understand.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    system, path = fs.FileSystem.from_uri(uri)
    options = {name for name, _ in parse_qsl(urlsplit(uri).query, keep_blank_values=True)}
    return system if options & OF_URIS_ALONE else limited(system), path.rstrip("/")


def limited(system: fs.FileSystem) -> fs.FileSystem:
    """The file system, with limits on the time for which it waits for an object store that is silent.

    Opened by a URI, pyarrow asks S3 31 times, for 99 s in all, and Google's store for 15 minutes; what tries again
    here is `patiently`. Of other stores pyarrow's own limits hold.
    """
    if system.type_name == "s3":
        # As pickling has it: keys that a URI named are among them, those of the environment are not.
        settings = system.__reduce__()[1][0] | {"connect_timeout": CONNECT_LIMIT, "request_timeout": ANSWER_LIMIT}
        return fs.S3FileSystem(**settings, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS))
    if system.type_name == "gcs":
        settings = system.__reduce__()[1][0]
        if settings["retry_time_limit"] is None:
            settings = settings | {"retry_time_limit": datetime.timedelta(seconds=ATTEMPTS * ANSWER_LIMIT)}
        return fs.GcsFileSystem(**settings)
    return system


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
        patience: seconds after which the last error stands. Default: `PATIENCE`.

    Raises:
        OSError: what `work` raised: at once where it tells of a file or a permission, or the system is local.
    """

    def worth_it(error: BaseException) -> bool:
        return isinstance(error, OSError) and not isinstance(error, _FOR_GOOD) and not is_local(system)

    return Retrying(
        retry=retry_if_exception(worth_it),
        wait=wait_exponential(multiplier=0.2, max=8),
        stop=stop_before_delay(PATIENCE if patience is None else patience),
        before_sleep=before_sleep_log(logger, logging.INFO),
        reraise=True,
    )(work)
