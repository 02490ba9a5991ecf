"""The cells of a measurement: an estimator, a distribution whose mutual information is known, N samples and a seed."""

from __future__ import annotations

import ast
import itertools
import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from types import FrameType
from typing import Any

import numpy as np

from miseg.information import DISTRIBUTIONS, ESTIMATORS, Distribution
from miseg.nearest_names import in_place_of

REFERENCE = "mutual_info_regression"
"""scikit-learn's estimator (Kraskov's first form, k = 3) of one-dimensional x and y, measured beside ours."""

OTHER_SEEDS = 1_000_000
"""Number added to a cell's seed for the estimator's own draws."""


@dataclass(frozen=True)
class EstimatorRow:
    """One row of the table, repeated over seeds: an estimator with its settings ("ksg:form=2"), a distribution, N."""

    estimator: str
    distribution: str
    samples: int

    @property
    def text(self) -> str:
        """For names and lines of progress."""
        return f"{self.estimator} {self.distribution} N={self.samples}"


@dataclass(frozen=True)
class Estimation:
    """Result of a row with one seed: an estimate in nats, or the reason why there is none."""

    nats: float | None
    seconds: float
    failure: str = ""


@dataclass(frozen=True)
class EstimatorGrid:
    """Grid of a measurement: estimators x distributions x sample sizes x seeds.

    Attributes:
        estimators: names of `ESTIMATORS` or `REFERENCE`, with settings after a colon: "ksg:form=2,neighbours=5".
        distributions: names of `DISTRIBUTIONS`.
        samples: N, 2 or more each.
        seeds: 0, 1, … of the samples, and of estimators that draw.
        limit: seconds after which a cell is given up.
        earlier: rows that the measurement has from before; with `estimators` empty there are no others.
    """

    estimators: tuple[str, ...]
    distributions: tuple[str, ...]
    samples: tuple[int, ...]
    seeds: int
    limit: float
    earlier: tuple[EstimatorRow, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.distributions, *(row.distribution for row in self.earlier)):
            if name not in DISTRIBUTIONS:
                meant = in_place_of(name, DISTRIBUTIONS, "docs/information.md")
                raise ValueError(f"there is no distribution {name!r}; {meant}")
        for entry in {*self.estimators, *(row.estimator for row in self.earlier)}:
            settings_of(entry)
        for field, least in (("samples", 2), ("seeds", 1), ("limit", 0)):
            value = getattr(self, field)
            if min(np.atleast_1d(value), default=0) < least:
                raise ValueError(f"{field} = {value}: use {least} or more")
        if not self.rows():
            raise ValueError(f"no estimator of {', '.join(self.estimators)} is for any of the distributions")

    def rows(self) -> list[EstimatorRow]:
        """Every row that makes sense: labels are for `plug_in`, numbers for the others, `REFERENCE` for 1 x 1."""
        asked = [
            EstimatorRow(estimator, distribution, n)
            for distribution, n, estimator in itertools.product(self.distributions, self.samples, self.estimators)
            if _fits(estimator, DISTRIBUTIONS[distribution])
        ]
        return list(dict.fromkeys((*self.earlier, *asked)))


def settings_of(entry: str) -> tuple[str, dict[str, Any]]:
    """Name and settings of "name" or "name:setting=value,…".

    Raises:
        ValueError: an unknown estimator or setting, or what is no Python literal.
    """
    name, _, rest = entry.partition(":")
    if name != REFERENCE and name not in ESTIMATORS:
        meant = in_place_of(name, [*ESTIMATORS, REFERENCE], "docs/information.md")
        raise ValueError(f"there is no estimator {name!r}; {meant}")
    try:
        call = ast.parse(f"f({rest})", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        settings = {word.arg or "": ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, AssertionError) as error:
        raise ValueError(f"estimator {entry!r}: write settings as name:setting=value,setting='text'") from error
    has = {} if name == REFERENCE else signature(ESTIMATORS[name]).parameters
    if unknown := settings.keys() - (has.keys() - {"x_ND", "y_ND"}):
        raise ValueError(f"estimator {entry!r}: {name} has no setting {', '.join(sorted(unknown))}")
    return name, settings


def measure_cell(row: EstimatorRow, seed: int, limit: float) -> Estimation:
    """The estimate of one sample; what goes wrong is the cell's failure."""
    name, settings = settings_of(row.estimator)
    x_ND, y_ND = DISTRIBUTIONS[row.distribution].sample(row.samples, seed)
    # Looked up, and so imported, before the clock starts.
    estimator = _reference() if name == REFERENCE else ESTIMATORS[name]
    if "seed" in signature(estimator).parameters:
        # Not the sample's own seed: the noise would be the sample once more.
        settings.setdefault("seed", OTHER_SEEDS + seed)
    started = time.perf_counter()
    try:
        with _Limit(limit):
            nats = float(estimator(x_ND, y_ND, **settings))
    except (ValueError, TypeError, ArithmeticError, TimeoutError, np.linalg.LinAlgError) as error:
        return Estimation(None, time.perf_counter() - started, reason(error))
    seconds = time.perf_counter() - started
    return Estimation(nats, seconds) if math.isfinite(nats) else Estimation(None, seconds, f"the estimate is {nats}")


def reason(error: BaseException) -> str:
    """Reason of a failed cell: the error's type and first line."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"


def _reference() -> Callable[..., Any]:
    # Only for this reference.
    from sklearn.feature_selection import mutual_info_regression

    def estimator(x_ND: np.ndarray, y_ND: np.ndarray, *, seed: int) -> float:
        return float(mutual_info_regression(x_ND, y_ND[:, 0], random_state=seed)[0])

    return estimator


def _fits(entry: str, distribution: Distribution) -> bool:
    name = entry.partition(":")[0]
    if name == REFERENCE:
        return distribution.dims == (1, 1) and not distribution.discrete
    return distribution.discrete == (name == "plug_in")


class _Limit:
    """Raises TimeoutError in the main thread after so many seconds (0: never), between two steps of Python."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds if threading.current_thread() is threading.main_thread() else 0.0

    def __enter__(self) -> None:
        if self.seconds:
            self.before = signal.signal(signal.SIGALRM, self._stop)
            signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *exception: object) -> None:
        if self.seconds:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.before)

    def _stop(self, signalled: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                # A module that is half imported would be broken for every later cell of this process: ask again soon.
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                return
            frame = frame.f_back
        raise TimeoutError(f"it took longer than {self.seconds:g} s (--limit)")
