"""From the name that an experiment gives its data to the packed data set."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from miseg.data.folders.description import read_description
from miseg.data.folders.source import open_folders
from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import SIDECAR, pack
from miseg.data.samples import Source
from miseg.data.sources.registry import DATA_SETS, open_source

_NAME = re.compile(r"[^\W_][\w.-]{0,63}")


def packed_path(name: str, storage: Path | str) -> Path:
    """Folder or URI under `storage` in which the data set `name` is packed."""
    return Path(storage).expanduser() / "data" / name


def own_path(out: str, storage: Path | str) -> Path:
    """Folder to pack into: of a plain name one in `storage`, else the path that `out` is.

    Raises:
        ValueError: a plain name with letters that are no name's.
    """
    if not _is_name(out):
        return Path(out).expanduser()
    if not _NAME.fullmatch(out):
        raise ValueError(
            f"--out {out!r}: give a name of letters, digits, _ and - such as pets, or a path such as ./pets"
        )
    return packed_path(out, storage)


def ensure_packed(name: str, storage: Path | str) -> str:
    """The folder or URI of the packed data set that `name` stands for, packed now if it is not yet.

    Args:
        name: "embedded" (drawn on first use); another name in `DATA_SETS` (packed on first use from its folder in
            `$MISEG_DATA`: the splits that are there); the name of own data that `storage` holds; the path of a
            description of own images, dataset.yaml (packed on first use); or the folder or URI of a packed data set.
        storage: local folder under which named data sets are packed, as `<storage>/data/<name>`.

    Two processes may do this at once: each packs into a folder of its own, and the second uses what the first has
    moved into place.

    Raises:
        ValueError: unknown name, a name of two data sets, no packed data set at the path, or the source is missing or
            has bad files.
    """
    if name in DATA_SETS:
        return _packed_once(packed_path(name, storage), lambda: open_source(name))
    if Path(name).suffix in (".yaml", ".yml"):
        path = Path(name).expanduser().absolute()
        description = read_description(path)
        # Of another file of the same name, or this one changed, nothing is taken.
        digest = hashlib.sha256(f"{path.parent}\n".encode("utf-8", "surrogateescape") + path.read_bytes()).hexdigest()
        out = packed_path(f"{description.name}-{digest[:8]}", storage)
        return _packed_once(out, lambda: open_folders(description, path.parent))
    own = packed_path(name, storage).absolute()
    if _is_name(name) and (own / SIDECAR).is_file():
        here = Path(name).absolute()
        if here != own and (here / SIDECAR).is_file():
            raise ValueError(f"data = {name!r} is {own} or {here}: give the path of the one that is meant")
        name = str(own)
    elif _is_name(name) and not Path(name).exists():
        names = (*DATA_SETS, *_own_names(storage))
        near = difflib.get_close_matches(name, names, 1)
        raise ValueError(
            f"data = {name!r} is neither a known data set ({', '.join(names)}) nor a folder or URI of a packed one"
            f"{f': is it {near[0]}?' if near else ''}; pack your own images with `miseg prepare-data --images PATTERN "
            f"--masks PATTERN --out {name}`"
        )
    PackedDataset.open(name)
    return name


def _packed_once(out: Path, open_it: Callable[[], Source]) -> str:
    out = out.absolute()
    if not (out / SIDECAR).is_file():
        source = open_it()
        pack(source, out, source.available(), max_rejected=0, replace=False)
    PackedDataset.open(out)
    return str(out)


def _own_names(storage: Path | str) -> list[str]:
    """Names of the data sets that are packed in a local storage, beside the published ones."""
    folder = packed_path("x", storage).parent
    try:
        return sorted(path.parent.name for path in folder.glob(f"[!.]*/{SIDECAR}") if path.parent.name not in DATA_SETS)
    except OSError:
        return []


def _is_name(text: str) -> bool:
    """Whether `text` is a name, not a path or URI."""
    return "/" not in text and "\\" not in text and not text.startswith((".", "~"))
