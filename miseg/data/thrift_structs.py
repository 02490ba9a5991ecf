"""Structs of Thrift's compact protocol, in which Parquet keeps its footer and the headers of its pages."""

from __future__ import annotations

from typing import Any

_DEEPEST = 16
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)


class StructReader:
    """Reader of bytes that begin with a struct.

    Args:
        data: the bytes; others may follow the struct.

    Attributes:
        at: where the struct ends, once it was read.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Values of a struct by the numbers of their fields: whole numbers, bytes, lists, and structs likewise.

        Raises:
            ValueError: it is none.
            EOFError: it ends behind the bytes.
        """
        fields: dict[int, Any] = {}
        field = 0
        while (head := self._byte()) != _STOP:
            field = field + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            fields[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("a struct is too deep")
        if kind in _INTEGERS:
            return self._signed()
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind in (_DOUBLE, _BINARY):
            return self._bytes(8 if kind == _DOUBLE else self._unsigned())
        if kind == _STRUCT:
            return self.struct(depth)
        if kind in (_LIST, _SET):
            head = self._byte()
            # Each takes a byte or more, so that a number that lies ends with the data.
            return [self._value(head & 15, depth + 1) for _ in range(head >> 4 if head >> 4 < 15 else self._unsigned())]
        raise ValueError(f"a struct holds a value of kind {kind}, which there is not")

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise EOFError("a struct ends behind its data")
        return self.data[start : self.at]

    def _unsigned(self) -> int:
        number, shift = 0, 0
        while (byte := self._byte()) & 128:
            number |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a struct holds a number that is too large")
        return number | byte << shift

    def _signed(self) -> int:
        number = self._unsigned()
        return (number >> 1) ^ -(number & 1)
