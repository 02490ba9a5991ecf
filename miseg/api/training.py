"""`miseg.train`: a training from Python."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from miseg.api.session import session
from miseg.api.settings import Settings, joined, sorted_out, with_values

if TYPE_CHECKING:
    from miseg.api.results import TrainingResult
    from miseg.recipes.experiment import Experiment


def train(
    experiment: Experiment | str,
    *,
    data: str | None = None,
    steps: int | None = None,
    name: str | None = None,
    settings: Settings | None = None,
    verbose: bool = False,
) -> TrainingResult:
    """Train an experiment to its end under Ray Train, recorded in MLflow as `miseg train` records it.

    What was trained to its end before, on the same data, is not trained again: its result is returned. Under a name
    that was stopped it goes on.

    Args:
        experiment: a recipe's name, such as "embedded-rmi"; a method's, such as "rmi", whose settings are planned from
            `data`; or an `Experiment`.
        data: a name that `miseg prepare-data` knows or packed, or the folder or URI of a packed data set. Default: the
            experiment's.
        steps: optimiser steps. Default: the experiment's, or what is planned.
        name: name of the run; a new one trains once more what was trained before. Default: the experiment's id and the
            time.
        settings: any other option of `miseg train`, by its name: {"method.weight": 0.3, "seed": 1, "workers": 2,
            "storage": "runs"}.
        verbose: print what `miseg train` prints.

    Raises:
        ValueError: a mistake in what is asked for; the message says how to mend it.
        TrackingError: (a RuntimeError) MLflow does not answer.
        MissingExtraError: (a ModuleNotFoundError) the extra 'service' is not installed.
    """
    with session("miseg.train", verbose):
        # Only now: they bring the extra's packages along.
        from miseg.api.results import TrainingResult
        from miseg.commands import train as command
        from miseg.file_names import given_name
        from miseg.recipes.catalog import RECIPES
        from miseg.service.command.training_output import TrainingOutput

        values = joined(settings, data=data, steps=steps, name=name)
        base = _base(experiment)
        planned = isinstance(experiment, str) and experiment not in RECIPES
        kind = command.TrainMethod if planned else command.Train
        named = sorted_out(values, kind, reserved=("experiment", "recipe_steps"))
        options = kind(experiment=with_values(base, named.rest, kind), recipe_steps=base.steps, **named.options)
        if options.name is not None:
            options.name = given_name("name", options.name)
        # By these names the command line says what is not planned.
        given = [f"--{path}" for path in named.rest]
        command.check(options, given)
        training = command.trained(options, given, TrainingOutput(verbose))
        result = TrainingResult(
            training.job.tracking_uri,
            training.job.storage,
            training.outcome.run_id,
            training.experiment,
            reused=training.outcome.reused,
            plan="" if training.plan is None else training.plan.table(),
        )
        for sentence in result.remarks:
            warnings.warn(sentence, stacklevel=2)
        return result


def _base(experiment: Experiment | str) -> Experiment:
    """The experiment that is meant, before anything is planned for it."""
    # Only now: they bring the extra's packages along.
    from miseg.recipes.experiment import Experiment
    from miseg.service.command.names import experiment_named

    if isinstance(experiment, str):
        return experiment_named(experiment)
    if isinstance(experiment, Experiment):
        return experiment
    raise ValueError(f"experiment = {experiment!r}: give a recipe's name, a method's name or an Experiment")
