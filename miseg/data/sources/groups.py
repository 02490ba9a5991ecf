"""Places, patients and clips that images of a packed data set show: what drawn partners should not share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.moments import scene_series
from miseg.data.sources import camvid

GROUPS: Mapping[str, Callable[[str], str]] = {"camvid": camvid.clip_of}
"""Published data sets whose images' ids say what they belong to; their sidecars stay as they were."""


def group_of(dataset: PackedDataset, split: str) -> Callable[[str], str] | None:
    """From an image's id to the place, patient or clip that it shows, "" where that is not known; None: of no image."""
    if dataset.info.groups:
        return lambda name: dataset.info.groups.get(name, "")
    if dataset.info.dates:
        places = {name: scene_series(series) for name, series, _ in dataset.index(split) if series is not None}
        return lambda name: places.get(name, "")
    # Of others the ids are not read first: of many, from far away, that would take minutes.
    return GROUPS.get(dataset.info.name)
