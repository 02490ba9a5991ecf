"""Tune any recipe in any of its settings, then confirm the winner on fresh seeds.

miseg tune embedded-dice
miseg tune camvid-rmi --space method.weight=0.1..0.9 optimiser.learning_rate=1e-4..1e-2:log --trials 32
miseg tune embedded-affinity --space method.stride=1,2,4 method.weight=x10 --baselines embedded-ce
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import Literal

import tyro

from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.recipes.space_text import parsed
from miseg.recipes.spaces import at_its_point
from miseg.service.command.options import execute
from miseg.service.tuning.command import TuningOptions, TuningRequest, search


@dataclass
class TuneAnyRecipe(TuningOptions):
    """Search settings of a recipe by TPE with ASHA, then confirm the winner beside the recipe on fresh seeds."""

    recipe: tyro.conf.Positional[str] = field(kw_only=True)
    """The recipe to tune, such as embedded-dice."""
    space: tuple[str, ...] | None = None
    """Ranges to search, each as SETTING=RANGE with the setting's path in the recipe: method.weight=0.1..0.9 (two ends),
    optimiser.learning_rate=1e-4..1e-2:log (on a log scale), optimiser.learning_rate=x10 (from a tenth of the recipe's
    own value to ten times it), method.downsampling=average,max (one of these). Default: what is registered for the
    recipe's method."""
    data: str | None = None
    """A name that `miseg prepare-data` knows, or the folder or URI of a packed data set. Default: the recipe's."""
    baselines: tuple[str, ...] = ()
    """Recipes that the winner and the recipe itself are confirmed against, such as embedded-ce."""
    selection: Literal["objective", "labels"] | None = None
    """Score of the trials of a method without labels: its objective on held-out images, or mean IoU. Default:
    objective; other methods have labels alone."""


def run(arguments: TuneAnyRecipe) -> int:
    """Tune and print the tables; status 1 where a confirmation failed, or every trial.

    Raises:
        ValueError: a recipe that is not there, a range that is none, or a selection that the method does not have.
    """
    arguments.check()
    base = at_its_point(_recipe("recipe", arguments.recipe, arguments))
    rivals = {name: _recipe("baselines", name, arguments) for name in arguments.baselines}
    if arguments.selection == "objective" and base.supervision != "none":
        raise ValueError(f"--selection objective: {arguments.recipe} learns from labels, which are what compares it")
    default: Literal["objective", "labels"] = "objective" if base.supervision == "none" else "labels"
    typed = parsed(arguments.space, base) if arguments.space is not None else None
    selection = arguments.selection or default
    return search(arguments, TuningRequest(f"tune-{arguments.recipe}", base, rivals, typed, selection=selection))


def _recipe(option: str, name: str, arguments: TuneAnyRecipe) -> Experiment:
    if name not in RECIPES:
        close = ", ".join(difflib.get_close_matches(name, RECIPES, n=5, cutoff=0.4)) or ", ".join(RECIPES)
        raise ValueError(f"--{option} {name}: there is no such recipe; the nearest are {close}")
    experiment = arguments.shortened(RECIPES[name](seed=arguments.seed))
    return experiment if arguments.data is None else replace(experiment, data=arguments.data)


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(TuneAnyRecipe, run, __doc__)
