"""Options of the tuning commands, by the settings that they change."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

OPTIONS = {
    "augmentation.resize": "size",
    "data": "data",
    "label_budget": "points",
    "method.clusters": "clusters",
    "method.network": "network",
    "method.network.architecture": "network",
    "method.network.encoder": "encoder",
    "method.network.initial_features": "initial_features",
    "method.network.weights": "weights",
    "method": "recipe",
    "seed": "seed",
    "steps": "steps",
}
"""Options of the tuning commands by the setting that each changes; of other settings `--set`, where there is one."""

FOLLOW = {
    "validate_every": "steps",
    "optimiser.warmup_steps": "steps",
    "augmentation.crop": "augmentation.resize",
}
"""Settings that the option of another one changes with it."""


def option_of(path: str, known: Collection[str]) -> str:
    """Words of the command line that change the setting at a path; the path where none do."""
    at = path
    while at and at not in OPTIONS:
        at = at.rpartition(".")[0]
    option = OPTIONS.get(at, "")
    # The fields of a network that no option names follow from --network; those of a method do not from --recipe.
    named = at == path or at == "method.network"
    if named and option in known:
        return dashed(option)
    return f"--set {path}" if "set" in known else path


def dashed(option: str) -> str:
    """An option's field name as it is typed."""
    return f"--{option.replace('_', '-')}"


def value_text(value: Any) -> str:
    """A value as a command line has it."""
    if value is None:
        return "none"
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
