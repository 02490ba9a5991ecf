"""Parquet files of others: types whose values a library would make by running what the file holds."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


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


def _with_parts(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type and those of its fields, items and values."""
    yield kind
    if isinstance(kind, pa.BaseExtensionType):
        yield from _with_parts(kind.storage_type)
    if pa.types.is_dictionary(kind):
        yield from _with_parts(kind.value_type)
    for number in range(kind.num_fields):
        yield from _with_parts(kind.field(number).type)
