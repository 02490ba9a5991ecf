"""Own images in Parquet with the bytes of image and mask a row, as `datasets` of Hugging Face writes them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from miseg.data.checks import BadFileError
from miseg.data.parquet import check_column, check_counts, check_footer, check_types

_IMAGES = ("image", "images", "img", "pixel_values")
_MASKS = ("mask", "masks", "annotation", "annotations", "label", "labels", "segmentation_mask", "segmentation", "seg")
_MASK_WORDS = re.compile("mask|annot|label|seg|ground_?truth|(^|_)gt(_|$)")
"""Part of a column's name that is no image's."""
_GROUPS_AT_ONCE = 4


@dataclass(frozen=True)
class ParquetCell:
    """A picture in a Parquet file.

    Attributes:
        path: the file.
        column: its column.
        group: number of the row group.
        row: row in the group.
        number: row in the file.
        item: number of the picture in the cell's list; None where the cell is one picture.
    """

    path: Path
    column: str
    group: int
    row: int
    number: int
    item: int | None = None

    def __str__(self) -> str:
        item = "" if self.item is None else f", item {self.item}"
        return f"{self.path}, row {self.number}, column {self.column}{item}"

    def read(self) -> bytes:
        """The picture's bytes.

        Raises:
            BadFileError: the cell is empty, names a file in place of bytes, or the Parquet file is damaged.
        """
        try:
            state = self.path.stat()
            cell = _column(self.path, self.column, self.group, (state.st_mtime_ns, state.st_size))[self.row]
            value = (cell if self.item is None else cell.values[self.item]).as_py()
        except (OSError, pa.ArrowException) as error:
            raise BadFileError(f"the Parquet file is damaged ({_short(error)}): copy it again") from None
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None and isinstance(value, dict) and value.get("path"):
            raise BadFileError(
                f"names the file {value['path']} and holds no bytes: write the data set with its pictures"
            )
        if not data:
            raise BadFileError("holds no picture: leave the row out, or add it")
        return bytes(data)


def content(file: Path | bytes | ParquetCell) -> Path | bytes:
    """A file or bytes as they are, and of a cell its bytes.

    Raises:
        BadFileError: a cell without picture.
    """
    return file.read() if isinstance(file, ParquetCell) else file


@dataclass(frozen=True)
class ParquetRow:
    """A row of a Parquet file.

    Attributes:
        name: of the picture's own file where the row has it, without ending; else of file and row.
        image: the image.
        masks: its mask, or the masks of its objects where a cell is a list; None where the file has none, or the cell
            is empty.
    """

    name: str
    image: ParquetCell
    masks: tuple[ParquetCell, ...] | None


def read_rows(path: Path, columns: Sequence[str]) -> tuple[ParquetRow, ...]:
    """The rows of a Parquet file; pictures are read later, as they are needed.

    Args:
        path: the file.
        columns: of the image, and of the mask if there is one; none: those with the usual names.

    Raises:
        ValueError: no Parquet, no picture in it, or columns of which it is not clear what they are.
    """
    try:
        with pq.ParquetFile(path) as file:
            image, mask = _columns(path, file.schema_arrow, columns)
            try:
                check_types(file.schema_arrow, *filter(None, (image, mask)))
                _check(path, file, range(file.num_row_groups), image, mask)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            rows: list[ParquetRow] = []
            for group in range(file.num_row_groups):
                names = _names(file, group, image)
                items = _items(file, group, mask)
                for row, name in enumerate(names):
                    number = len(rows)
                    masks = None
                    if mask is not None and (of_row := items[row]) is not None:
                        masks = tuple(ParquetCell(path, mask, group, row, number, item) for item in of_row)
                    picture = ParquetCell(path, image, group, row, number)
                    rows.append(ParquetRow(name or f"{path.stem}-{number:06d}", picture, masks))
            return tuple(rows)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({_short(error)}): check the file and its permissions") from None
    except pa.ArrowException as error:
        raise ValueError(f"{path} is damaged or no Parquet ({_short(error)}): copy or export it again") from None


def _check(path: Path, file: pq.ParquetFile, groups: Iterable[int], *columns: str | None) -> None:
    """Raise ValueError where a file contradicts itself, or a column that is read announces what pictures are not."""
    with path.open("rb") as raw:
        check_footer(raw, file.metadata)
        check_counts(file.metadata, path.stat().st_size)
        for group in groups:
            for column in filter(None, columns):
                check_column(raw, file.metadata, group, column)


def _columns(path: Path, schema: pa.Schema, columns: Sequence[str]) -> tuple[str, str | None]:
    pictures = [field.name for field in schema if _holds_pictures(field.type)]
    listed = ", ".join(pictures)
    if columns:
        if len(columns) > 2:
            raise ValueError(f"--columns {' '.join(columns)}: name the image's column, and the mask's if there is one")
        if unknown := [name for name in columns if name not in pictures]:
            raise ValueError(f"--columns {unknown[0]}: {path} has pictures in {listed or 'no column'}")
        if len(set(columns)) < len(columns):
            raise ValueError(f"--columns {' '.join(columns)}: the image's column is no mask: name two, or it alone")
        if _is_list(schema.field(columns[0]).type):
            raise ValueError(f"--columns {columns[0]}: {path} has lists of pictures there, which are no image of a row")
        return columns[0], columns[1] if len(columns) == 2 else None
    if not pictures:
        names = ", ".join(schema.names)
        raise ValueError(f"{path}: no column holds pictures' bytes ({names}): write the data set with its pictures")
    _refuse_without_bytes(path, schema, pictures)
    single = [name for name in pictures if not _is_list(schema.field(name).type)]
    others = [name for name in single if not _MASK_WORDS.search(name.lower())]
    images = [name for name in single if name.lower() in _IMAGES] or (others if len(others) == 1 else [])
    masks = [name for name in pictures if name.lower() in _MASKS and name not in images]
    if len(images) != 1 or len(masks) > 1 or len(pictures) > len(images) + len(masks):
        raise ValueError(
            f"{path}: columns {listed} hold pictures: say which is the image and which the mask, such as --columns "
            f"{' '.join(pictures[:2])}, or the image's alone for images without labels"
        )
    return images[0], masks[0] if masks else None


def _refuse_without_bytes(path: Path, schema: pa.Schema, pictures: Sequence[str]) -> None:
    """Refuses columns named as the image or the mask that hold addresses, names of files or numbers in their place."""
    for field in schema:
        name = field.name.lower()
        if field.name in pictures or name not in (*_IMAGES, *_MASKS):
            continue
        if name in _IMAGES:
            raise ValueError(
                f"{path}: column {field.name} holds no pictures' bytes ({_type_text(field.type)}): write the data set "
                f"with its pictures, or name the image's column with --columns (pictures: {', '.join(pictures)})"
            )
        # The class of a whole image, as data sets for classification have it, is no mask.
        of_image = pa.types.is_dictionary(field.type) or pa.types.is_primitive(field.type) or _is_text(field.type)
        if of_image and name in ("label", "labels"):
            continue
        raise ValueError(
            f"{path}: column {field.name} holds no pictures' bytes ({_type_text(field.type)}): write the data set with "
            f"its masks as pictures, or say --columns {pictures[0]} for images without labels"
        )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _type_text(kind: pa.DataType) -> str:
    return "text" if _is_text(kind) else str(kind)[:60]


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _holds_pictures(kind: pa.DataType) -> bool:
    if _is_list(kind):
        return not _is_list(kind.value_type) and _holds_pictures(kind.value_type)
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_pictures(kind.field("bytes").type)
    if pa.types.is_dictionary(kind):
        return _holds_pictures(kind.value_type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _names(file: pq.ParquetFile, group: int, column: str) -> list[str]:
    """Names of the group's images by the path that Hugging Face keeps beside their bytes; empty where it does not."""
    kind = file.schema_arrow.field(column).type
    if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
        return [""] * file.metadata.row_group(group).num_rows
    paths = file.read_row_group(group, columns=[f"{column}.path"], use_threads=False)
    values = (value and value.get("path") for value in paths.column(column).to_pylist())
    return [PurePosixPath((value or "").replace("\\", "/")).stem for value in values]


