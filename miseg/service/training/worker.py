"""Work of a Train worker: its share of the training steps, the validations, and on rank 0 the logging."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from ray.train.torch import get_device

from miseg.data.packed.dataset import PackedDataset
from miseg.interface import Batch
from miseg.recipes.experiment import Experiment, from_dict
from miseg.service.checkpoints import checkpoint, fencing
from miseg.service.checkpoints.checkpoint_files import CheckpointError, verify
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.checkpoints.fencing import FencedError, Generation, Writer
from miseg.service.checkpoints.storage_failures import StorageError
from miseg.service.cluster.metrics import Waited
from miseg.service.cluster.preemption import Notice, PreemptedError
from miseg.service.terminal.messages import ValidationProgress, own_text, say, send
from miseg.service.terminal.stopping import BY_USER, StopRequest
from miseg.service.training import decoded_cache
from miseg.service.training import streams as ingest
from miseg.service.training.agreement import Agreement
from miseg.service.training.loop import Loop
from miseg.service.training.recorder import Recorder
from miseg.service.training.records import NonFiniteLossError, StepRecord
from miseg.service.training.run import FINISHED, PLACEMENT_GROUP, Selection
from miseg.service.training.validation import validate, validation_due

LOG_EVERY = 10
"""Steps between two reads of the losses from the device."""

LOG_WITHIN_S = 5.0
"""Seconds after which a worker alone reads them, where steps are slow. Several would have to agree on it."""

Report = Callable[[dict[str, Any]], None]
"""Takes what a validation found: `step`, `mean_iou` and `score`."""

REFUSED_BEFORE_S = 2.0
"""Seconds from Ray's refusal of a task on a node that drains until it says that the node drains, at most."""


def train_under_ray(config: dict[str, Any]) -> str:
    """Work of every Ray Train worker: `train` with Ray Train's device and reports."""
    # What Ray says of each report is no news: the driver shows the validation itself.
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    group = ray.util.get_current_placement_group()
    # Whoever stops the trial frees what holds this worker by its name, in hexadecimal.
    placement = {PLACEMENT_GROUP: group.id.hex() if group is not None else ""}
    first = ray.train.get_context().get_world_rank() == 0

    def report(values: dict[str, Any]) -> None:
        if first:
            send(ValidationProgress(values["step"], values["mean_iou"], values["score"]))
        ray.train.report(values | placement)

    return train(config | {"shown": True}, report, get_device())


def train(config: dict[str, Any], report: Report, device: torch.device, *, checkpoint_first: bool = False) -> str:
    """This worker's share of each step, and on rank 0 the logging and the checkpoints. Returns why it ended.

    With `checkpoint_first`, a validation is reported once its checkpoint is whole, or could not be written: whoever
    hears of it may end this process at once.

    Raises:
        PreemptedError: this process or a node of the training goes away; a checkpoint of the last step is kept.
    """
    torch.set_num_threads(config["threads"])
    world = dist.get_world_size() if dist.is_initialized() else 1
    first = world == 1 or dist.get_rank() == 0
    with StopRequest(config["tracking"]["run_id"], answers=first) as stop:
        try:
            with Notice(_nodes(world), stop.reason) as notice:
                return _train(config, report, device, notice, checkpoint_first)
        except PreemptedError as error:
            if error.reason == BY_USER and first:
                last = CheckpointStore(config["folder"]).last()
                stop.answer(None if last is None else last.step)
            if world > 1:
                # Ray ends the other ranks as soon as it sees that one has stopped.
                dist.barrier()
            raise


def _nodes(world: int) -> list[str]:
    """Node ids of the ranks: a node that goes away stops the training on all."""
    here = ray.get_runtime_context().get_node_id()
    nodes = [here] * world
    if world > 1:
        dist.all_gather_object(nodes, here)
    return nodes


def _train(config: dict[str, Any], report: Report, device: torch.device, notice: Notice, checkpoint_first: bool) -> str:
    experiment: Experiment = from_dict(config["experiment"])
    dataset = decoded_cache.keeping(PackedDataset.open(config["data"]), experiment, config["decoded_bytes"])
    writer = _writer(config)
    store = CheckpointStore(config["folder"], config["keep_all"])
    with store.latest() as resumed:
        loop = Loop(experiment, ingest.task_of(dataset), device, pretrained=resumed is None)
        validated = True
        if resumed is not None:
            try:
                checkpoint.load(resumed, loop)
            except CheckpointError as error:  # all ranks read the same; workers started again would, too
                return own_text(error)
            validated = "score" in verify(resumed)["metrics"]
    if writer is not None:
        store.writer = dataclasses.replace(writer, first_step=loop.step)
    storage_fails = config["when_storage_fails"]
    recorder = Recorder(dataset, store, config["tracking"], storage_fails) if loop.rank == 0 else None
    if recorder is not None and config.get("shown"):
        recorder.show(loop)
    if recorder is not None and resumed is not None:
        recorder.metrics.fault("restart")
    if recorder is not None and loop.not_compiled:
        recorder.not_compiled(loop.not_compiled)
    if recorder is not None and checkpoint_first:
        report = _after_checkpoint(recorder, report)
    try:
        _Training(loop, dataset, recorder, report, config["selection"], notice).run(validated)
        return FINISHED
    except NonFiniteLossError as error:
        # A retry would meet the same loss, so the run ends here, as the worst there is, and says why.
        _log(recorder, error.records)
        if recorder is not None:
            recorder.metrics.fault("non_finite_loss")
        report({"step": loop.step, "mean_iou": 0.0, "score": -math.inf})
        return str(error)
    except FencedError as error:
        say(str(error))
        raise
    except ValueError as error:
        if loop.world > 1:
            raise  # the other ranks wait in the sum of a step that this one cannot make
        # Such as an image that cannot be read: a worker that started again would meet the same.
        traceback.print_exc()
        return own_text(error)
    except StorageError as error:
        # Workers that started again would meet the same storage, and train the same steps again.
        return str(error)
    finally:
        if recorder is not None:
            recorder.close()


