"""A cache of so many bytes: the values that were unused for the longest time go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ByteCache(Generic[Value]):
    """Values of up to `limit` bytes in all; the longest unused go first, and the last one stays whatever its size."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()

    def get(self, key: Hashable) -> Value | None:
        """The value; None where it is not there."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep a value of `size` bytes under a new key."""
        self._values[key] = value, size
        self.used += size
        while self.used > self.limit and len(self._values) > 1:
            _, (_, freed) = self._values.popitem(last=False)
            self.used -= freed

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values
