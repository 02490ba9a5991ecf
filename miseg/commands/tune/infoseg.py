"""Tune InfoSeg without labels, then confirm the winner on fresh seeds.

Trials are compared by the mutual information bound on held-out images.

miseg tune-infoseg
miseg tune-infoseg --recipe camvid-infoseg --trials 64 --concurrent 8 --baselines kmeans iic
miseg tune-infoseg --recipe textures-infoseg --selection labels
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from miseg.methods.ranges import changed
from miseg.recipes import spaces
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.service.command.options import check_data, execute
from miseg.service.tuning.command import TuningOptions, TuningRequest, search


@dataclass
class TuneInfoSeg(TuningOptions):
    """Search τ (log scale around 1 / √P), P, K and the learning rate by TPE with ASHA, then confirm.

    Trials are compared by the mutual information bound on the validation images, which reads no label; mean IoU is
    logged beside it, and the rank correlation of the two is reported at the end.
    """

    recipe: str = "embedded-infoseg"
    """The InfoSeg recipe to tune."""
    data: str | None = None
    """A name that `miseg prepare-data` knows, of 8-bit images, or the folder or URI of a packed data set. Default: the
    recipe's."""
    selection: Literal["objective", "labels"] = "objective"
    """Score by which trials are compared: the bound on held-out images, or mean IoU; runs are tagged with it."""
    clusters: int | None = None
    """K of the published setting and of the baselines; twice as many are tried too. More clusters than classes are
    matched many to one, and rows say so. Default: one for each class, and K is not searched."""
    baselines: tuple[Literal["infoseg-hard", "iic", "kmeans", "relative-position", "co-occurrence"], ...] = ("kmeans",)
    """Baselines that the winner and the published setting are confirmed against."""


def run(arguments: TuneInfoSeg) -> int:
    """Tune and print the two tables; status 1 where a confirmation failed, or every trial."""
    arguments.check()
    if arguments.data is not None:
        check_data(arguments.data, arguments.root)
    base, rivals = experiments(arguments)
    subject = base.data.rstrip("/").rsplit("/", 1)[-1]
    return search(arguments, TuningRequest(f"tune-infoseg-{subject}", base, rivals, selection=arguments.selection))


def experiments(arguments: TuneInfoSeg) -> tuple[Experiment, dict[str, Experiment]]:
    """The recipe to tune and its baselines, with the options that the command line changes.

    Raises:
        ValueError: a recipe that is not there, or that is none of InfoSeg.
    """
    tunable = [name for name in RECIPES if name.endswith("-infoseg")]
    if arguments.recipe not in tunable:
        raise ValueError(
            f"--recipe {arguments.recipe}: there is no such recipe of InfoSeg; there are {', '.join(tunable)}"
        )
    stem = arguments.recipe.removesuffix("infoseg")
    names = [arguments.recipe, *(f"{stem}{baseline}" for baseline in arguments.baselines)]
    base, *baselines = (_adapted(RECIPES[name](seed=arguments.seed), arguments) for name in names)
    return spaces.at_its_point(base), dict(zip(arguments.baselines, baselines, strict=True))


def _adapted(experiment: Experiment, arguments: TuneInfoSeg) -> Experiment:
    experiment = arguments.shortened(experiment)
    experiment = changed(experiment, {"method.clusters": arguments.clusters})
    return experiment if arguments.data is None else replace(experiment, data=arguments.data)


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(TuneInfoSeg, run, __doc__)
