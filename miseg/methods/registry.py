"""Registry of methods: the one place for a method's name, the labels that it learns from and its search space.

No torch here: the class that trains is named, and imported when it is looked up.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from miseg import plugins
from miseg.methods.ranges import RATE_ALONE, Range, Space

if TYPE_CHECKING:
    from miseg.interface import Method

GROUP = "miseg.methods"
NETWORK_AND_LOSS = "miseg.methods.dense.network_and_loss:NetworkAndLossMethod"

Supervision = Literal["dense", "none", "few"]
"""Labels that a method learns from: masks of images; a few labelled pixels, given after training; or none."""


@dataclass(frozen=True)
class MethodConfig:
    """Base of the settings of every method: a frozen dataclass, beside `register`."""

    supervision: ClassVar[Supervision] = "dense"
    learns_from_pairs: ClassVar[bool] = False
    """Whether it learns from pairs of patches of its `encoder`'s size, cut from scenes, rather than from images."""
    micro_batch: ClassVar[int | None] = 1
    """Number of which the images of a part of a step's batch must be a multiple, such as 2 where images are compared in
    twos; None: the loss is one of the whole batch, which cannot be cut into parts."""

    @property
    def images_by(self) -> int | None:
        """`micro_batch` of these very settings: a method whose settings decide has its own."""
        return self.micro_batch

    @property
    def as_published(self) -> bool:
        """Whether these choices are those of the method's paper, so that a row of them may be called so."""
        return True

    def fitted(self, height: int, width: int) -> dict[str, tuple[Any, str]]:
        """Settings that follow from the size in pixels of training images: by name, each with the reason for it.

        A plan from the data takes them; the default is none.
        """
        return {}


@dataclass(frozen=True)
class Registered:
    """A method as the command line, a tuning and a study know it."""

    key: str
    """Its short name, such as rmi: the end of its recipes' names, and what a study's --methods takes."""
    label: str
    """Name of its rows: see `rows`."""
    settings: type[MethodConfig]
    implementation: str
    """Its class, "package.module:Class"."""
    space: Space
    """Default search space."""
    in_studies: bool = False
    """Whether a study compares it where nobody names methods."""

    @property
    def supervision(self) -> Supervision:
        """Labels that it learns from."""
        return self.settings.supervision

    def rows(self, planned: bool = False, first: MethodConfig | None = None) -> tuple[str, str]:
        """The names of the rows of the tuning's winner and of its first point.

        Args:
            planned: whether that point is a plan from the data, and not the paper's default.
            first: the method's settings at that point; None: as published.
        """
        published = first is None or first.as_published
        return f"{self.label} tuned", f"{self.label} {'as planned' if planned else AS[published]}"

    def point(self, base: Any) -> dict[str, Any]:
        """A recipe of the method as a point of its space."""
        return self.space.point(base)


AS = {True: "as published", False: "by default"}
"""End of the name of a row that was not tuned, by whether its method's settings are those of its paper."""

S = TypeVar("S", bound=type)

_registered: dict[type, Registered] = {}


def register(
    key: str,
    *,
    label: str,
    implementation: str = NETWORK_AND_LOSS,
    space: Mapping[str, Range] | Space = RATE_ALONE,
    in_studies: bool = False,
) -> Callable[[S], S]:
    """Decorates a method's settings, a frozen dataclass below `MethodConfig`, which makes the method known everywhere.

    Args:
        key: the method's short name: the end of its recipes' names, and what a study's --methods takes.
        label: what tables call it.
        implementation: "package.module:Class" of its `miseg.interface.Method`. Default: a network trained on the
            settings' own `loss`, see `miseg.methods.dense.network_and_loss`.
        space: what a tuning searches: path of a setting, such as "method.weight" -> its range. Default: the learning
            rate within ten times the recipe's.
        in_studies: whether a study compares it where nobody names methods.

    Raises:
        TypeError: settings that are no frozen dataclass below `MethodConfig`, or a space without ranges.
        ValueError: a method of this short name, or settings of this class's name, are registered already.
    """

    def add(settings: S) -> S:
        _check_settings(settings)
        for other in _registered.values():
            same = "short name" if other.key == key else "name of settings"
            alike = other.key == key or other.settings.__name__ == settings.__name__
            if alike and _full_name(other.settings) != _full_name(settings):
                raise ValueError(
                    f"{_full_name(other.settings)} and {_full_name(settings)} have one {same}, "
                    f"{key if other.key == key else settings.__name__}: rename one of them"
                )
        given = space if isinstance(space, Space) else Space(space)
        for path, within in given.ranges.items():
            if not isinstance(within, Range):
                raise TypeError(
                    f"{_full_name(settings)}: space {path} = {within!r}: give a range, such as Uniform(0, 1)"
                )
        bound = replace(given, of=settings) if any(path.startswith("method.") for path in given.ranges) else given
        _registered[settings] = Registered(key, label, settings, implementation, bound, in_studies)
        return settings

    return add


