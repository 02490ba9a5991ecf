"""Lines of Ray, MLflow and other libraries, kept out of the terminal and in a log file."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from miseg.service.cluster import ray_internals
from miseg.service.terminal.messages import MARK, Message, received

LOGGERS = ("ray", "mlflow", "alembic", "optuna")
"""Loggers of the libraries that speak to the terminal of the driver by themselves."""

_HANDLER = "miseg-worker-lines"


class LibraryLog:
    """The log file of a job, which is made at its first line.

    Args:
        path: the file; lines are added to what it holds.

    Attributes:
        written: whether it holds a line of this job.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = False
        self._lock = threading.Lock()

    def write(self, source: str, line: str) -> None:
        """Add a line; a disk that is full is no reason to end a job."""
        with self._lock, contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(f"{datetime.datetime.now(datetime.UTC):%F %T} {source}: {line}\n")
            self.written = True


class _LogHandler(logging.Handler):
    """A handler of `logging` that writes to a `LibraryLog`."""

    def __init__(self, log: LibraryLog) -> None:
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, with its trace."""
        for line in self.format(record).splitlines():
            self.log.write(f"{record.levelname} {record.name}", line)


class JobLog:
    """The log of the job that this process is, where it is a command; a program that imports miseg has none."""

    log: LibraryLog | None = None

    @classmethod
    def begin(cls, root: str, command: str) -> None:
        """Have the lines of libraries in a file from now on.

        Args:
            root: folder or URI of the storage. The file is in its folder `logs`, or for a URI in ~/.miseg's.
            command: the job's name, such as "train".
        """
        folder = Path("~/.miseg").expanduser() if "://" in root else Path(root)
        name = f"{command}-{datetime.datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
        cls.log = LibraryLog(folder / "logs" / name)

    @classmethod
    def silence_libraries(cls) -> None:
        """Take the handlers of `LOGGERS` away, once they have been imported, in favour of the file, if there is one."""
        if cls.log is None:
            return
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.handlers[:], logger.propagate = [_LogHandler(cls.log)], False
        # What the raylet says, such as that many workers were started, passes no logger.
        worker = ray_internals.worker_module
        of_ray = getattr(worker.print_to_stdstream, "of_ray", worker.print_to_stdstream)  # of an earlier call
        worker.print_to_stdstream = _LinesToLog(cls.log, of_ray)

    @classmethod
    def hint(cls) -> str:
        """A line on where the file is; "" where there is none."""
        return f"what Ray and MLflow said is in {cls.log.path}" if cls.log is not None and cls.log.written else ""


class _LinesToLog:
    """Lines of Ray's processes on their way to the log; those of an autoscaler, which a user waits for, Ray prints."""

    def __init__(self, log: LibraryLog, of_ray: Callable[..., None]) -> None:
        self.log, self.of_ray = log, of_ray

    def __call__(self, data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        """Write the lines."""
        if data.get("pid") == "autoscaler":
            self.of_ray(data, ignore_prefix)
            return
        for line in data.get("lines", ()):
            self.log.write(str(data.get("pid", "ray")), str(line).rstrip())


@contextlib.contextmanager
def worker_lines_to(log: LibraryLog, say: Callable[[str], None], take: Callable[[Message], None]) -> Iterator[None]:
    """Sort what Ray's processes print while the context lasts, in place of Ray, which prints all of it.

    Args:
        log: takes the lines of libraries.
        say: takes those for people, and what an autoscaled cluster says of its machines.
        take: takes the messages.
    """

    def handle(data: dict[str, Any]) -> None:
        source = f"{data.get('actor_name') or data.get('task_name') or 'worker'} {data.get('pid')}"
        if data.get("pid") == "autoscaler":
            # Its events alone: every five seconds it writes the state of the whole cluster.
            for event in ray_internals.filter_autoscaler_events(data.get("lines", ())):
                say(f"cluster: {event}")
            return
        for line in data.get("lines", ()):
            text = str(line).rstrip()
            if text.startswith(MARK):
                say(text[len(MARK) :])
            elif (message := received(text)) is not None:
                take(message)
            elif text:
                log.write(source, text)

    dispatcher = ray_internals.global_worker_stdstream_dispatcher
    before = list(dispatcher.handlers)
    for name, _ in before:
        dispatcher.remove_handler(name)
    dispatcher.add_handler(_HANDLER, handle)
    try:
        yield
    finally:
        dispatcher.remove_handler(_HANDLER)
        present = {name for name, _ in dispatcher.handlers}
        for name, previous in before:
            if name not in present:
                dispatcher.add_handler(name, previous)
