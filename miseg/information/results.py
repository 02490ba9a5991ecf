"""Results of estimators: a float with its details."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class TracePoint(NamedTuple):
    """One look at the held-out samples in a training.

    Attributes:
        step: optimiser steps taken.
        objective: what early stopping maximises, on the held-out samples; its unit is the objective's own.
        nats: the estimate that the critic of this step gives on the held-out samples.
    """

    step: int
    objective: float
    nats: float


class Estimate(float):
    """Mutual information in nats, a float, with how it came about.

    Not clipped: estimators that are unbiased near independence may fall below 0.

    Attributes:
        trace: one entry a look at the held-out samples for estimators that train, else empty.
        details: what the estimator chose or found on the way (a bandwidth, a number of bins, the squared-loss mutual
            information, the step that was kept), by name.
    """

    trace: tuple[TracePoint, ...]
    details: Mapping[str, float]

    def __new__(
        cls, nats: float, *, trace: tuple[TracePoint, ...] = (), details: Mapping[str, float] | None = None
    ) -> Estimate:
        self = super().__new__(cls, nats)
        self.trace = tuple(trace)
        self.details = dict(details or {})
        return self
