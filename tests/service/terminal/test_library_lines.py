"""Lines of libraries go to the log file, those for people and the messages go on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from miseg.service.cluster import ray_internals
from miseg.service.cluster.ray_internals import global_worker_stdstream_dispatcher as dispatcher
from miseg.service.terminal.library_lines import LOGGERS, JobLog, LibraryLog, worker_lines_to
from miseg.service.terminal.messages import StepProgress


def test_lines_of_workers_are_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.autoscaler.v2.utils.is_autoscaler_v2", lambda: False)  # it would ask a cluster
    monkeypatch.setattr("ray._private.worker.autoscaler_log_fyi_printed", True)
    log, said, taken, printed = LibraryLog(tmp_path / "logs" / "job.log"), [], [], []
    dispatcher.add_handler("ray_print_logs", printed.append)
    try:
        with worker_lines_to(log, said.append, taken.append):
            lines = [
                "INFO mlflow.system_metrics: Started",
                "miseg: warning: the step is left out",
                'miseg-progress: {"kind": "step", "step": 3, "loss": 1, "learning_rate": 0.1, "images_per_second": 2}',
                "miseg-progress: {broken",
                "",
            ]
            dispatcher.emit({"pid": 7, "actor_name": "RayTrainWorker", "lines": lines})
            dispatcher.emit(
                {"pid": "autoscaler", "lines": [":event_summary:Adding 1 node(s) of type gpu.", "Resources"]}
            )
        assert printed == [], "Ray prints them no more"
        dispatcher.emit({"lines": ["after"]})
        assert printed == [{"lines": ["after"]}], "afterwards it does"
    finally:
        dispatcher.remove_handler("ray_print_logs")
    assert said == ["warning: the step is left out", "cluster: Adding 1 node(s) of type gpu."]
    assert taken == [StepProgress(3, 1, 0.1, 2)]
    first, second = log.path.read_text().splitlines()
    assert first.endswith("RayTrainWorker 7: INFO mlflow.system_metrics: Started")
    assert second.endswith("RayTrainWorker 7: miseg-progress: {broken")


def test_no_line_makes_no_file(tmp_path: Path) -> None:
    log = LibraryLog(tmp_path / "job.log")
    with worker_lines_to(log, print, print):
        pass
    assert not log.path.exists() and not log.written


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = LibraryLog(tmp_path / "file" / "job.log")
    log.write("ray", "line")
    assert not log.written


@pytest.fixture
def job_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LibraryLog]:
    """The log of a job in `tmp_path`; the loggers, and Ray, are as before afterwards."""
    worker = ray_internals.worker_module
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers[:], logger.propagate) for logger in loggers]
    JobLog.begin(str(tmp_path), "train")
    assert JobLog.log is not None
    yield JobLog.log
    JobLog.log = None
    for logger, (handlers, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate


@pytest.mark.parametrize("name", ["ray.train", "mlflow.store", "alembic.runtime.migration"])
def test_what_libraries_say_in_the_driver_is_in_the_file(
    name: str, job_log: LibraryLog, capsys: pytest.CaptureFixture
) -> None:
    JobLog.silence_libraries()
    assert JobLog.hint() == ""
    try:
        raise RuntimeError("why")
    except RuntimeError:
        logging.getLogger(name).exception("token authentication")
    assert capsys.readouterr().err == ""
    text = job_log.path.read_text()
    assert f"ERROR {name}: token authentication" in text and "RuntimeError: why" in text
    assert JobLog.hint() == f"what Ray and MLflow said is in {job_log.path}"


def test_what_ray_s_own_processes_say_is_in_the_file(job_log: LibraryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight workers on two cores gave two yellow lines of 480 characters between a training's own."""
    worker, printed = ray_internals.worker_module, []
    monkeypatch.setattr(worker, "print_to_stdstream", lambda data, ignore_prefix: printed.append(data["lines"]))
    for _ in range(2):
        JobLog.silence_libraries()
    worker.print_to_stdstream(
        {"lines": ["WARNING: 8 PYTHON worker processes"], "pid": "raylet", "is_err": False}, ignore_prefix=False
    )
    worker.print_to_stdstream({"lines": ["Adding 1 node"], "pid": "autoscaler"})
    assert job_log.path.read_text().endswith("raylet: WARNING: 8 PYTHON worker processes\n")
    assert printed == [["Adding 1 node"]]


def test_a_program_that_imports_miseg_keeps_its_loggers() -> None:
    before = logging.getLogger("ray").handlers[:]
    JobLog.silence_libraries()
    assert logging.getLogger("ray").handlers == before and JobLog.hint() == ""
