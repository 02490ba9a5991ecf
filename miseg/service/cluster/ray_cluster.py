"""The Ray that a job runs on: the cluster it was submitted to, or one of its own on this machine."""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# The controller looks at its workers every 2 s by default: short epochs run on past a scheduler's stop (shared/ray.md).
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
# What Tune knows of its trials is written this often (s), 10 or more by default: a killed driver loses no more.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
# Idle processes beyond one a CPU are ended after a second by default, though twice as many decode (ingest.TASK_CPUS):
# each pipeline then waited 13 s for new ones (four CPUs). Only as many live as once worked at the same time.
os.environ.setdefault("RAY_num_workers_soft_limit", str(8 * (os.cpu_count() or 1)))
# Else Tune takes Ctrl-C for a search that has ended, and its trials for whole.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
# Tune's files of each trial (result.json, progress.csv, TensorBoard's): MLflow has what is in them.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Tune's own banner says nothing that miseg's progress does not.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import ActorID, PlacementGroupID
from ray.util.placement_group import PlacementGroup, remove_placement_group

from miseg.data.packed.decoded import remove_abandoned
from miseg.service.cluster import (
    ray_internals,
    reachable,
    threads,  # noqa: F401  (what Ray's processes inherit)
)

LOOPBACK = "127.0.0.1"

HEAD = {"node:__internal_head__": 0.001}
"""Resource that the driver of a trial of several workers asks for: the head node, so that workers get every CPU."""

TRIAL_MEMORY = 3 * 2**30
"""Bytes that a trial and its Ray actors keep on a machine without a GPU; 2.7 GB measured with one worker."""


_started_here: list[Path] = []
"""Folders of decoded images of the Ray that `connect` started on this machine."""


