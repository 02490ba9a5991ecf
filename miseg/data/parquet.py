"""Parquet files of others: types whose values are code, and announcements that no memory is to be had for.

A few kilobytes can announce terabytes: in the footer, which pyarrow believes, and in the headers of pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from miseg.data.parquet_pages import pages
from miseg.data.thrift_structs import StructReader

_TAIL = 8
"""Bytes after the footer: its length, and Parquet's mark."""
_AT_ONCE = 2**16
_MOST_BYTES = 2**32
"""Of a column in a row group, uncompressed."""
_ALWAYS_BYTES, _MOST_RATIO = 2**26, 100
"""Bytes up to which a column may be compressed by any factor, and the largest factor beyond: encoded pictures are
compressed already."""
_GROUPS, _COLUMNS, _CHUNK, _SIZES = 4, 1, 3, 16
"""Fields of a footer, a row group, a column in it and its description that lead to its histograms of levels."""
_ALWAYS_ROWS, _LEAST_BYTES = 2**16, 16
"""Rows that a file of any size may have, and bytes of the file for each row beyond: no encoded picture is smaller."""


def check_types(schema: pa.Schema, *names: str) -> None:
    """Make sure that the values of columns are plain data.

    A file may say that a column is of a type that a library has registered. Ray Data has one whose values are pickles,
    and reading such a value runs it, in each process that has imported Ray Data.

    Args:
        schema: of the file.
        names: columns whose values are read.

    Raises:
        ValueError: a column of such a type, or with one in it.
    """
    for name in names:
        for kind in _with_parts(schema.field(name).type):
            if isinstance(kind, pa.ExtensionType):
                raise ValueError(
                    f"column {name} is of the type {kind.extension_name}, whose values may be code: write it as plain "
                    "bytes and numbers"
                )


def check_counts(metadata: pq.FileMetaData, size: int) -> None:
    """Make sure that a footer's rows and sizes fit each other and the file, before anything is made for each row.

    Args:
        metadata: the footer.
        size: of the file, in bytes.

    Raises:
        ValueError: they do not.
    """
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    if metadata.num_rows != sum(group.num_rows for group in groups):
        raise ValueError(f"its footer says {metadata.num_rows} rows, and its row groups have others: export it again")
    if metadata.num_rows > max(_ALWAYS_ROWS, size // _LEAST_BYTES):
        raise ValueError(f"its footer says {metadata.num_rows} rows, in {size} bytes: export it again")
    for number, group in enumerate(groups):
        for at, column in enumerate(map(group.column, range(group.num_columns))):
            repeated = metadata.schema.column(at).max_repetition_level > 0
            values, most = column.num_values, max(_ALWAYS_ROWS, size // _LEAST_BYTES)
            if group.num_rows < 0 or values < group.num_rows or values > (most if repeated else group.num_rows):
                raise ValueError(
                    f"row group {number} has {group.num_rows} rows, and its column {column.path_in_schema} {values} "
                    "values: export it again"
                )
            start, stored = _start(column), column.total_compressed_size
            if start < 0 or stored < 0 or start + stored > size or column.total_uncompressed_size < 0:
                raise ValueError(
                    f"column {column.path_in_schema} of row group {number} announces {stored} bytes at {start}, of "
                    f"{size} in the file: copy or export it again"
                )


def read_footer(file: pa.NativeFile | BinaryIO) -> bytes:
    """A Parquet file's footer with the bytes after it."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _AT_ONCE))
    tail = file.read()
    length = int.from_bytes(tail[-_TAIL:-4], "little") + _TAIL
    if length > len(tail):
        file.seek(max(0, size - length))
        tail = file.read()
    return bytes(tail[-length:])


def check_footer(file: BinaryIO, metadata: pq.FileMetaData) -> None:
    """Make sure that pyarrow can show what the footer says of columns: a histogram of another length ends the process.

    Args:
        file: the Parquet file.
        metadata: its footer, as pyarrow has read it.

    Raises:
        ValueError: it cannot.
    """
    try:
        footer = StructReader(read_footer(file)).struct()
        sizes = [chunk[_CHUNK].get(_SIZES, {}) for group in footer[_GROUPS] for chunk in group[_COLUMNS]]
        # Of repetition and definition levels, in the order of the columns.
        counts = [(len(size.get(2, ())), len(size.get(3, ()))) for size in sizes]
    except (AttributeError, EOFError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"its footer cannot be read ({error}): copy or export it again") from None
    columns = [metadata.schema.column(number) for number in range(metadata.num_columns)]
    for number, levels in enumerate(counts):
        column = columns[number % len(columns)]
        most = (column.max_repetition_level + 1, column.max_definition_level + 1)
        if any(count not in (0, of) for count, of in zip(levels, most, strict=True)):
            raise ValueError(f"its footer counts the levels of column {column.path} otherwise: export it again")
    if len(counts) != len(columns) * metadata.num_row_groups:
        raise ValueError("its row groups have not the columns that its footer names: export it again")


def check_column(file: BinaryIO, metadata: pq.FileMetaData, group: int, name: str) -> None:
    """Make sure that a column of pictures takes no more memory than pictures can, whatever its pages unpack to.

    Args:
        file: the Parquet file.
        metadata: its footer, which `check_counts` let pass.
        group: number of the row group that is read.
        name: the column.

    Raises:
        ValueError: it announces more, or its pages announce other sizes and counts than its footer.
    """
    row_group = metadata.row_group(group)
    for part in map(row_group.column, range(row_group.num_columns)):
        if part.path_in_schema.split(".")[0] != name:
            continue
        announced, stored = part.total_uncompressed_size, part.total_compressed_size
        if announced > _MOST_BYTES or (announced > _ALWAYS_BYTES and announced > _MOST_RATIO * stored):
            raise ValueError(
                f"its column {name} is {announced / 2**20:.0f} MiB in {stored / 2**20:.2g} MiB of row group {group}, "
                "which pictures are not: write smaller row groups, or leave the file out"
            )
        held, values = 0, 0
        try:
            for page in pages(file, _start(part), stored):
                held, values = held + page.uncompressed, values + page.values
                if held > announced or values > part.num_values:
                    raise ValueError("its pages hold more than its footer says")
        except ValueError as error:
            raise ValueError(f"column {part.path_in_schema} of row group {group}: {error}; export it again") from None
        if values != part.num_values:
            raise ValueError(
                f"column {part.path_in_schema} of row group {group} has {values} values, its footer says "
                f"{part.num_values}: export it again"
            )


def _start(column: pq.ColumnChunkMetaData) -> int:
    """Offset of a column, whose dictionary, if it has one, comes before its values."""
    first, dictionary = int(column.data_page_offset), column.dictionary_page_offset
    # As pyarrow has it: some writers say 0 where there is none.
    return int(dictionary) if dictionary is not None and 0 < dictionary < first else first


def _with_parts(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type and those of its fields, items and values."""
    yield kind
    if isinstance(kind, pa.BaseExtensionType):
        yield from _with_parts(kind.storage_type)
    if pa.types.is_dictionary(kind):
        yield from _with_parts(kind.value_type)
    for number in range(kind.num_fields):
        yield from _with_parts(kind.field(number).type)
