"""From the name that an experiment gives its data to the packed data set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from miseg.data.folders.description import read_description
from miseg.data.folders.source import open_folders
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.names import is_packed, is_plain, located
from miseg.data.packed.packing import SIDECAR, pack
from miseg.data.samples import Source
from miseg.data.series.description import SeriesDescription, is_of_series, read_series
from miseg.data.sources.described import DESCRIBED
from miseg.data.sources.registry import DATA_SETS, open_source
from miseg.extras import require

_NAME = re.compile(r"[^\W_][\w.-]{0,63}")


def packed_path(name: str, storage: Path | str) -> Path:
    """Folder or URI under `storage` in which the data set `name` is packed."""
    return Path(storage).expanduser() / "data" / name


def own_path(out: str, storage: Path | str) -> Path:
    """Folder to pack into: of a plain name one in `storage`, else the path that `out` is.

    Raises:
        ValueError: a plain name with letters that are no name's.
    """
    if not is_plain(out):
        return Path(out).expanduser()
    if not _NAME.fullmatch(out):
        raise ValueError(
            f"--out {out!r}: give a name of letters, digits, _ and - such as pets, or a path such as ./pets"
        )
    return packed_path(out, storage)


def is_description(name: str) -> bool:
    """Whether `name` is the path of a description of own images, or of an own series."""
    return Path(name).suffix in (".yaml", ".yml")


def check_known(name: str, storage: Path | str) -> None:
    """Raise ValueError where `name` is no data set that is known or packed; nothing is packed for it."""
    if is_description(name):
        path = Path(name).expanduser()
        (read_series if is_of_series(path) else read_description)(path)
    elif name not in DATA_SETS and name not in DESCRIBED:
        located(name, storage, (*DATA_SETS, *DESCRIBED))


def ensure_packed(name: str, storage: Path | str) -> str:
    """The folder or URI of the packed data set that `name` stands for, packed now if it is not yet.

    Args:
        name: "embedded" (drawn on first use); another name in `DATA_SETS` (packed on first use from its folder in
            `$MISEG_DATA`: the splits that are there); the name of own data that `storage` holds; one in `DESCRIBED`
            (packed likewise, unless own data has the name); the path of a description of own images or an own series,
            dataset.yaml (packed on first use); or the folder or URI of a packed data set.
        storage: folder under which named data sets are packed, as `<storage>/data/<name>`; of own data, by its name, a
            URI too.

    Two processes may do this at once: each packs into a folder of its own, and the second uses what the first has
    moved into place.

    Raises:
        ValueError: unknown name, a name of two data sets, no packed data set at the path, or the source is missing or
            has bad files.
    """
    if name in DATA_SETS:
        return _packed_once(packed_path(name, storage), lambda: open_source(name))
    if is_description(name):
        path = Path(name).expanduser().absolute()
        of_series = is_of_series(path)
        description: Any = read_series(path) if of_series else read_description(path)
        # Of another file of the same name, or this one changed, nothing is taken.
        digest = hashlib.sha256(f"{path.parent}\n".encode("utf-8", "surrogateescape") + path.read_bytes()).hexdigest()
        out = packed_path(f"{description.name}-{digest[:8]}", storage)
        open_own = _open_series if of_series else open_folders
        return _packed_once(out, lambda: open_own(description, path.parent))
    if name in DESCRIBED and not is_packed(name, storage):
        return _packed_once(packed_path(name, storage), lambda: open_source(name))
    return located(name, storage, (*DATA_SETS, *DESCRIBED))


def _open_series(description: SeriesDescription, root: Path) -> Source:
    require("geo", "an own series", "rasterio", "shapely")
    # Not at the top: images alone need no extra 'geo'.
    from miseg.data.series.source import open_series_source

    return open_series_source(description, root)


def _packed_once(out: Path, open_it: Callable[[], Source]) -> str:
    out = out.absolute()
    if not (out / SIDECAR).is_file():
        source = open_it()
        pack(source, out, source.available(), max_rejected=0, replace=False)
    PackedDataset.open(out)
    return str(out)
