"""Lines of libraries go to the log file, those for people and the messages go on."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from miseg.service.cluster.ray_internals import global_worker_stdstream_dispatcher as dispatcher
from miseg.service.terminal.library_lines import LibraryLog, driver_lines_to, worker_lines_to
from miseg.service.terminal.messages import StepProgress


def test_lines_of_workers_are_sorted(tmp_path: Path) -> None:
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
            dispatcher.emit({"pid": "autoscaler", "lines": ["Adding 1 node(s) of type gpu."]})
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
    with worker_lines_to(log, print, print), driver_lines_to(log):
        pass
    assert not log.path.exists() and not log.written


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = LibraryLog(tmp_path / "file" / "job.log")
    log.write("ray", "line")
    assert not log.written


@pytest.mark.parametrize("name", ["ray.train", "mlflow.store", "alembic.runtime.migration"])
def test_what_libraries_say_in_the_driver_is_in_the_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    log, logger = LibraryLog(tmp_path / "job.log"), logging.getLogger(name)
    root = logging.getLogger(name.partition(".")[0])
    before = root.handlers[:], root.propagate
    with driver_lines_to(log):
        try:
            raise RuntimeError("why")
        except RuntimeError:
            logger.exception("token authentication")
    assert (root.handlers, root.propagate) == before
    assert capsys.readouterr().err == ""
    text = log.path.read_text()
    assert f"ERROR {name}: token authentication" in text and "RuntimeError: why" in text
