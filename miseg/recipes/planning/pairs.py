"""Rules for the methods that learn from pairs of patches: views of one place, of other dates where there are some."""

from __future__ import annotations

from typing import Any

from miseg.methods.registry import MethodConfig
from miseg.recipes.planning.plan import GIVEN, Given, Machine, PlannedSetting
from miseg.recipes.planning.summary import DataSummary

STEPS, BATCH = 6000, 512
"""Of the recipes on Sentinel-2 and aerial images: 512 pairs a step."""


def check_patches(data: DataSummary, method: MethodConfig) -> None:
    """Raise ValueError where a training image is smaller than half of a method's patches, which it is mirrored by."""
    settings: Any = method
    side = min(map(min, data.sizes))
    if method.learns_from_pairs and side <= settings.encoder.patch // 2:
        raise ValueError(
            f"patches of {settings.encoder.patch} pixels a side do not fit into the smallest training image, {side} "
            "pixels a side: lower --method.encoder.patch"
        )


def planned_pairs(
    data: DataSummary, method: MethodConfig, machine: Machine, given: Given
) -> tuple[PlannedSetting, ...]:
    """Settings for `method` on the data.

    Raises:
        ValueError: as `check_patches`.
    """
    check_patches(data, method)
    dated = data.dates > 1
    views: dict[str, tuple[Any, str]] = {
        "pairs.other_date": (1.0 if dated else 0.0, f"{data.dates} dates" if dated else "no place has two dates"),
        "pairs.shift": (0 if dated else 1, "other dates are change enough" if dated else "views differ by place,"),
        "pairs.turn": (not dated, "likewise" if dated else "by flips and quarter turns,"),
        "pairs.jitter": (0.0 if dated else 0.1, "likewise" if dated else "and by brightness"),
    }
    steps = int(given.get("steps", STEPS))
    batch = -(-BATCH // machine.workers) * machine.workers
    rows = {
        "batch_size": (batch, "pairs a step, as the recipes on satellite images have"),
        **views,
        "steps": (steps, "as those recipes"),
        "validate_every": (max(1, steps // 3), "three validations, each of which maps every image"),
        "optimiser.name": ("adam", "as those recipes"),
        "optimiser.learning_rate": (2e-3, "as those recipes"),
        "optimiser.warmup_steps": (min(100, steps // 20), "as those recipes"),
    }
    return tuple(
        PlannedSetting(path, given[path], GIVEN) if path in given else PlannedSetting(path, value, reason)
        for path, (value, reason) in rows.items()
    )
