"""Options of a measurement: what is measured where some are left out, and how one that goes on may differ."""

from __future__ import annotations

from dataclasses import dataclass

from miseg.information import ESTIMATORS
from miseg.information.catalog import DISTRIBUTION_GROUPS
from miseg.service.estimators.cells import REFERENCE, EstimatorGrid

SAMPLES, SEEDS, LIMIT = (200, 1000, 5000), 5, 600.0


@dataclass(frozen=True)
class AskedGrid:
    """Grid as it is asked for: None where an option is left out. Attributes: `EstimatorGrid`."""

    estimators: tuple[str, ...] | None = None
    distributions: tuple[str, ...] | None = None
    samples: tuple[int, ...] | None = None
    seeds: int | None = None
    limit: float | None = None

    def first(self) -> EstimatorGrid:
        """Grid of a new measurement.

        Raises:
            ValueError: a name or a number that cannot be measured.
        """
        return EstimatorGrid(
            (*ESTIMATORS, REFERENCE) if self.estimators is None else self.estimators,
            expanded(("miseg",) if self.distributions is None else self.distributions),
            SAMPLES if self.samples is None else self.samples,
            SEEDS if self.seeds is None else self.seeds,
            LIMIT if self.limit is None else self.limit,
        )

    def continued(self, begun: EstimatorGrid) -> EstimatorGrid:
        """Grid of a measurement that goes on: all its rows, and those asked for; what is left out is as it has it.

        Args:
            begun: what it has; its rows are in `earlier`.

        Raises:
            ValueError: fewer seeds than it has, or a name or a number that cannot be measured.
        """
        seeds = begun.seeds if self.seeds is None else self.seeds
        if seeds < begun.seeds:
            raise ValueError(
                f"--seeds {seeds}: the measurement has {begun.seeds} a row, beside which rows of {seeds} could not be "
                f"compared; use {begun.seeds} or more, leave it out, or choose another --name"
            )
        limit = begun.limit if self.limit is None else self.limit
        if self.estimators is None and self.distributions is None and self.samples is None:
            return EstimatorGrid((), (), begun.samples, seeds, limit, begun.earlier)
        had = begun.earlier
        return EstimatorGrid(
            tuple(dict.fromkeys(row.estimator for row in had)) if self.estimators is None else self.estimators,
            tuple(dict.fromkeys(row.distribution for row in had))
            if self.distributions is None
            else expanded(self.distributions),
            begun.samples if self.samples is None else self.samples,
            seeds,
            limit,
            had,
        )


def expanded(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of distributions, with those of a group in its place, each once."""
    return tuple(dict.fromkeys(name for entry in names for name in DISTRIBUTION_GROUPS.get(entry, (entry,))))


def growth(begun: EstimatorGrid, grid: EstimatorGrid) -> str:
    """Rows, seeds and seconds by which a measurement that goes on differs from what it was begun with."""
    more = len(grid.rows()) - len(begun.rows())
    rows = f"{more} rows more" if more else "the same rows"
    seeds = f"{begun.seeds} to {grid.seeds} seeds" if grid.seeds > begun.seeds else f"{grid.seeds} seeds as before"
    limit = "" if grid.limit == begun.limit else f", cells given up after {grid.limit:g} s instead of {begun.limit:g}"
    return f"{rows}, {seeds}{limit}"
