"""Measure a trained model on any split: mean IoU, micro IoU, pixel accuracy, per-class IoU, pictures, all in MLflow.

python jobs/evaluate.py --run 3f0c9d… --split val
python jobs/evaluate.py --run 3f0c9d… --crf 1 5 10
python jobs/evaluate.py --checkpoint ~/miseg/runs/NAME/checkpoint_… --split test
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from miseg.service.command import Place, main


@dataclass
class Evaluate(Place):
    """Measure a model on a split."""

    run: str | None = None
    """Id of the MLflow run whose model is measured."""
    role: Literal["best", "last"] = "best"
    """Which of the run's two models: the best on validation, or the last."""
    checkpoint: str | None = None
    """Folder of a checkpoint, in place of --run."""
    split: str = "val"
    """Split of the data set."""
    data: str | None = None
    """Data set to measure on. Default: the one the model was trained on."""
    crf: tuple[int, ...] = ()
    """Iterations of a dense CRF after which the predictions are measured once more (extra crf), such as 1 5 10."""


def run(arguments: Evaluate) -> int:
    """Measure and print the scores."""
    if (arguments.run is None) == (arguments.checkpoint is None):
        raise ValueError("give one of --run and --checkpoint")
    if len(set(arguments.crf)) < len(arguments.crf):
        raise ValueError(f"--crf {' '.join(map(str, arguments.crf))}: name each number of iterations once")
    from dataclasses import replace

    from miseg.evaluation.crf import DenseCRF, available
    from miseg.service import checkpoint, models, tracking
    from miseg.service.evaluate import evaluate
    from miseg.service.start import prepare

    crf = [DenseCRF(iterations) for iterations in arguments.crf]
    if crf and not available():
        raise ValueError("--crf: the dense CRF is an optional extra: pip install 'miseg[crf]'")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.run is not None:
            uri = tracking.tracking_uri(arguments.root)
            place = models.download(uri, arguments.run, arguments.role, folder)
        else:
            place = Path(arguments.checkpoint or "")
        experiment = checkpoint.read_experiment(place)
        if arguments.data is not None:
            experiment = replace(experiment, data=arguments.data)
        job = prepare(arguments, [experiment], splits=(arguments.split,))
        run_id, scores = evaluate(
            place,
            job.data,
            arguments.split,
            storage=job.storage,
            tracking_uri=job.tracking_uri,
            resources=job.resources,
            parent=arguments.run,
            crf=crf,
        )
    width = max(map(len, scores))
    for name, value in scores.items():
        print(f"{name:<{width}}  {value:.4f}")
    print(f"MLflow run {run_id} at {job.tracking_uri}; look at it with: {job.ui_command}")
    return 0


if __name__ == "__main__":
    main(Evaluate, run, __doc__)
