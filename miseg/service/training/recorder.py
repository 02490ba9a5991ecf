"""Recorder of a training, on its first worker: metrics, pictures, checkpoints."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from miseg.data.loading.augmentation import standardisation
from miseg.data.packed.dataset import PackedDataset
from miseg.one_class import TELLS, phrase
from miseg.recipes.experiment import Experiment
from miseg.service.checkpoints import checkpoint
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.checkpoints.pretrained import augmentation_of
from miseg.service.checkpoints.storage_failures import StorageFailures, WhenStorageFails
from miseg.service.cluster.metrics import RunMetrics
from miseg.service.journal.journal import Journal
from miseg.service.terminal.messages import StepProgress, say, send
from miseg.service.terminal.stopping import BY_USER
from miseg.service.training import system_metrics
from miseg.service.training.artifacts import log_evaluation, watch_predictions
from miseg.service.training.background import BackgroundWriter, WriterBusyError
from miseg.service.training.loop import Loop
from miseg.service.training.records import StepRecord
from miseg.service.training.scoring import Evaluation

SHOWN_EVERY_S = 1.0
"""Seconds at least between two messages on the steps."""

CLOSING_TRIES = 3
"""Tries of the end of a training at a server that does not answer; whoever closes the run waits longer."""


class Recorder:
    """Metrics go to the journal at once; pictures are drawn and checkpoints written while the training goes on.

    Args:
        dataset: what is trained on.
        store: where checkpoints stay; its writer, if it has one, is also the journal's.
        tracking: the journal's `folder`, `tracking_uri` and `run_id`, and the `labels` of the run's metrics.
        when_storage_fails: see `StorageFailures`.
    """

    def __init__(
        self,
        dataset: PackedDataset,
        store: CheckpointStore,
        tracking: Mapping[str, Any],
        when_storage_fails: WhenStorageFails = "continue",
    ) -> None:
        self.dataset, self.store = dataset, store
        self.journal = Journal(**tracking, writer=store.writer)
        self._monitor = system_metrics.start(self.journal)
        self._aside = BackgroundWriter()
        self._failures = StorageFailures(when_storage_fails, self._storage_failed)
        self._tried = threading.Event()
        self._tried.set()
        self.metrics = RunMetrics(self.journal.labels, self.journal.run_id)
        self._shown_at: float | None = None

    def show(self, loop: Loop) -> None:
        """Send the driver from now on where the training is; first what trains."""
        parameters = sum(parameter.numel() for parameter in loop.method.parameters())
        device = f"{loop.device.type}, {loop.precision}".replace("torch.", "")
        beginning = f"goes on from step {loop.step}" if loop.step else "starts"
        say(f"{beginning}: {parameters / 1e6:.3g} million parameters on {loop.world} x {device}")
        self._shown_at = -SHOWN_EVERY_S

    def check(self) -> None:
        """Go on if no other process has taken up the run; no request to storage behind a network is waited for.

        Raises:
            FencedError: one has.
        """
        self.journal.check()

    def step(self, record: StepRecord) -> None:
        """Keep a step's losses, or say that it was left out: to the user and as the tag `miseg.skipped`."""
        self.journal.metrics(record.step, record.values)
        if record.skipped:
            self.metrics.fault("skipped_step")
            say(f"warning: {record.skipped}")
            self.journal.tags({"miseg.skipped": f"the last of them: {record.skipped}"})
        if record.empty:
            self.metrics.fault("empty_step")
            say(f"warning: {record.empty}")
            self.journal.tags({"miseg.empty": f"the last of them: {record.empty}"})

    def not_compiled(self, reason: str) -> None:
        """Say that the networks are not compiled: to the user and as the tag `miseg.not_compiled`."""
        say(f"warning: the networks are not compiled and train as they are: {reason}")
        self.journal.tags({"miseg.not_compiled": reason})

    def record_speed(self, loop: Loop, records: Sequence[StepRecord], steps: int, seconds: float) -> None:
        """Keep how fast `steps` steps were made, in so many seconds; `records` are theirs, as `step` has them."""
        images = steps * loop.experiment.batch_size
        self.journal.metrics(loop.step, {"images_per_second": images / seconds})
        values = [record.values for record in records if not record.skipped]
        self.metrics.flushed(loop.step / loop.experiment.steps, steps, images, values[-1] if values else {})
        now = time.monotonic()
        if self._shown_at is not None and values and now - self._shown_at >= SHOWN_EVERY_S:
            self._shown_at = now
            last = values[-1]
            send(StepProgress(loop.step, last["train/loss"], last["train/learning_rate"], images / seconds))

    def validation(
        self,
        loop: Loop,
        metrics: dict[str, Any],
        scores: Mapping[str, float],
        evaluation: Evaluation | None = None,
        match_K: Tensor | None = None,
    ) -> None:
        """Keep what a validation found, and the training as it is now.

        Args:
            loop: the training.
            metrics: `step` and what selects: see `CheckpointStore`.
            scores: by their names in MLflow.
            evaluation: what is drawn; None where there are no labels.
            match_K: the class of each cluster.

        Raises:
            StorageError: a checkpoint could not be written, and the training shall stop then.
        """
        self.journal.metrics(loop.step, scores)
        self.metrics.validated(scores)
        if evaluation is not None:
            only = watch_predictions(self.journal, evaluation, self.dataset.info.classes, loop.step)
            # Early in a training it is no fault.
            if only and loop.step >= loop.experiment.steps:
                say(f"warning: after the last step the model {phrase([only])}: {TELLS}")
        tried = threading.Event()
        try:
            self._aside.do(partial(self._write, checkpoint.snapshot(loop), metrics, evaluation, match_K, tried))
            self._tried = tried
        except WriterBusyError as error:
            self._failures.failed(loop.step, error)

    def wait_for_checkpoint(self) -> None:
        """Until the checkpoint of the last validation is whole, or could not be written."""
        self._tried.wait(self._aside.patience)

    def preempted(self, loop: Loop, reason: str) -> None:
        """Keep the training as it is now, scored by no validation, and say why: to the user and as `miseg.preempted`.

        Where storage fails, the training goes on from the checkpoint before it.

        Raises:
            StorageError: it does, and the training shall stop then.
        """
        try:
            self._aside.wait()
        except WriterBusyError as error:
            self._failures.failed(loop.step, error)
            return
        described = data_description(self.dataset, loop.experiment, None)
        taken = checkpoint.snapshot(loop)
        write = partial(checkpoint.write, taken=taken, metrics={"step": loop.step}, data=described)
        with self._failures.at(loop.step):
            self.store.add(loop.step, write)
        if reason == BY_USER:
            return
        described_stop = f"at step {loop.step}, {datetime.datetime.now(datetime.UTC):%F %T} UTC: {reason}"
        self.metrics.fault("preemption")
        say(f"preempted {described_stop}; the training goes on elsewhere")
        self.journal.tags({"miseg.preempted": described_stop})

    def _write(
        self,
        taken: checkpoint.Snapshot,
        metrics: dict[str, Any],
        evaluation: Evaluation | None,
        match_K: Tensor | None,
        tried: threading.Event,
    ) -> None:
        try:
            described = data_description(self.dataset, taken.experiment, match_K)
            started = time.perf_counter()
            with self._failures.at(taken.step):
                self.store.add(taken.step, partial(checkpoint.write, taken=taken, metrics=metrics, data=described))
                self.metrics.wrote_checkpoint(time.perf_counter() - started)
        finally:
            tried.set()
        self.journal.keep()
        if evaluation is not None:
            try:
                log_evaluation(self.journal, self.dataset, taken.experiment, evaluation, step=taken.step)
            except OSError as error:  # no reason to stop a training
                say(f"warning: the pictures of step {taken.step} are not kept: {error}")

    def finish(self) -> None:
        """Until all is written.

        Raises:
            StorageError: the last checkpoint could not be.
        """
        try:
            self._aside.wait()
        except WriterBusyError as error:
            self._failures.failed(-1, error)
        self._failures.check()

    def close(self) -> None:
        """End what runs beside the training, and send what waits for MLflow."""
        self._aside.close()
        if self._monitor is not None:
            self._monitor.finish()
        self.metrics.close()
        self.journal.close(tries=CLOSING_TRIES)

    def _storage_failed(self, tags: Mapping[str, str]) -> None:
        self.journal.tags(tags)
        self.metrics.fault("storage")


def data_description(dataset: PackedDataset, experiment: Experiment, match_K: Tensor | None = None) -> dict[str, Any]:
    """The part of a checkpoint's manifest on its data: what whoever predicts with it has to know of images and classes.

    Args:
        dataset: the training's.
        experiment: whose settings may give another standardisation than the data set's.
        match_K: the class of each of K clusters; None where the method emits none.
    """
    info = dataset.info
    mean_C, std_C = standardisation(augmentation_of(experiment, info), info)
    described = {
        "mean": [float(value) for value in mean_C],
        "std": [float(value) for value in std_C],
        "colours": [list(colour) for colour in info.colours],
        "fingerprint": dataset.fingerprint,
    }
    if info.dtype != "uint8":
        described |= {"dtype": info.dtype, "full_scale": info.full_scale, "nodata": info.nodata}
    if info.bands:
        described |= {"bands": list(info.bands), "resample": bool(info.scene.get("resample", False))}
    return described if match_K is None else described | {"match": match_K.tolist()}
