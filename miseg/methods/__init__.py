"""Methods: one row of the results table each, found through `METHODS`.

Modules of this package itself hold settings and `register` them; all are imported with it, and import no torch. What
trains lies in its folders, and is imported when a method is looked up.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from miseg.methods import registry
from miseg.methods.ranges import LEARNING_RATE, Around, Choice, Multiples, Space, Uniform, Whole
from miseg.methods.registry import MethodConfig, Methods, register
from miseg.networks.configs import without_weights

if TYPE_CHECKING:
    from miseg.interface import Method, Task

__all__ = [
    "LEARNING_RATE",
    "METHODS",
    "Around",
    "Choice",
    "MethodConfig",
    "Multiples",
    "Space",
    "Uniform",
    "Whole",
    "build_method",
    "register",
]

METHODS: Mapping[type, type[Method]] = Methods()
"""Every method: the type of its settings -> its class."""


def build_method(config: MethodConfig, task: Task, *, pretrained: bool = True) -> Method:
    """The method that `config` describes, for `task`, its weights drawn from torch's global random state.

    Args:
        config: the method's settings.
        task: classes and channels of the data.
        pretrained: whether networks start from the weights that the settings name; not where a checkpoint follows,
            which brings its own.

    Raises:
        TypeError: settings of a type that `METHODS` does not hold.
        ValueError: named weights that cannot be had.
    """
    kind = registry.of(config).settings
    return METHODS[kind](config if pretrained else without_weights(config), task)


for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg:
        import_module(f"{__name__}.{_module.name}")
