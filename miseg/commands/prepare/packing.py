"""Options of packing, whatever the data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackingOptions:
    """Options of packing any data set."""

    out: str | None = None
    """Name of the packed data set, for --data of every job: it goes to $MISEG_STORAGE/data/<name> with
    MISEG_STORAGE=~/miseg. Or the path of a folder. By default the published data set's name. A packed data set that is
    there already is replaced."""
    splits: tuple[str, ...] | None = None
    """Splits to pack, such as train val test; by default all that are there."""
    max_rejected: int = 0
    """Bad files beyond this number make the job exit with 1; the good ones are packed all the same."""
    min_size: tuple[int, int] | None = None
    """Height and width in pixels of the crop you will train with: smaller images are rejected."""
    seed: int = 0
    """Number of the draw: of own images' splits, or of the embedded scenes; 0 or more."""
