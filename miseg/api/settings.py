"""Settings by the names that they have on the command line, as the options and the experiment that a job takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from miseg.nearest_names import either, nearest
from miseg.settings import fits, hints_of, paths_in

if TYPE_CHECKING:
    from miseg.recipes.experiment import Experiment

Settings = Mapping[str, Any]
"""Values by the names that a command's options have, with or without its hyphens: {"method.weight": 0.3, "workers": 2}.
"""


@dataclass(frozen=True)
class NamedSettings:
    """Settings of a call, by whom they are for.

    Attributes:
        options: of the job, by field.
        rest: of the experiment, by dotted path.
    """

    options: dict[str, Any]
    rest: dict[str, Any]


def joined(settings: Settings | None, **parameters: Any) -> dict[str, Any]:
    """Settings with the parameters of a call that are not None among them, by dotted paths.

    Raises:
        ValueError: a setting that is said twice.
    """
    values = {name: value for name, value in parameters.items() if value is not None}
    for name, value in (settings or {}).items():
        path = name.removeprefix("--").replace("-", "_")
        if path in values:
            raise ValueError(f"{path} has a value already; name each setting once")
        values[path] = value
    return values


def sorted_out(values: Settings, options: type, reserved: Sequence[str] = ()) -> NamedSettings:
    """Settings by whether they are a job's options.

    Args:
        values: as `joined` gives them.
        options: the dataclass of the job's options.
        reserved: fields of it that are no settings.

    Raises:
        ValueError: a value of another type than the option's.
    """
    hints = {name: hint for name, hint in hints_of(options).items() if name not in reserved}
    own = {path: _typed(path, value, hints[path]) for path, value in values.items() if path in hints}
    return NamedSettings(own, {path: value for path, value in values.items() if path not in hints})


def check_names(values: Settings, *options: type) -> None:
    """Raise ValueError for a path that begins with no setting of an experiment, with what may have been meant.

    Args:
        values: by path; whether the rest of it is there, each method's own experiment says.
        options: dataclasses of the job, whose fields are offered, too.
    """
    # Not at the top: what has no extra is told before.
    from miseg.recipes.experiment import Experiment

    for path in values:
        if path.partition(".")[0] not in hints_of(Experiment):
            raise ValueError(
                _unknown(path, [*paths_in(Experiment()), *(name for kind in options for name in hints_of(kind))])
            )


def _unknown(path: str, names: Sequence[str], otherwise: str = "the command's --help lists them") -> str:
    close = nearest(path, names)
    return f"{path}: there is no such setting; {f'did you mean {either(close)}?' if close else otherwise}"


def with_values(experiment: Experiment, values: Settings, options: type) -> Experiment:
    """The experiment with settings at their dotted paths.

    Args:
        experiment: what they are of.
        values: by path; lists stand for tuples.
        options: the job's, for the names that are offered in place of one that is not there.

    Raises:
        ValueError: a path at which no setting is, or a value of another type or out of its range.
    """
    # Not at the top: what has no extra is told before.
    from miseg.methods.ranges import changed
    from miseg.recipes.space_text import setting_at

    typed = {}
    for path, value in values.items():
        try:
            hint, _ = setting_at(path, experiment)
        except ValueError as error:
            names = [*paths_in(experiment), *hints_of(options)]
            raise ValueError(_unknown(path, names, str(error))) from None
        typed[path] = _typed(path, value, hint)
    return changed(experiment, typed) if typed else experiment


def texts(values: Settings) -> tuple[str, ...]:
    """Settings as `--set` takes them."""
    return tuple(f"{path}={_text(value)}" for path, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def _typed(path: str, value: Any, hint: Any) -> Any:
    value = tuple(value) if isinstance(value, list) else value
    if not fits(value, hint):
        kind = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise ValueError(f"{path} = {value!r}: expected {kind}")
    return value