def registered() -> dict[type, Registered]:
    """Every method by the type of its settings, by what it learns from and then as registered.

    Those of other packages are among them, as far as they can be imported.
    """
    plugins.load_all(GROUP)
    order = typing.get_args(Supervision)
    return {m.settings: m for m in sorted(_registered.values(), key=lambda method: order.index(method.supervision))}


def of(settings: MethodConfig) -> Registered:
    """Registration of the method that has these settings.

    Raises:
        TypeError: settings that are not registered.
    """
    known = registered()
    if type(settings) not in known:
        names = ", ".join(kind.__name__ for kind in known)
        left_out = "".join(f"; {reason}" for reason in plugins.reasons(GROUP))
        raise TypeError(f"no method takes settings of type {type(settings).__name__}; METHODS holds {names}{left_out}")
    return known[type(settings)]


def space_of(settings: type[MethodConfig]) -> Space:
    """Search space of miseg's own method with these settings."""
    return _registered[settings].space


def by_key() -> dict[str, Registered]:
    """Every method by its short name."""
    return {method.key: method for method in registered().values()}


def _check_settings(settings: type) -> None:
    """Raises TypeError for a class that is no settings of a method."""
    if not (isinstance(settings, type) and issubclass(settings, MethodConfig)):
        raise TypeError(f"{settings!r} is no class below miseg.methods.MethodConfig: derive it from that")
    # Its own, not the one that it inherits.
    if "__dataclass_params__" not in vars(settings):
        raise TypeError(f"{_full_name(settings)} is no dataclass: write @dataclass(frozen=True) below @register")
    if settings.supervision not in typing.get_args(Supervision):
        words = ", ".join(typing.get_args(Supervision))
        raise TypeError(f"{_full_name(settings)}: supervision = {settings.supervision!r}: use one of {words}")


def _check_registers(name: str, module: Any) -> None:
    """Raises ValueError where a package's entry point of this name registers no method of this name."""
    if name not in {method.key for method in _registered.values()}:
        raise ValueError(f"it registers no method of the short name {name}")


plugins.checks[GROUP] = _check_registers


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


class Methods(Mapping[type, "type[Method]"]):
    """A read-only dict from type of settings to method class that imports the class when it is looked up."""

    def __getitem__(self, settings: type) -> type[Method]:
        implementation = registered()[settings].implementation
        module, _, name = implementation.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ModuleNotFoundError, AttributeError) as error:
            # What the module itself lacks, such as an extra, is told by its own error.
            absent = f"{error.name}." if isinstance(error, ModuleNotFoundError) and error.name else ""
            if isinstance(error, AttributeError) or (absent and f"{module}.".startswith(absent)):
                raise ValueError(
                    f"{_full_name(settings)}: its implementation {implementation!r} is not there: {error}"
                ) from error
            raise

    def __contains__(self, settings: object) -> bool:
        # Mapping's own looks the value up, and so would import it.
        return settings in registered()

    def __iter__(self) -> Iterator[type]:
        return iter(registered())

    def __len__(self) -> int:
        return len(registered())
