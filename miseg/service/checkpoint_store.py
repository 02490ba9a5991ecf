"""The checkpoints of one run in its folder of storage, on a disk or in an object store: the best and the last, or all.

Nothing beside them says which there are: a checkpoint is a folder `step-…` with a manifest, which is the last file to
come and the first to go, so that a kill at any moment leaves whole checkpoints and no trace of others. No torch is
imported.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import fs

from miseg.service.checkpoint_files import MANIFEST, CheckpointError, verify

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """A checkpoint in storage."""

    path: str
    step: int
    metrics: dict[str, Any]
    """What was measured at its step; `score` selects."""
    system: fs.FileSystem

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[Path]:
        """Its folder on this machine: itself, or a copy for as long as the context lasts.

        Raises:
            OSError: it cannot be read.
        """
        if isinstance(self.system, fs.LocalFileSystem):
            yield Path(self.path)
            return
        with tempfile.TemporaryDirectory() as beside:
            fs.copy_files(self.path, beside, source_filesystem=self.system)
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
    """What a run keeps.

    Args:
        folder: the run's folder, a path or a URI.
        keep_all: whether `add` leaves all that are there, and not only the best and the last.
    """

    def __init__(self, folder: str, keep_all: bool = False) -> None:
        self.keep_all = keep_all
        if "://" in folder:
            self.system, self.folder = fs.FileSystem.from_uri(folder)
        else:
            self.system, self.folder = fs.LocalFileSystem(), str(Path(folder).expanduser().absolute())
        self._local = isinstance(self.system, fs.LocalFileSystem)

    def place(self, step: int) -> str:
        """Where the checkpoint of a step is kept."""
        return f"{self.folder}/step-{step:09d}"

    def all(self) -> list[Kept]:
        """The checkpoints that are there, by step."""
        found = [info for info in self._listed() if info.type == fs.FileType.Directory]
        return sorted(
            (kept for info in found if not info.base_name.startswith(".") and (kept := self._read(info.path))),
            key=lambda kept: kept.step,
        )

    def best(self) -> Kept | None:
        """The one with the highest score, of those that a validation scored."""
        return max((kept for kept in self.all() if kept.scored), key=lambda kept: kept.order, default=None)

    def last(self) -> Kept | None:
        """The one of the last step."""
        return max(self.all(), key=lambda kept: kept.step, default=None)

    @contextlib.contextmanager
    def latest(self) -> Iterator[Path | None]:
        """The folder of the last checkpoint whose files are as they were written; None where there is none.

        One that is damaged is named in a warning, and the one before it is taken.
        """
        with contextlib.ExitStack() as stack:
            for kept in reversed(self.all()):
                try:
                    folder = stack.enter_context(kept.as_directory())
                    verify(folder)
                except (CheckpointError, OSError) as error:
                    logger.warning("a checkpoint is left out, the one before it is used: %s", error)
                    continue
                yield folder
                return
            yield None

    def add(self, step: int, write: Callable[[Path], object]) -> None:
        """Keep the checkpoint of `step`, which `write` makes whole at the path it is given; remove what need not stay.

        Raises:
            OSError: it could not be written; what was there before stays.
        """
        target = self.place(step)
        if self._local:
            write(Path(target))
        else:
            with tempfile.TemporaryDirectory() as beside:
                made = Path(beside) / "checkpoint"
                write(made)
                self._remove(target)
                self.system.create_dir(target)
                for name in [*sorted(path.name for path in made.iterdir() if path.name != MANIFEST), MANIFEST]:
                    fs.copy_files(str(made / name), f"{target}/{name}", destination_filesystem=self.system)
        self._sweep()

    def _sweep(self) -> None:
        there = self.all()
        scored = [kept for kept in there if kept.scored]
        # Beside one that a preemption left, the last of a validation stays to fall back to.
        wanted = scored if self.keep_all else [*scored[-1:], *sorted(scored, key=lambda kept: kept.order)[-1:]]
        paths = {kept.path for kept in [*wanted, there[-1]]}
        for info in self._listed():
            # What a kill left of a checkpoint that was being written, or removed, goes too.
            if info.base_name.lstrip(".").startswith("step-") and info.path not in paths:
                self._remove(info.path)

    def _listed(self) -> list[fs.FileInfo]:
        return self.system.get_file_info(fs.FileSelector(self.folder, allow_not_found=True))

    def _read(self, path: str) -> Kept | None:
        try:
            with self.system.open_input_stream(f"{path}/{MANIFEST}") as file:
                manifest = json.loads(file.read())
            return Kept(path, int(manifest["step"]), dict(manifest["metrics"]), self.system)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError) as error:
            logger.warning("%s/%s cannot be read and is left out: %s", path, MANIFEST, error)
            return None

    def _remove(self, path: str) -> None:
        for remove, name in ((self.system.delete_file, f"{path}/{MANIFEST}"), (self.system.delete_dir, path)):
            with contextlib.suppress(FileNotFoundError):
                remove(name)
