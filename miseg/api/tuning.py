"""`miseg.tune`: a tuning from Python."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from miseg.api.session import session
from miseg.api.settings import Settings, joined, sorted_out, texts, with_values

if TYPE_CHECKING:
    from miseg.api.results import TuningResult


def tune(
    method: str,
    *,
    data: str | None = None,
    baselines: Sequence[str] | None = None,
    trials: int | None = None,
    settings: Settings | None = None,
    verbose: bool = False,
) -> TuningResult:
    """Tune a recipe, or a method on any data, and confirm the winner on fresh seeds, as `miseg tune` does.

    What was tuned before with the same settings on the same data is not tuned again: its result is returned.

    Args:
        method: a recipe's name, such as "embedded-rmi", or a method's, such as "rmi", whose settings are planned from
            `data`.
        data: as of `miseg.train`.
        baselines: recipes, or beside a method other methods, that the winner is confirmed against, such as ("ce",).
        trials: points of the search space that are tried. Default: 6, or 32 on a cluster with GPUs.
        settings: any other option of `miseg tune`, by its name, and settings that all trials have: {"steps": 200,
            "confirm_seeds": 5, "space": ["method.weight=0.1..0.9"], "batch_size": 4, "storage": "runs"}.
        verbose: print what `miseg tune` prints.

    Raises:
        ValueError, TrackingError, MissingExtraError: as of `miseg.train`.
    """
    with session("miseg.tune", verbose):
        # Only now: they bring the extra's packages along.
        from miseg.api.results import TuningResult, recorded_tables
        from miseg.commands.tune import any_recipe as command
        from miseg.file_names import given_name
        from miseg.service.command.names import experiment_named
        from miseg.service.tuning.command import tuned

        base = experiment_named(method)
        values = joined(settings, data=data, baselines=None if baselines is None else tuple(baselines), trials=trials)
        named = sorted_out(values, command.TuneAnyRecipe, reserved=("recipe", "set"))
        with_values(base, named.rest, command.TuneAnyRecipe)
        options = command.TuneAnyRecipe(recipe=method, set=texts(named.rest) or None, **named.options)
        if options.name is not None:
            options.name = given_name("name", options.name)
        ended = tuned(options, command.requested(options))
        uri, storage = ended.job.tracking_uri, ended.job.storage
        if ended.report is None:
            assert ended.earlier_run is not None
            run_id = ended.earlier_run.info.run_id
            name = ended.earlier_run.data.tags["miseg.run"]
            return TuningResult(uri, storage, run_id, name, *recorded_tables(uri, run_id), reused=True)
        report = ended.report
        for failure in report.failures:
            warnings.warn(f"failed: {failure}", stacklevel=2)
        return TuningResult(uri, storage, report.parent_run, ended.tuning.name, report.trials, report.confirmation)
