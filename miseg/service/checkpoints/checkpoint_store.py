"""The checkpoints of one run in its folder of storage, on a disk or in an object store: the best and the last, or all.

Nothing beside them says which there are: a checkpoint is a folder `step-…` with a manifest, which is the last file to
come and the first to go, so that a kill at any moment leaves whole checkpoints and no trace of others. No torch is
imported.
"""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pyarrow import fs

from miseg.data.storage import fetch_files, file_system, is_local, listed, patiently
from miseg.files import folder_beside, replace_folder
from miseg.json_values import parse
from miseg.service.checkpoints.checkpoint_files import MANIFEST, CheckpointError, verify
from miseg.service.checkpoints.fencing import Writer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint in storage."""

    path: str
    step: int
    metrics: dict[str, Any] = field(compare=False)
    """Metrics at its step; `score` selects. NaN, where nothing was measured, equals nothing."""
    system: fs.FileSystem
    experiment_id: str = field(default="", compare=False)
    """The experiment that was trained; empty where the manifest does not say."""
    fingerprint: str = field(default="", compare=False)
    """Likewise of the packed data."""

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[Path]:
        """Its folder on this machine: itself, or a copy for as long as the context lasts.

        Raises:
            OSError: it cannot be read.
            CheckpointError: it holds a file whose name is not plain.
        """
        if is_local(self.system):
            yield Path(self.path)
            return
        with tempfile.TemporaryDirectory() as beside:
            try:
                patiently(self.system, lambda: fetch_files(self.system, self.path, Path(beside)))
            except ValueError as error:
                raise CheckpointError(f"{self.path}: {error}") from None
            yield Path(beside)

    @property
    def scored(self) -> bool:
        """Whether it is a validation's; one that a preemption left is there to go on from."""
        return "score" in self.metrics

    @property
    def order(self) -> tuple[float, int]:
        """By score, and of equal ones by step; a score that is no number is the worst."""
        score = float(self.metrics.get("score", math.nan))
        return (-math.inf if math.isnan(score) else score, self.step)