@dataclass(frozen=True)
class Resources:
    """Resources that training workers may take on this cluster."""

    cpus: float
    gpus: float
    workers: int
    concurrency: int
    decoded_bytes: int = 0
    """Bytes that a machine's decoded images may take; see `miseg.data.packed.decoded`."""

    @property
    def use_gpu(self) -> bool:
        """Whether workers train on GPUs."""
        return self.gpus >= 1

    @property
    def per_worker(self) -> dict[str, float]:
        """Resources of one worker; without a GPU a tenth of a CPU.

        Whatever else runs on the cluster, decoding tasks must find room, or all trainings wait for them for ever: at
        half a CPU each, the trials of two tunings on two CPUs would leave none. How many run at a time is not Ray's
        to decide, but `concurrency`.
        """
        return {"CPU": 1.0, "GPU": 1.0} if self.use_gpu else {"CPU": 0.1}

    @property
    def threads(self) -> int:
        """Threads that a worker computes with: the CPUs shared by all workers that run at a time."""
        return max(1, int(self.cpus) // (self.workers * self.concurrency))


def connect(address: str | None = None, show_workers: bool = False) -> None:
    """Join the cluster at `address` or $RAY_ADDRESS (set for submitted jobs), or start a Ray on this machine alone.

    With `show_workers`, what workers print appears in the job's own output. From then on SIGTERM, which `ray job stop`
    sends, is a KeyboardInterrupt as Ctrl-C is.

    Raises:
        ValueError: no Ray answers at the address, or the folder of a Ray on this machine has too long a path.
    """
    if ray.is_initialized():
        return
    reachable.check(address)
    address = reachable.address_of(address)
    if address == reachable.LOCAL:
        _start_here(show_workers)
    else:
        ray.init(address=address, log_to_driver=show_workers, logging_level=logging.WARNING)
        _have_ray_data_here()
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler ends the process with a trace of addresses, and no run is closed.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Ray sets this in its workers and takes it from the drivers of jobs: without it the runs that a driver opens, such
    # as a tuning's parent, would not say which job they belong to (tracking reads it).
    os.environ["RAY_JOB_ID"] = ray.get_runtime_context().get_job_id()


def _have_ray_data_here() -> None:
    """Make Ray Data's own actors on the machine of the job's driver, which is the head for a submitted job.

    Ray Data makes them where it is first used and keeps them for good: a worker that has one is never idle, so an
    autoscaled cluster never gave its last one back.
    """
    ray_internals.get_or_create_autoscaling_coordinator()
    ray_internals.get_or_create_stats_actor()


def _start_here(show_workers: bool) -> None:
    # Train's cleaner of placement groups asks the State API, so the dashboard must be there; and it looks for "the" Ray
    # of the machine, failing where there are two, so the processes started here are told which is theirs. Seen without:
    # three groups leaked in one tuning, and the next trial waited for their CPUs for ever.
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    environment = {"RAY_GCS_SERVER_PORT": str(port), "RAY_ADDRESS": f"{LOOPBACK}:{port}"}
    # Where Ray knows of clusters a machine's address is the one that others reach, and every process answers there.
    environment[ray_internals.ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    # This machine does not announce that it goes away, as a spot node does: a process less for each trial to start.
    environment["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    previous = {name: os.environ.get(name) for name in environment}
    clusters = ray_internals.ray_constants.ENABLE_RAY_CLUSTER
    os.environ.update(environment)
    ray_internals.ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        ray.init(
            address="local",
            include_dashboard=True,
            log_to_driver=show_workers,
            logging_level=logging.WARNING,
        )
    except Exception as error:  # Ray's own class for it
        if "timed out during startup" not in str(error):
            raise
        raise ValueError(
            "Ray did not start within its 30 seconds, as happens where other programs take the processors or the "
            "memory: try again when the machine is less busy"
        ) from error
    finally:
        ray_internals.ray_constants.ENABLE_RAY_CLUSTER = clusters
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    folder = decoded_folder()
    remove_abandoned(folder.parent.parent.glob(f"session_*/{folder.name}"))
    _started_here.append(folder)
    atexit.register(_remove, folder)


def disconnect() -> None:
    """Leave the cluster that `connect` joined, or stop the Ray that it started here, with its decoded images."""
    atexit.unregister(_remove)
    ray.shutdown()
    while _started_here:
        shutil.rmtree(_started_here.pop(), ignore_errors=True)


def free_abandoned() -> None:
    """Free what actors of this job that died held as placement groups.

    Ray keeps such a group until the job ends, and Train's own cleaner does not know it before all workers have started:
    what a controller held that died meanwhile would starve the next one.
    """
    job = ray.get_runtime_context().get_job_id()
    for group in ray_internals.global_state._connect_and_get_accessor().get_placement_group_table():
        table = ray_internals.PlacementGroupTableData.FromString(group)
        if table.creator_job_id.hex() != job or table.state == ray_internals.PlacementGroupTableData.REMOVED:
            continue
        # What a driver holds counts as a dead actor's, with no actor named.
        if table.creator_actor_dead and not ActorID(table.creator_actor_id).is_nil():
            remove_placement_group(PlacementGroup(PlacementGroupID(table.placement_group_id)))


def session_folder() -> Path:
    """Folder of the files of Ray's session on each machine."""
    context = ray.get_runtime_context()
    return Path(context.get_temp_dir()) / context.get_session_name()


def decoded_folder() -> Path:
    """Folder of decoded images on each machine of this cluster: with the other files of Ray's session."""
    return session_folder() / "miseg-decoded"


def _remove(folder: Path) -> None:
    """Stop a Ray of this machine alone, then remove its decoded images: its tasks would make the folder again."""
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def resources(workers: int, concurrency: int | None) -> Resources:
    """Resources that the cluster offers to `concurrency` trials of `workers` workers (None: `default_concurrency`).

    An autoscaled cluster counts with the nodes that it may start: GPUs are asked for before there is one.

    Raises:
        ValueError: the workers of one trial would never fit.
    """
    offered = ray.cluster_resources()
    largest = ray_internals.global_state.get_max_resources_from_cluster_config() or {}
    cpus, gpus = (max(offered.get(kind, 0.0), largest.get(kind, 0.0)) for kind in ("CPU", "GPU"))
    if workers < 1:
        raise ValueError(f"workers = {workers}: use 1 or more")
    if concurrency is None:
        concurrency = default_concurrency(cpus, gpus, offered.get("memory", 0.0), workers)
    if concurrency < 1:
        raise ValueError(f"concurrency = {concurrency}: use 1 or more")
    share = Resources(cpus, gpus, workers, concurrency)
    for kind, amount in share.per_worker.items():
        available = {"CPU": cpus, "GPU": gpus}[kind]
        if amount * workers > available:
            raise ValueError(
                f"workers = {workers}: the cluster's {available:g} {kind}s hold at most {int(available / amount)}"
            )
    return share


def default_concurrency(cpus: float, gpus: float, memory: float, workers: int) -> int:
    """Trials at a time, 1 to 8: what the GPUs hold, or without a GPU what the CPUs and the memory (bytes) hold."""
    fits = gpus // workers if gpus >= 1 else min(cpus // workers, memory // (TRIAL_MEMORY * workers))
    return max(1, min(8, int(fits)))


def cause_of_death(error: BaseException) -> str:
    """Line on why an actor's process died: of one that failed as it was made, the last line of its trace.

    Args:
        error: Ray's RayActorError.
    """
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    line = lines[-1] if lines and "creation task" in lines[0] else (lines or [type(error).__name__])[0]
    return line[:300]
