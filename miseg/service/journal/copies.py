"""Copies of journals in a storage that is no folder: a machine may be lost before MLflow has what its journals hold."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from pyarrow import fs

from miseg.data.storage import fetch_files, file_system, listed
from miseg.file_names import below, check_plain
from miseg.service.journal.files import pending
from miseg.service.journal.sender import Sender

logger = logging.getLogger(__name__)


def keep(path: Path, storage: str) -> None:
    """Copy the journal at `path`, with its files to upload, to `<storage>/journals`.

    Raises:
        OSError: the storage does not take it.
    """
    system, folder = _copies_folder(storage)
    files = path.with_suffix("")
    for file in sorted(files.iterdir()) if files.is_dir() else []:
        system.create_dir(f"{folder}/{files.name}")
        fs.copy_files(str(file), f"{folder}/{files.name}/{file.name}", destination_filesystem=system)
    system.create_dir(folder)
    fs.copy_files(str(path), f"{folder}/{path.name}", destination_filesystem=system)


def forget(path: Path, storage: str) -> None:
    """Remove the copy of the journal at `path`."""
    system, folder = _copies_folder(storage)
    for remove, name in ((system.delete_file, path.name), (system.delete_dir, path.stem)):
        if system.get_file_info(f"{folder}/{name}").type != fs.FileType.NotFound:
            remove(f"{folder}/{name}")


def sync(storage: str, tracking_uri: str) -> int:
    """Send what the storage's copies hold; the number of entries sent. A copy that MLflow has taken is removed.

    The machine that it is from may send its journal too: nothing arrives twice.
    """
    if "://" not in storage:
        return 0
    system, folder = _copies_folder(storage)
    count = 0
    with tempfile.TemporaryDirectory() as beside:
        for info in listed(system, folder):
            if not info.base_name.endswith(".jsonl"):
                continue
            try:
                path = Path(beside) / check_plain(info.base_name)
                fs.copy_files(info.path, str(path), source_filesystem=system)
                if system.get_file_info(f"{folder}/{path.stem}").type == fs.FileType.Directory:
                    path.with_suffix("").mkdir()
                    fetch_files(system, f"{folder}/{path.stem}", path.with_suffix(""))
                count += Sender(path, tracking_uri, path.stem, storage).send()
                if not pending(path) and not path.with_suffix(".refused").exists():
                    forget(path, storage)
            except Exception as error:
                logger.warning("MLflow at %s did not take %s, which stays: %s", tracking_uri, info.path, error)
    return count


def _copies_folder(storage: str) -> tuple[fs.FileSystem, str]:
    return file_system(below(storage, "journals"))
