"""miseg: image segmentation by mutual information, tuned and compared under equal budgets on a Ray cluster."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from miseg.api.models import load
    from miseg.api.studies import study
    from miseg.api.training import train
    from miseg.api.tuning import tune

__version__ = "0.2.0"

__all__ = ["__version__", "load", "study", "train", "tune"]

_MODULES = {"load": "models", "study": "studies", "train": "training", "tune": "tuning"}
"""Function of the Python interface -> its module in `miseg.api`, which is imported when the function is first used."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function = getattr(import_module(f"miseg.api.{_MODULES[name]}"), name)
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
