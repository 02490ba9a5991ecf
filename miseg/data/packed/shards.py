"""Shards as files: what was damaged after packing is found when it is read.

Every page has a checksum of its own, which Parquet keeps beside it. The footer, which says where the pages lie and has
none, has it in the sidecar: one that is damaged may end the process in pyarrow rather than raise an error.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from miseg.data.parquet import read_footer

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("mask", pa.binary()),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("channels", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("series", pa.string()),
        pa.field("date", pa.string()),
        pa.field("georeference", pa.string()),
    ]
)

WRITING = {
    "compression": "none",  # pictures are compressed already
    "use_dictionary": False,
    "write_statistics": False,  # nobody filters by column statistics of single rows
    "write_page_checksum": True,
}
"""Arguments with which Parquet shards are written."""


def open_shard(system: fs.FileSystem, path: str, rows: int, footer_sha256: str) -> pq.ParquetFile:
    """A shard, opened, whose footer is the one that was packed and whose pages are compared with their checksums.

    Args:
        system: where it is.
        path: its path there.
        rows: what the sidecar says.
        footer_sha256: likewise; empty for shards that were packed before there were checksums.

    Raises:
        ValueError: it is not what the sidecar tells of.
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    opened = system.open_input_file(path)
    footer = read_footer(opened)
    if footer_sha256 not in ("", hashlib.sha256(footer).hexdigest()):
        raise ValueError("its footer's SHA-256 is not the sidecar's")
    metadata = pq.read_metadata(pa.BufferReader(footer))
    file = pq.ParquetFile(opened, metadata=metadata, page_checksum_verification=True)
    if file.num_row_groups != rows or metadata.num_rows != rows:
        raise ValueError(
            f"it has {metadata.num_rows} rows in {file.num_row_groups} row groups, the sidecar says {rows} of one row "
            "each"
        )
    if not file.schema_arrow.equals(SCHEMA):
        raise ValueError("its columns are not those of a packed data set")
    _check_columns(metadata, opened.size())
    return file


def _check_columns(metadata: pq.FileMetaData, size: int) -> None:
    """Raise ValueError where reading a row could take more memory than the file has bytes.

    Shards are packed uncompressed, a row a group: a value is as large as its bytes in the file. A compressed column can
    hold a gigabyte in a few kilobytes, and so can a run of equal values.
    """
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if group.num_rows != 1:
            raise ValueError(f"its row group {number} has {group.num_rows} rows, not one")
        for column in map(group.column, range(group.num_columns)):
            if column.compression != "UNCOMPRESSED":
                raise ValueError(f"its column {column.path_in_schema} is compressed ({column.compression})")
            if column.num_values != 1 or not 0 <= column.total_compressed_size <= size:
                raise ValueError(f"its column {column.path_in_schema} announces more than the file holds")
