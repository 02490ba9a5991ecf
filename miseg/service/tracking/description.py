"""Description of a run in MLflow: an experiment's parameters under the papers' names, and the code that ran."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from miseg.methods.configs import InfoSeg
from miseg.recipes.experiment import Experiment, to_dict
from miseg.service.tracking import provenance

PAPER_NAMES = {"method.weight": "lambda", "method.temperature": "tau"}

KIND = "miseg.search"
"""Tag of a tuning's run: "search", or "grid" where all points of a grid are trained."""

TRIALS, SEEDS, CONCURRENT = "miseg.trials", "miseg.confirm_seeds", "miseg.concurrent"
"""Tags of a tuning's run: its trials, its fresh seeds and its trials at a time, at most. MLflow's parameters do not
change where a tuning grows."""

PHASE = "miseg.phase"
"""Tag of a tuning's trial: "search", or "confirmation" on a fresh seed."""

CONFIRMED = "miseg.confirmed"
"""Tag of a run on a fresh seed: "yes" while its row is one of the tuning's table, "no" of an earlier winner's."""

TRAINING_PAGES = "workflowType=machine_learning"
"""Part of an address that opens MLflow's pages on the training of models; of themselves they open those on agents."""

SPLIT = "miseg.split"
"""Tag of a study's run: the split on which its models are measured last."""


def parameters(experiment: Experiment, *, later_defaults: bool = True) -> dict[str, str]:
    """The experiment's fields as MLflow parameters: nested names joined by dots, or the papers' names.

    Without `later_defaults` they are those that a run has that was made before the fields marked `ADDED_LATER`.
    """
    flat: dict[str, str] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            if prefix:
                flat[prefix] = value["type"]
            for key, item in value.items():
                if key != "type":
                    add(f"{prefix}.{key}" if prefix else key, item)
        else:
            name = PAPER_NAMES.get(prefix, prefix)
            flat[name.removeprefix("method.")] = str(value)

    add("", to_dict(experiment, later_defaults=later_defaults))
    if isinstance(experiment.method, InfoSeg):
        # The value that counts, where the settings leave it to P.
        flat["tau"] = f"{experiment.method.tau:.6g}"
    del flat["optimiser"], flat["augmentation"]
    return flat


def parameter_name(knob: str, experiment: Experiment) -> str:
    """Name of a search space's `knob` among the parameters of `experiment`."""
    known = parameters(experiment)
    name = PAPER_NAMES.get(f"method.{knob}", knob.removeprefix("method."))
    return name if name in known else next((key for key in known if key.endswith(f".{knob}")), knob)


def command_name() -> str:
    """The command that this process runs, such as "miseg train"; "" for a worker, or a program that is none of miseg's.

    A script of jobs/ is told by the command that it is.
    """
    program = Path(sys.argv[0])
    if program.suffix == ".py" and program.parent.name == "jobs":
        return f"miseg {program.stem.replace('_', '-')}"
    return sys.argv[0] if sys.argv[0].startswith("miseg ") else ""


def command() -> str:
    """The command line that runs again what this process does; "" as for `command_name`."""
    return f"{command_name()} {shlex.join(sys.argv[1:])}".rstrip() if command_name() else ""


def code_tags() -> dict[str, str]:
    """The code that ran (see `provenance.commit`), the Ray job that ran it, and what MLflow shows as the source."""
    commit, dirty = provenance.commit()
    tags = {provenance.COMMIT_TAG: commit, "miseg.dirty": dirty}
    if ray_job := os.environ.get("RAY_JOB_ID") or os.environ.get("RAY_SUBMISSION_ID"):
        tags["miseg.ray_job_id"] = ray_job
    return tags | source_tags()


def source_tags() -> dict[str, str]:
    """Tags that MLflow shows as a run's source."""
    return {"mlflow.source.name": command_name(), "mlflow.source.type": "LOCAL"} if command_name() else {}


def order_text(concurrent: str, *, grid: bool = False) -> str:
    """Sentence on whether a tuning is reproducible: trials of a search depend on which ended before them.

    Args:
        concurrent: the tag `CONCURRENT` of the tuning's run; "" of an earlier version's.
        grid: whether all points of a grid were trained, in place of a search.
    """
    if grid:
        return "Every point was trained to its last step, so that their order changes nothing."
    if not concurrent:
        return "How many trials ran at a time is not known, so neither is whether the search is reproducible."
    if concurrent == "1":
        return "One trial ran at a time: the same command makes the same trials on a machine like this one."
    return (
        f"Up to {concurrent} trials ran at a time: which of them is stopped early, and what is tried next, depends on "
        "which was first, so that the same command may find another winner. --concurrent 1 is reproducible."
    )
