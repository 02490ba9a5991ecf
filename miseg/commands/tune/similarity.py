"""Tune the similarity by mutual information, then confirm the winner on fresh seeds.

Its rivals are confirmed beside it.

miseg tune-similarity
miseg tune-similarity --recipe naip-landcover-similarity --trials 64 --concurrent 8
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

from miseg.file_names import last_name
from miseg.methods.configs import MutualInformationSimilarity
from miseg.nearest_names import in_place_of
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.service.command.options import MAY_BE_EMPTY, check_data, execute
from miseg.service.tuning.command import TuningRequest, requests, search
from miseg.service.tuning.options import TuningOptions, resumed


@dataclass
class TuneSimilarity(TuningOptions):
    """Search α, β, γ, the patch's side, the representation's size and the learning rate by TPE with ASHA, then confirm.

    What is compared is mean IoU from 50 labelled pixels a class of one date, over all clear dates.
    """

    recipe: str | None = None
    """The similarity recipe to tune. Default: flanders-similarity."""
    data: str | None = None
    """A name that `miseg prepare-data` knows, or the folder or URI of a packed data set. Default: the recipe's."""
    points: int | None = None
    """Labelled pixels of each class, drawn by the seed, from which a trial's score is measured. Default: 50."""
    baselines: tuple[Literal["autoencoder", "deep-infomax"], ...] | None = field(default=None, metadata=MAY_BE_EMPTY)
    """Baselines that the winner and the published setting are confirmed against. Default: both. Others are added to
    those of a tuning that goes on."""
    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        **TuningOptions.DEFAULTS,
        "recipe": "flanders-similarity",
        "baselines": ("autoencoder", "deep-infomax"),
    }


def run(arguments: TuneSimilarity) -> int:
    """Tune and print the two tables; status 1 where a confirmation failed, or every trial."""
    arguments.check()
    resumed(arguments, _stem(arguments))
    if arguments.data is not None:
        check_data(arguments.data, arguments.root)
    return search(arguments, requests(arguments, partial(_requested, arguments)))


def _requested(arguments: TuneSimilarity) -> TuningRequest:
    return TuningRequest(_stem(arguments), *experiments(arguments))


def _stem(arguments: TuneSimilarity) -> str:
    recipe = RECIPES.get(arguments.value("recipe"))
    data = arguments.data or ("" if recipe is None else recipe().data)
    return f"tune-similarity-{last_name(data)}"


def experiments(arguments: TuneSimilarity) -> tuple[Experiment, dict[str, Experiment]]:
    """The recipe to tune and its baselines, with the options that the command line changes.

    Raises:
        ValueError: a recipe that is not there, or that is none of the similarity.
    """
    tunable = [name for name, make in RECIPES.items() if isinstance(make().method, MutualInformationSimilarity)]
    recipe = arguments.value("recipe")
    if recipe not in tunable:
        meant = in_place_of(recipe, tunable, "miseg train --help")
        raise ValueError(f"--recipe {recipe}: there is no such recipe of the similarity; {meant}")
    stem, rivals = recipe.partition("similarity")[0], arguments.value("baselines")
    names = [recipe, *(f"{stem}{baseline}" for baseline in rivals)]
    base, *baselines = (_adapted(RECIPES[name](seed=arguments.value("seed")), arguments) for name in names)
    return base, dict(zip(rivals, baselines, strict=True))


def _adapted(experiment: Experiment, arguments: TuneSimilarity) -> Experiment:
    experiment = arguments.shortened(experiment)
    if arguments.data is not None:
        experiment = replace(experiment, data=arguments.data)
    return experiment if arguments.points is None else replace(experiment, label_budget=arguments.points)


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(TuneSimilarity, run, __doc__)
