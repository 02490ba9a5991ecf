"""Measure a trained model on any split: mean IoU, micro IoU, pixel accuracy, per-class IoU, pictures, all in MLflow.

python jobs/evaluate.py --run 3f0c9d… --split val
python jobs/evaluate.py --run 3f0c9d… --crf 1 5 10
python jobs/evaluate.py --run 3f0c9d… 8ab21e… c470f2…
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

    run: tuple[str, ...] = ()
    """Ids of the MLflow runs whose models are measured; several are put side by side in one picture and table."""
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
    if (not arguments.run) == (arguments.checkpoint is None):
        raise ValueError("give one of --run and --checkpoint")
    for option, given in (("crf", arguments.crf), ("run", arguments.run)):
        if len(set(given)) < len(given):
            raise ValueError(f"--{option} {' '.join(map(str, given))}: name each once")
    from dataclasses import replace

    from miseg.evaluation.crf import DenseCRF, available
    from miseg.service import checkpoint, models, tracking
    from miseg.service.compare import compare, method_titles
    from miseg.service.evaluate import evaluate
    from miseg.service.start import prepare

    crf = [DenseCRF(iterations) for iterations in arguments.crf]
    if crf and not available():
        raise ValueError("--crf: the dense CRF is an optional extra: pip install 'miseg[crf]'")
    with tempfile.TemporaryDirectory() as folder:
        uri = tracking.tracking_uri(arguments.root)
        places = [models.download(uri, run, arguments.role, f"{folder}/{run}") for run in arguments.run]
        if arguments.checkpoint is not None:
            places = [Path(arguments.checkpoint)]
        experiments = [checkpoint.read_experiment(place) for place in places]
        if arguments.data is not None:
            experiments = [replace(experiment, data=arguments.data) for experiment in experiments]
        for what, values in (
            ("data", [experiment.data for experiment in experiments]),
            ("augmentation.resize", [experiment.augmentation.resize for experiment in experiments]),
        ):
            if len(set(values)) > 1:
                listed = ", ".join(f"{run} has {value}" for run, value in zip(arguments.run, values, strict=True))
                raise ValueError(f"runs are compared on one data set at one size; {what} differs: {listed}")
        method_titles(experiments)
        job = prepare(arguments, experiments, splits=(arguments.split,))
        measured = [
            evaluate(
                place,
                job.data,
                arguments.split,
                storage=job.storage,
                tracking_uri=job.tracking_uri,
                resources=job.resources,
                parent=run,
                crf=crf,
            )
            for place, run in zip(places, arguments.run or (None,), strict=True)
        ]
        shown = [found.run_id for found in measured]
        if len(measured) == 1:
            width = max(map(len, measured[0].scores))
            for name, value in measured[0].scores.items():
                print(f"{name:<{width}}  {value:.4f}")
        else:
            pairs = list(zip(experiments, measured, strict=True))
            run_id, table = compare(
                pairs, job.data, arguments.split, storage=job.storage, tracking_uri=job.tracking_uri
            )
            print(table.to_string(float_format="{:.4f}".format))
            shown.insert(0, run_id)
    print(f"MLflow run {', '.join(shown)} at {job.tracking_uri}; look at it with: {job.ui_command}")
    return 0


if __name__ == "__main__":
    main(Evaluate, run, __doc__)
