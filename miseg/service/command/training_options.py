"""Options of a training."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from miseg.recipes.experiment import Experiment
from miseg.recipes.lengths import shortened
from miseg.service.checkpoints.storage_failures import WhenStorageFails
from miseg.service.command.networks import NetworkOptions
from miseg.service.command.options import JobOptions


@dataclass
class How(JobOptions):
    """Options of every training."""

    workers: int = 1
    """Training workers (processes), one GPU each where there are GPUs."""
    spread: bool = False
    """Put each worker on a machine of its own, as far as there are: the loss of one then costs one worker, and each has
    its machine's memory and links. Default: on as few machines as hold them, where they exchange gradients fastest."""
    name: str | None = None
    """Name of the run; the name of a run that was stopped continues it, a new one trains once more what was
    trained before. Default: the experiment's id and the time."""
    max_failures: int = 3
    """Number of lost workers that are replaced before the run is given up; -1 for no limit."""
    keep_all: bool = False
    """Keep the checkpoint of every validation in the storage's runs/NAME, not only the best and the last."""
    register: str | None = None
    """Register the best checkpoint as a version of MLflow's model of this name: models:/NAME@best is the best of its
    versions that were measured on the same data. Default: none is registered."""
    when_storage_fails: WhenStorageFails = "continue"
    """If a checkpoint cannot be written (a full disk): go on, with a warning, and try again at the next validation,
    or stop. A run whose last one is missing has failed either way; under its name it goes on from the one before."""


@dataclass
class Train(NetworkOptions, How):
    """Train one recipe; every field of the recipe is an option."""

    experiment: Annotated[tyro.conf.AvoidSubcommands[Experiment], tyro.conf.arg(name="")] = field(
        default_factory=Experiment
    )
    labelled_images: int | None = None
    """Label budget of a method that learns from images: how many training images are used. Default: the recipe's."""
    labelled_pixels_per_class: int | None = None
    """Label budget of a few-label method: how many labelled pixels of each class it is given. Default: the recipe's."""
    recipe_steps: Annotated[int | None, tyro.conf.Fixed, tyro.conf.Suppress] = None
    """No option: the length that the recipe's warm-up and validations are for. None: that of the experiment."""

    def shortened(self, given: Collection[str]) -> Experiment:
        """The experiment, in which what is not given of warm-up and validations keeps its share of fewer steps."""
        whole = replace(self.experiment, steps=self.recipe_steps or self.experiment.steps)
        return shortened(whole, self.experiment.steps, given)


@dataclass
class TrainMethod(Train):
    """Train a method on any data set (--data). What is not given of crop, batch, schedule and augmentation, and of the
    method what depends on the size of images, is planned from the data and the memory, and printed with the reasons;
    the defaults below are of the rest."""


@dataclass
class Again(How):
    """Train the experiment of an MLflow run once more, from its record alone."""

    from_run: Annotated[str, tyro.conf.arg(name="from-run")] = ""
    """Id of the MLflow run."""
