"""Journals on their way to MLflow: each entry arrives once, and one that MLflow refuses holds no other back.

Every entry carries its own timestamp, and MLflow keeps one row for equal (metric, step, time, value): sending an entry
twice, after a kill or an answer that was lost, changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from miseg.file_names import check_below, check_plain, check_plain_path
from miseg.files import LinkError, open_regular
from miseg.service.checkpoints.checkpoint_files import CheckpointError
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.journal import generations
from miseg.service.journal.files import (
    OWN_DISK,
    UNREADABLE,
    Entry,
    JournalInUseError,
    alone,
    append,
    note_sent,
    pending,
    read,
    sent_offset,
)
from miseg.service.tracking.connection import first_line, is_refusal

logger = logging.getLogger(__name__)

BATCH = 200
"""Entries sent together; MLflow takes at most 1,000 metrics and 100 tags in a request."""

TRIES = 10
"""Failures of an entry alone, at a server that takes others, before it is set aside."""

SYNC_PATIENCE = 2.0
"""Seconds that `sync` waits for a run which is sending its journal itself."""

ENDED_TAG = "miseg.ended_ms"
"""Tag of a run: when it ended, in milliseconds since 1970. MLflow's own end moves with every model that is logged."""

REFUSED_TAG = "miseg.refused"
"""Tag of a run of whose journal entries were set aside."""

_failures: dict[tuple[Path, int, int], int] = {}
"""Failures of each entry alone, by its journal, its batch's offset and its number in that."""


class RefusedError(RuntimeError):
    """An entry that can never arrive."""


