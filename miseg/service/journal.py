"""What a run logs goes to a journal on disk first and to MLflow from a thread: a dead server stops no training.

Every entry carries its own timestamp, and MLflow keeps one row for equal (metric, step, time, value): sending an entry
twice, after a kill between sending and noting it, changes nothing.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

NOT_IN_NAMES = re.compile(r"[^/\w.\- :]")

TRAIN_MATCH = "train_match"
"""Metrics of clusters whose match with the classes was made on the training split: `val/train_match/…`."""

BATCH = 200
"""Entries sent in one request; MLflow takes at most 1,000 metrics."""


def journal_folder(storage: str) -> str:
    """The folder of journals: in storage where that is a folder, else on this machine's own disk."""
    return str(Path("~/.miseg/journals").expanduser()) if "://" in storage else f"{storage}/journals"


class Journal:
    """Entries of one run, appended by the trainer and sent to MLflow by a thread of its own.

    Args:
        folder: where journals are kept; the run's is `<run_id>.jsonl`, with files to upload in `<run_id>/`.
        tracking_uri: the MLflow server or store.
        run_id: the MLflow run.
    """

    def __init__(self, folder: str | Path, tracking_uri: str, run_id: str) -> None:
        self.folder, self.tracking_uri, self.run_id = Path(folder), tracking_uri, run_id
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{run_id}.jsonl"
        self.files = self.folder / run_id
        self._sent_path = self.folder / f"{run_id}.sent"
        _cut_torn_line(self.path)
        self._last = self._last_steps()
        # Unbuffered: of what a full disk does not take, nobody else knows how much it took.
        self._file = self.path.open("ab", buffering=0)
        self._unwritten = bytearray()
        self._lock = threading.Lock()
        self._wake, self._closing, self._idle = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send_loop, name=f"miseg-journal-{run_id[:8]}", daemon=True)
        self._thread.start()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log `values` at `step`; a metric that was logged at this step or a later one before a resume is left out.

        MLflow refuses some characters, such as the brackets of a class' name, and with them the whole batch: they
        become underscores.
        """
        named = {NOT_IN_NAMES.sub("_", key): float(value) for key, value in values.items()}
        fresh = {key: value for key, value in named.items() if step > self._last.get(key, -1)}
        if fresh:
            self._last.update(dict.fromkeys(fresh, step))
            self._append({"kind": "metrics", "step": step, "time": time.time_ns() // 1_000_000, "values": fresh})

    def artifact(self, path: str | Path, folder: str = "") -> None:
        """Upload a copy of the file `path` to `folder` of the run's artifacts."""
        name = f"{time.time_ns()}-{Path(path).name}"
        self.files.mkdir(exist_ok=True)
        shutil.copyfile(path, self.files / name)
        self._append({"kind": "artifact", "file": name, "name": Path(path).name, "folder": folder})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags on the run."""
        self._append({"kind": "tags", "values": dict(values)})

    def close(self, timeout: float = 30.0) -> bool:
        """Stop after what is waiting was sent, or after `timeout` seconds; whether all was sent."""
        with self._lock:
            try:
                self._write()
            except OSError as error:
                logger.warning("%s is not whole, its last entries are lost: %s", self.path, error)
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)
        self._file.close()
        done = not self._thread.is_alive() and not pending(self.path) and not self._unwritten
        if not done:
            logger.warning(
                "MLflow at %s did not take all of run %s; %s keeps it", self.tracking_uri, self.run_id, self.path
            )
        return done

    def _append(self, entry: dict[str, Any]) -> None:
        with self._lock:  # pictures come from a thread of their own
            waiting = bool(self._unwritten)
            self._unwritten += (json.dumps(entry, allow_nan=True) + "\n").encode()
            try:
                self._write()
            except OSError as error:  # a log is no reason to stop a training
                if not waiting:
                    logger.warning("%s takes no entries, which wait in memory: %s", self.path, error)
        self._wake.set()

    def _write(self) -> None:
        while self._unwritten:
            del self._unwritten[: self._file.write(self._unwritten)]

    def _last_steps(self) -> dict[str, int]:
        """The last step of every metric: from the journal, and from the server, for a run may have been elsewhere."""
        last: dict[str, int] = {}
        try:
            last = _last_steps_on_server(self.tracking_uri, self.run_id)
        except Exception as error:
            logger.warning("MLflow at %s does not answer (%s): logging goes to %s", self.tracking_uri, error, self.path)
        for entry in read(self.path, 0)[0]:
            if entry["kind"] == "metrics":
                for key in entry["values"]:
                    last[key] = max(entry["step"], last.get(key, -1))
        return last

    def _send_loop(self) -> None:
        delay = 0.5
        while True:
            self._wake.wait(timeout=delay)
            self._wake.clear()
            closing = self._closing.is_set()
            try:
                send_pending(self.path, self.tracking_uri, self.run_id)
                delay = 0.5
                if closing:
                    return
            except Exception as error:
                logger.warning(
                    "MLflow at %s does not answer (%s); trying again in %.0f s", self.tracking_uri, error, delay
                )
                delay = min(delay * 2, 30.0)
                # A wake-up for every step would turn the pause into a storm of requests.
                if not closing:
                    self._closing.wait(delay)


def read(path: Path, offset: int, limit: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """Whole entries of a journal from byte `offset`, at most `limit`, and the offset after them."""
    entries: list[dict[str, Any]] = []
    if not path.exists():
        return entries, offset
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n") or (limit is not None and len(entries) == limit):
                break
            entries.append(json.loads(line))
            offset += len(line)
    return entries, offset


def sent_offset(path: Path) -> int:
    """Bytes of a journal that MLflow has."""
    try:
        return int(path.with_suffix(".sent").read_text())
    except FileNotFoundError:
        return 0


def pending(path: Path) -> bool:
    """Whether a journal holds entries that MLflow has not."""
    return path.exists() and sent_offset(path) < path.stat().st_size


def send_pending(path: Path, tracking_uri: str, run_id: str) -> int:
    """Send what MLflow does not have of a journal; the number of entries sent.

    Raises:
        Exception: whatever the MLflow client raises when the server does not answer; what was sent before stays sent.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric, RunTag

    client = MlflowClient(tracking_uri)
    count, offset = 0, sent_offset(path)
    while True:
        entries, after = read(path, offset, BATCH)
        if not entries:
            return count
        metrics = [
            Metric(key, value if math.isfinite(value) else math.nan, entry["time"], entry["step"])
            for entry in entries
            if entry["kind"] == "metrics"
            for key, value in entry["values"].items()
        ]
        tags = [RunTag(k, v) for entry in entries if entry["kind"] == "tags" for k, v in entry["values"].items()]
        for start in range(0, len(metrics), 1000):
            client.log_batch(run_id, metrics=metrics[start : start + 1000])
        if tags:
            client.log_batch(run_id, tags=tags)
        for entry in entries:
            if entry["kind"] == "artifact":
                _upload(client, run_id, path.with_suffix("") / entry["file"], entry["name"], entry["folder"])
        try:
            _write_atomically(path.with_suffix(".sent"), str(after))
        except OSError as error:  # of a full disk: what was sent is sent again, which changes nothing
            logger.warning("%s: what was sent cannot be noted: %s", path, error)
        count, offset = count + len(entries), after


