"""The code that travels with a model: this package as a wheel, which pip installs and Python imports from as it is."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import zipfile
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import miseg

NAME = f"miseg-{miseg.__version__}-py3-none-any.whl"

ALWAYS = ("numpy", "safetensors", "torch")
"""Distributions that every model needs to predict."""

LEFT_OUT = ("service/labelling/page", "shipped")
"""Folders of the package that no prediction needs: the labelling page, and what starts a cluster."""

_WRITTEN = (1980, 1, 1, 0, 0, 0)
"""Time of every file, the earliest that a zip knows: the same code is the same bytes."""


def write(folder: Path) -> Path:
    """Write the wheel of the package that runs to `folder`; its path."""
    path = folder / NAME
    path.write_bytes(_wheel(Path(miseg.__file__).resolve().parent))
    return path


def requirements(settings: Any) -> list[str]:
    """Requirements of a method's model, beside miseg: name==version of what is installed here.

    Args:
        settings: the method's. A type from outside of miseg brings the distribution that it comes from.
    """
    names = {*ALWAYS, *_needed(settings)}
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in sorted(names)]


def _needed(settings: Any) -> set[str]:
    if isinstance(settings, tuple):
        return {name for item in settings for name in _needed(item)}
    if not is_dataclass(settings):
        return set()
    kind = type(settings)
    top = kind.__module__.partition(".")[0]
    own = set(getattr(kind, "PACKAGES", ())) if top == "miseg" else set(_distributions().get(top, ()))
    return own.union(*(_needed(getattr(settings, field.name)) for field in fields(settings)))


@functools.cache
def _distributions() -> dict[str, list[str]]:
    # It reads the record of every installed distribution.
    return dict(metadata.packages_distributions())


@functools.cache
def _wheel(package: Path) -> bytes:
    left_out = [package / name for name in LEFT_OUT]
    files = {
        f"miseg/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not any(map(path.is_relative_to, left_out))
    }
    about = f"miseg-{miseg.__version__}.dist-info"
    described = ["Metadata-Version: 2.1", "Name: miseg", f"Version: {miseg.__version__}"]
    files[f"{about}/METADATA"] = "\n".join([*described, "Requires-Dist: numpy", "Requires-Dist: torch", ""]).encode()
    files[f"{about}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: miseg\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files[f"{about}/RECORD"] = "\n".join([*lines, f"{about}/RECORD,,", ""]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _WRITTEN), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
