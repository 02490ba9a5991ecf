"""Tune's state of a tuning, kept so that a kill at any moment leaves it whole, and read only where we signed it.

Tune writes its state as several files, one after the other and in place. A kill between leaves one of them empty, which
`Tuner.restore` does not survive, or files of two moments: a trial that the searcher has never heard of ends the tuning.
They are pickles, too, which are code. So Tune works in a folder of its own on the driver's machine. Here all that
belongs to one moment is one signed file of the storage, `state-<number>.zip`; the last two stay.
"""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow import fs
from ray import tune

from miseg.data.storage import file_system, listed, patiently, write_whole
from miseg.file_names import below, check_plain
from miseg.service import signing

logger = logging.getLogger(__name__)

# It looks for the trials' own files, which stay with the driver that wrote them; rows are made of the last reports.
logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)

EXPERIMENT = "experiment_state-"
"""Prefix of the name of Tune's own list of trials; then comes the session, one for each driver."""

SEARCH = "search_gen_state-"
"""Prefix of the name of Tune's own state of a search."""

LIMITER = "name:ConcurrencyLimiter"
"""Key of the number of trials at a time in it."""

TUNER = "tuner.pkl"
"""File that Tune writes once, when a tuning starts."""

DESTINATION = "kept-in"
"""File of Tune's own folder that names the folder of the storage. `KeepState` cannot: Tune restores it as it was."""

KEPT = 2


class Limits(NamedTuple):
    """Trials up to which a search goes on, and how many at a time."""

    trials: int
    """In all."""
    concurrent: int
    """At a time."""


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
        _keep_with(Path(storage.experiment_fs_path), newest)
        self._written = written


@contextlib.contextmanager
def own_folder(folder: str) -> Iterator[Path]:
    """A folder for Tune on this machine, which its user alone reads; its state is kept in `folder`, a path or URI.

    What a killed driver leaves of it is a few files among the system's temporary ones.
    """
    system, path = file_system(folder)
    with tempfile.TemporaryDirectory(prefix="miseg-tune-", ignore_cleanup_errors=True) as own:
        Path(own, DESTINATION).write_text(folder)
        patiently(system, lambda: system.create_dir(path))
        yield Path(own)


def keep_begin(tunes: Path) -> None:
    """Keep that a tuning began: where it is killed before its first trial, `--resume` finds its name.

    Args:
        tunes: Tune's folder of one phase, in `own_folder`.
    """
    try:
        keep((tunes.parent / DESTINATION).read_text(), [tunes / TUNER])
    except signing.KeyMissingError as error:
        print(f"the state of {tunes.name} is not kept, so --resume will ask for its trials anew: {error}", flush=True)
    except OSError as error:
        logger.warning("the begin of the tuning in %s is not kept: %s", tunes.name, error)


def keep_end(tunes: Path, session: Path) -> None:
    """Keep what Tune wrote when a tuning ended by itself, after its last turn.

    Without it the last trial would be taken up again whenever the tuning is restored. `tunes` as for `keep_begin`,
    `session` as for `put_back`.
    """
    written = session.glob(f"artifacts/*/{tunes.name}/driver_artifacts/{EXPERIMENT}*.json")
    newest = max(written, key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is not None:
        _keep_with(tunes, newest)


def _keep_with(tunes: Path, newest: Path) -> None:
    """Keep Tune's list of trials, what it wrote with it, and what it wrote once."""
    together = sorted(newest.parent.glob(f"*-{newest.stem.removeprefix(EXPERIMENT)}.*"))
    try:
        keep((tunes.parent / DESTINATION).read_text(), [tunes / TUNER, *together])
    except signing.KeyMissingError:
        pass  # `keep_begin` said so
    except OSError as error:  # the trainings go on; what is lost by then is what Tune learns from now on
        logger.warning("the state of the tuning %s is not kept: %s", tunes.name, error)


def keep(folder: str, files: list[Path]) -> None:
    """Keep `files` as the newest state in `folder`, a path or URI.

    Raises:
        OSError: it cannot be written; what was kept before stays.
        signing.KeyMissingError: it cannot be signed.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    system, path = file_system(folder)
    states = _states(system, path)
    number = 1 + max(states, default=-1)
    write_whole(system, f"{path}/state-{number:09d}.zip", signing.signed(packed.getvalue(), _purpose(path, number)))
    for earlier in sorted(states)[: 1 - KEPT]:
        system.delete_file(states[earlier])


def check(storage: str, name: str) -> None:
    """Raise ValueError where the state of the tuning `name` in a storage's folder of tunings is not signed by us.

    As `put_back` does later: here before a Ray is started.
    """
    system, path = file_system(storage)
    phases = re.compile(rf"{re.escape(name)}-(search|[0-9a-f]{{8}}-confirm)")
    for info in patiently(system, lambda: listed(system, path)):
        if phases.fullmatch(info.base_name):
            next(_contents(below(storage, info.base_name), trusted=False), None)


def put_back(folder: str, tunes: Path, session: Path, limits: Limits | None = None, *, trusted: bool = False) -> bool:
    """Give Tune the last whole state of the tuning in `folder`, a path or URI; False where there is none.

    A state that is damaged is named in a warning, and the one before it is taken. There is none before the first trial.

    Args:
        folder: of the storage.
        tunes: Tune's folder, which is made.
        session: the folder of Ray's session on this machine, where Tune may have written of a later moment.
        limits: how far a search goes on; None leaves that as it was.
        trusted: whether states are taken that we did not sign.

    Raises:
        ValueError: the last whole state is not signed by us.
    """
    for files in _contents(folder, trusted=trusted):
        if not any(name.startswith(EXPERIMENT) for name in files):
            continue
        if TUNER not in files:  # of a version that left it beside
            system, path = file_system(folder)
            with system.open_input_file(f"{path}/{TUNER}") as file:
                files[TUNER] = file.read()
        _forget(tunes.name, session)
        tunes.mkdir(parents=True)
        for name, content in files.items():
            if limits is not None and name.startswith(SEARCH):
                content = _extended(content, limits)
            (tunes / name).write_bytes(content)
        return True
    return False


def _contents(folder: str, *, trusted: bool) -> Iterator[dict[str, bytes]]:
    """Files of each whole state by name, the last state first; `folder` and errors as of `put_back`."""
    system, path = file_system(folder)
    for number, state in sorted(patiently(system, lambda: _states(system, path)).items(), reverse=True):
        try:
            with system.open_input_file(state) as file:
                content = file.read()
            content = signing.unverified(content) if trusted else signing.verified(content, _purpose(path, number))
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                files = {check_plain(name): archive.read(name) for name in archive.namelist()}
        except signing.UnsignedError as error:
            raise ValueError(
                f"{state} {error}, and --resume would run what is in it: set {signing.KEY} to the key of who wrote it, "
                "or give --trust-state if you know that nobody else did. Without the files state-*.zip there the "
                "trials are asked for anew, and what is trained is found again"
            ) from None
        except signing.KeyMissingError as error:
            raise ValueError(f"{state} cannot be checked before --resume runs what is in it: {error}") from None
        except (OSError, ValueError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            logger.warning("%s cannot be read and is left out, the one before it is used: %s", state, error)
            continue
        yield files


def is_there(folder: str) -> bool:
    """Whether a tuning was begun in `folder`, a path or URI."""
    return bool(_states(*file_system(folder)))


def _extended(search: bytes, limits: Limits) -> bytes:
    """Tune's state of a search, with another number of trials in all and at a time.

    `Tuner.restore` takes no number of samples. These are the attributes of Ray's `SearchGenerator`, and of the
    `ConcurrencyLimiter` that Tune puts around a searcher.
    """
    state = pickle.loads(search)  # noqa: S301  (Tune does the same next; its signature was checked)
    if not isinstance(state.get("total_samples"), int):
        raise RuntimeError("this Ray keeps a search without its number of trials, so it cannot go on")
    state["total_samples"] = limits.trials
    if LIMITER in state:
        state[LIMITER]["max_concurrent"] = limits.concurrent
    return pickle.dumps(state)


def _forget(name: str, session: Path) -> None:
    """Remove what Tune wrote in Ray's folder on this machine: it takes the newest file of each kind."""
    for path in session.glob(f"artifacts/*/{name}/driver_artifacts/*"):
        if path.name.endswith((".json", ".pkl")):
            path.unlink(missing_ok=True)


def _states(system: fs.FileSystem, folder: str) -> dict[int, str]:
    """Paths of the kept states by their numbers."""
    names = ((re.fullmatch(r"state-(\d{1,18})\.zip", info.base_name), info.path) for info in listed(system, folder))
    return {int(match[1]): path for match, path in names if match}


def _purpose(path: str, number: int) -> str:
    """Of a state's signature: it stands in for no other one, and in no other tuning."""
    return f"tuning {Path(path).name} state {number}"
