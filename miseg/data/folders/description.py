"""Description of own images and masks, and the file dataset.yaml that keeps it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import yaml

from miseg.data.folders.encoding import MaskEncoding, MaskOptions
from miseg.data.folders.names.layout import Layout, WithoutMask
from miseg.files import read_text, replacing

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
    text = read_text(path, "save it as UTF-8 text")
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no YAML ({reason}): correct it") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds {type(content).__name__}, not keys and values such as 'images: images/*.png'")
    values = {key: _value(path, key, value) for key, value in content.items()}
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
        patterns = [_portable(pattern, root, path.parent) for pattern in getattr(description.layout, name)]
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
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
        unfinished.write_text(_HEAD + text, encoding="utf-8")


def _portable(pattern: str, root: Path, folder: Path) -> str:
    path = (root / Path(pattern).expanduser()).absolute()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _value(path: Path, key: object, value: object) -> Any:
    if key not in _KEYS:
        near = difflib.get_close_matches(str(key), _KEYS, 1)
        mend = f"is it {near[0]}?" if near else f"use one of {', '.join(_KEYS)}"
        raise ValueError(f"{path}: key {key!r} is unknown: {mend}")
    try:
        return _KEYS[str(key)][1](value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {key}: {error}") from None


def _texts(value: object) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ValueError(f"{value!r} is no text and no list of texts")
    return tuple(values)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    return value


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    return value


def _list_of(read: Callable[[object], Any]) -> Callable[[object], tuple[Any, ...]]:
    def values(value: object) -> tuple[Any, ...]:
        return tuple(read(one) for one in (value if isinstance(value, list) else [value]))

    return values


def _choice(value: object) -> str:
    if value not in get_args(WithoutMask):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(WithoutMask))}")
    return str(value)


def _id_or_name(value: object) -> int | str:
    return value if isinstance(value, str) else _integer(value)


_KEYS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "name": ("own", _text),
    "images": ("layout", _texts),
    "masks": ("layout", _texts),
    "valid": ("layout", _texts),
    "coco": ("layout", _texts),
    "parquet": ("layout", _texts),
    "columns": ("layout", _texts),
    "lists": ("layout", _texts),
    "group": ("layout", _text),
    "split_folders": ("layout", _flag),
    "without_mask": ("layout", _choice),
    "split": ("own", _list_of(_number)),
    "seed": ("own", _integer),
    "split_blocks": ("own", _flag),
    "classes": ("options", _texts),
    "colours": ("options", lambda value: Path(_text(value))),
    "ids": ("options", lambda value: Path(_text(value))),
    "foreground": ("options", _list_of(_integer)),
    "threshold": ("options", _number),
    "ignore": ("options", _list_of(_id_or_name)),
    "instances": ("options", _flag),
    "encoding": ("own", MaskEncoding.from_dict),
}
"""By key, the part of the description that it belongs to, and the function that reads its value."""
