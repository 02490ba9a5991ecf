"""Journal of a run: to disk first and to MLflow from a thread, so that a dead server stops no training."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from miseg.files import open_plain
from miseg.locks import LockRefusedError
from miseg.service.checkpoints.fencing import FencedError, Writer
from miseg.service.cluster import metrics
from miseg.service.journal import copies, generations
from miseg.service.journal.files import OWN_DISK, Backlog, JournalInUseError, backlog, cut_torn_line, pending, read
from miseg.service.journal.sender import Sender
from miseg.service.tracking.connection import first_line

logger = logging.getLogger(__name__)

NOT_IN_NAMES = re.compile(r"[^/\w.\- :]")

_DELETED = re.compile("must be in the 'active' state|current state is deleted", re.IGNORECASE)

PAUSE = 0.5
"""Seconds between two sendings: what is logged meanwhile shares a request."""

KEPT_AFTER = 30.0
"""Seconds that MLflow may be behind before what waits is copied to storage."""

LOOK = 5.0
"""Seconds between two looks for a later writer where storage is behind a network."""

LONGEST_PAUSE = 30.0
"""Seconds between two tries of a server that does not answer, at most."""

CLOSING_TIMEOUT = 60.0
"""Seconds that a job which has ended waits for MLflow to take what it logged."""


def journal_folder(storage: str) -> str:
    """The folder of journals: in storage where that is a folder, else on this machine's own disk."""
    return str(Path(OWN_DISK).expanduser()) if "://" in storage else f"{storage}/journals"