class CheckpointStore:
    """The checkpoints of a run.

    Args:
        folder: the run's folder, a path or a URI.
        keep_all: whether `add` leaves all that are there, and not only the best and the last.
        writer: which of the run's writers `add` is called by; None where nobody else can write.
    """

    def __init__(self, folder: str, keep_all: bool = False, writer: Writer | None = None) -> None:
        self.keep_all, self.writer = keep_all, writer
        self.system, self.folder = file_system(folder)
        self._local = is_local(self.system)

    def path(self, step: int) -> str:
        """Folder of the checkpoint of a step."""
        return f"{self.folder}/step-{step:09d}"

    def all(self) -> list[StoredCheckpoint]:
        """The checkpoints that are there, by step.

        Raises:
            OSError: storage does not answer; of checkpoints that nobody can list none must seem to be missing.
        """
        return self._whole()

    def best(self) -> StoredCheckpoint | None:
        """The one with the highest score, of those that a validation scored."""
        return max((saved for saved in self.all() if saved.scored), key=lambda saved: saved.order, default=None)

    def last(self) -> StoredCheckpoint | None:
        """The one of the last step."""
        return max(self.all(), key=lambda saved: saved.step, default=None)

    @contextlib.contextmanager
    def latest(self) -> Iterator[Path | None]:
        """The folder of the last checkpoint whose files are as they were written; None where there is none.

        One that is damaged is named in a warning, and the one before it is taken.

        Raises:
            OSError: storage behind a network does not answer: no reason to go back to an earlier step.
        """
        with contextlib.ExitStack() as stack:
            for saved in reversed(self.all()):
                try:
                    folder = stack.enter_context(saved.as_directory())
                    verify(folder)
                except (CheckpointError, OSError) as error:
                    if not self._local and not isinstance(error, CheckpointError | FileNotFoundError):
                        raise
                    logger.warning("%s is left out, the one before it is used: %s", saved.path, error)
                    continue
                yield folder
                return
            yield None

    def add(self, step: int, write: Callable[[Path], object]) -> None:
        """Keep the checkpoint of `step`, which `write` makes whole at the path it is given; remove what need not stay.

        Raises:
            FencedError: another process has taken up the run; what it has stays as it is.
            OSError: it could not be written; what was there before stays.
        """
        target = self.path(step)
        self._check()
        try:
            if self._local:
                # Under a name of its own: another writer may be at the same step, and its sweep removes this.
                with folder_beside(Path(target), several=True) as beside:
                    write(beside / Path(target).name)
                    self._check()
                    replace_folder(beside / Path(target).name, Path(target), durable=True)
            else:
                with tempfile.TemporaryDirectory() as beside_name:
                    folder = Path(beside_name) / "checkpoint"
                    write(folder)
                    self._check()
                    self._upload(folder, target)
        except OSError:
            # Whoever took the run up removes what another was writing. A store that is away was waited for already.
            with contextlib.suppress(OSError):
                self._check(patience=0)
            raise
        try:
            self._check()
            self._sweep()
        except OSError as error:  # it is there all the same, and the next one removes them
            logger.warning("an earlier checkpoint in %s cannot be removed: %s", self.folder, error)

    def _check(self, patience: float | None = None) -> None:
        if self.writer is not None:
            self.writer.check(patience)

    def _upload(self, folder: Path, target: str) -> None:
        self._remove(target)
        patiently(self.system, lambda: self.system.create_dir(target))
        for name in [*sorted(path.name for path in folder.iterdir() if path.name != MANIFEST), MANIFEST]:
            copy = partial(fs.copy_files, str(folder / name), f"{target}/{name}", destination_filesystem=self.system)
            patiently(self.system, copy)

    def _sweep(self) -> None:
        # Nothing goes while one cannot be read: it may be the best.
        checkpoints = self._whole(strict=True)
        scored = [saved for saved in checkpoints if saved.scored]
        # Beside one that a preemption left, the last of a validation stays to fall back to.
        stay = scored if self.keep_all else [*scored[-1:], *sorted(scored, key=lambda saved: saved.order)[-1:]]
        paths = {saved.path for saved in [*stay, checkpoints[-1]]}
        for info in self._listed():
            # What a kill left of a checkpoint that was being written, or removed, goes too.
            if info.base_name.lstrip(".").startswith("step-") and info.path not in paths:
                self._remove(info.path)

    def _whole(self, strict: bool = False) -> list[StoredCheckpoint]:
        checkpoints = []
        for info in self._listed():
            if info.type == fs.FileType.Directory and not info.base_name.startswith("."):
                try:
                    checkpoints.append(self._read(info.path))
                except OSError as error:  # of a disk: it is damaged there
                    if strict or not self._local:
                        raise
                    logger.warning("%s/%s cannot be read and is left out: %s", info.path, MANIFEST, error)
        return sorted((saved for saved in checkpoints if saved is not None), key=lambda saved: saved.step)

    def _listed(self) -> list[fs.FileInfo]:
        return patiently(self.system, lambda: listed(self.system, self.folder))

    def _read(self, path: str) -> StoredCheckpoint | None:
        try:
            manifest = parse(patiently(self.system, lambda: self._content(f"{path}/{MANIFEST}")), finite=False)
            of = str(manifest.get("experiment_id", "")), str(dict(manifest.get("data", {})).get("fingerprint", ""))
            return StoredCheckpoint(path, int(manifest["step"]), dict(manifest["metrics"]), self.system, *of)
        except FileNotFoundError:
            return None
        except (AttributeError, ValueError, LookupError, TypeError) as error:
            logger.warning("%s/%s cannot be read and is left out: %s", path, MANIFEST, error)
            return None

    def _content(self, path: str) -> bytes:
        with self.system.open_input_stream(path) as file:
            return file.read()

    def _remove(self, path: str) -> None:
        for remove, name in ((self.system.delete_file, f"{path}/{MANIFEST}"), (self.system.delete_dir, path)):
            with contextlib.suppress(FileNotFoundError):
                patiently(self.system, partial(remove, name))
