"""Mutual information: estimators in nats, and distributions where it is known to measure them by.

`estimate(name, x_ND, y_ND, **settings)` takes any of `ESTIMATORS`; `DISTRIBUTIONS` draw samples. NumPy, SciPy,
scikit-learn and torch are imported when an estimator or a distribution is looked up, not with this package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from miseg.extras import require
from miseg.information.catalog import DISTRIBUTIONS, ESTIMATORS, estimate
from miseg.information.results import Estimate, TracePoint

if TYPE_CHECKING:
    from miseg.information.discrete import plug_in
    from miseg.information.distributions.distribution import Distribution
    from miseg.information.labels import gaussian_label_bound, label_entropy
    from miseg.information.samples import InfiniteInformationError

_LATER = {
    "Distribution": "miseg.information.distributions.distribution",
    "InfiniteInformationError": "miseg.information.samples",
    "gaussian_label_bound": "miseg.information.labels",
    "label_entropy": "miseg.information.labels",
    "plug_in": "miseg.information.discrete",
}

__all__ = [
    "DISTRIBUTIONS",
    "ESTIMATORS",
    "Distribution",
    "Estimate",
    "InfiniteInformationError",
    "TracePoint",
    "estimate",
    "gaussian_label_bound",
    "label_entropy",
    "plug_in",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("information", "miseg.information", "scipy", "sklearn")
    return getattr(import_module(_LATER[name]), name)