class Journal:
    """Entries of one run, appended by the trainer and sent to MLflow by a thread of its own.

    No call but `close` waits for MLflow. Where another writer has taken up the run, whatever is logged raises
    FencedError and goes nowhere.

    Args:
        folder: where journals are kept; the run's is `<run_id>.jsonl`, with files to upload in `<run_id>/`.
        tracking_uri: the MLflow server or store.
        run_id: the MLflow run.
        storage: where `keep` puts copies, if that is no folder.
        labels: of the run's metrics; see `metrics.RUN`.
        writer: which of the run's writers this process is; None for runs that have one alone.
    """

    def __init__(
        self,
        folder: str | Path,
        tracking_uri: str,
        run_id: str,
        storage: str = "",
        labels: Mapping[str, str] | None = None,
        writer: Writer | None = None,
    ) -> None:
        self.storage, self._copied = storage if "://" in storage else "", False
        self.folder, self.tracking_uri, self.run_id = Path(folder), tracking_uri, run_id
        self.labels = {"run": run_id} | dict(labels or {})
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{run_id}.jsonl"
        self.files = self.folder / run_id
        self.writer, self._superseded, self._looked = writer, "", 0.0
        cut_torn_line(self.path)
        # Unbuffered: of what a full disk does not take, nobody else knows how much it took.
        self._file = open_plain(self.path, "ab", buffering=0)
        self._waiting: deque[bytes] = deque()  # lines that the disk does not take
        self._begun = 0  # bytes that it took of the first of them
        self._lock = threading.Lock()
        self._sender = Sender(self.path, tracking_uri, run_id)
        self._wake, self._closing, self._waited = threading.Event(), threading.Event(), threading.Event()
        self._failed = 0
        self.problem = f"MLflow at {tracking_uri} does not answer in time"
        """Why not all is sent, in words, where it is not."""
        if writer is not None:
            # Before the last steps are read: what an earlier writer adds from now on does not count.
            self._append({"kind": generations.KIND, "step": writer.first_step})
        self._last = self._last_steps()
        self._wake.set()  # for what an earlier process left
        self._thread = threading.Thread(target=self._send_loop, name=f"miseg-journal-{run_id[:8]}", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> Backlog:
        """Entries that MLflow does not have yet."""
        return backlog(self.path)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log `values` at `step`; a metric that was logged at this step or a later one before a resume is left out.

        MLflow refuses some characters, such as the brackets of a class' name, and with them the whole batch: they
        become underscores.
        """
        named = {NOT_IN_NAMES.sub("_", key): float(value) for key, value in values.items()}
        with self._lock:  # pictures and what the machine does come from threads of their own
            fresh = {key: value for key, value in named.items() if step > self._last.get(key, -1)}
            self._last.update(dict.fromkeys(fresh, step))
        if fresh:
            self._append({"kind": "metrics", "step": step, "values": fresh})

    def artifact(self, path: str | Path, folder: str = "") -> None:
        """Upload a copy of the file `path` to `folder` of the run's artifacts."""
        self.check()
        name = f"{time.time_ns()}-{Path(path).name}"
        self.files.mkdir(exist_ok=True)
        shutil.copyfile(path, self.files / name)
        self._append({"kind": "artifact", "file": name, "name": Path(path).name, "folder": folder})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags on the run."""
        self._append({"kind": "tags", "values": dict(values)})

    def model(self, role: str, folder: str, step: int) -> None:
        """Log the checkpoint of `step` in the run's folder of storage as the model `role`."""
        self._append({"kind": "model", "role": role, "folder": folder, "step": step})

    def register(self, name: str, metric: str, tags: Mapping[str, str]) -> None:
        """Register the run's best model, which was logged before, as `registry.register` does."""
        self._append({"kind": "register", "name": name, "metric": metric, "tags": dict(tags)})

    def end(self, status: str, reason: str) -> None:
        """Close the run as of now: FINISHED, FAILED or KILLED, with the tag `miseg.ended` to say why."""
        self._append({"kind": "end", "status": status, "tags": {"miseg.ended": reason[:4000]}})

    def check(self) -> None:
        """Go on if no later writer has taken up the run.

        Raises:
            FencedError: one has. Storage behind a network is asked by the thread that sends, now and then.
        """
        if self._superseded:
            raise FencedError(self._superseded)
        if self.writer is not None and self.writer.local:
            self._look(self.writer)
            if self._superseded:
                raise FencedError(self._superseded)

    def _look(self, writer: Writer) -> None:
        try:
            writer.check(patience=0)
        except FencedError as error:
            self._superseded = str(error)
        except OSError:  # what is written next says so
            pass

    def keep(self) -> None:
        """Copy to storage what MLflow has not taken for a while: this machine may be lost. Warns where it cannot."""
        if not self.storage or not (self._copied or self.backlog.seconds > KEPT_AFTER):
            return
        try:
            if pending(self.path):
                copies.keep(self.path, self.storage)
            else:
                copies.forget(self.path, self.storage)
            self._copied = pending(self.path)
        except OSError as error:
            logger.warning("%s could not be copied to %s: %s", self.path, self.storage, error)

    def close(self, timeout: float = 30.0, tries: int | None = None) -> bool:
        """Stop after what is waiting was sent; whether all was.

        What was not is tried further as long as this process lives, and by `sending.sync`.

        Args:
            timeout: seconds to wait at most.
            tries: how often MLflow is asked in vain before that, if not until then.
        """
        until = time.monotonic() + timeout
        with self._lock, contextlib.suppress(OSError):
            self._write()
        self._closing.set()
        self._wake.set()
        while self._thread.is_alive() and time.monotonic() < until and (tries is None or self._failed < tries):
            self._thread.join(0.1)
        self._waited.set()
        self._file.close()
        if self._waiting:
            self._send_unwritten()
        done = not self._thread.is_alive() and not pending(self.path) and not self._waiting
        if not done:
            self._copied = True
            logger.warning("%s: not all of run %s is there; %s keeps it", self.problem, self.run_id, self.path)
        self.keep()
        return done

    def _append(self, entry: dict[str, Any]) -> None:
        self.check()
        stamp = {} if self.writer is None else generations.stamp(self.writer)
        line = json.dumps(entry | stamp | {"time": time.time_ns() // 1_000_000}, allow_nan=True) + "\n"
        with self._lock:
            waited = bool(self._waiting)
            self._waiting.append(line.encode())
            try:
                self._write()
            except OSError as error:  # a log is no reason to stop a training
                if not waited:
                    logger.warning("%s takes no entries, which wait in memory: %s", self.path, error)
        self._wake.set()

    def _write(self) -> None:
        while self._waiting:
            self._begun += self._file.write(self._waiting[0][self._begun :])
            if self._begun == len(self._waiting[0]):
                self._waiting.popleft()
                self._begun = 0

    def _send_unwritten(self) -> None:
        """Nobody else will ever have it."""
        try:
            if self._thread.is_alive():
                raise TimeoutError("what was logged before them is not sent yet")
            self._sender.deliver([json.loads(line) for line in self._waiting])
            self._waiting.clear()
            cut_torn_line(self.path)
        except Exception as error:
            logger.warning("%s is not whole, its last entries are lost: %s", self.path, first_line(error))

    def _last_steps(self) -> dict[str, int]:
        """The last step of every metric here; what another machine logged, the sender leaves out."""
        last: dict[str, int] = {}
        for entry in generations.Counting(self.path)(read(self.path, 0)[0]):
            if entry["kind"] == "metrics":
                for key in entry["values"]:
                    last[key] = max(entry["step"], last.get(key, -1))
        return last

    def _send_loop(self) -> None:
        delay = PAUSE
        while True:
            self._wake.wait()
            self._wake.clear()
            closing = self._closing.is_set()
            if self.writer is not None and not self.writer.local and time.monotonic() - self._looked > LOOK:
                self._looked = time.monotonic()
                self._look(self.writer)
            try:
                self._measure()
                self._sender.send()
                self._measure()
                delay = PAUSE
                if closing:
                    metrics.forget({"run": self.labels["run"]}, "miseg_tracking")
                    return
                self._closing.wait(PAUSE)
            except Exception as error:
                self._failed += closing
                delay = min(delay * 2, LONGEST_PAUSE)
                metrics.add("miseg_tracking_failures", self.labels)
                self._note_problem(error)
                logger.warning("%s; trying again in %.0f s", self.problem, delay)
                # A wake-up for every step would turn the pause into a storm of requests; who closes waits for the end.
                if not closing:
                    self._closing.wait(delay)
                elif self._waited.wait(min(delay, 2.0)):
                    time.sleep(delay)
                self._wake.set()

    def _note_problem(self, error: Exception) -> None:
        # The library that asks a server has errors of its own that are files' errors to Python.
        of_file = isinstance(error, OSError) and error.filename and not isinstance(error, requests.RequestException)
        if of_file or isinstance(error, LockRefusedError | JournalInUseError):
            self.problem = f"{self.path} cannot be sent to MLflow at {self.tracking_uri} ({error})"
        elif _DELETED.search(str(error)):
            self.problem = (
                f"run {self.run_id} was deleted in MLflow at {self.tracking_uri}: restore it, or its experiment"
            )
        else:
            self.problem = f"MLflow at {self.tracking_uri} does not answer ({first_line(error)})"

    def _measure(self) -> None:
        """Before each sending too: one that hangs would else hide what waits."""
        waiting = self.backlog
        written = time.time() - waiting.seconds if waiting.bytes else 0.0
        metrics.put("miseg_tracking_backlog_bytes", self.labels, waiting.bytes)
        metrics.put("miseg_tracking_waiting_timestamp_seconds", self.labels, written)
