"""Maps under a folder or URI that are whole or not there: each has a record beside it, written last.

`<name>.json` says what the map `<name>.tif` was made from and how large its files are. Who runs again does nothing for
a map whose record says just what it would write.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from miseg.data.raster.maps import confidence_path
from miseg.data.storage import file_system, is_local, patiently, write_whole
from miseg.file_names import below
from miseg.json_values import parse

MADE_FROM = "made_from"
"""Field of a record: what decides a map."""

_READERS = 16


class MapFiles:
    """File and record of one map.

    Args:
        out: folder or URI of the maps.
        name: of the map below it, without the ending.
    """

    def __init__(self, out: str, name: str) -> None:
        self.uri = below(out, f"{name}.tif")
        self.system, self.path = file_system(self.uri)
        self.record_path = f"{self.path.removesuffix('.tif')}.json"

    def begin(self, beside: Path) -> Path:
        """Path at which to write the map: its place, or in the folder `beside` where that is behind a network.

        From here until `keep` there is no record: what is found then is not whole. What a kill left of an earlier
        attempt goes.

        Raises:
            OSError: the place cannot be written.
        """
        with contextlib.suppress(FileNotFoundError):
            patiently(self.system, lambda: self.system.delete_file(self.record_path))
        if not is_local(self.system):
            return beside / PurePosixPath(self.path).name
        path = Path(self.path)
        for left in path.parent.glob(f".{_literal(path.name)}.writing-*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return path

    def keep(self, written: Path, record: Mapping[str, Any]) -> None:
        """The map at `written`, and its confidence, are whole: put them into their place, and the record last.

        Raises:
            OSError: the place cannot be written.
        """
        files = [confidence_path(written), written]
        files += [sidecar for file in files if (sidecar := file.with_name(f"{file.name}.aux.xml")).exists()]
        sizes = {file.name: file.stat().st_size for file in files}
        text = json.dumps(dict(record) | {"files": sizes}, indent=1).encode()
        if is_local(self.system):
            write_whole(self.system, self.record_path, text)
            return
        folder = str(PurePosixPath(self.path).parent)
        for file in files:
            copy = partial(fs.copy_files, str(file), f"{folder}/{file.name}", destination_filesystem=self.system)
            patiently(self.system, copy)
        patiently(self.system, partial(write_whole, self.system, self.record_path, text))


def whole(out: str, made_from: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The names of those maps that are there whole, made from just that.

    Args:
        out: folder or URI of the maps.
        made_from: by name, what decides each.

    Raises:
        ValueError: what is there cannot be listed.
    """
    system, folder = file_system(out)
    selector = fs.FileSelector(folder, allow_not_found=True, recursive=True)
    try:
        infos = patiently(system, lambda: system.get_file_info(selector))
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{out} is no folder that can be listed ({error}): give another place for the maps") from None
    sizes = {info.path: info.size for info in infos if info.is_file}

    def is_whole(name: str) -> bool:
        path = f"{folder}/{name}.json"
        if path not in sizes:
            return False
        try:
            record = parse(patiently(system, lambda: _content(system, path)))
            same = record[MADE_FROM] == json.loads(json.dumps(made_from[name]))
            parent = PurePosixPath(path).parent
            return same and all(sizes.get(str(parent / file)) == size for file, size in record["files"].items())
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return False  # made again

    with ThreadPoolExecutor(_READERS) as readers:
        return {name for name, good in zip(made_from, readers.map(is_whole, made_from), strict=True) if good}


def _content(system: fs.FileSystem, path: str) -> bytes:
    with system.open_input_stream(path) as file:
        return file.read()


def _literal(name: str) -> str:
    """For `Path.glob`."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
