"""The sidecar of a packed data set: what is known of it without reading an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from miseg.data.packed.moments import scene_series
from miseg.data.packed.packing import FORMAT_VERSION
from miseg.file_names import check_plain
from miseg.json_values import parse


@dataclass(frozen=True)
class Shard:
    """One Parquet file: its name in the data set's folder, its rows, and the SHA-256 of its bytes and of its footer's.

    The last is empty for shards of older versions.
    """

    file: str
    rows: int
    sha256: str
    footer_sha256: str = ""


@dataclass(frozen=True)
class PackedInfo:
    """The sidecar.

    Attributes:
        name: the data set's name.
        classes: K names in label order.
        colours: K (red, green, blue) colours, 0..255.
        ignore_index: label of pixels that count nowhere, 255.
        channels: channels C of an image.
        mean: C means over the training split's pixels with data, in units of the full scale.
        std: C standard deviations likewise, above 0.
        source_sha256: checksum of the files that were packed.
        splits: shards by split.
        full_scale: stored pixel value that stands for 1.0.
        nodata: value that all bands of a pixel without data hold; None where every pixel has data.
        dtype: type of stored pixels: "uint8", "uint16" or "float32".
        dates: by the place of whole scenes, and by date, {"mean": C values, "std": C values}: as `mean` and `std`, over
            the pixels of that date in all splits. Empty where images have no date.
        scene: of own series, names of the bands and how files were read; empty for others.
        groups: the patient, place or clip that images show, by the images' ids; empty where that is not known.
        by_id: the rows of a split in the order of their ids, by split, where that is not the order of the rows.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    ignore_index: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source_sha256: str
    splits: dict[str, tuple[Shard, ...]]
    full_scale: int = 255
    nodata: int | None = None
    dtype: str = "uint8"
    dates: dict[str, dict[str, dict[str, tuple[float, ...]]]] = field(default_factory=dict)
    scene: dict[str, Any] = field(default_factory=dict)
    by_id: dict[str, tuple[int, ...]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the channels; none where they are not known."""
        return tuple(map(str, self.scene.get("bands", ())))

    def at(self, series: str, date: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of a date, C values each in units of the full scale, for a row's `series` and `date`.

        Raises:
            ValueError: nothing was packed of that series at that date.
        """
        try:
            statistics = self.dates[scene_series(series)][date]
        except KeyError:
            raise ValueError(f"{self.name} has no statistics of {series} at {date}: pack the data set again") from None
        return statistics["mean"], statistics["std"]


def parse_sidecar(sidecar: bytes, name: str) -> PackedInfo:
    """The sidecar that packing wrote, this version's or an older one's.

    Args:
        sidecar: its bytes.
        name: its path or URI, for messages.

    Raises:
        ValueError: no JSON, another format version, a field that is missing or malformed, or a shard elsewhere.
    """
    try:
        data = parse(sidecar)
    except ValueError as error:
        raise ValueError(f"{name} is not JSON ({error}): copy it again, or pack again") from None
    version = data.get("format") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"{name}: format {version!r}, this program reads {FORMAT_VERSION}; pack again")
    try:
        full_scale = int(data.get("full_scale", 255))
        splits = {
            split: tuple(
                Shard(str(s["file"]), int(s["rows"]), str(s["sha256"]), str(s.get("footer_sha256", ""))) for s in shards
            )
            for split, shards in data["splits"].items()
        }
        info = PackedInfo(
            name=str(data["name"]),
            classes=tuple(data["classes"]),
            colours=tuple((int(r), int(g), int(b)) for r, g, b in data["colours"]),
            ignore_index=int(data["ignore_index"]),
            channels=int(data["channels"]),
            mean=tuple(map(float, data["mean"])),
            std=tuple(map(float, data["std"])),
            source_sha256=str(data["source_sha256"]),
            splits=splits,
            full_scale=full_scale,
            nodata=None if data.get("nodata") is None else int(data["nodata"]),
            dtype=str(data.get("dtype", "uint8" if full_scale == 255 else "uint16")),
            dates={
                series: {
                    date: {name: tuple(map(float, statistics[name])) for name in ("mean", "std")}
                    for date, statistics in dates.items()
                }
                for series, dates in data.get("dates", {}).items()
            },
            scene=dict(data.get("scene", {})),
            groups={str(name): str(group) for name, group in data.get("groups", {}).items()},
            by_id={split: _permutation(rows, splits[split]) for split, rows in data.get("by_id", {}).items()},
        )
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: field missing or malformed ({error!r}); pack again") from None
    for shard in (shard for shards in splits.values() for shard in shards):
        # A sidecar from elsewhere must not make this program read other files of the machine.
        try:
            check_plain(shard.file)
        except ValueError as error:
            raise ValueError(f"{name}: shard {error}; pack again") from None
    return info


def _permutation(rows: Any, shards: tuple[Shard, ...]) -> tuple[int, ...]:
    numbers = tuple(map(int, rows))
    if sorted(numbers) != list(range(sum(shard.rows for shard in shards))):
        raise ValueError("by_id does not name every row once")
    return numbers
