"""Search spaces as data: which settings of an experiment are searched, and in which range each. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from operator import attrgetter
from typing import Any, Protocol, TypeVar

E = TypeVar("E")

_TRIED = 64
"""Whole values of a range, at most, that are all tried before a search begins."""


class Trial(Protocol):
    """Part of an Optuna trial that a search space needs."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A real value in low..high, on a log scale if asked."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole value in low..high."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class Uniform:
    """Real values in low..high, each as likely; with `log` each factor as likely."""

    low: float
    high: float
    _: KW_ONLY
    log: bool = False
    name: str = ""
    """Name of the parameter in tables and in MLflow. Default: the last part of the setting's path."""

    def suggest(self, trial: Trial, name: str, own: Any) -> float:
        """The trial's value."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def nearest(self, own: Any) -> Any:
        """The value in range that is nearest to the experiment's own; the lowest where it has none."""
        return self.low if own is None else min(max(own, self.low), self.high)

    def ends(self, own: Any) -> tuple[Any, ...]:
        """Values by which an experiment's own checks are tried."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{':log' if self.log else ''}"


@dataclass(frozen=True)
class Whole:
    """Whole values in low..high, each as likely."""

    low: int
    high: int
    _: KW_ONLY
    name: str = ""

    def suggest(self, trial: Trial, name: str, own: Any) -> int:
        """The trial's value."""
        return trial.suggest_int(name, self.low, self.high)

    def nearest(self, own: Any) -> Any:
        """See `Uniform`."""
        return self.low if own is None else min(max(own, self.low), self.high)

    def ends(self, own: Any) -> tuple[Any, ...]:
        """Every value where there are few: one between two good ends may be none, such as an even side of a patch."""
        values = range(self.low, self.high + 1)
        return tuple(values) if len(values) <= _TRIED else (self.low, self.high)

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]
    _: KW_ONLY
    with_own: bool = False
    """Whether the experiment's own value is one of them too."""
    name: str = ""

    def _choices(self, own: Any) -> list[Any]:
        return sorted({*self.values, own}) if self.with_own else list(self.values)

    def suggest(self, trial: Trial, name: str, own: Any) -> Any:
        """The trial's value."""
        return trial.suggest_categorical(name, self._choices(own))

    def nearest(self, own: Any) -> Any:
        """The experiment's own value, or the first where it is none of them."""
        choices = self._choices(own)
        return own if own in choices else choices[0]

    def ends(self, own: Any) -> tuple[Any, ...]:
        """See `Uniform`."""
        return tuple(self._choices(own))

    def __str__(self) -> str:
        return ",".join(map(str, self.values)) + (",own" if self.with_own else "")


@dataclass(frozen=True)
class Multiples:
    """Whole multiples of the experiment's own whole number, 1 or more; not searched where it has none."""

    factors: tuple[float, ...]
    _: KW_ONLY
    name: str = ""

    def _choices(self, own: int) -> list[int]:
        return sorted({max(1, int(own * factor)) for factor in self.factors})

    def suggest(self, trial: Trial, name: str, own: int) -> int:
        """The trial's value."""
        return trial.suggest_categorical(name, self._choices(own))

    def nearest(self, own: int) -> int:
        """The experiment's own value."""
        return own

    def ends(self, own: int) -> tuple[Any, ...]:
        """See `Uniform`."""
        return tuple(self._choices(own))

    def __str__(self) -> str:
        return ",".join(f"x{factor:g}" for factor in self.factors)


@dataclass(frozen=True)
class Around:
    """From a `factor`-th of the experiment's own value to `factor` times it, on a log scale."""

    factor: float
    _: KW_ONLY
    whole: bool = False
    """Whether the value is rounded."""
    of: str = ""
    """Path of the value that is meant, where that is not the setting itself."""
    name: str = ""

    def suggest(self, trial: Trial, name: str, own: float) -> float:
        """The trial's value."""
        value = trial.suggest_float(name, *self.ends(own), log=True)
        return round(value) if self.whole else value

    def nearest(self, own: float) -> float:
        """The experiment's own value."""
        return float(own) if self.whole else own

    def ends(self, own: float) -> tuple[Any, ...]:
        """See `Uniform`."""
        return own / self.factor, own * self.factor

    def __str__(self) -> str:
        return f"x{self.factor:g}"


Range = Uniform | Whole | Choice | Multiples | Around


@dataclass(frozen=True)
class Space:
    """A search space: a function from a trial and an experiment to the experiment that the trial trains."""

    ranges: Mapping[str, Range]
    """Path of a setting from the experiment, such as `method.weight` -> its range, in the order they are drawn."""
    of: type | None = field(default=None, compare=False)
    """The method's settings that it is for; None: any with these paths."""
    identity: str = ""
    """Text by which a finished tuning recognises the space. Default: its ranges as text."""

    def __post_init__(self) -> None:
        if not self.identity:
            text = "; ".join(f"{path}={within}" for path, within in self.ranges.items())
            object.__setattr__(self, "identity", text)

    def __call__(self, trial: Trial, base: E) -> E:
        """The experiment at the trial's point.

        Raises:
            TypeError: an experiment of another method.
            ValueError: the point is no experiment.
        """
        values = {path: within.suggest(trial, name, own) for path, name, within, own in self._searched(base)}
        return changed(base, values)

    def point(self, base: Any) -> dict[str, Any]:
        """`base` itself as a point of the space, or what is nearest to it there: what a tuning tries first."""
        return {name: within.nearest(own) for _, name, within, own in self._searched(base)}

    def corners(self, base: E) -> Iterator[tuple[str, Any, E]]:
        """`base` with one setting after the other at each end of its range: path, value and experiment.

        Raises:
            ValueError: a value that the experiment refuses; the message names it.
        """
        for path, _, within, own in self._searched(base):
            for value in within.ends(own):
                value = round(value) if isinstance(within, Around) and within.whole else value
                try:
                    yield path, value, changed(base, {path: value})
                except ValueError as error:
                    raise ValueError(f"{path}={within}: {error}") from None

    def _searched(self, base: Any) -> Iterator[tuple[str, str, Range, Any]]:
        if self.of is not None and not isinstance(base.method, self.of):
            method, of = type(base.method).__name__, self.of.__name__
            raise TypeError(f"{method} has no such settings to search: give a recipe of {of}")
        ends = Counter(path.rpartition(".")[2] for path in self.ranges)
        for path, within in self.ranges.items():
            own = attrgetter(within.of if isinstance(within, Around) and within.of else path)(base)
            if own is None and isinstance(within, Multiples):
                continue
            last = path.rpartition(".")[2]
            yield path, within.name or (last if ends[last] == 1 else path), within, own


LEARNING_RATE: Mapping[str, Range] = {"optimiser.learning_rate": Around(10)}
"""The learning rate within ten times the experiment's own: what is searched of every method alike."""

RATE_ALONE = Space(LEARNING_RATE, identity="miseg.recipes.spaces.learning_rate")
"""The space of a method without a knob of its own."""


def changed(settings: E, values: Mapping[str, Any]) -> E:
    """The settings with other values at some dotted paths, all at once: some fit together alone."""
    inner: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        head, _, rest = path.partition(".")
        inner.setdefault(head, {})[rest] = value
    new = {
        head: values_there[""] if "" in values_there else changed(getattr(settings, head), values_there)
        for head, values_there in inner.items()
    }
    return replace(settings, **new)  # type: ignore[type-var]
