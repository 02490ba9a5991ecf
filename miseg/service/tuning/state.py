"""Tune's state of a tuning, kept so that a kill at any moment leaves it whole.

Tune writes its state as several files, one after the other and in place. A kill between leaves one of them empty, which
`Tuner.restore` does not survive, or files of two moments: a trial that the searcher has never heard of ends the tuning.
Here all that belongs to one moment is one file, `state-<number>.zip`; the last two stay.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

from pyarrow import fs
from ray import tune

from miseg.data.storage import listed, write_whole
from miseg.file_names import check_plain

logger = logging.getLogger(__name__)

EXPERIMENT = "experiment_state-"
"""Prefix of the name of Tune's own list of trials; then comes the session, one for each driver."""

SEARCH = "search_gen_state-"
"""Prefix of the name of Tune's own state of a search."""

LIMITER = "name:ConcurrencyLimiter"
"""Key of the number of trials at a time in it."""

TUNER = "tuner.pkl"
"""File that Tune writes once, when a tuning starts."""

KEPT = 2


class KeepState(tune.Callback):
    """Keeps what Tune has just written."""

    def __init__(self) -> None:
        self._written: tuple[str, int] | None = None

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Tune has made a turn: the files in its folder on this machine are whole and of one moment."""
        if not trials:
            return
        storage = trials[0].storage
        staged = Path(storage.experiment_driver_staging_path)
        newest = max(staged.glob(f"{EXPERIMENT}*.json"), default=None)
        if newest is None or (written := (newest.name, newest.stat().st_mtime_ns)) == self._written:
            return
        try:
            keep(storage.storage_filesystem, storage.experiment_fs_path, _with(newest))
        except OSError as error:  # the trainings go on; what is lost by then is what Tune learns from now on
            logger.warning("the state of the tuning in %s is not kept: %s", storage.experiment_fs_path, error)
        self._written = written


def keep_end(folder: str, session: Path) -> None:
    """Keep what Tune wrote when the tuning in `folder`, a path or URI, ended by itself, after its last turn.

    Without it the last trial would be taken up again whenever the tuning is restored. `session` as for `put_back`.
    """
    system, system_path = fs.FileSystem.from_uri(folder) if "://" in folder else (fs.LocalFileSystem(), folder)
    written = session.glob(f"artifacts/*/{Path(system_path).name}/driver_artifacts/{EXPERIMENT}*.json")
    newest = max(written, key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is None:
        return
    try:
        keep(system, system_path, _with(newest))
    except OSError as error:  # the state before it serves as well, at the cost of a start
        logger.warning("the end of the tuning in %s is not kept: %s", folder, error)


def _with(newest: Path) -> list[Path]:
    """Tune's list of trials, and what it wrote with it."""
    return sorted(newest.parent.glob(f"*-{newest.stem.removeprefix(EXPERIMENT)}.*"))


def keep(system: fs.FileSystem, folder: str, files: list[Path]) -> None:
    """Keep `files` as the newest state in `folder`.

    Raises:
        OSError: it cannot be written; what was kept before stays.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    states = _states(system, folder)
    number = 1 + int(Path(states[-1]).stem.removeprefix("state-")) if states else 0
    write_whole(system, f"{folder}/state-{number:09d}.zip", packed.getvalue())
    for path in states[: 1 - KEPT]:
        system.delete_file(path)


def check_owner(folder: str) -> None:
    """Raise ValueError where a tuning's folder on a disk, or a file in it, is another user's: Tune's state is code.

    Tune unpickles it, and so runs what it says. Who may write to a bucket is for its owner to say (docs/security.md).
    """
    path = Path(folder)
    if "://" in folder or not path.is_dir():
        return
    for own in (path, *(file for file in path.rglob("*") if file.suffix in (".zip", ".pkl", ".json"))):
        status = own.lstat()
        if status.st_uid not in (0, os.geteuid()) or stat.S_ISLNK(status.st_mode):
            whose = "is a link" if stat.S_ISLNK(status.st_mode) else f"belongs to user {status.st_uid}, not to you"
            raise ValueError(
                f"{own} {whose}: a tuning's state is code that --resume runs; begin another one under a new --name"
            )


def put_back(folder: str, session: Path, trials: int | None = None, concurrent: int | None = None) -> bool:
    """Give Tune the last whole state of the tuning in `folder`, a path or URI; False where there is none.

    `session` is the folder of Ray's session on this machine, where Tune may have written of a later moment. A search
    goes on to `trials` of them, `concurrent` at a time; None leaves that as it was. A state that is damaged is named in
    a warning, and the one before it is taken. There is none before the first trial.
    """
    system, system_path = fs.FileSystem.from_uri(folder) if "://" in folder else (fs.LocalFileSystem(), folder)
    for path in reversed(_states(system, system_path)):
        try:
            with system.open_input_file(path) as file, zipfile.ZipFile(io.BytesIO(file.read())) as archive:
                files = {check_plain(name): archive.read(name) for name in archive.namelist()}
        except (OSError, ValueError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            logger.warning("%s cannot be read and is left out, the one before it is used: %s", path, error)
            continue
        _forget(system, system_path, session)
        for name, content in files.items():
            if trials is not None and name.startswith(SEARCH):
                content = _extended(content, trials, concurrent)
            with system.open_output_stream(f"{system_path}/{name}") as out:
                out.write(content)
        return True
    return False


def _extended(search: bytes, trials: int, concurrent: int | None) -> bytes:
    """Tune's state of a search, with another number of trials in all and at a time.

    `Tuner.restore` takes no number of samples. These are the attributes of Ray's `SearchGenerator`, and of the
    `ConcurrencyLimiter` that Tune puts around a searcher.
    """
    state = pickle.loads(search)  # noqa: S301  (Tune does the same next; `check_owner` came before)
    if not isinstance(state.get("total_samples"), int):
        raise RuntimeError("this Ray keeps a search without its number of trials, so it cannot go on")
    state["total_samples"] = trials
    if concurrent is not None and LIMITER in state:
        state[LIMITER]["max_concurrent"] = concurrent
    return pickle.dumps(state)


def _forget(system: fs.FileSystem, folder: str, session: Path) -> None:
    """Remove what Tune has written: it takes the newest file of each kind, from its folder on this machine too."""
    for info in system.get_file_info(fs.FileSelector(folder)):
        if _is_state(info.base_name):
            system.delete_file(info.path)
    for path in session.glob(f"artifacts/*/{Path(folder).name}/driver_artifacts/*"):
        if _is_state(path.name):
            path.unlink(missing_ok=True)


def _is_state(name: str) -> bool:
    return name.endswith((".json", ".pkl")) and name != TUNER


def _states(system: fs.FileSystem, folder: str) -> list[str]:
    """The kept states, oldest first."""
    return sorted(info.path for info in listed(system, folder) if re.fullmatch(r"state-\d+\.zip", info.base_name))
