"""Measure how tight the bound is that RMI maximises, on a model's own predictions.

Estimates of mutual information stand beside it.

miseg measure-bound --run 3f0c9d… 81b2aa… --role last
miseg measure-bound --checkpoint ~/miseg/runs/NAME --region-sizes 1 3 --classes Road Sky
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from miseg.service.cluster.uris import check_recorded
from miseg.service.command.options import JobOptions, check_data, execute


@dataclass
class MeasureBound(JobOptions):
    """Compare truth and predictions over regions: RMI's Gaussian value, other estimates, a bound and a ceiling.

    Checkpoints of several steps come from `miseg train … --keep-all`.
    """

    run: tuple[str, ...] = ()
    """Ids of MLflow runs whose models are measured."""
    role: Literal["best", "last"] = "last"
    """Choice among a run's two models."""
    checkpoint: tuple[str, ...] = ()
    """Folders of checkpoints, or of runs that kept theirs; those of one experiment become one line over its steps."""
    data: str | None = None
    """Data set to measure on. Default: the one the models were trained on."""
    split: str = "val"
    """Split of the data set."""
    region_sizes: tuple[int, ...] = (1, 2, 3)
    """R of the regions whose R x R pixels are a vector."""
    downsampling_factor: int = 4
    """DF of truth and probabilities before."""
    downsampling: Literal["average", "max", "interpolation"] = "average"
    """Its manner."""
    samples: int = 2000
    """Regions, drawn over all images of the split."""
    classes: tuple[str, ...] = ()
    """Classes, each compared by itself as RMI does. Default: those of at least 2 % of the pixels."""
    estimators: tuple[str, ...] = ("gaussian", "ksg", "lsmi", "mine")
    """Estimators; gaussian is what RMI maximises, up to what depends on the truth alone."""
    seed: int = 0
    """Of the drawn regions, and of estimators that draw."""
    out: str | None = None
    """Folder for the figure too; it is among the run's artifacts in any case."""


def run(arguments: MeasureBound) -> int:
    """Measure, and print the means over classes."""
    if not arguments.run and not arguments.checkpoint:
        raise ValueError("give --run or --checkpoint")
    if arguments.data is not None:
        check_data(arguments.data, arguments.root)
    if arguments.run:
        check_recorded(arguments.root, arguments.offline)
    # Not at the top: --help must not wait for them.
    from miseg.data.packed.dataset import PackedDataset
    from miseg.service.checkpoints import checkpoint_files
    from miseg.service.command.start import packed, prepare
    from miseg.service.evaluation import rmi_bound
    from miseg.service.terminal.fitted_tables import fitted
    from miseg.service.tracking import mlflow_runs, models

    settings = rmi_bound.Regions(
        arguments.region_sizes,
        arguments.downsampling_factor,
        arguments.downsampling,
        arguments.samples,
        arguments.classes,
        arguments.estimators,
        arguments.seed,
    )
    uri = mlflow_runs.tracking_uri(arguments.root, arguments.offline)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = [
            models.download(uri, run_id, arguments.role, Path(folder) / Path(run_id).name) for run_id in arguments.run
        ]
        for checkpoint in arguments.checkpoint:
            checkpoints += checkpoint_files.within(Path(checkpoint).expanduser())
        experiments = [checkpoint_files.read_experiment(checkpoint) for checkpoint in checkpoints]
        data = arguments.data or experiments[0].data
        if arguments.data is None and (others := {experiment.data for experiment in experiments} - {data}):
            raise ValueError(f"models of {data} and {', '.join(sorted(others))}: say which --data to measure on")
        splits = PackedDataset.open(packed(data, arguments.root)).splits
        if arguments.split == "val":
            arguments.split = experiments[0].validation_split(splits)
        job = prepare(
            arguments, [replace(experiment, data=data) for experiment in experiments], splits=(arguments.split,)
        )
        run_id, table = rmi_bound.measure(
            checkpoints,
            job.data,
            arguments.split,
            settings,
            job,
        )
    print(fitted(rmi_bound.means(table), "{:.3f}"))
    for (quantity, failure), group in table[table["failure"] != ""].groupby(["quantity", "failure"]):
        print(f"{quantity}: no estimate for {len(group)} of {len(table) // table['quantity'].nunique()}: {failure}")
    if arguments.out is not None:
        print("written:", rmi_bound.write(table, Path(arguments.out)))
    print(f"MLflow run {run_id} at {job.tracking_uri}; look at it with: {job.look(run_id)}")
    return 0


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(MeasureBound, run, __doc__)
