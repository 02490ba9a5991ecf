"""A study: every cell tuned and confirmed, one after the other, then the test split read once, at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial

from mlflow.entities import Run

from miseg.data.packed.dataset import PackedDataset
from miseg.metric_names import MEAN_IOU, of_split
from miseg.recipes.study import Changes, StudyCell, StudyTable
from miseg.service.cluster.control_store import ray_watched
from miseg.service.command.start import Job
from miseg.service.evaluation.evaluate import TrainedModel, evaluate
from miseg.service.evaluation.scores import FurtherMeasures
from miseg.service.remarks import counted
from miseg.service.study import record, results
from miseg.service.study.plan import Devices, StudyPlan
from miseg.service.terminal.going_on import how_to_go_on
from miseg.service.terminal.interrupted import InterruptedJobError
from miseg.service.terminal.stopping import steps_text
from miseg.service.tracking import mlflow_runs, models, queries
from miseg.service.training.run import FINISHED
from miseg.service.tuning import resuming, tables, tune
from miseg.service.tuning.tuning import Tuning


@dataclass(frozen=True)
class Study:
    """A plan with what it runs on."""

    plan: StudyPlan
    jobs: Mapping[str, Job]
    """Job of each data set, with the packed data and the cluster, by the name that experiments give the data."""
    devices: Devices
    thin: tuple[str, ...] = ()
    """Thin classes whose clDice is measured on the data sets that have them, beside those of before."""
    trust_state: bool = False
    """See `Tuning`."""

    @property
    def job(self) -> Job:
        """For what all data sets have in common."""
        return next(iter(self.jobs.values()))

    def split(self, data: str) -> str:
        """Split on which the models of a data set are measured last: test, or, without one, that of validation."""
        table = self.plan.of_data(data).tables[0]
        dataset = PackedDataset.open(self.jobs[data].data)
        # Of some data sets the publisher keeps the test split's masks.
        if "test" in dataset.splits and dataset.size("test") and dataset.read("test", 0).mask is not None:
            return "test"
        return table.cells[0].base.validation_split(dataset.splits)

    def tuning(self, table: StudyTable, cell: StudyCell, parent: str | None) -> Tuning:
        """The search and confirmation of a cell, a child of the MLflow run `parent`."""
        job, contender, name = self.jobs[cell.base.data], cell.contender, table.cell_id(cell)
        tuned, untuned = contender.rows(table.is_of_own_data, cell.base.method)
        return Tuning(
            name=self.plan.tuning_name(name),
            base=cell.base,
            space=contender.space,
            default_point=contender.point(cell.base),
            rivals={untuned: cell.base},
            tuned=tuned,
            data=job.data,
            storage=job.storage,
            tracking_uri=job.tracking_uri,
            resources=job.resources,
            trials=table.trials,
            confirm_seeds=table.confirm_seeds,
            seed=table.seed,
            selection=table.selection if contender.supervision == "none" else "labels",
            trust_state=self.trust_state,
            parent=parent,
            tags={"miseg.study": self.plan.study, "miseg.cell": name},
        )


def run(study: Study) -> list[str]:
    """Tune and confirm what is not done yet, measure what is not measured, and print the tables; the cells that failed.

    A cell whose tuning fails is told and left for the next `--resume`; the others go on. What was confirmed is measured
    all the same: nothing is chosen by it.

    Raises:
        ValueError: a cell that was tuned with other settings, such as on other data.
        TrackingError: MLflow stays away.
    """
    plan, uri = study.plan, study.job.tracking_uri
    check(study)
    parents = {
        data: record.open_run(job, plan, data, study.devices, study.split(data), PackedDataset.open(job.data))
        for data, job in study.jobs.items()
    }
    failed: dict[str, str] = {}
    try:
        with ray_watched(partial(_interrupt, uri, parents.values()), how_to_go_on):
            for table, cell, name in plan.cells:
                if reason := _tuned(study, table, cell, parents[cell.base.data]):
                    failed[name] = reason
            for table, cell, name in plan.cells:
                if reason := _measured(study, table, cell):
                    failed[name] = reason
    except KeyboardInterrupt as error:
        _interrupt(uri, parents.values())
        raise InterruptedJobError(steps_text(error), ("--resume", "--name", plan.study)) from None
    except Exception as error:
        for run_id in parents.values():
            mlflow_runs.fail_run(uri, run_id, error)
        raise
    results.keep(uri, plan, {data: study.split(data) for data in parents}, parents)
    for data, run_id in parents.items():
        failed_cells = [name for _, _, name in plan.of_data(data).cells if name in failed]
        ended = f"failed: {', '.join(failed_cells)}; --resume tries again" if failed_cells else FINISHED
        mlflow_runs.end_run(uri, run_id, "FAILED" if failed_cells else "FINISHED", ended)
    for data in parents:
        print(text(study, data), flush=True)
    for name, reason in failed.items():
        print(f"\n{name} failed: {reason}")
    return list(failed)


def _interrupt(uri: str, run_ids: Iterable[str], reason: str = "interrupted") -> None:
    for run_id in run_ids:
        mlflow_runs.interrupt_run(uri, run_id, "--resume continues", reason)


def runs(study: Study) -> list[tuple[Job, str]]:
    """The study's MLflow run on each of its data sets."""
    runs_of_data = []
    for data, job in study.jobs.items():
        experiment_name = mlflow_runs.experiment_name(data)
        run = queries.find_run(job.tracking_uri, experiment_name, record.name_of(study.plan))
        runs_of_data += [(job, run.info.run_id)] if run is not None else []
    return runs_of_data