class Sender:
    """Sends one journal.

    Args:
        path: the journal.
        tracking_uri: the MLflow server or store.
        run_id: the MLflow run.
        storage: folder or URI below which the run's checkpoints are; "": what holds the journal's own folder.
    """

    def __init__(self, path: Path, tracking_uri: str, run_id: str, storage: str = "") -> None:
        self.path, self.tracking_uri, self.run_id = path, tracking_uri, run_id
        self.storage = storage or str(path.parent.parent)
        self._latest: dict[str, int] | None = None
        self._there: dict[str, set[int]] = {}
        self._counting, self._counted = generations.Counting(path), 0

    def send(self, patience: float = 30.0) -> int:
        """Send what MLflow does not have; the number of entries that were sent or set aside.

        Args:
            patience: seconds to wait for another process that is just sending it.

        Raises:
            JournalInUseError: that process goes on.
            LockRefusedError: the journal's file system refuses locks.
            Exception: whatever the MLflow client raises when the server does not answer; what was sent stays sent.
        """
        count = 0
        if not pending(self.path):
            return count
        with alone(self.path, patience):
            offset = sent_offset(self.path)
            client = MlflowClient(self.tracking_uri)
            while True:
                if self._counted != offset:  # another sent some, or what was read could not be sent
                    self._counting = generations.Counting(self.path, offset)
                entries, after = read(self.path, offset, BATCH)
                if not entries:
                    return count
                self._counted = -1
                counting = self._counting(entries)
                try:
                    self._deliver(client, counting)
                except Exception:
                    if not self._answers(client):
                        raise
                    self._send_each(client, offset, counting)
                self._counted = after
                try:
                    note_sent(self.path, after)
                except OSError as error:  # of a full disk: what was sent is sent again, which changes nothing
                    logger.warning("%s: what was sent cannot be noted: %s", self.path, error)
                count, offset = count + len(entries), after

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Send entries that are in no file; raises as `send`, and where one is refused."""
        self._deliver(MlflowClient(self.tracking_uri), entries)

    def _deliver(self, client: MlflowClient, entries: Sequence[Entry]) -> None:
        entries = generations.current(client, self.run_id, self.path, entries)
        metrics = [
            Metric(key, value if math.isfinite(value) else math.nan, entry["time"], entry["step"])
            for entry in entries
            if entry["kind"] == "metrics"
            for key, value in entry["values"].items()
            if self._is_new(client, key, entry["step"])
        ]
        # Of a tag that was set twice the last counts, and MLflow takes no key twice.
        tags = {k: v for entry in entries if entry["kind"] == "tags" for k, v in entry["values"].items()}
        for start in range(0, len(metrics), 1000):
            client.log_batch(self.run_id, metrics=metrics[start : start + 1000])
        described = [RunTag(key, value) for key, value in tags.items()]
        for start in range(0, len(described), 100):
            client.log_batch(self.run_id, tags=described[start : start + 100])
        for entry in entries:
            if entry["kind"] == "artifact":
                self._upload(client, entry)
            elif entry["kind"] == "model":
                self._log_model(entry)
            elif entry["kind"] == "register":
                self._register(entry)
            elif entry["kind"] == "end":
                self._end(client, entry)
            elif entry["kind"] == UNREADABLE:
                raise RefusedError(f"this line of the journal is damaged ({entry.get('reason', 'no JSON')})")

    def _is_new(self, client: MlflowClient, key: str, step: int) -> bool:
        """Whether the server lacks the metric at this step; another machine may have logged it."""
        if self._latest is None:
            data = client.get_run(self.run_id).data
            self._latest = {metric.key: metric.step for metric in data._metric_objs}  # has no public name
        if step > self._latest.get(key, -1):
            return True
        # A history may be long: it is asked for only where the entry is not beyond it.
        if key not in self._there:
            self._there[key] = {metric.step for metric in client.get_metric_history(self.run_id, key)}
        return step not in self._there[key]

    def _upload(self, client: MlflowClient, entry: Entry) -> None:
        # Whoever writes to the storage writes journals: the file is one of the journal's own, and no link elsewhere.
        try:
            path = self.path.with_suffix("") / check_plain(entry["file"])
            name, folder = check_plain(entry["name"]), check_plain_path(entry["folder"])
        except (LookupError, ValueError) as error:
            raise RefusedError(f"its file cannot be uploaded: {error}") from None
        with tempfile.TemporaryDirectory() as beside:
            try:
                with open_regular(path) as file, (Path(beside) / name).open("wb") as copy:
                    shutil.copyfileobj(file, copy)
            except FileNotFoundError:  # it was uploaded before
                return
            except LinkError as error:
                raise RefusedError(str(error)) from None
            client.log_artifact(self.run_id, str(Path(beside) / name), folder or None)
        path.unlink(missing_ok=True)

    def _log_model(self, entry: Entry) -> None:
        # Only where a model is sent: it brings MLflow's models along.
        from miseg.service.tracking import models

        if self.path.parent != Path(OWN_DISK).expanduser():  # nobody else writes there, and the storage differs
            try:
                check_below(entry["folder"], self.storage)
            except ValueError as error:
                raise RefusedError(f"its checkpoint is not of this storage: {error}") from None
        saved = next((saved for saved in CheckpointStore(entry["folder"]).all() if saved.step == entry["step"]), None)
        if saved is None:
            logged = models.of_role(self.tracking_uri, self.run_id, entry["role"])
            if any(int(model.tags.get(models.STEP_TAG, -1)) >= entry["step"] for model in logged):
                return  # it was sent before, and its checkpoint has gone since
            raise RefusedError(f"there is no checkpoint of step {entry['step']} in {entry['folder']}")
        try:
            with saved.as_directory() as folder:
                models.log_model(self.tracking_uri, self.run_id, entry["role"], folder)
        except CheckpointError as error:
            raise RefusedError(str(error)) from error

    def _register(self, entry: Entry) -> None:
        # Only where a model is sent: it brings MLflow's models along.
        from miseg.service.tracking import registry

        registry.register(self.tracking_uri, self.run_id, entry["name"], entry["metric"], entry["tags"])

    def _end(self, client: MlflowClient, entry: Entry) -> None:
        tags = entry["tags"] | {ENDED_TAG: str(entry["time"])}
        client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        client.set_terminated(self.run_id, entry["status"], entry["time"])

    def _answers(self, client: MlflowClient) -> bool:
        """Whether the server is there and has the run: then an error is the entry's, or passes."""
        try:
            return client.get_run(self.run_id).info.lifecycle_stage == "active"
        except Exception:
            return False

    def _send_each(self, client: MlflowClient, start: int, entries: Sequence[Entry]) -> None:
        """Send each entry alone; what is refused is set aside.

        Raises:
            Exception: one that may pass met an entry, and it has tries left.
        """
        passing: Exception | None = None
        refused: list[tuple[Entry, Exception]] = []
        for number, entry in enumerate(entries):
            try:
                self._deliver(client, [entry])
            except Exception as error:
                if not self._answers(client):
                    raise
                entry_key = (self.path, start, number)
                _failures[entry_key] = _failures.get(entry_key, 0) + 1
                if isinstance(error, RefusedError) or is_refusal(error) or _failures[entry_key] >= TRIES:
                    refused.append((entry, error))
                else:
                    passing = error
        if passing is not None:
            raise passing
        for entry_key in [entry_key for entry_key in _failures if entry_key[:2] == (self.path, start)]:
            del _failures[entry_key]
        if refused:
            self._set_aside(client, refused)

    def _set_aside(self, client: MlflowClient, refused: Sequence[tuple[Entry, Exception]]) -> None:
        path = self.path.with_suffix(".refused")
        lines = [{"kind": "refused", "error": first_line(error), "entry": entry} for entry, error in refused]
        append(path, lines)
        for entry, error in refused:
            logger.warning(
                "MLflow at %s refuses an entry (%s) of run %s, which is set aside in %s: %s",
                self.tracking_uri, entry["kind"], self.run_id, path, first_line(error),
            )  # fmt: skip
        text = f"{len(read(path, 0)[0])} entries were refused and are set aside in {path}"
        with contextlib.suppress(Exception):  # that they were set aside is more than that it was told
            client.log_batch(self.run_id, tags=[RunTag(REFUSED_TAG, text)])


def send_pending(path: Path, tracking_uri: str, run_id: str) -> int:
    """Send what MLflow does not have of a journal; see `Sender.send`."""
    return Sender(path, tracking_uri, run_id).send()


def sync(folder: str | Path, tracking_uri: str, again: bool = False) -> int:
    """Send what earlier runs could not; the number of entries sent.

    A journal that is not taken (its run was deleted, or is of another server) is left as it is, with a warning.

    Args:
        folder: where the journals are.
        tracking_uri: the MLflow server or store.
        again: whether what was refused is tried once more.
    """
    count = 0
    for path in sorted(Path(folder).glob("*.jsonl")):
        try:
            if again:
                _take_back(path)
            if pending(path):
                count += Sender(path, tracking_uri, path.stem).send(SYNC_PATIENCE)
        except JournalInUseError:
            continue  # its own run sends it
        except Exception as error:
            logger.warning("MLflow at %s did not take %s, which stays: %s", tracking_uri, path, error)
    return count


def _take_back(path: Path) -> None:
    refused = path.with_suffix(".refused")
    if refused.exists():
        with alone(path, SYNC_PATIENCE):
            append(path, [line["entry"] for line in read(refused, 0)[0] if "entry" in line])
            refused.unlink()
