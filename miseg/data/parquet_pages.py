"""Headers of a Parquet column's pages, read before the pages are: pyarrow allocates what they announce.

pyarrow does not show them, and the libraries that do read the pages, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from miseg.data.thrift_structs import StructReader

_HEADER, _MOST_HEADER = 2**16, 2**24
"""Bytes that are read for a header, and those of one with large values in its statistics: pyarrow's own limit."""

_UNCOMPRESSED, _STORED, _DATA, _DATA_V2 = 2, 3, 5, 8
"""Fields of a header: its sizes, and the two that describe a page of values, of which the first is their number."""


@dataclass(frozen=True)
class Page:
    """Bytes that a page's header announces, without itself, and the number of its values; of a dictionary 0."""

    uncompressed: int
    values: int


def pages(file: BinaryIO, start: int, length: int) -> Iterator[Page]:
    """The pages of a column in a row group.

    Args:
        file: the Parquet file.
        start: where the column begins.
        length: its bytes.

    Raises:
        ValueError: a header that is none, or pages that end elsewhere than the column.
    """
    at, end = start, start + length
    while at < end:
        file.seek(at)
        try:
            try:
                header = StructReader(file.read(min(_HEADER, end - at)))
                fields = header.struct()
            except EOFError:
                file.seek(at)
                header = StructReader(file.read(min(_MOST_HEADER, end - at)))
                fields = header.struct()
            stored, uncompressed = int(fields[_STORED]), int(fields[_UNCOMPRESSED])
            values = int(fields.get(_DATA, fields.get(_DATA_V2, {1: 0}))[1])
        except (AttributeError, EOFError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"a page has no header ({error})") from None
        if stored < 0 or uncompressed < 0 or values < 0:
            raise ValueError("a page's header announces a negative size or number")
        at += header.at + stored
        yield Page(uncompressed, values)
    if at != end:
        raise ValueError("its pages end elsewhere than the footer says")
