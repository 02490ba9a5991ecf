"""Flips every bit of a packed image's shard, one at a time, and reads it: what is found, and what is read wrongly.

python -m tests.faults.flips

A process of its own reads, for a footer that is damaged can end pyarrow's.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.packing import SIDECAR, pack
from miseg.data.packed.row import PackedRow
from miseg.data.sources.registry import Embedded


def without_checksums(folder: Path) -> None:
    """Make the shards what they were before there were checksums."""
    sidecar = json.loads((folder / SIDECAR).read_text())
    for shard in (shard for shards in sidecar["splits"].values() for shard in shards):
        table = pq.read_table(folder / shard["file"])
        options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
        with pq.ParquetWriter(folder / shard["file"], table.schema, **options) as file:
            for row in range(len(table)):
                file.write_table(table.slice(row, 1), row_group_size=1)
        shard.pop("footer_sha256")
    (folder / SIDECAR).write_text(json.dumps(sidecar))


def outcome(folder: Path, row: PackedRow) -> str:
    """What reading the only validation image comes to."""
    try:
        return "the same image" if PackedDataset.open(folder).read("val", 0) == row else "another image, silently"
    except ValueError as error:
        return "found by a checksum" if "CRC" in str(error) or "SHA-256" in str(error) else "refused for another reason"


def flip_all(folder: Path) -> Counter[str]:
    """The outcomes of all flips."""
    path = folder / "val-00000.parquet"
    whole, row, found = path.read_bytes(), PackedDataset.open(folder).read("val", 0), Counter()
    flip = 0
    while flip < 8 * len(whole):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            for number in range(flip, 8 * len(whole)):
                damaged = bytearray(whole)
                damaged[number // 8] ^= 1 << number % 8
                path.write_bytes(damaged)
                os.write(writing, (outcome(folder, row) + "\n").encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as told:
            lines = told.read().splitlines()
        found.update(lines)
        flip += len(lines)
        if os.waitpid(child, 0)[1] != 0:
            found["the process ended"] += 1
            flip += 1
    path.write_bytes(whole)
    return found


def main() -> None:
    """Flip in a shard without checksums, and in one as it is packed now."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as beside:
        for name, change in (("without", without_checksums), ("with", lambda folder: None)):
            folder = Path(beside) / name
            source = Embedded({"train": 1, "val": 1, "test": 1}, height=16, width=16)
            pack(source, folder, source.available())
            change(folder)
            found = flip_all(folder)
            print(f"{name} checksums: {sum(found.values())} flips: ", end="")
            print(", ".join(f"{count} {kind}" for kind, count in found.most_common()), flush=True)


if __name__ == "__main__":
    main()
