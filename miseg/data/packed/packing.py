"""Packing: a published layout becomes Parquet shards with a sidecar, and bad input is caught.

One row is one image and one row group, so that a single image is read without its neighbours. Everything is written
into a hidden folder beside the target and renamed into place at the end: a packing that is killed leaves no half data
set. The same source packed twice with the same library versions gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from miseg.data.checks import BadFileError, check_image, check_mask, check_sizes, encode_png, read_bytes
from miseg.data.packed.chips import check_chip, encode_chip
from miseg.data.packed.moments import Moments, scene_series, statistics
from miseg.data.packed.shards import SCHEMA, WRITING
from miseg.data.parquet import read_footer
from miseg.data.samples import IGNORE_LABEL, DataSetInfo, Rejection, Sample, Source
from miseg.files import owned_folder_beside, replace_folder, sync

SIDECAR = "dataset.json"
REJECTED = "rejected.jsonl"
FORMAT_VERSION = 1
SHARD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Packing:
    """Result of packing a data set.

    Attributes:
        path: the packed data set's folder.
        rows: images packed, by split.
        rejected: what was left out, in order; also in `rejected.jsonl` in the folder.
        rejected_by_split: how many were left out, by split.
    """

    path: Path
    rows: dict[str, int]
    rejected: tuple[Rejection, ...]
    rejected_by_split: dict[str, int]


def pack(
    source: Source,
    out: Path | str,
    splits: Sequence[str],
    *,
    min_size: tuple[int, int] | None = None,
    max_rejected: int | None = None,
    replace: bool = True,
    shard_bytes: int = SHARD_BYTES,
) -> Packing:
    """Packs `splits` of `source` into the folder `out`.

    Args:
        source: a reader of `miseg.data.sources.registry`.
        out: local folder to make; its parents are made too.
        splits: splits to pack, in this order.
        min_size: (height, width) in pixels; smaller images are rejected. None takes any size.
        max_rejected: more rejections than this and nothing is written; None keeps the good rows whatever happens.
        replace: whether a packed data set already at `out` is replaced; otherwise the one found at the end stays.
        shard_bytes: size in bytes at which the next shard begins.

    Raises:
        ValueError: a split that the source lacks, or asked for twice; a split without one good image; more than
            `max_rejected` rejections; `out` is a file, or a folder that holds something else.
    """
    out = Path(out).expanduser().absolute()
    if not splits or len(set(splits)) != len(splits):
        raise ValueError(f"splits = {', '.join(splits) or 'none'}: name at least one split, each once")
    check_target(out)
    with owned_folder_beside(out) as work:
        writer = _ShardWriter(work, source.info, min_size, shard_bytes)
        for split in splits:
            writer.write_split(split, source.samples(split))
        if max_rejected is not None and len(writer.rejected) > max_rejected:
            raise ValueError(
                f"{len(writer.rejected)} files of {source.info.name} were rejected, {max_rejected} allowed, such as "
                f"{example_of(writer.rejected)}; mend them, or pack with `miseg prepare-data` to keep the others"
            )
        writer.write_sidecar()
        _move_into_place(work, out, replace)
    rows = {split: sum(shard["rows"] for shard in shards) for split, shards in writer.shards.items()}
    return Packing(out, rows, tuple(writer.rejected), dict(writer.rejected_by_split))


@dataclass
class _ShardWriter:
    folder: Path
    info: DataSetInfo
    min_size: tuple[int, int] | None
    shard_bytes: int
    shards: dict[str, list[dict]] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)
    rejected_by_split: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._ids: set[str] = set()
        self._order: dict[str, list[str]] = {}
        self._source = hashlib.sha256()
        self._moments: dict[str, Moments] = {}
        self._dates: dict[str, dict[str, Moments]] = {}

    def write_split(self, split: str, samples: Iterator[Sample | Rejection]) -> None:
        self.shards[split] = []
        self._moments[split] = Moments(self.info.channels)
        rows = self._good_rows(split, samples)
        row = next(rows, None)
        while row is not None:
            name = f"{split}-{len(self.shards[split]):05d}.parquet"
            size, count = 0, 0
            with pq.ParquetWriter(self.folder / name, SCHEMA, **WRITING) as shard:
                while row is not None and size < self.shard_bytes:
                    shard.write_table(pa.Table.from_pylist([row], SCHEMA), row_group_size=1)
                    size += len(row["image"]) + len(row["mask"] or b"")
                    count += 1
                    row = next(rows, None)
            with (self.folder / name).open("rb") as file:
                footer = hashlib.sha256(read_footer(file)).hexdigest()
            digest = sha256_of(self.folder / name)
            self.shards[split].append({"file": name, "rows": count, "sha256": digest, "footer_sha256": footer})
        if not self.shards[split]:
            example = example_of(self.rejected) if self.rejected else "the split's list is empty"
            raise ValueError(f"split {split!r} of {self.info.name}: not one usable image; {example}")

    def _good_rows(self, split: str, samples: Iterator[Sample | Rejection]) -> Iterator[dict]:
        for sample in samples:
            if isinstance(sample, Rejection):
                self._reject(split, sample)
                continue
            row = self._row(sample)
            if isinstance(row, Rejection):
                self._reject(split, row)
            else:
                yield row

    def _row(self, sample: Sample) -> dict | Rejection:
        file: Path | bytes | np.ndarray = sample.image
        try:
            if sample.id in self._ids:
                raise BadFileError(f"id {sample.id!r} is there already: list every image once, under one name")
            image_data, stored, pixels, known = self._image(sample.image)
            mask, mask_data = None, b""
            if sample.mask is not None:
                file = sample.mask
                mask_data = read_bytes(sample.mask)
                mask = check_mask(mask_data, self.info)
            file = sample.image
            check_sizes(pixels, mask, self.min_size)
        except BadFileError as error:
            return Rejection(str(file) if isinstance(file, Path) else sample.id, str(error))
        self._ids.add(sample.id)
        self._order.setdefault(sample.split, []).append(sample.id)
        for part in (sample.id.encode(), image_data, mask_data):
            self._source.update(hashlib.sha256(part).digest())
        self._moments[sample.split].add(known)
        if sample.series is not None and sample.date is not None:
            dates = self._dates.setdefault(scene_series(sample.series), {})
            dates.setdefault(sample.date, Moments(self.info.channels)).add(known)
        height, width, channels = pixels.shape
        return {
            "id": sample.id,
            "image": stored,
            "mask": None if mask is None else encode_png(mask),
            "height": height,
            "width": width,
            "channels": channels,
            "split": sample.split,
            "series": sample.series,
            "date": sample.date,
            "georeference": sample.georeference,
        }

    def _image(self, image: Path | bytes | np.ndarray) -> tuple[bytes, bytes, np.ndarray, np.ndarray]:
        """Source bytes, bytes to store, pixels [H, W, C], and those with data [N, C]."""
        if isinstance(image, np.ndarray):
            valid = check_chip(image, self.info)
            # Grey of 8 bits needs no GeoTIFF, and so no extra 'geo' to be read.
            grey = image.dtype == np.uint8 and image.shape[2] == 1
            stored = encode_png(image[..., 0]) if grey else encode_chip(image)
            return stored, stored, image, image[valid]
        data = read_bytes(image)
        stored, pixels = check_image(data)
        return data, stored, pixels, pixels.reshape(-1, pixels.shape[2])

    def _reject(self, split: str, rejection: Rejection) -> None:
        self.rejected.append(rejection)
        self.rejected_by_split[split] += 1

    def write_sidecar(self) -> None:
        # Without a training split the statistics are of all that is packed: an evaluation-only set needs some.
        training = [self._moments["train"]] if "train" in self._moments else list(self._moments.values())
        mean, std = statistics(training, self.info.full_scale)
        sidecar = {
            "format": FORMAT_VERSION,
            "name": self.info.name,
            "classes": self.info.classes,
            "colours": self.info.colours,
            "ignore_index": IGNORE_LABEL,
            "channels": self.info.channels,
            "mean": mean,
            "std": std,
            "source_sha256": self._source.hexdigest(),
            "splits": self.shards,
        }
        # Only where they say something: the sidecar of plain pictures, and with it their fingerprint, stays as it was.
        if self.info.full_scale != 255:
            sidecar["full_scale"] = self.info.full_scale
        if self.info.dtype not in (None, "uint8" if self.info.full_scale == 255 else "uint16"):
            sidecar["dtype"] = self.info.dtype
        if self.info.nodata is not None:
            sidecar["nodata"] = self.info.nodata
        if self.info.drawn is not None:
            sidecar["drawn"] = self.info.drawn
        if self.info.groups:
            packed = sorted(name for ids in self._order.values() for name in ids if name in self.info.groups)
            sidecar["groups"] = {name: self.info.groups[name] for name in packed}
        if self.info.scene is not None:
            sidecar["scene"] = self.info.scene
        by_id = {split: sorted(range(len(ids)), key=ids.__getitem__) for split, ids in self._order.items()}
        if unsorted := {split: rows for split, rows in by_id.items() if rows != sorted(rows)}:
            sidecar["by_id"] = unsorted
        if self._dates:
            sidecar["dates"] = {series: self._of_dates(dates) for series, dates in sorted(self._dates.items())}
        lines = [json.dumps(asdict(rejection), ensure_ascii=False) + "\n" for rejection in self.rejected]
        # A file name that is not UTF-8 must not cost the whole packing.
        (self.folder / REJECTED).write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        (self.folder / SIDECAR).write_text(json.dumps(sidecar, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _of_dates(self, dates: dict[str, Moments]) -> dict[str, dict[str, list[float]]]:
        by_date = {date: statistics([moments], self.info.full_scale) for date, moments in sorted(dates.items())}
        return {date: {"mean": mean, "std": std} for date, (mean, std) in by_date.items()}


def sha256_of(path: Path) -> str:
    """The file's SHA-256, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def example_of(rejected: Sequence[Rejection]) -> str:
    """File and reason of the first rejection whose kind of reason is the most frequent, numbers in it left aside."""
    kinds = [re.sub(r"\d+", "0", rejection.reason) for rejection in rejected]
    # A single stray file, read first, must not stand for what is wrong with all the others.
    (kind, number), *_ = Counter(kinds).most_common(1)
    rejection = rejected[kinds.index(kind)]
    others = f" (and {number - 1} like it)" if number > 1 else ""
    return f"{rejection.file}: {rejection.reason}{others}"


def check_target(out: Path) -> None:
    """Refuses a place that a packed data set cannot take.

    Raises:
        ValueError: `out` is a file, or a folder that holds something that is no packed data set.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder to pack into")
    if out.is_dir() and any(out.iterdir()) and not (out / SIDECAR).is_file():
        raise ValueError(f"{out} holds something that is no packed data set: give a new or empty folder")


def _move_into_place(work: Path, out: Path, replace: bool) -> None:
    for path in (*work.iterdir(), work):
        sync(path)  # a sidecar that a loss of power leaves without its shards would be a broken data set
    try:
        os.rename(work, out)
    except OSError:
        if not (out / SIDECAR).is_file():
            raise
        if replace:
            replace_folder(work, out)
    sync(out.parent)
