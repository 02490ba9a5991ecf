"""A training of one process without Ray, with steps that take a while; another may take its run up meanwhile.

python -m tests.support.paced_training DATA FOLDER JOURNALS URI RUN_ID GENERATION [SECONDS_PER_STEP [GO]]

With GO it begins once there is a file of that name.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from miseg.data.configs import Augmentation
from miseg.data.loading.batches import evaluation_batches
from miseg.data.packed.dataset import PackedDataset
from miseg.interface import Batch
from miseg.methods.configs import RegionMutualInformation
from miseg.networks.configs import UNet
from miseg.recipes.experiment import Experiment, Optimiser
from miseg.service.checkpoints import checkpoint, fencing
from miseg.service.checkpoints.checkpoint_store import CheckpointStore
from miseg.service.checkpoints.fencing import FencedError, Generation
from miseg.service.training import streams as ingest
from miseg.service.training import worker
from miseg.service.training.loop import Loop
from miseg.service.training.recorder import Recorder

STEPS, VALIDATE_EVERY, PACE = 60, 10, 0.05
STOPPED = 3
"""Exit status of one that was superseded."""


def experiment_on(data: str) -> Experiment:
    return Experiment(
        method=RegionMutualInformation(UNet(2, "group")),
        data=data,
        optimiser=Optimiser(learning_rate=3e-3, warmup_steps=2),
        augmentation=Augmentation(crop=(32, 32)),
        steps=STEPS,
        batch_size=4,
        validate_every=VALIDATE_EVERY,
    )


class PacedTraining:
    """The worker of one generation, from the run's last checkpoint to its last step.

    Args:
        dataset: what it trains on.
        folder: the run's.
        tracking: as `Recorder` takes it.
        driver: whose worker it is.
        pace: seconds that a step takes at least.
    """

    def __init__(
        self, dataset: PackedDataset, folder: str, tracking: dict[str, str], driver: Generation, pace: float = PACE
    ) -> None:
        torch.set_num_threads(1)
        self.dataset, self.pace = dataset, pace
        experiment = experiment_on(dataset.uri)
        writer = fencing.work(folder, driver)
        store = CheckpointStore(folder)
        self.loop = Loop(experiment, ingest.task_of(dataset), torch.device("cpu"))
        with store.latest() as latest:
            if latest is not None:
                checkpoint.load(latest, self.loop)
        store.writer = replace(writer, first_step=self.loop.step)
        self.recorder = Recorder(dataset, store, tracking)

    def train(self, steps: int = STEPS) -> None:
        """Go on to a step."""
        try:
            worker.train_on(
                self.loop, itertools.islice(self._batches(), steps - self.loop.step), self.recorder, self._validate
            )
            self.recorder.finish()
        finally:
            if steps == STEPS:
                self.recorder.close()

    def _validate(self) -> None:
        self.recorder.check()
        score = float(self.loop.step)
        self.recorder.validation(
            self.loop, {"step": self.loop.step, "mean_iou": score, "score": score}, {"val/x": score}
        )

    def _batches(self) -> Iterator[Batch]:
        columns = evaluation_batches(self.dataset, "train", self.loop.experiment.augmentation, batch_size=4)
        whole = list(map(ingest.Converter(self.dataset, self.loop.experiment), columns))[:3]
        for step in itertools.count(self.loop.step):
            time.sleep(self.pace)
            yield whole[step % 3]


def main() -> None:
    data, folder, journals, uri, run_id, generation, *more = sys.argv[1:]
    while more[1:] and not Path(more[1]).exists():
        time.sleep(0.05)
    tracking = {"folder": journals, "tracking_uri": uri, "run_id": run_id}
    try:
        dataset = PackedDataset.open(data)
        driver = Generation(*json.loads(generation))
        PacedTraining(dataset, folder, tracking, driver, float(more[0]) if more else PACE).train()
    except FencedError as error:
        print(error, flush=True)
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
