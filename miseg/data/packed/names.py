"""Packed data sets by name: `<storage>/data/NAME`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

from pyarrow import fs

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import SIDECAR
from miseg.data.storage import file_system, listed, patiently
from miseg.file_names import below
from miseg.nearest_names import FEW, in_place_of

PATIENCE = 15.0
"""Seconds for which storage behind a network is asked again whether a name is there."""


def is_plain(name: str) -> bool:
    """Whether `name` is a name, which a storage is asked for, and no folder or URI."""
    return "/" not in name and "\\" not in name and not name.startswith((".", "~"))


def located(name: str, storage: Path | str, known: Collection[str] = ()) -> str:
    """The folder or URI of the packed data set that `name` stands for.

    Args:
        name: a plain name, packed as `<storage>/data/NAME`, or, where it is not, as the folder NAME of the working
            directory; or a folder or URI.
        storage: folder or URI.
        known: other names that a user may have meant, for the message.

    Raises:
        ValueError: nothing of that name is packed (the message lists what is), two different data sets have it, or no
            packed data set is at the path.
    """
    if not is_plain(name):
        PackedDataset.open(name)
        return name
    stored, here = _stored(name, storage), Path(name)
    is_here = (here / SIDECAR).is_file()
    if not _is_packed(stored):
        if is_here:
            PackedDataset.open(here)
            return str(here.absolute())
        raise ValueError(_unknown(name, storage, known))
    dataset = PackedDataset.open(stored)
    if is_here and PackedDataset.open(here).fingerprint != dataset.fingerprint:
        raise ValueError(
            f"data = {name!r} is {stored} or {here.absolute()}: give the path of the one that is meant (./{name})"
        )
    return stored


def is_packed(name: str, storage: Path | str) -> bool:
    """Whether a data set of this plain name is packed in `storage`, or in the working directory."""
    return (Path(name) / SIDECAR).is_file() or _is_packed(_stored(name, storage))


def packed_names(storage: Path | str) -> list[str]:
    """Names of the data sets that are packed in a storage, a folder or URI, sorted.

    Raises:
        OSError: it cannot be listed.
    """
    system, folder = file_system(_root(storage))
    entries = patiently(system, lambda: listed(system, folder), PATIENCE)
    folders = sorted(info.base_name for info in entries if info.type == fs.FileType.Directory)
    sidecars = patiently(system, lambda: system.get_file_info([f"{folder}/{name}/{SIDECAR}" for name in folders]))
    return [name for name, info in zip(folders, sidecars, strict=True) if info.type == fs.FileType.File]


def _root(storage: Path | str) -> str:
    text = str(storage)
    return below(text, "data") if "://" in text else str(Path(text).expanduser().absolute() / "data")


def _stored(name: str, storage: Path | str) -> str:
    return below(_root(storage), quote(name) if "://" in str(storage) else name)


def _is_packed(uri: str) -> bool:
    system, folder = file_system(uri)
    return bool(
        patiently(system, lambda: system.get_file_info(f"{folder}/{SIDECAR}"), PATIENCE).type == fs.FileType.File
    )


def _unknown(name: str, storage: Path | str, known: Collection[str]) -> str:
    packed = packed_names(storage)
    folder = f"; the folder {name} here is no packed data set" if Path(name).is_dir() else ""
    others = f"{', '.join(packed[:FEW])}{', …' if len(packed) > FEW else ''}" or "nothing is"
    return (
        f"data = {name!r} is neither a known data set nor packed in {_root(storage)} ({others}){folder}; "
        f"{in_place_of(name, [*packed, *known], 'miseg prepare-data --help')} "
        f"Pack your own images with `miseg prepare-data --images PATTERN --masks PATTERN --out {name}`"
    )
