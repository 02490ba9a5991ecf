"""From the name that an experiment gives its data to the packed data set."""

from __future__ import annotations

from pathlib import Path

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import SIDECAR, pack
from miseg.data.sources.registry import DATA_SETS, open_source


def packed_path(name: str, storage: Path | str) -> Path:
    """Folder or URI under `storage` in which the data set `name` is packed."""
    return Path(storage).expanduser() / "data" / name


def ensure_packed(name: str, storage: Path | str) -> str:
    """The folder or URI of the packed data set that `name` stands for, packed now if it is not yet.

    Args:
        name: "embedded" (drawn on first use); another name in `DATA_SETS` (packed on first use from its folder in
            `$MISEG_DATA`: the splits that are there); or the folder or URI of a packed data set.
        storage: local folder under which named data sets are packed, as `<storage>/data/<name>`.

    Two processes may do this at once: each packs into a folder of its own, and the second uses what the first has
    moved into place.

    Raises:
        ValueError: unknown name, no packed data set at the path, or the source is missing or has bad files.
    """
    if name not in DATA_SETS:
        if "/" not in name and "\\" not in name and not Path(name).exists():
            raise ValueError(
                f"data = {name!r} is neither a known data set ({', '.join(DATA_SETS)}) nor a folder or URI of a packed "
                "one; pack one with `miseg prepare-data --out FOLDER` and give the folder"
            )
        PackedDataset.open(name)
        return name
    out = packed_path(name, storage).absolute()
    if not (out / SIDECAR).is_file():
        source = open_source(name)
        pack(source, out, source.available(), max_rejected=0, replace=False)
    PackedDataset.open(out)
    return str(out)
