"""Options of the tuning jobs, and what those that are left out mean where a tuning goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from miseg.recipes.experiment import Experiment
from miseg.recipes.lengths import WarmUp, with_steps
from miseg.service.checkpoints.storage_failures import WhenStorageFails
from miseg.service.command.options import JobOptions

if TYPE_CHECKING:
    from miseg.service.tuning.resuming import Begun


@dataclass
class TuningOptions(JobOptions):
    """Options of every tuning.

    Those that decide its result are None where nobody gave them: a tuning that goes on has its own values there.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"seed": 0, "confirm_seeds": 3, "workers_per_trial": 1}
    """Values of a new tuning's options that were not given."""

    trials: int | None = None
    """Points of the search space that are tried; the first is always the published setting. A grid has its own.
    Default: 6, or 32 on a cluster with GPUs. More extend a tuning that goes on."""
    concurrent: int | None = None
    """Trials at a time, at most 8. Default: what the GPUs hold; without a GPU, what the CPUs and the memory hold. The
    search is reproducible with 1 alone: with more, which trial is stopped early depends on which is first."""
    workers_per_trial: int | None = None
    """Training workers (processes) of each trial. Default: 1."""
    steps: int | None = None
    """Optimiser steps of a whole trial. Default: the recipe's."""
    seed: int | None = None
    """Seeds the search, and the trials' weights and data order. Default: 0."""
    confirm_seeds: int | None = None
    """Fresh seeds on which winner, published setting and baselines are trained again. Default: 3. More extend a tuning
    that goes on."""
    name: str | None = None
    """Name of the tuning; a new one tunes once more what was tuned before. Default: what is tuned, the data or recipe,
    and the time."""
    spread: bool = False
    """Put each of a trial's workers on a machine of its own, as far as there are; as `miseg train --spread`."""
    when_storage_fails: WhenStorageFails = "continue"
    """If a checkpoint cannot be written: go on and try again at the next validation, or stop the trial."""
    resume: bool = False
    """Continue the tuning called --name (default: the last one on this data) without running a finished trial again.
    Options that are left out are as it was begun with; more trials, seeds or baselines extend it, and any other option
    that differs is refused."""
    trust_state: bool = False
    """With --resume: run a tuning's state that your key did not sign (docs/security.md). Whoever can write to the
    storage may have put code into it."""

    warm_up: WarmUp = field(default="share", init=False)
    """No option: what a tuning was begun with decides it."""

    def check(self) -> None:
        """Raise ValueError where a count is below 1."""
        for option in ("trials", "confirm_seeds"):
            if (value := getattr(self, option)) is not None and value < 1:
                raise ValueError(f"--{option.replace('_', '-')} {value}: use 1 or more")

    def value(self, option: str) -> Any:
        """Value of an option, or its default."""
        own = getattr(self, option)
        return self.DEFAULTS.get(option) if own is None else own

    @property
    def given(self) -> dict[str, Any]:
        """The options that decide which experiments are tuned, as far as they are given, as JSON data."""
        apart = {item.name for item in fields(JobOptions)} | {"name", "resume", "when_storage_fails", "concurrent"}
        apart |= {"trials", "confirm_seeds", "workers_per_trial", "spread", "trust_state"}
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in apart}
        return {name: data for name, value in values.items() if (data := _json(value)) not in (None, {})}

    def shortened(self, experiment: Experiment) -> Experiment:
        """The experiment of the steps asked for, with five validations: ASHA can then compare trials of any length."""
        return experiment if self.steps is None else with_steps(experiment, self.steps, self.warm_up)


def resumed(arguments: TuningOptions, stem: str) -> Begun | None:
    """Settings that a tuning which goes on was begun with; options that are left out get their values there.

    Args:
        arguments: the options; without --resume they stay as they are.
        stem: as `TuningRequest.stem`.

    Raises:
        ValueError: there is no such tuning.
        TrackingError: MLflow does not answer.
    """
    if not arguments.resume:
        return None
    # Not at the top: --help must not wait for them.
    from miseg.service.command.start import tuning_name
    from miseg.service.tracking import mlflow_runs
    from miseg.service.tuning import resuming

    arguments.name = tuning_name(arguments.root, stem, arguments.name, resume=True)
    uri = mlflow_runs.tracking_uri(arguments.root, arguments.offline)
    mlflow_runs.check(uri, arguments.root)
    run = resuming.find(uri, arguments.name)
    begun = None if run is None else resuming.read(uri, run)
    counts = {} if run is None else resuming.counts(run)
    if run is not None:
        arguments.warm_up = resuming.warm_up(uri, run)
    if begun is not None:
        for option, value in begun.options.items():
            if hasattr(arguments, option) and _json(getattr(arguments, option)) in (None, [], {}):
                setattr(arguments, option, _typed(value, getattr(arguments, option)))
        counts |= {"workers_per_trial": begun.workers} | ({"concurrent": 1} if begun.concurrent == 1 else {})
        if (more := getattr(arguments, "baselines", None)) is not None:
            earlier = begun.options.get("baselines", arguments.DEFAULTS.get("baselines", ()))
            setattr(arguments, "baselines", tuple(dict.fromkeys((*earlier, *more))))  # noqa: B010
    for option, count in counts.items():
        if getattr(arguments, option) is None:
            setattr(arguments, option, count)
    return begun


def _json(value: Any) -> Any:
    """An option's value as JSON data; of options below one, those that are given."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: list(inner) for name, inner in asdict(value).items() if inner}
    return list(value) if isinstance(value, tuple) else value


def _typed(value: Any, like: Any) -> Any:
    """The option's value whose JSON data is `value`; `like` is one of its kind."""
    if isinstance(value, Mapping):
        return type(like)(**{name: tuple(inner) for name, inner in value.items()})
    return tuple(value) if isinstance(value, list) else value