def _writer(config: dict[str, Any]) -> Writer | None:
    """Rank 0's; from then on the run's checkpoints are not another's to change, which every rank waits for.

    Raises:
        FencedError: another process has taken up the run.
    """
    writer = None
    if not dist.is_initialized() or dist.get_rank() == 0:
        writer = fencing.work(config["folder"], Generation(*config["generation"]))
    if dist.is_initialized():
        dist.barrier()
    return writer


def _after_checkpoint(recorder: Recorder, report: Report) -> Report:
    def reported(report_of_validation: dict[str, Any]) -> None:
        recorder.wait_for_checkpoint()
        report(report_of_validation)

    return reported


class _Training:
    """From where `loop` is to the experiment's last step, or to a notice."""

    def __init__(
        self,
        loop: Loop,
        dataset: PackedDataset,
        recorder: Recorder | None,
        report: Report,
        selection: Selection,
        notice: Notice,
    ) -> None:
        self.loop, self.dataset, self.recorder = loop, dataset, recorder
        self.report, self.selection, self.notice = report, selection, notice
        self.checkpoint_step = loop.step

    def run(self, validated: bool) -> None:
        """The steps that are left, after the validation that a notice may have kept the last one from."""
        loop = self.loop
        stop = Agreement(loop, lambda: bool(self.notice.reason), LOG_EVERY)
        if stop():
            raise PreemptedError(loop.step, self.notice.reason)
        if not validated and validation_due(loop):
            self._validate()
        stream = ingest.training_stream(
            self.dataset, loop.experiment, start_step=loop.step, rank=loop.rank, world=loop.world
        )
        # Where a report ends the trial, this process goes on to the next one: its pipeline must end here.
        with contextlib.closing(self._read(stream)) as batches:
            train_on(loop, batches, self.recorder, self._validate, stop)
            if stop.agreed:
                self._keep()
                raise PreemptedError(loop.step, self._reason)
        if self.recorder is not None:
            self.recorder.finish()

    def _validate(self) -> None:
        if self.recorder is not None:
            self.recorder.check()
        self.report(validate(self.loop, self.dataset, self.recorder, self.selection, self._watched))

    def _watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Batches of a validation, with an eye on preemption: it may take longer than the notice leaves."""
        with contextlib.closing(self._read(batches)) as read:
            for batch in read:
                if self.notice.reason:
                    self._keep()
                    if self.loop.world == 1:  # several ranks would wait for one that is not there
                        raise PreemptedError(self.loop.step, self.notice.reason)
                yield batch

    def _read(self, batches: Iterator[Batch]) -> Generator[Batch]:
        """Hands on what is read; where that fails because the node goes away, the error is the notice.

        Ray refuses the decoding tasks of a node that drains, and the training hears of the draining up to
        `preemption.DRAIN_POLL_S` later.
        """
        try:
            yield from batches
        except Exception:
            # Of several ranks the others wait in the sum of a step that this one cannot make; another would meet it.
            if self.loop.world > 1 or not self.notice.comes(REFUSED_BEFORE_S):
                raise
            _log(self.recorder, self.loop.flush())
            self._keep()
            raise PreemptedError(self.loop.step, self._reason) from None

    @property
    def _reason(self) -> str:
        return self.notice.reason or "another worker of this training is preempted"

    def _keep(self) -> None:
        if self.recorder is not None and self.checkpoint_step != self.loop.step:
            self.checkpoint_step = self.loop.step
            self.recorder.preempted(self.loop, self._reason)


def train_on(
    loop: Loop,
    stream: Iterable[Batch],
    recorder: Recorder | None,
    validate: Callable[[], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """A step for each batch; the losses are read from the device and logged now and then, and `validate` is called.

    Ends early, before a validation, after a step at which `stop` is true.
    """
    batches = Waited(iter(stream))
    started, first = time.perf_counter(), loop.step
    for batch in batches:
        loop.train_step(batch)
        stopping = stop()
        slow = loop.world == 1 and time.perf_counter() - started > LOG_WITHIN_S
        if not stopping and not validation_due(loop) and loop.step % LOG_EVERY and not slow:
            continue
        records = loop.flush()
        computed = time.perf_counter()
        _log(recorder, records)
        if stopping:
            return
        recorded = time.perf_counter()
        if recorder is not None:
            recorder.record_speed(loop, records, loop.step - first, recorded - started)
        if validation_due(loop):
            validate()
        if recorder is not None:
            recorder.metrics.spent(
                data=batches.seconds,
                compute=computed - started - batches.seconds,
                record=recorded - computed,
                validation=time.perf_counter() - recorded,
            )
        started, first, batches.seconds = time.perf_counter(), loop.step, 0.0


def _log(recorder: Recorder | None, records: Iterable[StepRecord]) -> None:
    for record in records:
        if recorder is not None:
            recorder.step(record)
