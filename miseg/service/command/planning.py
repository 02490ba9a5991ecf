"""Settings planned from the data and this machine, for a job that names a method and no recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from miseg.data.packed.dataset import PackedDataset
from miseg.methods.registry import MethodConfig
from miseg.networks.configs import networks_of
from miseg.recipes.experiment import Experiment
from miseg.recipes.planning.pairs import check_patches
from miseg.recipes.planning.plan import Machine, MemoryNeeds, TrainingPlan
from miseg.recipes.planning.rules import plan
from miseg.recipes.planning.summary import DataSummary, summarise
from miseg.service.cluster import ray_cluster
from miseg.service.command.options import DECODED_GIB, JobOptions
from miseg.service.command.start import packed

GPU_MEMORY = 8 * 2**30
"""Bytes of a GPU that are planned for at most, as nnU-Net does: larger GPUs get the same plan."""
CPU_MEMORY = 2 * 2**30
"""Bytes that are planned for without a GPU: what `ray_cluster.TRIAL_MEMORY` leaves a trial beside its libraries."""
MARGIN = 1.25
"""Factor on the memory that is measured on shapes. A step's own peak on the CPU was 0.86 to 1.2 times that figure."""
OF_OTHERS = 12_000.0
"""Bytes a pixel of methods whose network is no registered one: IIC's, the largest measured, at its published width."""
EVALUATED = 1 / 3
"""Memory of a prediction beside that of a training step; a U-Net's was 0.2."""
OPTIMISER_STATE = 4
"""Copies of the weights: themselves, the gradient, and Adam's two moments."""


def planned(
    options: JobOptions,
    experiments: Sequence[Experiment],
    given: Mapping[str, Any],
    workers: int = 1,
) -> list[tuple[Experiment, TrainingPlan]]:
    """Experiments of different methods on one data set, with settings from the data that all of them share.

    Args:
        options: the job's, with its storage and cluster.
        experiments: each with its method and the settings that the command line names.
        given: these settings by their paths.
        workers: training workers of each experiment.

    Raises:
        ValueError: a data set that is not there or does not fit a method, or a network that the memory does not hold.
    """
    dataset = PackedDataset.open(packed(experiments[0].data, options.root))
    data = summarise(dataset)
    for experiment in experiments:
        _check_labels(experiment, dataset, data)
        check_patches(data, experiment.method)
    if options.decoded_gib is not None or os.environ.get("MISEG_DECODED_GIB"):
        given = {**given, "decoded_gib": options.decoded_bytes / 2**30}
    needs = most_needed([needs_of(experiment.method, data) for experiment in experiments])
    machine = machine_of(options, workers)
    plans = [plan(data, experiment.method, needs, machine, given) for experiment in experiments]
    return [(made.applied(experiment), made) for made, experiment in zip(plans, experiments, strict=True)]


def needs_of(method: MethodConfig, data: DataSummary) -> MemoryNeeds:
    """Memory that a training of the method takes, measured on the shapes of its networks.

    Raises:
        ValueError, TypeError: a network that cannot be built.
    """
    # Only now: it brings torch along.
    from miseg.networks.memory import memory_of

    networks = getattr(method, "networks", None) or networks_of(method)
    measured = [memory_of(network, data.channels, max(1, data.classes)) for network in networks]
    if not measured:
        return MemoryNeeds(OF_OTHERS, OF_OTHERS * EVALUATED, 0.0)
    per_pixel = MARGIN * sum(memory.per_pixel for memory in measured)
    fixed = OPTIMISER_STATE * sum(memory.fixed for memory in measured)
    return MemoryNeeds(per_pixel, per_pixel * EVALUATED, fixed)


def most_needed(needs: Sequence[MemoryNeeds]) -> MemoryNeeds:
    """Memory that holds each of several trainings."""
    return MemoryNeeds(
        max(each.per_pixel for each in needs),
        max(each.per_pixel_evaluated for each in needs),
        max(each.fixed for each in needs),
    )


def machine_of(options: JobOptions, workers: int) -> Machine:
    """Memory and device of a training on the cluster that the options name, or on this machine."""
    if options.address or os.environ.get("RAY_ADDRESS"):
        ray_cluster.connect(options.address)
        gpu = ray_cluster.resources(1, 1).use_gpu
        return Machine(GPU_MEMORY if gpu else CPU_MEMORY, gpu, workers, DECODED_GIB * 2**30)
    # Only now: --help must not wait for it.
    import torch

    free = psutil.virtual_memory().available
    room = min(free // 4, DECODED_GIB * 2**30)
    if torch.cuda.is_available():
        return Machine(min(GPU_MEMORY, int(0.9 * torch.cuda.mem_get_info()[0])), True, workers, room)
    return Machine(min(CPU_MEMORY, free // 2), False, workers, room)


def _check_labels(experiment: Experiment, dataset: PackedDataset, data: DataSummary) -> None:
    kind = type(experiment.method).__name__
    if experiment.supervision == "dense" and not data.classes:
        raise ValueError(f"{dataset.uri} has no labels, and {kind} learns from them: use another method")
    if (budget := experiment.labelled_images) is not None and budget > data.images:
        raise ValueError(
            f"label_budget = {budget} labelled images: {experiment.data} has {data.images} training images"
        )
