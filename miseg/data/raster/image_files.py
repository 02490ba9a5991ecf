"""Lists of the images under files, folders and buckets, each with its size and time of change."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from miseg.data.raster import sentinel2
from miseg.data.storage import file_system, is_local, patiently

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".jp2")
"""Endings of the files that count as images."""

SAFE = ".SAFE"

_MASK = "_SCL"
_CONFIDENCE = "_confidence"


@dataclass(frozen=True)
class ImageFile:
    """An image, or a scene of several files.

    Attributes:
        name: of its map, without the ending: the path below the folder that was searched.
        uri: path or URI of the file or folder.
        files: paths, in their file system, of the files that belong to it.
        bytes: their size together.
        modified_ns: when the last of them was changed, nanoseconds since 1970.
    """

    name: str
    uri: str
    files: tuple[str, ...]
    bytes: int
    modified_ns: int

    def fetch(self, folder: Path) -> Path:
        """Its file or folder on this machine: itself, or a copy in `folder`.

        Raises:
            OSError: it cannot be read.
        """
        system, path = file_system(self.uri)
        if is_local(system):
            return Path(path)
        for file in self.files:
            target = folder / PurePosixPath(file).relative_to(PurePosixPath(path).parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            patiently(system, functools.partial(fs.copy_files, file, str(target), system))
        return folder / PurePosixPath(path).name


def find(sources: Sequence[str], out: str, *, scenes: bool) -> tuple[list[ImageFile], dict[str, str]]:
    """The images in `sources`, sorted by name, and why others are left out, by their URIs.

    In a folder or below a URI every PNG, JPEG, TIFF and JPEG 2000 file counts, in folders below it too, but for hidden
    ones and what is under `out`. A SAFE product is one, and `<stem>_SCL.tif` belongs to `<stem>.tif`.

    Args:
        sources: files, folders, URIs.
        out: folder or URI of the maps.
        scenes: whether scenes are wanted: SAFE products, and folders with a date in their names that hold rasters, as
            for `open_scene`. Else files are, and products are left out.

    Raises:
        ValueError: nothing at a place, or it cannot be listed; maps would lie among the images of a place.
    """
    images: dict[str, ImageFile] = {}
    left_out: dict[str, str] = {}
    for source in sources:
        for image in _at(source, out, scenes):
            earlier = images.setdefault(image.name, image)
            if earlier.uri != image.uri:
                left_out[image.uri] = f"its map would be that of {earlier.uri}, {image.name}.tif: rename one of them"
    for name in [name for name in images if name.removesuffix(_CONFIDENCE) in images.keys() - {name}]:
        of = images[name.removesuffix(_CONFIDENCE)].uri
        left_out[images.pop(name).uri] = f"its map would be the confidence of that of {of}: rename one of them"
    for name in [
        name for name, image in images.items() if not scenes and f"{image.uri}?".partition("?")[0].endswith(SAFE)
    ]:
        left_out[images.pop(name).uri] = (
            "a product of a file a band, and the model was trained on images of one file: give such images"
        )
    return sorted(images.values(), key=lambda image: image.name), left_out


def _at(source: str, out: str, scenes: bool) -> list[ImageFile]:
    try:
        system, path = file_system(source)
        info = patiently(system, lambda: system.get_file_info(path))
        files = [info, *_mask_of(system, path)] if info.type == fs.FileType.File else []
        if info.type == fs.FileType.Directory:
            selector = fs.FileSelector(path, recursive=True)
            files = [entry for entry in patiently(system, lambda: system.get_file_info(selector)) if entry.is_file]
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{source} cannot be listed ({reason}): check its name and your access to it") from None
    if info.type == fs.FileType.NotFound:
        raise ValueError(f"{source}: nothing there: give an image, a folder of images, or a URI that holds some")
    own = PurePosixPath(file_system(out)[1])
    parent = PurePosixPath(path).parent
    whole = info.type == fs.FileType.File or _is_scene(path, files, scenes)
    if own == (parent if whole else PurePosixPath(path)):
        raise ValueError(f"--out {out} is where the images of {source} are: give another folder")
    there = {file.path for file in files}
    grouped: dict[str, list[fs.FileInfo]] = {}
    for file in files:
        if whole or own not in PurePosixPath(file.path).parents:
            key = path if whole else _key(file.path, path, there, scenes)
            grouped.setdefault(key or "", []).append(file)
    grouped.pop("", None)
    images = {key: some for key, some in grouped.items() if any(_is_raster(file.path) for file in some)}
    if not images:
        raise ValueError(f"{source}: no image there ({' '.join(PICTURES)}, or a {SAFE} folder)")
    # A place that is itself an image has its own name; in a folder names are of what is below.
    base = str(parent) if whole else path
    prefix = "" if is_local(system) else source.partition("://")[0] + "://"
    options = "" if is_local(system) else "".join(source.partition("?")[1:])
    return [
        ImageFile(
            _name(PurePosixPath(key).relative_to(base)),
            prefix + key + options,
            tuple(file.path for file in some),
            sum(file.size for file in some),
            max(file.mtime_ns or 0 for file in some),
        )
        for key, some in images.items()
    ]


def _key(file: str, base: str, there: set[str], scenes: bool) -> str | None:
    """The path of the image that a file belongs to; None where it is none."""
    *folders, _ = PurePosixPath(file).relative_to(base).parts
    if ".." in folders:  # an object's key may hold it, and maps are written under this name
        return None
    folder = PurePosixPath(base)
    for part in folders:
        folder /= part
        if part.startswith("."):
            return None
        if part.endswith(SAFE) or (scenes and sentinel2.date_in(part) is not None):
            return str(folder)
    path = PurePosixPath(file)
    if path.name.startswith(".") or not _is_raster(file):
        return None
    image = str(path.with_name(f"{path.stem.removesuffix(_MASK)}{path.suffix}"))
    return image if image in there else file


def _is_raster(file: str) -> bool:
    return PurePosixPath(file).suffix.lower() in PICTURES


def _is_scene(path: str, files: Sequence[fs.FileInfo], scenes: bool) -> bool:
    """Whether a folder is one scene."""
    name = PurePosixPath(path).name
    inside = any(PurePosixPath(file.path).parent == PurePosixPath(path) and _is_raster(file.path) for file in files)
    return name.endswith(SAFE) or (scenes and sentinel2.date_in(name) is not None and inside)


def _name(relative: PurePosixPath) -> str:
    endings = (SAFE.lower(), *PICTURES)
    return str(relative.with_suffix("") if relative.suffix.lower() in endings else relative)


def _mask_of(system: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    """The scene classification beside a stack, which `open_scene` takes with it."""
    stack = PurePosixPath(path)
    beside = str(stack.with_name(f"{stack.stem}{_MASK}{stack.suffix}"))
    return [info for info in patiently(system, lambda: system.get_file_info([beside])) if info.is_file]
