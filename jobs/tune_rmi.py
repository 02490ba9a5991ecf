"""Tune the region mutual information loss, then confirm the winner, the published setting and BCE on fresh seeds.

python jobs/tune_rmi.py
python jobs/tune_rmi.py --data camvid --trials 64 --concurrent 8
python jobs/tune_rmi.py --name street --resume
python jobs/tune_rmi.py --recipe voc-v3-rmi --grid.downsampling-factor 1 2 4 --grid.region-size 1 2 3
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from miseg.methods.configs import BinaryCrossEntropy, CrossEntropy, RegionMutualInformation
from miseg.networks.configs import UNet
from miseg.recipes import spaces, streets
from miseg.recipes.catalog import RECIPES
from miseg.recipes.experiment import Experiment
from miseg.service.command import Place, main


@dataclass
class Tune(Place):
    """Search λ, DF, R, the manner of downsampling and the learning rate by TPE with ASHA, then confirm."""

    data: str | None = None
    """A name that prepare_data.py knows, of 8-bit images, or the folder or URI of a packed data set. Default: the
    recipe's."""
    recipe: str | None = None
    """An RMI recipe to tune, such as voc-v3-rmi. Default: a U-Net on --data, or on the embedded scenes."""
    trials: int | None = None
    """Points of the search space that are tried; the first is always the published setting. A grid has its own.
    Default: 6, or 32 on a cluster with GPUs."""
    grid: spaces.RegionMutualInformationGrid = field(default_factory=spaces.RegionMutualInformationGrid)
    concurrent: int | None = None
    """Trials at a time, at most 8. Default: what the GPUs hold; without a GPU, what the CPUs and the memory hold."""
    workers_per_trial: int = 1
    """Training workers (processes) of each trial."""
    steps: int | None = None
    """Optimiser steps of a whole trial. Default: the recipe's."""
    size: tuple[int, int] | None = None
    """Height and width in pixels to which images are resized. Default: the recipe's."""
    initial_features: int | None = None
    """U-Net features at full resolution. Default: the recipe's."""
    seed: int = 0
    """Seeds the search, and the trials' weights and data order."""
    confirm_seeds: int = 3
    """Fresh seeds on which winner, published setting and baseline are trained again."""
    baselines: tuple[Literal["bce", "ce"], ...] = ("bce",)
    """What the winner and the published setting are confirmed against: sigmoid or softmax cross-entropy."""
    name: str | None = None
    """Name of the tuning. Default: tune-rmi-<data or recipe>, or grid-rmi-…, and the time."""
    resume: bool = False
    """Continue the tuning called --name (default: the last one on this data) without running a finished trial again."""


def run(arguments: Tune) -> int:
    """Tune and print the two tables."""
    for option in ("trials", "confirm_seeds"):
        if (value := getattr(arguments, option)) is not None and value < 1:
            raise ValueError(f"--{option.replace('_', '-')} {value}: use 1 or more")
    from miseg.service import tune
    from miseg.service.start import prepare, tuning_name

    rmi, baselines = experiments(arguments)
    grid = arguments.grid.values(rmi) if arguments.grid else None
    subject = arguments.recipe or rmi.data.rstrip("/").rsplit("/", 1)[-1]
    stem = f"{'grid' if grid else 'tune'}-rmi-{subject}"
    name = tuning_name(arguments.root, stem, arguments.name, arguments.resume)
    job = prepare(
        arguments, [rmi, *baselines.values()], workers=arguments.workers_per_trial, concurrency=arguments.concurrent
    )
    tuning = tune.Tuning(
        name=name,
        base=rmi,
        space=spaces.region_mutual_information,
        default_point=spaces.region_mutual_information_point(rmi),
        rivals=baselines | {"RMI as published": rmi},
        data=job.data,
        storage=job.storage,
        tracking_uri=job.tracking_uri,
        resources=job.resources,
        trials=arguments.trials or (32 if job.resources.use_gpu else 6),
        confirm_seeds=arguments.confirm_seeds,
        seed=arguments.seed,
        grid=grid,
    )
    print(
        f"tuning {name}: {tuning.points} trials of {rmi.steps} steps, {job.resources.concurrency} at a time",
        flush=True,
    )
    report = tune.run(tuning)
    print(f"\nTrials\n{tune.trials_text(report.trials)}")
    if grid:
        print(f"\nMean IoU by region size (across)\n{tune.grid_text(report.trials)}")
    print(f"\nMean IoU on val after step {rmi.steps}, {arguments.confirm_seeds} fresh seeds")
    print(tune.summary_text(report.confirmation))
    print(f"\nMLflow run {report.parent_run} with a child for each trial; compare them with: {job.ui_command}")
    return 0


def experiments(arguments: Tune) -> tuple[Experiment, dict[str, Experiment]]:
    """The RMI experiment to tune and its baselines, with the options that the command line changes.

    Raises:
        ValueError: a recipe that is not there, or that is none of RMI.
    """
    names = arguments.baselines
    if arguments.recipe is None:
        data = arguments.data or "embedded"
        found = [getattr(streets, name)(data=data, seed=arguments.seed) for name in ("rmi", *names)]
    else:
        found = [_of_recipe(name, arguments) for name in ("rmi", *names)]
    rmi, *baselines = (adapt(experiment, arguments) for experiment in found)
    return rmi, {name.upper(): experiment for name, experiment in zip(names, baselines, strict=True)}


def _of_recipe(loss: str, arguments: Tune) -> Experiment:
    recipe = arguments.recipe or ""
    tunable = [name for name, make in RECIPES.items() if isinstance(make().method, RegionMutualInformation)]
    if recipe not in tunable:
        raise ValueError(f"--recipe {recipe}: there is no such recipe of RMI; there are {', '.join(tunable)}")
    name = recipe if loss == "rmi" else recipe.removesuffix("-as-published").removesuffix("rmi") + loss
    if name not in RECIPES:
        raise ValueError(f"--baselines {loss}: there is no recipe {name}; choose another baseline")
    experiment = RECIPES[name](seed=arguments.seed)
    return experiment if arguments.data is None else replace(experiment, data=arguments.data)


def adapt(experiment: Experiment, arguments: Tune) -> Experiment:
    """The experiment with the options that the command line changes."""
    if arguments.steps is not None:
        # Five validations a trial, as in the recipes, so that ASHA can compare trials of any length.
        experiment = replace(experiment, steps=arguments.steps, validate_every=max(1, arguments.steps // 5))
    if arguments.size is not None:
        augmentation = replace(experiment.augmentation, resize=arguments.size, crop=None)
        experiment = replace(experiment, augmentation=augmentation)
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


if __name__ == "__main__":
    main(Tune, run, __doc__)
