"""Generations in a journal: lines of a writer that another had replaced before it wrote them do not count.

A writer looks whether it was replaced before it writes, and may stand still between the look and the line. So its lines
bear its generation, a new generation begins with a line of its own, and readers leave out what is superseded.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlflow import MlflowClient

from miseg.service.checkpoints import fencing
from miseg.service.checkpoints.fencing import Generation, Writer
from miseg.service.journal.files import Entry, read
from miseg.service.tracking.connection import UNREACHABLE

KIND = "generation"
"""Kind of the entry that a generation begins with; `step` is where it goes on from, null for a driver."""

TAG = "miseg.generation"
"""Tag of a run: its latest generation, and the step that it went on from, as JSON."""


class GenerationStart(NamedTuple):
    """The generation that a run was taken up by."""

    generation: Generation
    step: int | None = None

    def rest(self, entry: Entry, tags: Mapping[str, str]) -> Entry | None:
        """The part of another journal's entry that counts, though the run may have been taken up since it was logged.

        Its losses count up to the step from which the run went on, and its tags where nobody has set them since.

        Args:
            entry: of any kind.
            tags: those that the run has.
        """
        generation, kind = of(entry), entry["kind"]
        if generation is None:
            return None if kind == "end" else entry  # of a version that counted none
        if not self.generation.supersedes(generation) or kind in ("artifact", "register"):
            return entry
        if kind == "metrics" and (self.step is None or entry["step"] < self.step):
            return entry
        if kind == "metrics":  # a sample of the machine has its time as its step
            values = {key: value for key, value in entry["values"].items() if key.startswith("system/")}
        elif kind == "tags":
            values = {key: value for key, value in entry["values"].items() if key not in tags}
        else:
            return None
        return entry | {"values": values} if values else None

    @property
    def tag(self) -> str:
        """For MLflow."""
        return json.dumps({"generation": list(self.generation), "step": self.step})


def stamp(writer: Writer) -> dict[str, Any]:
    """Fields of a writer's lines that name its generation."""
    return {"generation": list(writer.generation)}


def of(entry: Mapping[str, Any]) -> Generation | None:
    """The generation of an entry's writer; None where it has none, as in a journal of before."""
    match entry.get("generation"):
        case [int() as attempt, str() as driver, int() as worker, str() as token]:
            return Generation(attempt, driver, worker, token)
        case _:
            return None


def begun(entry: Mapping[str, Any]) -> GenerationStart | None:
    """The generation that begins with an entry, or that a run's tag names; None where none does."""
    generation, step = of(entry), entry.get("step")
    return None if generation is None else GenerationStart(generation, step if isinstance(step, int) else None)


def in_tags(tags: Mapping[str, str]) -> GenerationStart | None:
    """The latest generation that a run's tags tell of; None for a run of before."""
    try:
        about = json.loads(tags.get(TAG, ""))
    except (ValueError, RecursionError):
        return None
    return begun(about) if isinstance(about, dict) else None


def latest_begun(entries: Iterable[Entry]) -> GenerationStart | None:
    """The latest generation that begins among entries; None where none does."""
    beginnings = (begun(entry) for entry in entries if entry["kind"] == KIND)
    return max((begin for begin in beginnings if begin), key=lambda begin: begin.generation, default=None)


def has(path: Path, generation: Generation) -> bool:
    """Whether a generation begins in the journal at `path`."""
    return any(entry["kind"] == KIND and of(entry) == generation for entry in read(path, 0)[0])


class Counting:
    """Leaves out the lines of superseded writers, of entries that are read from a journal's beginning on.

    Args:
        path: the journal.
        offset: bytes of it that were read before.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._latest: Generation | None = None
        if offset:
            self(read(path, 0, end=offset)[0])

    def __call__(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries that count, of entries that follow on those of before."""
        counting = []
        for entry in entries:
            generation = of(entry)
            if generation is not None:
                if self._latest is not None and self._latest.supersedes(generation):
                    continue
                self._latest = max(self._latest or generation, generation)
            counting.append(entry)
        return counting


def drive(folder: str, path: Path, tracking_uri: str, run_id: str) -> Writer:
    """This process as the one that drives a run: see `fencing.drive`.

    Args:
        folder: the run's folder, a path or URI.
        path: its journal. It and MLflow know of earlier attempts, should the folder have been removed.
        tracking_uri: the MLflow server or store.
        run_id: the MLflow run.
    """
    known = [generation.attempt for entry in read(path, 0)[0] if (generation := of(entry)) is not None]
    with contextlib.suppress(*UNREACHABLE):
        if tagged := in_tags(MlflowClient(tracking_uri).get_run(run_id).data.tags):
            known.append(tagged.generation.attempt)
    return fencing.drive(folder, max(known, default=0))


def current(client: MlflowClient, run_id: str, path: Path, entries: Sequence[Entry]) -> Sequence[Entry]:
    """The entries that count, though the run may be taken up elsewhere; MLflow is told of a new generation.

    Args:
        client: of the server or store.
        run_id: the MLflow run.
        path: its journal here.
        entries: of the journal, or of a copy of one.
    """
    if not any(of(entry) or entry["kind"] == "end" for entry in entries):
        return entries
    tags = client.get_run(run_id).data.tags
    known, latest = in_tags(tags), latest_begun(entries)
    if latest is not None and (known is None or latest.generation > known.generation):
        # Before the steps that the server has are read: a sender of an earlier one adds none from now on.
        client.set_tag(run_id, TAG, latest.tag)
    begun = [begin for begin in (known, latest) if begin is not None]
    if not begun:
        return entries
    rest = list(entries) if known is None else [known.rest(entry, tags) for entry in entries]
    if known is not None and rest != list(entries) and has(path, known.generation):
        # A writer of this journal knew what is before its own line, and logs none of it again.
        rest = list(entries)
    last = max(begun, key=lambda begin: begin.generation)
    ends = (last.rest(entry, tags) if entry["kind"] == "end" else entry for entry in entries)
    return [entry for entry, end in zip(rest, ends, strict=True) if entry is not None and end is not None]
