"""Tune the region mutual information loss, then confirm the winner on fresh seeds.

The published setting and BCE are confirmed beside it.

miseg tune-rmi
miseg tune-rmi --data camvid --trials 64 --concurrent 8
miseg tune-rmi --data camvid --network deeplabv3+ --encoder resnet50
miseg tune-rmi --name street --resume
miseg tune-rmi --recipe voc-v3-rmi --grid.downsampling-factor 1 2 4 --grid.region-size 1 2 3
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

from miseg.file_names import last_name
from miseg.methods.configs import BinaryCrossEntropy, CrossEntropy, RegionMutualInformation
from miseg.nearest_names import in_place_of
from miseg.networks.configs import UNet
from miseg.recipes import spaces, streets
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.service.command.networks import NetworkOptions
from miseg.service.command.options import MAY_BE_EMPTY, check_data, execute
from miseg.service.tuning.command import TuningRequest, requests, search
from miseg.service.tuning.options import TuningOptions, resumed


@dataclass
class TuneRmi(NetworkOptions, TuningOptions):
    """Search λ, DF, R, the manner of downsampling and the learning rate by TPE with ASHA, then confirm."""

    data: str | None = None
    """A name that `miseg prepare-data` knows, of 8-bit images, or the folder or URI of a packed data set. Default: the
    recipe's."""
    recipe: str | None = None
    """An RMI recipe to tune, such as voc-v3-rmi. Default: a U-Net on --data, or on the embedded scenes."""
    grid: spaces.RegionMutualInformationGrid = field(default_factory=spaces.RegionMutualInformationGrid)
    size: tuple[int, int] | None = None
    """Height and width in pixels to which images are resized. Default: the recipe's."""
    initial_features: int | None = None
    """U-Net features at full resolution. Default: the recipe's."""
    baselines: tuple[Literal["bce", "ce"], ...] | None = field(default=None, metadata=MAY_BE_EMPTY)
    """Baselines of the winner and the published setting: sigmoid or softmax cross-entropy. Default: bce. Others are
    added to those of a tuning that goes on."""
    DEFAULTS: ClassVar[Mapping[str, Any]] = {**TuningOptions.DEFAULTS, "baselines": ("bce",)}


def run(arguments: TuneRmi) -> int:
    """Tune and print the two tables; status 1 where a confirmation failed, or every trial."""
    arguments.check()
    named = arguments.recipe or last_name(arguments.data or "embedded")
    stem = f"{'grid' if arguments.grid else 'tune'}-rmi-{named}"
    resumed(arguments, stem)
    if arguments.data is not None:
        check_data(arguments.data, arguments.root)
    return search(arguments, requests(arguments, partial(_requested, arguments, stem)))


def _requested(arguments: TuneRmi, stem: str) -> TuningRequest:
    rmi, baselines = experiments(arguments)
    grid = arguments.grid.values(rmi) if arguments.grid else None
    return TuningRequest(stem, rmi, baselines, grid=grid)


def experiments(arguments: TuneRmi) -> tuple[Experiment, dict[str, Experiment]]:
    """The RMI experiment to tune and its baselines, with the options that the command line changes.

    Raises:
        ValueError: a recipe that is not there, or that is none of RMI.
    """
    names = arguments.value("baselines")
    if arguments.recipe is None:
        data = arguments.data or "embedded"
        unadapted = [getattr(streets, name)(data=data, seed=arguments.value("seed")) for name in ("rmi", *names)]
    else:
        unadapted = [_of_recipe(name, arguments) for name in ("rmi", *names)]
    rmi, *baselines = (adapt(experiment, arguments) for experiment in unadapted)
    return rmi, {name.upper(): experiment for name, experiment in zip(names, baselines, strict=True)}


def _of_recipe(loss: str, arguments: TuneRmi) -> Experiment:
    recipe = arguments.recipe or ""
    tunable = [name for name, make in RECIPES.items() if isinstance(make().method, RegionMutualInformation)]
    if recipe not in tunable:
        meant = in_place_of(recipe, tunable, "miseg train --help")
        raise ValueError(f"--recipe {recipe}: there is no such recipe of RMI; {meant}")
    name = recipe if loss == "rmi" else recipe.removesuffix("-as-published").removesuffix("rmi") + loss
    if name not in RECIPES:
        raise ValueError(f"--baselines {loss}: there is no recipe {name}; choose another baseline")
    experiment = RECIPES[name](seed=arguments.value("seed"))
    return experiment if arguments.data is None else replace(experiment, data=arguments.data)


def adapt(experiment: Experiment, arguments: TuneRmi) -> Experiment:
    """The experiment with the options that the command line changes."""
    experiment = arguments.applied(arguments.shortened(experiment))
    if arguments.size is not None:
        experiment = replace(experiment, augmentation=experiment.augmentation.at_size(arguments.size))
    if arguments.initial_features is not None:
        method = experiment.method
        network = getattr(method, "network", None)
        if not isinstance(method, RegionMutualInformation | BinaryCrossEntropy | CrossEntropy) or not isinstance(
            network, UNet
        ):
            raise ValueError(f"--initial-features is for a U-Net; this recipe's network is {type(network).__name__}")
        network = replace(network, initial_features=arguments.initial_features)
        experiment = replace(experiment, method=replace(method, network=network))
    return experiment


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(TuneRmi, run, __doc__)
