"""A tuning survives the death of a trial and of its driver: nothing finished runs twice, no step is logged twice."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from miseg.service.tracking import mlflow_runs
from tests.support import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

STEPS, TRIALS = 20, 2


class Job:
    """`jobs/tune_rmi.py` as a process of its own, its output read as it comes."""

    def __init__(self, storage: Path, data: str, *options: str) -> None:
        command = [sys.executable, "jobs/tune_rmi.py", "--data", data, "--storage", str(storage), "--name", "street"]
        command += ["--trials", str(TRIALS), "--confirm-seeds", "1", "--steps", str(STEPS), *options]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_ADDRESS", "MLFLOW"))}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, pattern: str, timeout: float = 240) -> None:
        """Until a line matches; fails with the output if it does not in time or the job ends before."""
        deadline = time.monotonic() + timeout
        while not any(re.search(pattern, line) for line in list(self.lines)):
            assert time.monotonic() < deadline, f"no {pattern!r} within {timeout} s:\n" + "\n".join(self.lines)
            assert self.process.poll() is None or self.reader.is_alive(), "\n".join(self.lines)
            time.sleep(0.1)

    def finish(self, timeout: float = 480) -> str:
        """The whole output of a job that ended well."""
        self.process.wait(timeout)
        self.reader.join(10)
        output = "\n".join(self.lines)
        assert self.process.returncode == 0, output
        self.process.stdout.close()
        return output

    def processes(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill_trial(self) -> None:
        """SIGKILL the process of a trial of this job, which must have one."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for child in self.processes():
                try:
                    if "ImplicitFunc" in " ".join(child.cmdline()):
                        child.kill()
                        return
                except psutil.Error:  # it ended meanwhile
                    continue
            time.sleep(0.05)
        raise AssertionError("no trial was seen:\n" + "\n".join(self.lines))

    def kill(self) -> None:
        """SIGKILL the driver alone; its Ray has ten seconds to go with it, though two agents of it take longer."""
        family = self.processes()
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        deadline = time.monotonic() + 10
        while (alive := [process for process in family if lives(process)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in alive:
            process.kill()
        self.reader.join(10)
        self.process.stdout.close()


def lives(process: psutil.Process) -> bool:
    """Whether it still runs; one that ended may stay listed until the machine's first process collects it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def jobs() -> Iterator[list[Job]]:
    """Jobs that are stopped with the test, whatever became of them."""
    started: list[Job] = []
    yield started
    for job in started:
        if job.process.poll() is None:
            job.kill()


def test_a_tuning_survives_its_trials_and_its_driver(small, tmp_path, jobs):
    first = Job(tmp_path, small.uri, "--concurrent", "1")
    jobs.append(first)
    first.wait_for(rf"trial 1/{TRIALS}  step +\d+/")
    first.kill_trial()
    first.wait_for(rf"trial 2/{TRIALS}  starts")
    assert any(re.search(rf"trial 1/{TRIALS}  done", line) for line in first.lines), "\n".join(first.lines)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    before = {run.info.run_id: run for run in trial_runs(uri, small)}
    finished = {run_id for run_id, run in before.items() if run.info.status == "FINISHED"}
    assert finished, "the trial whose process was killed was not taken up again"
    first.kill()
    damage_the_state(tmp_path / "tunings/street-search")

    again = Job(tmp_path, small.uri, "--resume")
    jobs.append(again)
    output = again.finish()

    after = {run.info.run_id: run for run in trial_runs(uri, small)}
    searched = [run for run in after.values() if run.data.params["seed"] == "0"]
    confirmed = [run for run in after.values() if run.data.params["seed"] == "1"]
    assert len(searched) == TRIALS, "a trial was started anew under another name"
    assert len(confirmed) in (2, 3), "two rivals, and the winner unless it is one of them"
    told = {run.info.run_name: (run.info.status, run.data.tags.get("miseg.ended")) for run in after.values()}
    assert {status for status, _ in told.values()} == {"FINISHED"}, f"{told}\n{output}"
    for run_id in finished:
        assert after[run_id].info.end_time == before[run_id].info.end_time, "a finished trial was run again"
    client = MlflowClient(uri)
    for run in after.values():
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")]
        assert steps == list(range(len(steps))), f"{run.info.run_name}: {steps}"
        whole = run.data.tags["miseg.ended"] == "finished"
        assert len(steps) == STEPS or not whole
    assert all(len(client.get_metric_history(run.info.run_id, "train/loss")) == STEPS for run in confirmed)
    assert re.search(r"RMI as published \(= tuned\)|RMI tuned", output) and "BCE" in output
    first_trial = next(run for run in searched if run.data.params["optimiser.learning_rate"] == "0.003")
    assert first_trial.data.params["lambda"] == "0.5", "the published setting is the first trial"


def damage_the_state(folder: Path) -> None:
    """As a kill of a storage may leave it: the last state that was kept cut short. Tune's own files are not there."""
    *_, last = sorted(folder.iterdir())
    assert {path.name for path in folder.iterdir()} == {path.name for path in folder.glob("state-*.zip")}
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])


def trial_runs(uri: str, small) -> list:
    """The tuning's children in MLflow."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(mlflow_runs.experiment_name(small.uri))
    return client.search_runs([experiment.experiment_id], "tags.`miseg.kind` = 'trial'")


@pytest.mark.long
def test_a_tuning_that_is_extended_ends_as_one_that_was_asked_for_all_at_once(small, tmp_path, jobs):
    """One trial at a time: the searcher and the scheduler go on where they were."""
    tables = []
    for folder, counts in ((tmp_path / "twice", ("2", "4")), (tmp_path / "once", ("4",))):
        for trials in counts:
            more = ("--resume",) if trials != counts[0] else ("--concurrent", "1")
            job = Job(folder, small.uri, "--trials", trials, *more)
            jobs.append(job)
            output = job.finish()
        assert "One trial ran at a time" in output
        tables.append(re.search(r"\nTrials\n(.*?)\n\n", output, re.DOTALL).group(1))
    assert "grows: --trials 2 to 4, 2 more" in "\n".join(jobs[1].lines)
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == 5

    refused = Job(tmp_path / "once", small.uri, "--resume", "--steps", "40")
    jobs.append(refused)
    assert refused.process.wait(120) == 2
    refused.reader.join(10)
    assert f"--steps 40: it was begun with {STEPS}" in refused.lines[-1]
    assert not any("Ray" in line or "tuning street" in line for line in refused.lines)
    refused.process.stdout.close()
