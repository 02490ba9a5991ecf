"""Random access to a packed data set, on a local disk or any storage that pyarrow reads."""

from __future__ import annotations

import copy
import hashlib
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from miseg.data.packed.chips import decode_chip, is_chip
from miseg.data.packed.decoded import DecodedImages, Pixels
from miseg.data.packed.packing import SIDECAR
from miseg.data.packed.row import PackedRow
from miseg.data.packed.shards import open_shard
from miseg.data.packed.sidecar import PackedInfo, Shard, parse_sidecar
from miseg.data.picture_files import OF_DAMAGED, pixels_of_size
from miseg.data.storage import file_system, patiently
from miseg.file_names import below

_OPEN_SHARDS = 64

_OF_DAMAGED_SHARD = (*OF_DAMAGED, pa.ArrowException)

_PATIENCE = 30.0
"""Seconds for which a read from storage behind a network is tried again; a damaged shard there is told after them."""


class PackedDataset:
    """A packed data set; make one with `PackedDataset.open`.

    It can be pickled and sent to workers (open files stay behind) and read from several threads. Every page of a shard
    that is read is compared with the checksum it was packed with; those packed before there were any have none.

    Attributes:
        uri: the folder or URI it was opened from.
        info: the sidecar's fields.
        fingerprint: 12 hexadecimal digits of the sidecar's SHA-256; the shards' checksums are in it.
        decoded_images: where decoded images stay; None where each is decoded whenever it is asked for.
    """

    def __init__(self, uri: str, sidecar: bytes, info: PackedInfo) -> None:
        self.uri = uri
        self.info = info
        self.fingerprint = hashlib.sha256(sidecar).hexdigest()[:12]
        self.decoded_images: DecodedImages | None = None
        self._ends = {name: list(accumulate(s.rows for s in shards)) for name, shards in info.splits.items()}
        self._reset()

    @classmethod
    def open(cls, uri: str | Path) -> PackedDataset:
        """Opens the data set in a local folder or under a URI that `pyarrow.fs.FileSystem.from_uri` understands.

        Raises:
            ValueError: no such place, sidecar missing or malformed or of another format version, or a shard missing.
        """
        uri = str(uri)
        system, folder = _located(uri)
        name = below(uri, SIDECAR)
        try:
            sidecar = patiently(system, lambda: _content(system, f"{folder}/{SIDECAR}"), _PATIENCE)
        except OSError as error:
            raise ValueError(
                f"{name} cannot be read ({_short(error)}): this is no packed data set; "
                "pack one with `miseg prepare-data`"
            ) from None
        info = parse_sidecar(sidecar, name)
        paths = [f"{folder}/{shard.file}" for split in info.splits.values() for shard in split]
        try:
            there = patiently(system, lambda: system.get_file_info(paths), _PATIENCE)
        except OSError as error:
            raise ValueError(f"{name} lists a shard that cannot be there ({_short(error)}): pack again") from None
        local = isinstance(system, fs.LocalFileSystem)
        for entry in there:
            if local and Path(entry.path).is_symlink():
                raise ValueError(f"{entry.path} is a link, and may lead out of the folder: put the file itself there")
            if entry.type != fs.FileType.File:
                raise ValueError(f"{entry.path} is missing although {name} lists it: copy it again, or pack again")
        return cls(uri, sidecar, info)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in packed order."""
        return tuple(self.info.splits)

    def size(self, split: str) -> int:
        """Number of images in the split.

        Raises:
            ValueError: unknown split; the message lists the known ones.
        """
        if split not in self._ends:
            raise ValueError(f"split {split!r}: {self.uri} has {', '.join(self.splits)}")
        return self._ends[split][-1] if self._ends[split] else 0

    def read(self, split: str, index: int) -> PackedRow:
        """Image number `index` (0..size-1) of the split; reads its row group and no other.

        Raises:
            ValueError: unknown split, or a shard that is damaged or disagrees with the sidecar.
            IndexError: index out of range.
        """
        if not 0 <= index < self.size(split):
            raise IndexError(f"index {index}: split {split!r} of {self.uri} has {self.size(split)} images")
        number = bisect_right(self._ends[split], index)
        shard = self.info.splits[split][number]
        row_group = index - (self._ends[split][number] - shard.rows)
        if self._pid != os.getpid():
            self._reset()
        # A Parquet reader is not safe to share between threads; decoding, the longer part, is outside the lock.
        with self._lock:
            table = self._from(
                shard, f", row {row_group}", lambda file: file.read_row_group(row_group, use_threads=False)
            )
        values = table.to_pylist()[0]
        return PackedRow(**{name: values[name] for name in PackedRow.__dataclass_fields__})

    def _from(self, shard: Shard, where: str, read: Callable[[pq.ParquetFile], pa.Table]) -> pa.Table:
        """The table that `read` reads from a shard, of which `where` names the part."""

        def table() -> pa.Table:
            file = self._file(shard)
            try:
                return read(file)
            except OSError:
                self._files.pop(shard.file, None)
                raise

        try:
            return patiently(self._location[0], table, _PATIENCE)
        except _OF_DAMAGED_SHARD as error:
            raise ValueError(
                f"{below(self.uri, shard.file)}{where} cannot be read ({_short(error)}): copy it again from where it "
                "was packed, or pack again with `miseg prepare-data`"
            ) from None

    def keeping(self, decoded_images: DecodedImages) -> PackedDataset:
        """The same data set, of which decoded images stay in `decoded_images`."""
        dataset = copy.copy(self)
        dataset.decoded_images = decoded_images
        return dataset

    def pixels(self, split: str, index: int) -> Pixels:
        """Image number `index` (0..size-1) of the split, decoded.

        Raises:
            ValueError, IndexError: as `read` and `decode`.
        """
        if self.decoded_images is None:
            row = self.read(split, index)
            return Pixels(row.id, *decode(row))
        if not 0 <= index < self.size(split):
            raise IndexError(f"index {index}: split {split!r} of {self.uri} has {self.size(split)} images")
        key = (self.fingerprint, self.splits.index(split), self.size(split), index)
        pixels = self.decoded_images.get(*key)
        if pixels is None:
            row = self.read(split, index)
            pixels = Pixels(row.id, *decode(row))
            self.decoded_images.put(*key, pixels)
        return pixels

    def decoded_bytes(self, split: str, sample: int = 8) -> int:
        """About how many bytes the split's images take decoded, by the sizes of `sample` of them.

        Raises:
            ValueError: unknown split, or a shard that is damaged or disagrees with the sidecar.
        """
        size = self.size(split)
        rows = [self.read(split, index) for index in range(0, size, max(1, size // sample))]
        of_pixel = self.info.channels * np.dtype(self.info.dtype).itemsize
        taken = [row.height * row.width * (of_pixel + (row.mask is not None)) for row in rows]
        return size * sum(taken) // max(1, len(taken))

    def index(self, split: str) -> list[tuple[str, str | None, str | None]]:
        """(id, series, date) of the split's images, in order; read once. Errors as in `columns`."""
        if split not in self._index:
            self._index[split] = self.columns(split, "id", "series", "date")
        return list(self._index[split])

    def rows_by_id(self, split: str) -> np.ndarray:
        """The split's rows in the order of their ids, int64 [N]: what is drawn among them is the same for any listing.

        A data set that an older version packed from a list that is not sorted has them in the order of that list.
        """
        return np.asarray(self.info.by_id.get(split, range(self.size(split))), np.int64)

    def columns(self, split: str, *names: str) -> list[tuple[Any, ...]]:
        """Values of these columns, such as height and width, for each of the split's images; reads no other column.

        Raises:
            ValueError: unknown split, or a shard that is damaged or disagrees with the sidecar.
        """
        self.size(split)
        if self._pid != os.getpid():
            self._reset()
        rows: list[tuple[Any, ...]] = []
        with self._lock:
            for shard in self.info.splits[split]:
                table = self._from(shard, "", lambda file: file.read(list(names), use_threads=False))
                rows += zip(*(table[name].to_pylist() for name in names), strict=True)
        return rows

    def verify(self) -> None:
        """Reads every shard and compares its checksum with the sidecar's.

        Raises:
            ValueError: a shard's bytes are not those that were packed.
        """
        system, folder = _located(self.uri)
        for shard in (shard for split in self.info.splits.values() for shard in split):
            digest = hashlib.sha256()
            with system.open_input_stream(f"{folder}/{shard.file}", compression=None) as file:
                while chunk := file.read(2**20):
                    digest.update(chunk)
            if digest.hexdigest() != shard.sha256:
                raise ValueError(f"{below(self.uri, shard.file)}: its SHA-256 is not the sidecar's; copy it again")

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_files", "_lock", "_pid", "_at", "_index")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._index: dict[str, list[tuple[Any, ...]]] = {}
        self._at: tuple[fs.FileSystem, str] | None = None

    @property
    def _location(self) -> tuple[fs.FileSystem, str]:
        if self._at is None:
            self._at = _located(self.uri)
        return self._at

    def _file(self, shard: Shard) -> pq.ParquetFile:
        if shard.file in self._files:
            self._files.move_to_end(shard.file)
            return self._files[shard.file]
        system, folder = self._location
        file = open_shard(system, f"{folder}/{shard.file}", shard.rows, shard.footer_sha256)
        self._files[shard.file] = file
        if len(self._files) > _OPEN_SHARDS:
            self._files.popitem(last=False)[1].close(force=True)
        return file


