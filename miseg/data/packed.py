"""Random access to a packed data set, on a local disk or any storage that pyarrow reads."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pyarrow import fs

from miseg.data.checks import OF_DAMAGED
from miseg.data.chips import decode_chip, is_chip
from miseg.data.decoded import DecodedImages, Pixels
from miseg.data.packing import SCHEMA, SIDECAR
from miseg.data.sidecar import PackedInfo, Shard, parse_sidecar

_OPEN_SHARDS = 64


@dataclass(frozen=True)
class Row:
    """One packed image: encoded bytes with the size (pixels) they decode to; no `mask` where there are no labels."""

    id: str
    image: bytes
    mask: bytes | None
    height: int
    width: int
    series: str | None = None
    date: str | None = None
    georeference: str | None = None


class PackedDataset:
    """A packed data set; make one with `PackedDataset.open`.

    It can be pickled and sent to workers (open files stay behind) and read from several threads.

    Attributes:
        uri: the folder or URI it was opened from.
        info: the sidecar's fields.
        fingerprint: 12 hexadecimal digits of the sidecar's SHA-256; the shards' checksums are in it.
        kept: where decoded images stay; None where each is decoded whenever it is asked for.
    """

    def __init__(self, uri: str, sidecar: bytes, info: PackedInfo) -> None:
        self.uri = uri
        self.info = info
        self.fingerprint = hashlib.sha256(sidecar).hexdigest()[:12]
        self.kept: DecodedImages | None = None
        self._ends = {name: list(accumulate(s.rows for s in shards)) for name, shards in info.splits.items()}
        self._reset()

    @classmethod
    def open(cls, uri: str | Path) -> PackedDataset:
        """Opens the data set in a local folder or under a URI that `pyarrow.fs.FileSystem.from_uri` understands.

        Raises:
            ValueError: no such place, sidecar missing or malformed or of another format version, or a shard missing.
        """
        uri = str(uri)
        system, folder = _place(uri)
        name = f"{uri}/{SIDECAR}"
        try:
            with system.open_input_file(f"{folder}/{SIDECAR}") as file:
                sidecar = file.read()
        except OSError as error:
            raise ValueError(
                f"{name} cannot be read ({_short(error)}): this is no packed data set; "
                "pack one with jobs/prepare_data.py"
            ) from None
        info = parse_sidecar(sidecar, name)
        shards = [shard.file for split in info.splits.values() for shard in split]
        try:
            there = system.get_file_info([f"{folder}/{file}" for file in shards])
        except OSError as error:
            raise ValueError(f"{name} lists a shard that cannot be there ({_short(error)}): pack again") from None
        local = isinstance(system, fs.LocalFileSystem)
        for found in there:
            if local and Path(found.path).is_symlink():
                raise ValueError(f"{found.path} is a link, and may lead out of the folder: put the file itself there")
            if found.type != fs.FileType.File:
                raise ValueError(f"{found.path} is missing although {name} lists it: copy it again, or pack again")
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

    def read(self, split: str, index: int) -> Row:
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
            file = self._file(shard)
            try:
                table = file.read_row_group(row_group, use_threads=False)
            except (OSError, pa.ArrowException) as error:
                raise ValueError(f"{self.uri}/{shard.file}, row {row_group}: {_short(error)}; copy it again") from None
        values = table.to_pylist()[0]
        return Row(**{name: values[name] for name in Row.__dataclass_fields__})

    def keeping(self, kept: DecodedImages) -> PackedDataset:
        """The same data set, of which decoded images stay in `kept`."""
        dataset = copy.copy(self)
        dataset.kept = kept
        return dataset

    def pixels(self, split: str, index: int) -> Pixels:
        """Image number `index` (0..size-1) of the split, decoded.

        Raises:
            ValueError, IndexError: as `read` and `decode`.
        """
        if self.kept is None:
            row = self.read(split, index)
            return Pixels(row.id, *decode(row))
        if not 0 <= index < self.size(split):
            raise IndexError(f"index {index}: split {split!r} of {self.uri} has {self.size(split)} images")
        place = (self.fingerprint, self.splits.index(split), self.size(split), index)
        found = self.kept.get(*place)
        if found is None:
            row = self.read(split, index)
            found = Pixels(row.id, *decode(row))
            self.kept.put(*place, found)
        return found

    def decoded_bytes(self, split: str, sample: int = 8) -> int:
        """About how many bytes the split's images take decoded, by the sizes of `sample` of them.

        Raises:
            ValueError: unknown split, or a shard that is damaged or disagrees with the sidecar.
        """
        size = self.size(split)
        rows = [self.read(split, index) for index in range(0, size, max(1, size // sample))]
        taken = [row.height * row.width * (self.info.channels + (row.mask is not None)) for row in rows]
        return size * sum(taken) // max(1, len(taken))

    def index(self, split: str) -> list[tuple[str, str | None, str | None]]:
        """(id, series, date) of the split's images, in order; reads these columns alone, once.

        Raises:
            ValueError: unknown split, or a shard that is damaged or disagrees with the sidecar.
        """
        self.size(split)
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            if split not in self._index:
                rows: list[tuple[str, str | None, str | None]] = []
                for shard in self.info.splits[split]:
                    try:
                        table = self._file(shard).read(["id", "series", "date"], use_threads=False)
                    except (OSError, pa.ArrowException) as error:
                        raise ValueError(f"{self.uri}/{shard.file}: {_short(error)}; copy it again") from None
                    rows += zip(*(table[name].to_pylist() for name in ("id", "series", "date")), strict=True)
                self._index[split] = rows
            return list(self._index[split])

    def verify(self) -> None:
        """Reads every shard and compares its checksum with the sidecar's.

        Raises:
            ValueError: a shard's bytes are not those that were packed.
        """
        system, folder = _place(self.uri)
        for shard in (shard for split in self.info.splits.values() for shard in split):
            digest = hashlib.sha256()
            with system.open_input_stream(f"{folder}/{shard.file}", compression=None) as file:
                while chunk := file.read(2**20):
                    digest.update(chunk)
            if digest.hexdigest() != shard.sha256:
                raise ValueError(f"{self.uri}/{shard.file}: its SHA-256 is not the sidecar's; copy it again")

    def __getstate__(self) -> dict[str, Any]:
        left = ("_files", "_lock", "_pid", "_at", "_index")
        return {key: value for key, value in self.__dict__.items() if key not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._index: dict[str, list[tuple[str, str | None, str | None]]] = {}
        self._at: tuple[fs.FileSystem, str] | None = None

    def _file(self, shard: Shard) -> pq.ParquetFile:
        if shard.file in self._files:
            self._files.move_to_end(shard.file)
            return self._files[shard.file]
        if self._at is None:
            self._at = _place(self.uri)
        system, folder = self._at
        try:
            file = pq.ParquetFile(system.open_input_file(f"{folder}/{shard.file}"))
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{self.uri}/{shard.file} cannot be read ({_short(error)}): copy it again") from None
        if file.num_row_groups != shard.rows or file.metadata.num_rows != shard.rows:
            raise ValueError(
                f"{self.uri}/{shard.file} has {file.metadata.num_rows} rows in {file.num_row_groups} row groups, "
                f"{SIDECAR} says {shard.rows} of one row each: copy both again, or pack again"
            )
        types = {field.name: field.type for field in file.schema_arrow}
        if types != {field.name: field.type for field in SCHEMA}:
            # A column of one of Ray's own types would be unpickled when it is read.
            raise ValueError(f"{self.uri}/{shard.file} has other columns than a packed data set: pack again")
        self._files[shard.file] = file
        if len(self._files) > _OPEN_SHARDS:
            self._files.popitem(last=False)[1].close(force=True)
        return file


def decode(row: Row) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels of a row: image uint8 or uint16 [H, W, C] and mask uint8 [H, W] (255 ignored) or None.

    Raises:
        ValueError: the bytes do not decode to the row's size; the message names the id.
    """
    try:
        image = decode_chip(row.image) if is_chip(row.image) else np.asarray(Image.open(io.BytesIO(row.image)))
        mask = None if row.mask is None else np.asarray(Image.open(io.BytesIO(row.mask)))
    except OF_DAMAGED as error:
        raise ValueError(f"{row.id}: cannot be decoded ({error}); pack the data set again") from None
    size = (row.height, row.width)
    if image.ndim != 3 or image.shape[:2] != size or (mask is not None and mask.shape != size):
        shapes = f"image {image.shape}, mask {None if mask is None else mask.shape}"
        raise ValueError(f"{row.id}: {shapes}, the row says {size}; pack the data set again")
    return image, mask


def _place(uri: str) -> tuple[fs.FileSystem, str]:
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        system, path = fs.FileSystem.from_uri(uri)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{uri}: {_short(error)}; give a folder, or a URI such as s3://bucket/folder") from None
    return system, path.rstrip("/")


def _short(error: BaseException) -> str:
    return str(error).split("\n")[0].split(". Detail:")[0]
