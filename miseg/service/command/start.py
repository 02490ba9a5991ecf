"""Start of every job: check the arguments, pack the data, send what is waiting, join the cluster."""

from __future__ import annotations

import datetime
import math
import os
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from miseg.data.packed.dataset import PackedDataset
from miseg.data.packed.names import is_packed
from miseg.data.packed.packing import SIDECAR
from miseg.data.sources.catalog import ensure_packed, is_description
from miseg.data.sources.described import DESCRIBED
from miseg.data.sources.registry import DATA_SETS
from miseg.data.storage import file_system, listed, patiently
from miseg.file_names import below
from miseg.methods import METHODS
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import pretrained
from miseg.service.cluster import ray_cluster
from miseg.service.command import memory
from miseg.service.command.fitting import check_alone, check_fits, without_effect
from miseg.service.command.networks import check_batch_norm
from miseg.service.command.options import JobOptions, check_no_keys
from miseg.service.journal import copies, journal, sender
from miseg.service.remarks import remark
from miseg.service.terminal.library_lines import JobLog
from miseg.service.terminal.pasted import pasted
from miseg.service.tracking import mlflow_runs, views
from miseg.service.tracking.run_store import Workspace
from miseg.service.training import decoded_cache

START_PATIENCE = 15.0
"""Seconds for which a job tries to write to storage behind a network before it says that it cannot."""


@dataclass(frozen=True)
class Job(Workspace):
    """A job that may begin."""

    data: str
    """The packed data set."""
    stamp: str
    """End of default names of runs: see `unique`."""

    @property
    def ui_command(self) -> str:
        """The command that shows the runs."""
        if not self.tracking_uri.startswith("sqlite"):
            return f"a browser at {self.tracking_uri}"
        folder = self._store_folder
        return pasted(["miseg", "ui", *([] if folder == JobOptions().root else ["--storage", str(folder)])])

    def command(self, *words: str) -> str:
        """A command of miseg on this job's runs, to paste into the shell that started it."""
        apart = [] if self.storage == JobOptions().root else ["--storage", self.storage]
        offline = self._store_folder not in (None, self.storage)
        return pasted(["miseg", *words, *apart, *(["--offline"] if offline else [])])

    @property
    def _store_folder(self) -> str | None:
        """The folder of the MLflow store; None of a server's."""
        scheme, _, path = self.tracking_uri.partition(":///")
        return str(Path(path).parent) if scheme == "sqlite" else None

    def look(self, run_id: str) -> str:
        """Instruction for viewing a run, or the runs of a tuning or study side by side."""
        address = views.address(self.tracking_uri, run_id)
        if not self.tracking_uri.startswith("sqlite"):
            return f"a browser at {address}" if address else self.ui_command
        return f"{self.ui_command}, then a browser at {address}" if address else self.ui_command


def unique() -> str:
    """The end of a default name: the time, by which names are sorted, and what tells two jobs of one second apart."""
    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def tuning_name(storage: str, stem: str, name: str | None, resume: bool) -> str:
    """The name of the tuning to start (by default `stem` and the time) or, with `resume`, of the one to continue.

    Raises:
        ValueError: nothing to resume, or a name that is taken.
    """
    system, folder = file_system(below(storage, "tunings"))
    entries = patiently(system, lambda: listed(system, folder))
    names = sorted(info.base_name.removesuffix("-search") for info in entries if info.base_name.endswith("-search"))
    if not resume:
        if name in names:
            raise ValueError(f"a tuning called {name} exists: continue it with --resume, or choose another --name")
        return name or f"{stem}-{unique()}"
    if name is None:
        # The time at the end of a default name makes the last the latest.
        default_names = [tuning for tuning in names if tuning.startswith(f"{stem}-")]
        if not default_names:
            raise ValueError(f"no tuning {stem}-* under {folder}: leave --resume out to start one")
        return default_names[-1]
    if name not in names:
        raise ValueError(f"no tuning called {name} under {folder}; there are: {', '.join(names) or 'none'}")
    return name


