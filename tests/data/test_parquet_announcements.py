"""Own Parquet that lies about rows, values and sizes: refused in a sentence, and no memory is asked for."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from miseg.data.checks import encode_png
from miseg.data.folders.hf_parquet import read_rows
from miseg.data.parquet_pages import pages
from tests.support.layouts import noise

PICTURES = [bytes(100), bytes(range(100)), b"\xff" * 100]
ODD = (-1, 0, 2, 1000, 2**31, 2**40, 2**62)


def number(value: int) -> bytes:
    """A whole number in Thrift's compact protocol."""
    left, written = value << 1 if value >= 0 else (-value << 1) - 1, b""
    while left > 127:
        written, left = written + bytes([left & 127 | 128]), left >> 7
    return written + bytes([left])


STORED = number(339)
"""Bytes of the column image, and so it says of them uncompressed."""


def valid() -> bytes:
    file = io.BytesIO()
    told = {"compression": "none", "use_dictionary": False, "write_statistics": False, "store_schema": False}
    pq.write_table(pa.table({"image": PICTURES}), file, **told)
    return file.getvalue()


def lying(changed: bytes, into: bytes) -> bytes:
    """A valid file in whose footer something stands in the place of all that is `changed`."""
    data = valid()
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    assert changed in footer
    footer = footer.replace(changed, into)
    return data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def lies() -> dict[str, bytes]:
    """Files by what they lie about. A field is its type behind the distance to the field before, then its value."""
    three, made = number(3), {}
    for odd in ODD:
        said = number(odd)
        for name, changed, into in (
            ("rows of the file", b"\x16" + three + b"\x19\x1c", b"\x16" + said + b"\x19\x1c"),
            ("rows of the group", b"\x16" + three + b"&\x08", b"\x16" + said + b"&\x08"),
            ("values of the column", b"\x16" + three + b"\x16" + STORED, b"\x16" + said + b"\x16" + STORED),
            ("rows and values", b"\x16" + three, b"\x16" + said),
            ("unpacked size", b"\x16" + STORED + b"\x16" + STORED, b"\x16" + said + b"\x16" + STORED),
            ("stored size", b"\x16" + STORED + b"\x16" + STORED, b"\x16" + STORED + b"\x16" + said),
            ("place", b"&\x08I", b"&" + said + b"I"),
        ):
            if (name, odd) not in {("unpacked size", 1000)}:  # more than there is, but of no consequence
                made[f"{name} {odd}"] = lying(changed, into)
    return made


@pytest.mark.parametrize(("lie", "content"), lies().items(), ids=list(lies()))
def test_a_footer_that_lies_is_refused_before_memory_is_asked_for(tmp_path: Path, lie: str, content: bytes) -> None:
    path = tmp_path / "own.parquet"
    path.write_bytes(content)
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError) as refused:
        read_rows(path, ())
    said = str(refused.value)
    assert said.startswith(f"{path}: ") and "\n" not in said and ("export it again" in said or "leave the file" in said)
    assert pa.total_allocated_bytes() - before < 2**20


def test_the_valid_file_of_these_tests_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    path.write_bytes(valid())
    assert [row.image.read() for row in read_rows(path, ())] == PICTURES


def test_a_page_that_unpacks_to_more_than_the_footer_says_is_refused(tmp_path: Path) -> None:
    """64 MiB in a few kilobytes, whose footer says 1,000 bytes."""
    file = io.BytesIO()
    told = {"compression": "zstd", "use_dictionary": False, "write_statistics": False, "store_schema": False}
    pq.write_table(pa.table({"image": [bytes(2**26)]}), file, **told)
    data = file.getvalue()
    announced = pq.read_metadata(io.BytesIO(data)).row_group(0).column(0).total_uncompressed_size
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8].replace(number(announced), number(1000))
    path = tmp_path / "own.parquet"
    path.write_bytes(data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 1000
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match="its pages hold more than its footer says; export it again"):
        read_rows(path, ())
    assert pa.total_allocated_bytes() - before < 2**20


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "lz4", "brotli"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_what_pyarrow_writes_is_read_however_it_is_stored(
    tmp_path: Path, compression: str, version: str, dictionary: bool
) -> None:
    path, pictures = tmp_path / "own.parquet", [encode_png(noise(seed)) for seed in range(40)]
    masks = [[{"bytes": one, "path": "a.png"}] * (number % 3) for number, one in enumerate(pictures)]
    images = [{"bytes": one, "path": f"{number}.png"} for number, one in enumerate(pictures)]
    told = {"compression": compression, "data_page_version": version, "use_dictionary": dictionary}
    table = pa.table({"image": images, "mask": masks})
    pq.write_table(table, path, row_group_size=13, data_page_size=2000, write_page_index=True, **told)
    rows = read_rows(path, ("image", "mask"))
    assert [row.image.read() for row in rows] == pictures
    assert [len(row.masks or ()) for row in rows] == [number % 3 for number in range(40)]


def test_a_column_s_pages_are_counted_as_pyarrow_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    table = pa.table({"image": [bytes([number % 256]) * 999 for number in range(5000)]})
    pq.write_table(table, path, data_page_size=2**14, use_dictionary=False)
    column = pq.read_metadata(path).row_group(0).column(0)
    with path.open("rb") as file:
        start = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
        found = list(pages(file, start, column.total_compressed_size))
    assert len(found) > 3
    assert sum(page.values for page in found) == column.num_values == 5000
    # pyarrow counts the pages' headers, too, each with its smallest and its largest value.
    assert 0 <= column.total_uncompressed_size - sum(page.uncompressed for page in found) < 2200 * len(found)


def test_levels_that_are_counted_otherwise_end_no_process(tmp_path: Path) -> None:
    """Found by fuzz.py: pyarrow aborts where it is asked for such a column's sizes."""
    path = tmp_path / "own.parquet"
    pq.write_table(pa.table({"image": pa.array([*PICTURES, None])}), path, compression="none", use_dictionary=False)
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer, levels = data[-8 - length : -8], b"\x19&" + number(1) + number(3)  # a list of two, of one null and three
    assert footer.count(levels) == 1
    footer = footer.replace(levels, b"\x19\x16" + number(1))
    path.write_bytes(data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ValueError, match="its footer counts the levels of column image otherwise: export it again"):
        read_rows(path, ())
