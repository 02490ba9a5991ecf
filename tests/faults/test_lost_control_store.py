"""Ray's control store killed in the middle of a study: its runs are closed, and the study goes on from what it has."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.support import ROOT
from tests.support.processes import processes, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(500, method="signal")]

STUDY = ["study", "--methods", "ce", "bce", "--trials", "2", "--steps", "40", "--confirm-seeds", "1", "--name", "cut"]


def runs(storage: Path, kind: str) -> list[Run]:
    client = MlflowClient(f"sqlite:///{storage}/mlflow.db")
    experiments = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`miseg.kind` = '{kind}'"))


def test_a_study_whose_control_store_is_killed_goes_on(tmp_path: Path) -> None:
    with processes() as started, started.explained():
        environment = started.environment(MISEG_STORAGE=str(tmp_path), OMP_NUM_THREADS="1", COLUMNS="80")
        cut = started.start("cut", [sys.executable, "-m", "miseg", *STUDY], environment, ROOT)
        wait_until(lambda: re.search(r"trial 1/2  step ", started.text("cut")), 150, "a step of a trial", [cut])
        (store,) = [process for process, name, _ in started.titles() if name.startswith("gcs_server")]
        store.kill()
        assert cut.wait(90) == 1, started.text("cut")
        *_, waits, lost = started.text("cut").splitlines()
        assert re.match(r"Ray's control store \(GCS\) at \S+ does not answer: waiting 40 s for it$", waits)
        assert re.match(r"error: Ray's control store \(GCS\) at \S+ was lost: .* --resume$", lost)
        for kind, number in (("study", 1), ("tuning", 1), ("trial", 2)):
            ended = [
                (run.info.status, "--resume continues" in run.data.tags["miseg.ended"]) for run in runs(tmp_path, kind)
            ]
            assert ended == [("KILLED", True)] * number, kind
        first = {run.info.run_id for run in runs(tmp_path, "trial")}

        rest = started.start("rest", [sys.executable, "-m", "miseg", *STUDY, "--resume"], environment, ROOT)
        assert rest.wait(300) == 0, started.text("rest")
    for kind, number in (("study", 1), ("tuning", 2), ("trial", 8), ("evaluation", 4)):
        found = runs(tmp_path, kind)
        assert [run.info.status for run in found] == ["FINISHED"] * number, kind
    assert first <= {run.info.run_id for run in runs(tmp_path, "trial")}, "begun trials went on"
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    for run in runs(tmp_path, "trial"):
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")]
        assert len(steps) == len(set(steps)), "no step is logged twice"