def prepare(
    options: JobOptions,
    experiments: Sequence[Experiment],
    *,
    workers: int = 1,
    concurrency: int | None = 1,
    splits: Sequence[str] = ("train", "val"),
    show_workers: bool = False,
) -> Job:
    """Check that `experiments` (all on one data set, of which they need `splits`) can run, then join the cluster.

    They share its CPUs as `concurrency` at a time do; None lets the cluster decide.

    Raises:
        ValueError: a setting that does not fit the data or the cluster, or storage that cannot be written.
        TrackingError: MLflow does not answer.
    """
    JobLog.silence_libraries()
    for experiment in experiments:
        METHODS[type(experiment.method)]  # a package's class that is not there is told of before Ray starts
        check_alone(experiment, workers, splits)
    storage, decoded_bytes = options.root, options.decoded_bytes
    uri = mlflow_runs.tracking_uri(storage, options.offline)
    check_writable(storage)
    data = packed(experiments[0].data, storage)
    dataset = PackedDataset.open(data)
    for experiment in experiments:
        check_fits(experiment, dataset, splits)
    if "train" in splits:
        if options.starts_ray:
            memory.check(experiments, dataset)
        sentences = (chain(pretrained.sentences(e, dataset.info), without_effect(e, dataset)) for e in experiments)
        for line in dict.fromkeys(chain.from_iterable(sentences)):
            remark(line)
    mlflow_runs.check(uri, storage)
    sender.sync(journal.journal_folder(storage), uri)
    copies.sync(storage, uri)
    ray_cluster.connect(options.address, show_workers)
    share = replace(ray_cluster.resources(workers, concurrency), decoded_bytes=decoded_bytes)
    if "train" in splits:
        for experiment in experiments:
            check_batch_norm(experiment, workers, shared=share.use_gpu)
    if "train" in splits and (line := too_large(dataset, experiments, decoded_bytes)):
        remark(line)
    return Job(storage, uri, share, str(data), unique())


def too_large(dataset: PackedDataset, experiments: Sequence[Experiment], budget: int) -> str:
    """A line for the user where the decoded training images take more than `budget` bytes, and it is not 0; else ''."""
    needed = max(decoded_cache.decoded_bytes(dataset, experiment) for experiment in experiments)
    if not 0 < budget < needed < math.inf:
        return ""
    return (
        f"the training images of {dataset.uri} take {needed / 2**30:.2f} GiB decoded, more than {budget / 2**30:.3g}: "
        f"each epoch decodes them again (--decoded-gib {math.ceil(10 * needed / 2**30) / 10} keeps them)"
    )


def check_writable(storage: str) -> None:
    """Raise ValueError where nothing can be written to storage: a training would find out at its first validation."""
    try:
        system, folder = file_system(storage)
        path = f"{folder}/.written-{uuid.uuid4().hex}"

        def write_probe() -> None:
            system.create_dir(folder)
            with system.open_output_stream(path) as file:
                file.write(b"miseg can write here")
            system.delete_file(path)

        patiently(system, write_probe, START_PATIENCE)
    except (OSError, ValueError, pa.ArrowException) as error:
        # pyarrow's own text says which file it tried to write.
        number = error.errno if isinstance(error, OSError) else None
        reason = str(error).splitlines()[0] if number is None else os.strerror(number)
        raise ValueError(
            f"storage {storage} cannot be written ({reason}): make it writable, or give another folder or URI with "
            "--storage or $MISEG_STORAGE"
        ) from None


def packed(name: str, storage: str) -> str:
    """The packed data set called `name`, packed into `storage` on first use; a folder or URI stands for itself."""
    check_no_keys("data", name)
    published = name in DATA_SETS or (name in DESCRIBED and not is_packed(name, storage))
    if "://" not in storage or not (published or is_description(name)):
        return ensure_packed(name, storage)
    if published and (uri := _if_packed(name, storage)):
        return uri
    local = Path(ensure_packed(name, Path("~/.miseg").expanduser()))
    if uri := _if_packed(local.name, storage):
        return uri
    uri = below(storage, "data", local.name)
    upload(local, uri)
    return uri


def _if_packed(name: str, storage: str) -> str:
    """The URI of the packed data set of this name in a storage; "" where there is none."""
    uri = below(storage, "data", name)
    try:
        PackedDataset.open(uri)
    except ValueError:
        return ""
    return uri


def upload(folder: Path, uri: str) -> None:
    """Copy a packed data set from this machine to a URI."""
    system, path = file_system(uri)
    patiently(system, lambda: system.create_dir(path))
    # The sidecar goes last: without it the folder is no data set, so an upload cut short is seen.
    for file in sorted(folder.iterdir(), key=lambda file: (file.name == SIDECAR, file.name)):
        copy = partial(fs.copy_files, str(file), f"{path}/{file.name}", destination_filesystem=system)
        patiently(system, copy)
