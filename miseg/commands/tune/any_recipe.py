"""Tune any recipe, or a method on any data, then confirm the winner on fresh seeds.

miseg tune embedded-dice
miseg tune rmi --data pets --baselines ce dice
miseg tune rmi --data pets --network segformer --encoder mit_b0
miseg tune camvid-rmi --space method.weight=0.1..0.9 optimiser.learning_rate=1e-4..1e-2:log --trials 32
miseg tune embedded-affinity --space method.stride=1,2,4 method.weight=x10 --baselines embedded-ce
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import tyro

from miseg.file_names import last_name
from miseg.json_values import parse
from miseg.nearest_names import in_place_of
from miseg.recipes.catalog import RECIPES
from miseg.recipes.contenders import CONTENDERS
from miseg.recipes.experiment import Experiment
from miseg.recipes.planning.given import with_settings
from miseg.recipes.planning.plan import JOB_OPTIONS, TrainingPlan, settings_from
from miseg.recipes.space_text import parsed
from miseg.recipes.spaces import at_its_point
from miseg.service.checkpoints.pretrained import check_sources
from miseg.service.command.networks import NetworkOptions
from miseg.service.command.options import MAY_BE_EMPTY, check_data, execute
from miseg.service.tuning.command import TuningRequest, requests, search
from miseg.service.tuning.options import TuningOptions, resumed


@dataclass
class TuneAnyRecipe(NetworkOptions, TuningOptions):
    """Search settings of a recipe by TPE with ASHA, then confirm the winner beside the recipe on fresh seeds."""

    recipe: tyro.conf.Positional[str] = field(kw_only=True)
    """The recipe to tune, such as embedded-dice; or a method, such as rmi, whose settings on --data are planned from
    it, and printed with the reasons."""
    space: tuple[str, ...] | None = None
    """Ranges to search, each as SETTING=RANGE with the setting's path in the recipe: method.weight=0.1..0.9 (two ends),
    optimiser.learning_rate=1e-4..1e-2:log (on a log scale), optimiser.learning_rate=x10 (from a tenth of the recipe's
    own value to ten times it), method.downsampling=average,max (one of these). Default: what is registered for the
    recipe's method."""
    data: str | None = None
    """A name that `miseg prepare-data` knows or packed, or the folder or URI of a packed data set. Default: the
    recipe's; of a method embedded."""
    set: tuple[str, ...] | None = None
    """Settings that all trials have in place of the recipe's or of what is planned, each as SETTING=VALUE:
    batch_size=4, augmentation.crop=256,256."""
    baselines: tuple[str, ...] | None = field(default=None, metadata=MAY_BE_EMPTY)
    """Recipes that the winner and the recipe itself are confirmed against, such as embedded-ce; beside a method other
    methods, with the same plan. Default: none. Others are added to those of a tuning that goes on."""
    selection: Literal["objective", "labels"] | None = None
    """Score of the trials of a method without labels: its objective on held-out images, or mean IoU. Default:
    objective; other methods have labels alone."""
    DEFAULTS: ClassVar[Mapping[str, Any]] = {**TuningOptions.DEFAULTS, "baselines": ()}


def run(arguments: TuneAnyRecipe) -> int:
    """Tune and print the tables; status 1 where a confirmation failed, or every trial. Errors as of `requested`."""
    return search(arguments, requested(arguments))


def requested(arguments: TuneAnyRecipe) -> TuningRequest:
    """The tuning that options ask for; of one that goes on they get what it was begun with.

    Raises:
        ValueError: a recipe that is not there, a range that is none, or a selection that the method does not have.
    """
    arguments.check()
    by_method = arguments.recipe not in RECIPES and arguments.recipe in CONTENDERS
    stem = f"tune-{arguments.recipe}"
    if by_method:
        stem += f"-{last_name(arguments.data or Experiment().data)}"
    begun = resumed(arguments, stem)
    if arguments.data is not None:
        check_data(arguments.data, arguments.root)
    if by_method:
        return _request(arguments, stem, *_of_methods(arguments, "" if begun is None else begun.plan))
    return requests(arguments, lambda: _request(arguments, stem, *_of_recipes(arguments)))


