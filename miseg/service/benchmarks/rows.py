"""Helpers of the benchmark's rows: variants timed in turn, and peaks of memory."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class BenchmarkRow:
    """One comparison: `values` by variant, one a repetition; the ratio is the first variant's over the second's."""

    name: str
    unit: str
    values: Mapping[str, list[float]]

    @property
    def ratios(self) -> list[float]:
        """The first variant over the second, repetition by repetition."""
        first, second = list(self.values.values())[:2]
        return [a / b for a, b in zip(first, second, strict=True)]

    def text(self) -> str:
        """Medians with their spread, a line a variant."""
        lines = [f"{self.name} ({self.unit}): median (lowest to highest) of {len(self.ratios)} repetitions"]
        for variant, values in [*self.values.items(), ("ratio", self.ratios)]:
            lines.append(f"  {variant:<28} {statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})")
        return "\n".join(lines)


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_bytes_of(work: Callable[[], object]) -> int:
    """Bytes that this process, or its GPU, holds more at the peak of `work` than before."""
    if device().type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() - before
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the imports
    work()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    """Bytes of a line of /proc/self/status, such as VmRSS."""
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return 1024 * int(match[1])
