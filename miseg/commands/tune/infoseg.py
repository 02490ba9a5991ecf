"""Tune InfoSeg without labels, then confirm the winner on fresh seeds.

Trials are compared by the mutual information bound on held-out images.

miseg tune-infoseg
miseg tune-infoseg --recipe camvid-infoseg --trials 64 --concurrent 8 --baselines kmeans iic
miseg tune-infoseg --recipe textures-infoseg --selection labels
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

from miseg.file_names import last_name
from miseg.methods.ranges import changed
from miseg.nearest_names import in_place_of
from miseg.recipes import spaces
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.service.command.options import MAY_BE_EMPTY, check_data, execute
from miseg.service.tuning.command import TuningRequest, requests, search
from miseg.service.tuning.options import TuningOptions, resumed


@dataclass
class TuneInfoSeg(TuningOptions):
    """Search τ (log scale around 1 / √P), P, K and the learning rate by TPE with ASHA, then confirm.

    Trials are compared by the mutual information bound on the validation images, which reads no label; mean IoU is
    logged beside it, and the rank correlation of the two is reported at the end.
    """

    recipe: str | None = None
    """The InfoSeg recipe to tune. Default: embedded-infoseg."""
    data: str | None = None
    """A name that `miseg prepare-data` knows, of 8-bit images, or the folder or URI of a packed data set. Default: the
    recipe's."""
    selection: Literal["objective", "labels"] | None = None
    """Score by which trials are compared: the bound on held-out images, or mean IoU; runs are tagged with it. Default:
    objective."""
    clusters: int | None = None
    """K of the published setting and of the baselines; twice as many are tried too. More clusters than classes are
    matched many to one, and rows say so. Default: one for each class, and K is not searched."""
    baselines: tuple[Literal["infoseg-hard", "iic", "kmeans", "relative-position", "co-occurrence"], ...] | None = (
        field(default=None, metadata=MAY_BE_EMPTY)
    )
    """Baselines that the winner and the published setting are confirmed against. Default: kmeans. Others are added to
    those of a tuning that goes on."""
    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        **TuningOptions.DEFAULTS,
        "recipe": "embedded-infoseg",
        "selection": "objective",
        "baselines": ("kmeans",),
    }


def run(arguments: TuneInfoSeg) -> int:
    """Tune and print the two tables; status 1 where a confirmation failed, or every trial."""
    arguments.check()
    resumed(arguments, _stem(arguments))
    if arguments.data is not None:
        check_data(arguments.data, arguments.root)
    return search(arguments, requests(arguments, partial(_requested, arguments)))


def _requested(arguments: TuneInfoSeg) -> TuningRequest:
    base, rivals = experiments(arguments)
    return TuningRequest(_stem(arguments), base, rivals, selection=arguments.value("selection"))


def _stem(arguments: TuneInfoSeg) -> str:
    recipe = RECIPES.get(arguments.value("recipe"))
    data = arguments.data or ("" if recipe is None else recipe().data)
    return f"tune-infoseg-{last_name(data)}"


def experiments(arguments: TuneInfoSeg) -> tuple[Experiment, dict[str, Experiment]]:
    """The recipe to tune and its baselines, with the options that the command line changes.

    Raises:
        ValueError: a recipe that is not there, or that is none of InfoSeg.
    """
    tunable = [name for name in RECIPES if name.endswith("-infoseg")]
    recipe = arguments.value("recipe")
    if recipe not in tunable:
        meant = in_place_of(recipe, tunable, "miseg train --help")
        raise ValueError(f"--recipe {recipe}: there is no such recipe of InfoSeg; {meant}")
    stem, rivals = recipe.removesuffix("infoseg"), arguments.value("baselines")
    names = [recipe, *(f"{stem}{baseline}" for baseline in rivals)]
    base, *baselines = (_adapted(RECIPES[name](seed=arguments.value("seed")), arguments) for name in names)
    return spaces.at_its_point(base), dict(zip(rivals, baselines, strict=True))


def _adapted(experiment: Experiment, arguments: TuneInfoSeg) -> Experiment:
    experiment = arguments.shortened(experiment)
    experiment = changed(experiment, {"method.clusters": arguments.clusters})
    return experiment if arguments.data is None else replace(experiment, data=arguments.data)


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(TuneInfoSeg, run, __doc__)