def _items(file: pq.ParquetFile, group: int, column: str | None) -> list[Sequence[int | None] | None]:
    """Numbers of each row's masks in its cell: one, None, of a cell that is no list; None for a row without mask."""
    if column is None:
        return [None] * file.metadata.row_group(group).num_rows
    kind = file.schema_arrow.field(column).type
    # Of a picture with its path, that alone says whether there is one, and costs no reading of pictures.
    part = f"{column}.path" if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0 else column
    cells = file.read_row_group(group, columns=[part], use_threads=False).column(column)
    if _is_list(kind):
        return [None if number is None else range(number) for number in pc.list_value_length(cells).to_pylist()]
    return [None if missing else (None,) for missing in cells.is_null().to_pylist()]


@functools.lru_cache(maxsize=_GROUPS_AT_ONCE)
def _column(path: Path, column: str, group: int, state: tuple[int, int]) -> pa.ChunkedArray:
    # Rows of a group are asked for one after the other, and read together. A file that changed has another `state`.
    with pq.ParquetFile(path) as file:
        try:
            check_types(file.schema_arrow, column)  # the process that listed the rows may know fewer types
            _check(path, file, (group,), column)
        except ValueError as error:
            raise BadFileError(str(error)) from None
        return file.read_row_group(group, columns=[column], use_threads=False).column(column)


def _short(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