def _content(system: fs.FileSystem, path: str) -> bytes:
    with system.open_input_file(path) as file:
        return file.read()


def decode(row: PackedRow) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels of a row: image uint8, uint16 or float32 [H, W, C], and mask uint8 [H, W] (255 ignored) or None.

    Raises:
        ValueError: the bytes do not decode to the row's size; the message names the id.
    """
    size = (row.height, row.width)
    try:
        image = decode_chip(row.image, size) if is_chip(row.image) else pixels_of_size(row.image, size)
        mask = None if row.mask is None else pixels_of_size(row.mask, size)
    except OF_DAMAGED as error:
        raise ValueError(f"{row.id}: cannot be decoded ({error}); pack the data set again") from None
    image = image[..., None] if image.ndim == 2 and row.channels == 1 else image
    if image.ndim != 3 or image.shape[:2] != size or (mask is not None and mask.shape != size):
        shapes = f"image {image.shape}, mask {None if mask is None else mask.shape}"
        raise ValueError(f"{row.id}: {shapes}, the row says {size}; pack the data set again")
    return image, mask


def _located(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        return file_system(uri)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{uri}: {_short(error)}; give a folder, or a URI such as s3://bucket/folder") from None


def _short(error: BaseException) -> str:
    return str(error).split("\n")[0].split(". Detail:")[0]
