"""A worker that stands still for a minute, as on a machine that swaps or is moved: no step is lost, or logged twice."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support import ROOT
from tests.support.processes import processes, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(400, method="signal")]

STEPS, PAUSE = 60, 60.0


@pytest.mark.parametrize(("workers", "rank"), [(1, 0), (2, 0), (2, 1)])
def test_a_worker_that_is_stopped_for_a_minute_goes_on(tmp_path: Path, workers: int, rank: int) -> None:
    command = ["miseg", "train", "embedded-ce", "--steps", str(STEPS), "--validate-every", "20", "--name", "stops"]
    with processes() as started, started.explained():
        environment = started.environment(MISEG_STORAGE=str(tmp_path), OMP_NUM_THREADS="1", COLUMNS="80")
        job = started.start("job", [sys.executable, "-m", *command, "--workers", str(workers)], environment, ROOT)
        wait_until(lambda: re.search(r"^ +20 +0\.", started.text("job"), re.M), 120, "a validation", [job])
        ranks = sorted(process.pid for process, title, _ in started.titles() if "RayTrainWorker" in title)
        assert len(ranks) == workers, started.tails()
        os.kill(ranks[rank], signal.SIGSTOP)
        try:
            time.sleep(PAUSE)
        finally:
            os.kill(ranks[rank], signal.SIGCONT)
        assert job.wait(120) == 0, started.text("job")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert run.info.status == "FINISHED"
    logged = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(logged) == list(range(STEPS))
