"""Estimators and distributions by name. What a name stands for is imported when it is looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypeVar

from miseg import plugins
from miseg.extras import require
from miseg.information.bmi import BMI_TASKS
from miseg.information.results import Estimate
from miseg.nearest_names import in_place_of

if TYPE_CHECKING:
    from miseg.information.distributions.distribution import Distribution
    from miseg.information.samples import Estimator

T = TypeVar("T")


class _LazyMapping(Mapping[str, T]):
    """A read-only dict that makes a value when it is first looked up."""

    def __init__(self, makers: Mapping[str, Callable[[], T]]) -> None:
        self._makers = makers
        self._made: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        # Mapping's own looks the value up, and so would import it.
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"


def _named(reference: str) -> Any:
    require("information", "miseg.information", "scipy", "sklearn")
    module, name = reference.split(":")
    return getattr(import_module(f"miseg.information.{module}"), name)


_ESTIMATORS = {
    "gaussian": "gaussian:gaussian",
    "cca": "cca:cca",
    "edgeworth": "gaussian:edgeworth",
    "kde": "gaussian:kde",
    "histogram": "discrete:histogram",
    "plug_in": "discrete:plug_in_samples",
    "ksg": "neighbours:ksg",
    "latent_mi": "trained.latent:latent_mi",
    "mlmi": "density_ratio:mlmi",
    "lsmi": "density_ratio:lsmi",
    "doe": "trained.entropies:doe",
    "mine": "trained.variational:mine",
    "mine_f": "trained.variational:mine_f",
    "nwj": "trained.variational:nwj",
    "jsd": "trained.variational:jsd",
    "infonce": "trained.variational:infonce",
    "smile": "trained.variational:smile",
}

ESTIMATORS: Mapping[str, Estimator] = _LazyMapping(
    {name: lambda reference=reference: _named(reference) for name, reference in _ESTIMATORS.items()}
    | plugins.loaders("miseg.estimators", _ESTIMATORS)
)
"""Every estimator: its name -> a function (x_ND, y_ND, **settings) -> `Estimate` in nats, whose docstring has the
settings and their source. All take continuous samples but "plug_in", which takes integers. Those of other packages are
behind miseg's own."""

_DISTRIBUTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "normal-1x1-independent": ("elliptical:sparse_normal", {"dims": (1, 1), "correlation": 0.0}),
    "normal-5x5-independent": ("elliptical:sparse_normal", {"dims": (5, 5), "correlation": 0.0}),
    "normal-1x1-0.3": ("elliptical:sparse_normal", {"dims": (1, 1), "correlation": 0.3}),
    "normal-1x1-0.75": ("elliptical:sparse_normal", {"dims": (1, 1), "correlation": 0.75}),
    "normal-1x1-0.99": ("elliptical:sparse_normal", {"dims": (1, 1), "correlation": 0.99}),
    "normal-2x5-sparse": ("elliptical:sparse_normal", {"dims": (2, 5), "correlation": 0.8}),
    "normal-5x5-sparse": ("elliptical:sparse_normal", {"dims": (5, 5), "correlation": 0.8}),
    "normal-25x25-sparse": ("elliptical:sparse_normal", {"dims": (25, 25), "correlation": 0.8}),
    "normal-2x2-dense": ("elliptical:dense_normal", {"dims": (2, 2), "correlation": 0.5}),
    "normal-5x5-dense": ("elliptical:dense_normal", {"dims": (5, 5), "correlation": 0.5}),
    "normal-25x25-dense": ("elliptical:dense_normal", {"dims": (25, 25), "correlation": 0.5}),
    "normal-1x1-10nats": ("elliptical:heavy_normal", {"dimension": 1, "nats": 10.0}),
    "normal-5x5-12nats": ("elliptical:heavy_normal", {"dimension": 5, "nats": 12.0}),
    "student-1x1-dof1": ("elliptical:student", {"dims": (1, 1), "correlation": 0.75, "degrees_of_freedom": 1}),
    "student-1x1-dof5": ("elliptical:student", {"dims": (1, 1), "correlation": 0.0, "degrees_of_freedom": 5}),
    "student-3x3-dof2": ("elliptical:student", {"dims": (3, 3), "correlation": 0.8, "degrees_of_freedom": 2}),
    "student-5x5-dof3": ("elliptical:student", {"dims": (5, 5), "correlation": 0.8, "degrees_of_freedom": 3}),
    "uniform-noise-0.1": ("distribution:UniformNoise", {"epsilon": 0.1}),
    "uniform-noise-0.75": ("distribution:UniformNoise", {"epsilon": 0.75}),
    "uniform-noise-10nats": ("distribution:UniformNoise", {"epsilon": 2.27e-5}),
    "half-cube-normal-1x1": ("transforms:transformed", {"of": "normal-1x1-0.75", "by": "half_cube"}),
    "half-cube-normal-5x5": ("transforms:transformed", {"of": "normal-5x5-sparse", "by": "half_cube"}),
    "asinh-student-1x1": ("transforms:transformed", {"of": "student-1x1-dof1", "by": "asinh"}),
    "cdf-normal-1x1": ("transforms:transformed", {"of": "normal-1x1-0.75", "by": "normal_cdf"}),
    "wiggly-normal-1x1": ("transforms:transformed", {"of": "normal-1x1-0.75", "by": "wiggly"}),
    "cut-normal-1x1": ("transforms:transformed", {"of": "normal-1x1-0.75", "by": "cut"}),
    "swiss-roll-normal-2x1": ("transforms:transformed", {"of": "normal-1x1-0.75", "by": "swiss_roll", "sides": "x"}),
    "spiral-normal-5x5": ("transforms:transformed", {"of": "normal-5x5-sparse", "by": "spiral"}),
    "mixture-1x1-cross": ("mixture:cross", {}),
    "mixture-1x1-clusters": ("mixture:clusters", {}),
    "table-independent": ("distribution:Table", {"joint_KL": ((0.1, 0.3, 0.1), (0.1, 0.3, 0.1))}),
    "table-binary-channel": ("distribution:Table", {"joint_KL": ((0.45, 0.05), (0.05, 0.45))}),
    "table-3x4": (
        "distribution:Table",
        {"joint_KL": ((0.20, 0.05, 0.00, 0.05), (0.02, 0.18, 0.05, 0.05), (0.00, 0.05, 0.25, 0.10))},
    ),
}