def sync(folder: str | Path, tracking_uri: str) -> int:
    """Send what earlier runs could not; the number of entries sent.

    A journal that is not taken (its run was deleted, or is of another server) is left as it is, with a warning.
    """
    count = 0
    for path in sorted(Path(folder).glob("*.jsonl")):
        if not pending(path):
            continue
        try:
            count += send_pending(path, tracking_uri, path.stem)
        except Exception as error:
            logger.warning("MLflow at %s did not take %s, which stays: %s", tracking_uri, path, error)
    return count


def _upload(client: Any, run_id: str, path: Path, name: str, folder: str) -> None:
    # The file is gone where it was uploaded before; a second sender (`sync` of another job) may take it just now.
    with tempfile.TemporaryDirectory() as beside:
        try:
            shutil.copyfile(path, Path(beside) / name)
        except FileNotFoundError:
            return
        client.log_artifact(run_id, str(Path(beside) / name), folder or None)
    path.unlink(missing_ok=True)


def _last_steps_on_server(tracking_uri: str, run_id: str) -> dict[str, int]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    keys = [key for key in client.get_run(run_id).data.metrics if not key.startswith("system/")]
    return {key: max(metric.step for metric in client.get_metric_history(run_id, key)) for key in keys}


def _cut_torn_line(path: Path) -> None:
    """Drop a last line that a kill cut short, so that the next entry does not join it."""
    if path.exists():
        whole = path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) < len(whole):
            _write_atomically(path, kept.decode())


def _write_atomically(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    beside.write_text(text)
    beside.replace(path)
