"""A plan: settings by their paths in an experiment, each with the reason for it, and what was given instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from miseg.methods.ranges import changed
from miseg.recipes.experiment import Experiment

PLAN = "miseg.plan"
"""Tag of a run whose settings were planned: the plan as JSON."""

JOB_OPTIONS = ("decoded_gib",)
"""Settings of a plan that are the job's and not the experiment's."""

GIVEN = "given"
"""Reason of a setting that the command line names."""


@dataclass(frozen=True)
class PlannedSetting:
    """One setting of a plan."""

    path: str
    """From the experiment, such as augmentation.crop; or the name of a job's option."""
    value: Any
    reason: str

    @property
    def text(self) -> str:
        """The value as the command line takes it."""
        if isinstance(self.value, tuple):
            return " ".join(map(str, self.value))
        return f"{self.value:g}" if isinstance(self.value, float) else str(self.value)


@dataclass(frozen=True)
class TrainingPlan:
    """Settings for one data set and machine, with what they were planned from."""

    data: str
    """The data set in words."""
    machine: str
    """Device and memory in words."""
    settings: tuple[PlannedSetting, ...]

    def __getitem__(self, path: str) -> Any:
        return next(setting.value for setting in self.settings if setting.path == path)

    @property
    def decoded_gib(self) -> float | None:
        """GiB of decoded images that each machine keeps; None: what the job says."""
        return next((setting.value for setting in self.settings if setting.path == "decoded_gib"), None)

    def applied(self, experiment: Experiment) -> Experiment:
        """The experiment with the planned settings.

        Raises:
            ValueError: a value that was given does not fit the others.
        """
        return changed(experiment, {s.path: s.value for s in self.settings if s.path not in JOB_OPTIONS})

    @property
    def of_data(self) -> TrainingPlan:
        """The part that methods share which are compared with each other: all but the settings of a method itself."""
        shared = tuple(setting for setting in self.settings if not setting.path.startswith("method."))
        return replace(self, settings=shared)

    def table(self, options: bool = True) -> str:
        """The plan for the terminal: a line for each setting.

        Args:
            options: whether each setting is an option of the job, rather than a SETTING of --set SETTING=VALUE.
        """
        as_option = [options or s.path in JOB_OPTIONS for s in self.settings]
        pairs = list(zip(self.settings, as_option, strict=True))
        names = [f"--{s.path.replace('_', '-')}" if option else s.path for s, option in pairs]
        # A SETTING's values have commas between them.
        values = [s.text if option else s.text.replace(" ", ",") for s, option in pairs]
        widths = max(map(len, names)), max(map(len, values))
        lines = [
            f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {setting.reason}"
            for name, value, setting in zip(names, values, self.settings, strict=True)
        ]
        return "\n".join([f"planned from {self.data}, for {self.machine}:", *lines])

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: data, machine, and by path the value and reason of each setting."""
        settings = {s.path: {"value": s.value, "reason": s.reason} for s in self.settings}
        return {"data": self.data, "machine": self.machine, "settings": settings}

    def json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


def settings_from(data: Mapping[str, Any]) -> tuple[PlannedSetting, ...]:
    """The settings of `TrainingPlan.to_dict`, read from JSON."""
    return tuple(
        PlannedSetting(path, tuple(value) if isinstance(value := of["value"], list) else value, of["reason"])
        for path, of in data.items()
    )


@dataclass(frozen=True)
class Machine:
    """Memory that one training may take, and where."""

    memory: int
    """Bytes."""
    gpu: bool
    workers: int = 1
    """Processes that share each batch."""
    room: int = 0
    """Bytes of the machine's memory that decoded images may take."""

    def __str__(self) -> str:
        kind = "GPU memory" if self.gpu else "memory, no GPU"
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        return f"{self.memory / 2**30:.3g} GiB of {kind}{workers}"


@dataclass(frozen=True)
class MemoryNeeds:
    """Memory that a training takes, as measured on its networks."""

    per_pixel: float
    """Bytes for each pixel of a batch in a training step."""
    per_pixel_evaluated: float
    """Bytes for each pixel of a batch that is predicted."""
    fixed: float
    """Bytes of weights, gradients and the optimiser's state."""

    def pixels(self, memory: int) -> int:
        """Pixels of a batch that so many bytes hold in training, 0 or more."""
        return max(0, int((memory - self.fixed) / self.per_pixel))

    def evaluated_pixels(self, memory: int) -> int:
        """Likewise in prediction."""
        return max(0, int((memory - self.fixed) / self.per_pixel_evaluated))


Given = Mapping[str, Any]
"""Settings that the command line names, by their paths: they always win, and the others are planned around them."""
