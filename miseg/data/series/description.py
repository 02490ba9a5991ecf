"""Description of an own series, and the file dataset.yaml that keeps it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from miseg.data.folders.encoding import MaskOptions
from miseg.data.yaml_values import (
    check_key,
    file_name,
    flag,
    id_or_name,
    integer,
    list_of,
    number,
    portable,
    read_mapping,
    read_value,
    text,
    texts,
)
from miseg.files import replacing

_HEAD = "# A series of scenes: miseg prepare-data --description FILE packs it again.\n"
_PATHS = ("dates", "labels", "ids")


@dataclass(frozen=True)
class SeriesDescription:
    """Settings of `miseg prepare-data` for an own series.

    Attributes:
        name: the data set's name.
        series: folders, files or patterns of scenes.
        bands: names or numbers, in the channels' order; none: all that files name.
        dates: CSV table of lines file,date.
        date_format: of `datetime.strptime`, for dates in names.
        mask: pattern of the masks' names.
        mask_values: values of masks whose pixels do not count.
        mask_bits: bits likewise, from 0.
        offset: added to stored values; None: what the products say.
        resample: whether bands of other pixel sizes are brought to the finest.
        grid: date whose pixels all dates are read on; None: the first.
        labels: raster or vector file.
        label_field: the field of a vector file that holds the class.
        classes: names of classes in label order.
        ids: CSV table of classes by id.
        ignore: ids, or names of classes, whose pixels count nowhere.
        split: shares of train, val and test.
        seed: which draw.
    """

    name: str
    series: tuple[str, ...]
    bands: tuple[str, ...] = ()
    dates: Path | None = None
    date_format: str | None = None
    mask: str | None = None
    mask_values: tuple[int, ...] = ()
    mask_bits: tuple[int, ...] = ()
    offset: float | None = None
    resample: bool = False
    grid: str | None = None
    labels: Path | None = None
    label_field: str | None = None
    classes: tuple[str, ...] = ()
    ids: Path | None = None
    ignore: tuple[int | str, ...] = ()
    split: tuple[float, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.series:
            raise ValueError("--series: give the folder of the scenes, or a pattern such as 'scenes/*.tif'")
        if len(set(self.bands)) != len(self.bands):
            raise ValueError(f"--bands {' '.join(self.bands)}: name each once")
        if (self.mask_values or self.mask_bits) and self.mask is None:
            raise ValueError("--mask-values and --mask-bits are of masks: name those with --mask '{stem}_mask.tif'")
        if wrong := [bit for bit in self.mask_bits if not 0 <= bit < 32]:
            raise ValueError(f"--mask-bits {wrong[0]}: bits count from 0, to 31")
        given = {
            "--label-field": self.label_field,
            "--classes": self.classes,
            "--ids": self.ids,
            "--ignore": self.ignore,
        }
        if self.labels is None and (names := [name for name, value in given.items() if value]):
            raise ValueError(f"{names[0]} is of labels: give those with --labels, or leave it out")
        if self.dates is not None and self.date_format is not None:
            raise ValueError("--dates beside --date-format: give one of them")
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed}: use 0 or more")

    @property
    def mask_options(self) -> MaskOptions:
        """The user's word on what labels mean."""
        return MaskOptions(classes=self.classes, ids=self.ids, ignore=self.ignore)


def is_of_series(path: Path) -> bool:
    """Whether a description file is a series', and not one of images.

    Raises:
        ValueError: as `read_mapping`.
    """
    return "series" in read_mapping(path, "series: scenes")


def read_series(path: Path) -> SeriesDescription:
    """The description in a YAML file; its relative paths start from the file's folder.

    Raises:
        ValueError: it cannot be read, is no YAML, or has a key or value that is not known; the message names the file.
    """
    content = read_mapping(path, "series: scenes")
    values = {check_key(path, key, _KEYS): value for key, value in content.items()}
    own = {key: read_value(path, key, value, _KEYS[key]) for key, value in values.items()}
    for name in _PATHS:
        if name in own:
            own[name] = path.absolute().parent / own[name].expanduser()
    try:
        return SeriesDescription(**({"name": path.absolute().parent.name, "series": ()} | own))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_series(description: SeriesDescription, path: Path, root: Path) -> None:
    """Writes `description`, whose relative paths start from the folder `root`, to the YAML file `path`.

    Paths are absolute in it, but for those below the file's own folder, and the masks', which start from the scenes'.
    """
    default = SeriesDescription("", ("",))
    content: dict[str, Any] = {}
    for name in (field.name for field in fields(description)):
        value = getattr(description, name)
        if name in ("name", "series", "seed") or value != getattr(default, name):
            content[name] = list(value) if isinstance(value, tuple) else value
    content["series"] = [portable(pattern, root, path.parent) for pattern in description.series]
    for name in _PATHS:
        if name in content:
            content[name] = portable(str(content[name]), root, path.parent)
    # A pattern that starts from the working folder would be looked for elsewhere the next time.
    pattern = re.sub(r"\{\w+\}", "*", description.mask or "")
    if "/" in pattern and any(root.glob(pattern) if not Path(pattern).is_absolute() else ()):
        content["mask"] = str(root.absolute() / str(description.mask))
    with replacing(path) as unfinished:
        written = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
        unfinished.write_text(_HEAD + written, encoding="utf-8")


def renamed(description: SeriesDescription, name: str | None) -> SeriesDescription:
    """The same under another name; None leaves it."""
    return description if name is None else replace(description, name=name)


def _band(value: object) -> str:
    return value if isinstance(value, str) else str(integer(value))


def _path(value: object) -> Path:
    return Path(text(value))


def _day(value: object) -> str:
    # YAML reads 2019-07-20 as a date of its own.
    return str(value)


_KEYS: dict[str, Callable[[object], Any]] = {
    "name": file_name,
    "series": texts,
    "bands": list_of(_band),
    "dates": _path,
    "date_format": text,
    "mask": text,
    "mask_values": list_of(integer),
    "mask_bits": list_of(integer),
    "offset": number,
    "resample": flag,
    "grid": _day,
    "labels": _path,
    "label_field": text,
    "classes": texts,
    "ids": _path,
    "ignore": list_of(id_or_name),
    "split": list_of(number),
    "seed": integer,
}
