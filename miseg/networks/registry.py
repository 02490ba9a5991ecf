"""Registry of networks that map an image to logits. No torch here: modules are named, not imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from miseg import plugins

if TYPE_CHECKING:
    from torch import nn

GROUP = "miseg.networks"


@dataclass(frozen=True)
class Network:
    """Base of the settings of every network from images to logits: a frozen dataclass, beside
    `register_network`."""


S = TypeVar("S", bound=type)

_registered: dict[type, str] = {}


def register_network(implementation: str) -> Callable[[S], S]:
    """Decorates a network's settings, a frozen dataclass below `Network`: a method can then be given it.

    Args:
        implementation: "package.module:name" of a class or function from settings, channels of the images and of the
            logits to a `torch.nn.Module` from [N, in_channels, H, W] to [N, out_channels, H, W], for any H and W.

    Raises:
        ValueError: settings of this class's name are registered already.
    """

    def add(settings: S) -> S:
        owners = [
            f"{kind.__module__}.{kind.__qualname__}" for kind in _registered if kind.__name__ == settings.__name__
        ]
        own = f"{settings.__module__}.{settings.__qualname__}"
        if owners and owners != [own]:
            raise ValueError(f"{owners[0]} and {own} have one name, {settings.__name__}: rename one of them")
        _registered[settings] = implementation
        return settings

    return add


def registered() -> dict[type, str]:
    """Every network's settings -> what builds it: miseg's own, then those of other packages that can be imported."""
    plugins.load_all(GROUP)
    return dict(_registered)


def build_network(config: Network, in_channels: int, out_channels: int) -> nn.Module:
    """The network that `config` describes: [N, in_channels, H, W] -> logits [N, out_channels, H, W], any H and W.

    Weights come from torch's global random state, but for those that the settings name.

    Raises:
        TypeError: settings of no network that is registered.
        ValueError: the named weights cannot be had.
    """
    known = registered()
    if type(config) not in known:
        names = ", ".join(kind.__name__ for kind in known)
        reasons = "".join(f"; {reason}" for reason in plugins.reasons(GROUP))
        raise TypeError(f"no network takes settings of type {type(config).__name__}; there are {names}{reasons}")
    module, name = known[type(config)].split(":")
    return getattr(import_module(module), name)(config, in_channels, out_channels)