DISTRIBUTIONS: Mapping[str, Distribution] = _LazyMapping(
    {
        name: lambda name=name, reference=reference, settings=settings: (  # type: ignore[misc]
            _named(f"distributions.{reference}")(name=name, **settings)
        )
        for name, (reference, settings) in (_DISTRIBUTIONS | BMI_TASKS).items()
    }
)
"""Distributions whose mutual information is known: name -> `Distribution`. Names end in the dimensions of x and y and
what sets the dependence; "table-…" are discrete. Behind them are the 40 tasks of `BMI_TASKS`, by their names there."""

DISTRIBUTION_GROUPS: Mapping[str, tuple[str, ...]] = {"miseg": tuple(_DISTRIBUTIONS), "bmi": tuple(BMI_TASKS)}
"""Names that stand for several distributions: the benchmark of Czyż et al. (2023), and all others."""


def estimate(name: str, x_ND: Any, y_ND: Any, **settings: Any) -> Estimate:
    """Mutual information of paired samples, in nats, by the estimator of that name.

    Args:
        name: a key of `ESTIMATORS`.
        x_ND: N samples of x, [N, Dx] or [N], numbers in an array, a tensor or nested sequences.
        y_ND: those of y, drawn together with them, [N, Dy] or [N].
        settings: the estimator's own; see its docstring (`help(ESTIMATORS["ksg"])`).

    Returns:
        A float with `trace` and `details`. Columns that are constant carry no information and are left out; 0 where
        none is left on a side.

    Raises:
        ValueError: an unknown name, samples that do not fit or hold nan or infinity, or a setting out of range.
            `InfiniteInformationError`, a ValueError, from "gaussian", "edgeworth" and "kde" where a column of y is a
            linear combination of x's; the others stay finite there, and too low.
        TypeError: samples that are no real numbers, or a setting that the estimator does not have.
    """
    if name not in ESTIMATORS:
        meant = in_place_of(name, ESTIMATORS, "docs/information.md")
        raise ValueError(f"there is no estimator {name!r}; {meant}")
    estimator = ESTIMATORS[name]
    known = {
        setting: parameter.default
        for setting, parameter in signature(estimator).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY
    }
    unknown = sorted(settings.keys() - known.keys())
    if unknown:
        has = ", ".join(f"{setting}={default!r}" for setting, default in known.items()) or "none"
        raise TypeError(f"{name!r} has no setting {', '.join(unknown)}; it has {has}")
    return estimator(x_ND, y_ND, **settings)
