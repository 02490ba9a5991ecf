"""Marks on the fields of settings classes: methods, networks, data and experiments alike have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

ADDED_LATER: Mapping[str, bool] = MappingProxyType({"added_later": True})
"""Metadata of a field that a class got after experiments with it were trained.

`field(default=…, metadata=ADDED_LATER)` is left out of `Experiment.id` while it holds its default, so that these
experiments keep their ids. The default must be what the code did without the field, and never changes.
"""


def as_before(field: dataclasses.Field, value: Any) -> bool:
    """Whether the field was added later and `value` is its default, so that the settings are those without it."""
    if not field.metadata.get("added_later"):
        return False
    made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    return bool(value == made)
