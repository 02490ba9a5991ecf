"""Tune the similarity by mutual information, then confirm the winner on fresh seeds.

Its rivals are confirmed beside it.

miseg tune-similarity
miseg tune-similarity --recipe naip-landcover-similarity --trials 64 --concurrent 8
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from miseg.methods.configs import MutualInformationSimilarity
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.service.command.options import check_data, execute
from miseg.service.tuning.command import TuningOptions, TuningRequest, search


@dataclass
class TuneSimilarity(TuningOptions):
    """Search α, β, γ, the patch's side, the representation's size and the learning rate by TPE with ASHA, then confirm.

    What is compared is mean IoU from 50 labelled pixels a class of one date, over all clear dates.
    """

    recipe: str = "flanders-similarity"
    """The similarity recipe to tune."""
    data: str | None = None
    """A name that `miseg prepare-data` knows, or the folder or URI of a packed data set. Default: the recipe's."""
    points: int | None = None
    """Labelled pixels of each class, drawn by the seed, from which a trial's score is measured. Default: 50."""
    baselines: tuple[Literal["autoencoder", "deep-infomax"], ...] = ("autoencoder", "deep-infomax")
    """Baselines that the winner and the published setting are confirmed against."""


def run(arguments: TuneSimilarity) -> int:
    """Tune and print the two tables; status 1 where a confirmation failed, or every trial."""
    arguments.check()
    if arguments.data is not None:
        check_data(arguments.data, arguments.root)
    base, rivals = experiments(arguments)
    subject = base.data.rstrip("/").rsplit("/", 1)[-1]
    return search(arguments, TuningRequest(f"tune-similarity-{subject}", base, rivals))


def experiments(arguments: TuneSimilarity) -> tuple[Experiment, dict[str, Experiment]]:
    """The recipe to tune and its baselines, with the options that the command line changes.

    Raises:
        ValueError: a recipe that is not there, or that is none of the similarity.
    """
    tunable = [name for name, make in RECIPES.items() if isinstance(make().method, MutualInformationSimilarity)]
    if arguments.recipe not in tunable:
        raise ValueError(
            f"--recipe {arguments.recipe}: there is no such recipe of the similarity; there are {', '.join(tunable)}"
        )
    stem = arguments.recipe.partition("similarity")[0]
    names = [arguments.recipe, *(f"{stem}{baseline}" for baseline in arguments.baselines)]
    base, *baselines = (_adapted(RECIPES[name](seed=arguments.seed), arguments) for name in names)
    return base, dict(zip(arguments.baselines, baselines, strict=True))


def _adapted(experiment: Experiment, arguments: TuneSimilarity) -> Experiment:
    experiment = arguments.shortened(experiment)
    if arguments.data is not None:
        experiment = replace(experiment, data=arguments.data)
    return experiment if arguments.points is None else replace(experiment, label_budget=arguments.points)


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(TuneSimilarity, run, __doc__)