def check(study: Study) -> None:
    """Raise ValueError where a name is taken, or a cell was tuned with other settings than it would be now."""
    for data, job in study.jobs.items():
        name = record.name_of(study.plan)
        mlflow_run = queries.find_run(job.tracking_uri, mlflow_runs.experiment_name(data), name)
        if mlflow_run is not None and mlflow_run.data.tags.get("miseg.kind") != "study":
            raise ValueError(f"{name} is the name of another run, {mlflow_run.info.run_id}: choose another --name")
    # Not --concurrent: the cluster of the day decides it, and the report says how many trials ran at a time.
    known = {item.name for item in fields(Changes)} | {"data", "seed", "selection"}
    for table, cell, name in study.plan.cells:
        tuning = study.tuning(table, cell, None)
        mlflow_run = queries.find_run(tuning.tracking_uri, mlflow_runs.experiment_name(cell.base.data), tuning.name)
        if mlflow_run is None or "confirm_seeds" not in mlflow_run.data.params:
            continue  # a kill may have come before the parameters
        try:
            resuming.extended(tuning, mlflow_run, known)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _tuned(study: Study, table: StudyTable, cell: StudyCell, parent: str) -> str:
    """Tune and confirm a cell, as far as that is not done; why it failed, or ""."""
    name, uri = table.cell_id(cell), study.job.tracking_uri
    tuning = study.tuning(table, cell, parent)
    if record.done(uri, study.plan).get(name, 0) >= table.confirm_seeds:
        print(f"{name}: tuned and confirmed before", flush=True)
        return ""
    print(
        f"{name}: {counted(table.trials, 'trial')} of {counted(cell.base.steps, 'step')}, then "
        f"{counted(table.confirm_seeds, 'fresh seed')}",
        flush=True,
    )
    try:
        report = tune.run(tuning)
    except (mlflow_runs.TrackingError, *mlflow_runs.UNREACHABLE):
        raise  # the next cell would meet the same
    except Exception as error:
        print(f"{name} failed: {error}", flush=True)
        return _reason(error)
    if report.failures:
        print(f"{name} failed: {'; '.join(report.failures)}", flush=True)
        return report.failures[0]
    tags = {record.SEEDS: str(table.confirm_seeds)}
    mlflow_runs.log_metrics(uri, report.parent_run, {}, tags=tags)
    cells = record.done(uri, study.plan)
    tuned_cells = [cell_name for _, _, cell_name in study.plan.of_data(cell.base.data).cells if cell_name in cells]
    mlflow_runs.log_metrics(uri, parent, {"cells_done": len(tuned_cells)}, step=len(tuned_cells))
    return ""


def _reason(error: Exception) -> str:
    """One line: Ray puts a trace of its processes before what went wrong."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


def _measured(study: Study, table: StudyTable, cell: StudyCell) -> str:
    """Measure each confirmed model of a cell that is not measured yet; why one could not be, or "".

    One that was measured without the clDice of a class that the others have is measured once more.
    """
    uri, failure = study.job.tracking_uri, ""
    measured = record.evaluations(uri, study.plan)
    thin = _thin(study, cell.base.data, measured.values())
    for confirmation in record.confirmations(uri, study.plan, table, cell):
        evaluation = measured.get(confirmation.info.run_id)
        if evaluation is not None:
            missing = [name for name in thin if name not in record.thin(evaluation)]
            if not missing:
                continue
            names = f"{table.cell_id(cell)}  {confirmation.info.run_name}"
            print(f"{names}: measured before without clDice of {', '.join(missing)}, so once more", flush=True)
        try:
            _measure(study, table, cell, confirmation, thin)
        except Exception as error:
            failure = _reason(error)
            print(f"{table.cell_id(cell)}  {confirmation.info.run_name} was not measured: {error}", flush=True)
    return failure


def _thin(study: Study, data: str, evaluations: Iterable[Run]) -> tuple[str, ...]:
    """The thin classes of a data set that are asked for now, or were before: all models have the same scores."""
    classes = PackedDataset.open(study.jobs[data].data).info.classes
    before = (name for evaluation in evaluations for name in record.thin(evaluation))
    return tuple(name for name in dict.fromkeys((*study.thin, *before)) if name in classes)


def _measure(study: Study, table: StudyTable, cell: StudyCell, confirmation: Run, thin: tuple[str, ...]) -> None:
    """Measure the last checkpoint of a confirmation, as in all tables."""
    job, run_id, split = study.jobs[cell.base.data], confirmation.info.run_id, study.split(cell.base.data)
    tags = {key: confirmation.data.tags[key] for key in TOLD if key in confirmation.data.tags}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint_folder = models.download(job.tracking_uri, run_id, "last", folder)
        measures = FurtherMeasures(thin=thin)
        scores = evaluate(TrainedModel(checkpoint_folder, run_id), job.data, split, job, measures, tags).scores
    row, seed = tags["miseg.row"], confirmation.data.params["seed"]
    score = scores[of_split(split, MEAN_IOU)]
    print(f"{table.cell_id(cell)}  {row}  seed {seed}: mean_iou {score:.4f} on {split}", flush=True)


TOLD = ("miseg.study", "miseg.cell", "miseg.row")
"""Tags that an evaluation has from the confirmation that it measures."""


def text(study: Study, data: str) -> str:
    """The tables of a data set for the terminal."""
    split = study.split(data)
    lines = []
    for table, scores in record.results(study.job.tracking_uri, study.plan, split, data):
        for score, summary in tables.summaries(scores).items():
            title = (
                f"{tables.SCORES[score]} on {split} after the last step, {counted(table.confirm_seeds, 'fresh seed')}"
            )
            lines += [f"\n{table.id}: {title}", tables.summary_text(summary)]
        if split != "test":
            lines.append(f"{data} has no test split: these are the images that trials were compared on")
    return "\n".join(lines)
