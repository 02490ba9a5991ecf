"""Description of own images and masks, and the file dataset.yaml that keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import yaml

from miseg.data.folders.encoding import MaskEncoding, MaskOptions
from miseg.data.folders.names.layout import Layout, WithoutMask
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

DESCRIPTION = "dataset.yaml"

_HEAD = "# Images and masks of a data set: miseg prepare-data --description FILE packs them again.\n"
_PATTERNS = ("images", "masks", "valid", "coco", "parquet", "lists")
_FILES = ("colours", "ids")


@dataclass(frozen=True)
class Description:
    """Settings of `miseg prepare-data` for own images and masks.

    Attributes:
        name: the data set's name.
        layout: where files are.
        options: what masks hold, as the user says it.
        encoding: what they hold, as it was found; then they are not surveyed again.
        split: shares of train, val and test to draw; none: the usual ones where there are no splits.
        seed: which draw.
        split_blocks: whether splits are runs of neighbouring names, and not drawn by lot.
    """

    name: str
    layout: Layout
    options: MaskOptions = field(default_factory=MaskOptions)
    encoding: MaskEncoding | None = None
    split: tuple[float, ...] = ()
    seed: int = 0
    split_blocks: bool = False


def read_description(path: Path) -> Description:
    """The description in a YAML file; its relative paths start from the file's folder.

    Raises:
        ValueError: it cannot be read, is no YAML, or has a key or value that is not known; the message names the file.
    """
    content = read_mapping(path, "images: images/*.png")
    values = {
        name: read_value(path, name, value, _KEYS[name][1])
        for name, value in ((check_key(path, key, _KEYS), value) for key, value in content.items())
    }
    parts: dict[str, dict[str, Any]] = {"layout": {}, "options": {}, "own": {}}
    for key, value in values.items():
        parts[_KEYS[key][0]][key] = value
    options = MaskOptions(**parts["options"])
    layout = Layout(**parts["layout"], several_masks=options.instances)
    own = {"name": path.absolute().parent.name} | parts["own"]
    for name in _FILES:
        if (file := getattr(options, name)) is not None:
            options = replace(options, **{name: path.absolute().parent / file.expanduser()})
    return Description(**own, layout=layout, options=options)


def write_description(description: Description, path: Path, root: Path) -> None:
    """Writes `description`, whose relative paths start from the folder `root`, to the YAML file `path`.

    Paths are absolute in it, but for those below the file's own folder.
    """
    content: dict[str, Any] = {"name": description.name}
    for name in _PATTERNS:
        patterns = [portable(pattern, root, path.parent) for pattern in getattr(description.layout, name)]
        if patterns:
            content[name] = patterns
    layout, default = description.layout, Layout()
    if layout.columns:
        content["columns"] = list(layout.columns)
    for name in ("group", "split_folders", "without_mask"):
        if getattr(layout, name) != getattr(default, name):
            content[name] = getattr(layout, name)
    if description.split:
        content["split"] = list(description.split)
    if description.split_blocks:
        content["split_blocks"] = True
    else:
        content["seed"] = description.seed
    if description.options.instances:
        content["instances"] = True
    if layout.coco and description.options.ignore:
        # No encoding says it: categories are read anew.
        content["ignore"] = list(description.options.ignore)
    if description.encoding is not None:
        content["encoding"] = description.encoding.to_dict()
    with replacing(path) as unfinished:
        written = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
        unfinished.write_text(_HEAD + written, encoding="utf-8")


def _choice(value: object) -> str:
    if value not in get_args(WithoutMask):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(WithoutMask))}")
    return str(value)


_KEYS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "name": ("own", file_name),
    "images": ("layout", texts),
    "masks": ("layout", texts),
    "valid": ("layout", texts),
    "coco": ("layout", texts),
    "parquet": ("layout", texts),
    "columns": ("layout", texts),
    "lists": ("layout", texts),
    "group": ("layout", text),
    "split_folders": ("layout", flag),
    "without_mask": ("layout", _choice),
    "split": ("own", list_of(number)),
    "seed": ("own", integer),
    "split_blocks": ("own", flag),
    "classes": ("options", texts),
    "colours": ("options", lambda value: Path(text(value))),
    "ids": ("options", lambda value: Path(text(value))),
    "foreground": ("options", list_of(integer)),
    "threshold": ("options", number),
    "ignore": ("options", list_of(id_or_name)),
    "instances": ("options", flag),
    "encoding": ("own", MaskEncoding.from_dict),
}
"""By key, the part of the description that it belongs to, and the function that reads its value."""