def _request(
    arguments: TuneAnyRecipe,
    stem: str,
    base: Experiment,
    rivals: dict[str, Experiment],
    plan: TrainingPlan | None = None,
) -> TuningRequest:
    base = at_its_point(base)
    if arguments.selection == "objective" and base.supervision != "none":
        raise ValueError(f"--selection objective: {arguments.recipe} learns from labels, which are what compares it")
    default: Literal["objective", "labels"] = "objective" if base.supervision == "none" else "labels"
    typed = parsed(arguments.space, base) if arguments.space is not None else None
    selection = arguments.selection or default
    planned = "" if plan is None else plan.json()
    return TuningRequest(stem, base, rivals, typed, selection=selection, plan=planned)


def _of_recipes(arguments: TuneAnyRecipe) -> tuple[Experiment, dict[str, Experiment]]:
    """The recipe to tune and its baselines, with the options that the command line changes."""
    base = _recipe("recipe", arguments.recipe, arguments)
    return base, {name: _recipe("baselines", name, arguments) for name in arguments.value("baselines")}


def _of_methods(arguments: TuneAnyRecipe, earlier: str) -> tuple[Experiment, dict[str, Experiment], TrainingPlan]:
    """The experiment to tune and its baselines, with what is planned from the data for all of them alike.

    `earlier` is the plan of a tuning that goes on, as JSON: another machine would plan otherwise.
    """
    baselines = arguments.value("baselines")
    names = [arguments.recipe, *baselines]
    if recipes := [name for name in names if name in RECIPES or name not in CONTENDERS]:
        raise ValueError(
            f"--baselines {' '.join(recipes)}: {arguments.recipe} is planned from the data, and so must they be: name "
            f"methods, such as ce; there are {', '.join(CONTENDERS)}"
        )
    unplanned = [Experiment(CONTENDERS[name].settings(), seed=arguments.value("seed")) for name in names]
    if arguments.data is not None:
        unplanned = [replace(experiment, data=arguments.data) for experiment in unplanned]
    unplanned = [arguments.applied(experiment) for experiment in unplanned]
    given = {} if not earlier else _shared(earlier)
    given |= {} if arguments.steps is None else {"steps": arguments.steps}
    texts = arguments.set or ()
    changed = [with_settings(experiment, texts) for experiment in unplanned]
    given |= changed[0][1]
    for experiment, _ in changed:
        check_sources(experiment)
    # Not at the top: --help must not wait for it, nor a name that is wrong.
    from miseg.service.command.fitting import check_alone
    from miseg.service.command.planning import planned

    workers = arguments.value("workers_per_trial")
    of_data = planned(arguments, [experiment for experiment, _ in changed], given, workers)
    (base, plan), *others = of_data
    arguments.decoded_gib = plan.decoded_gib
    for experiment, _ in of_data:
        check_alone(experiment, workers)
    print(f"change a setting with --set SETTING=VALUE; {plan.table(options=False)}", flush=True)
    rivals = {name: experiment for name, (experiment, _) in zip(baselines, others, strict=True)}
    return base, rivals, plan


def _shared(plan: str) -> dict[str, Any]:
    """Settings of a plan in JSON that all methods share, by path."""
    settings = settings_from(parse(plan)["settings"])
    return {s.path: s.value for s in settings if not s.path.startswith("method.") and s.path not in JOB_OPTIONS}


def _recipe(option: str, name: str, arguments: TuneAnyRecipe) -> Experiment:
    if name not in RECIPES:
        meant = in_place_of(name, [*CONTENDERS, *RECIPES], "miseg train --help")
        raise ValueError(f"--{option} {name}: there is no such recipe; {meant}")
    experiment = arguments.shortened(arguments.applied(RECIPES[name](seed=arguments.value("seed"))))
    experiment, _ = with_settings(experiment, arguments.set or ())
    return experiment if arguments.data is None else replace(experiment, data=arguments.data)


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(TuneAnyRecipe, run, __doc__)
