"""A pool of actors that map, each with the model opened once, over the cluster's GPUs or CPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from miseg.service.cluster.ray_cluster import Resources
from miseg.service.cluster.ray_data import quiet_data_context
from miseg.service.training import streams as ingest

BLOCKS = 2048
"""Blocks of items that go through the pipeline: Ray Data sets up all before the first runs; see `ingest`."""

CPU_ACTORS = 8
"""Actors at most on a cluster without GPUs."""


def map_over_actors(
    actor: type, items: Sequence[Mapping[str, Any]], shared: tuple[Any, ...], resources: Resources
) -> ray.data.Dataset:
    """The rows that the actors give for `items`, in their order.

    Args:
        actor: a class that takes a reference to `shared` and its number of threads, and is called with one item.
        items: rows; small, for they are made by this process.
        shared: what every actor needs; it is sent once.
        resources: of the cluster. An actor has a GPU of its own, or two CPUs or more.
    """
    quiet_data_context()
    gpus = int(resources.use_gpu)
    actors = max(1, min(len(items), int(resources.gpus if gpus else min(resources.cpus // 2, CPU_ACTORS))))
    threads = max(1, int(resources.cpus) // actors)
    return ray.data.from_items(list(items), override_num_blocks=min(len(items), BLOCKS)).map_batches(
        actor,
        fn_constructor_args=(ray.put(shared), threads),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=ingest.TASK_CPUS,
        num_gpus=gpus,
    )
