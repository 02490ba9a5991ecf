"""Names and shapes of the tensors in a file of weights, without reading the tensors: no torch here.

A wrong file can so be told in milliseconds. What cannot be told here, `miseg.networks.encoders.weight_files` tells.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miseg.json_values import parse

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher", "student", "encoder", "backbone")
"""Keys under which training scripts keep the weights in a checkpoint; the first that is there counts."""

Shape = tuple[int, ...]

LARGEST = 2**26
"""Bytes of a header or a pickle without tensors, at most; more is left to who reads the file."""

OLD_FORMAT, OLD_VERSION = 0x1950A86A20F9469CFC6C, 1001
"""First values of a file of torch.save that is no zip archive."""


def shapes_in(path: Path) -> dict[str, Shape] | None:
    """Shapes of a file's tensors by name, as `weight_files.read` unwraps it; None where this cannot tell.

    Nothing in a file is run: of a pickle's objects only tensors and dictionaries are made, as shapes.
    """
    try:
        content = _content_of(path)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, EOFError, RecursionError, MemoryError):
        return None
    except (pickle.UnpicklingError, zipfile.BadZipFile, struct.error, NotImplementedError):
        return None
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        return None
    return {str(name): value.shape for name, value in content.items() if isinstance(value, _Tensor)}


class _Tensor:
    """A tensor of which the shape alone is known."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape


class _Other:
    """Whatever else a pickle holds; nothing of it is kept."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _content_of(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return _of_safetensors(path)
    return _of_zip(path) if zipfile.is_zipfile(path) else _of_pickles(path)


def _of_safetensors(path: Path) -> dict[str, _Tensor]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > LARGEST:
            raise ValueError(f"a header of {length} bytes")
        entries = parse(file.read(length))
    return {name: _Tensor(tuple(entry["shape"])) for name, entry in entries.items() if name != "__metadata__"}


def _of_zip(path: Path) -> Any:
    """Content of a file of torch.save since 1.6, a pickle beside the tensors' bytes: its tensors are shapes."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
        if archive.getinfo(name).file_size > LARGEST:
            raise ValueError(f"a pickle of {archive.getinfo(name).file_size} bytes")
        return _Shapes(io.BytesIO(archive.read(name))).load()


def _of_pickles(path: Path) -> Any:
    """Content of a file of torch.save before 1.6: a number, a version, the system, then the pickle of the content."""
    with path.open("rb") as file:
        start = io.BytesIO(file.read(LARGEST))
    number, version, _system, content = (_Shapes(start).load() for _ in range(4))
    if (number, version) != (OLD_FORMAT, OLD_VERSION):
        raise ValueError("no file of torch.save")
    return content


class _Shapes(pickle.Unpickler):
    """Reads a pickle of torch.save; no function but these three is ever called, and no class made but `_Other`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _rebuilt
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _parameter
        return _Other

    def persistent_load(self, _: Any) -> None:
        return None


def _rebuilt(_storage: Any, _offset: Any, size: Any, *_: Any) -> _Tensor:
    return _Tensor(tuple(int(side) for side in size))


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor
