"""A storage in which MLflow could not keep its database is refused at once; a new one is made by one process alone."""

from __future__ import annotations

import errno
import fcntl
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from miseg.service.journal.journal import Journal
from miseg.service.tracking import mlflow_runs
from miseg.service.tracking.run_store import RunStore
from tests.support import ROOT
from tests.support.processes import processes
from tests.test_files import refusing


@pytest.mark.parametrize("name", ["a?b", "a%41b", "100%", "/".join(["x" * 100] * 5)])
def test_a_storage_in_which_mlflow_would_not_find_its_database_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for offline in (False, True):
        with pytest.raises(ValueError, match=r"give (another|a) --storage"):
            mlflow_runs.tracking_uri(str(tmp_path / name), offline)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert mlflow_runs.tracking_uri(str(tmp_path / name)) == "http://127.0.0.1:5000"


@pytest.mark.parametrize("name", ["a#b", "a b", "ü", "a&b;c", "it's", "a:b"])
def test_a_storage_of_an_odd_name_keeps_its_runs(uri, tmp_path, monkeypatch, name):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / name).mkdir()
    (tmp_path / "mlflow.db").rename(tmp_path / name / "mlflow.db")  # making one takes seconds
    storage = str(tmp_path / name)
    odd = mlflow_runs.tracking_uri(storage)
    mlflow_runs.check(odd, storage)
    run_id = mlflow_runs.open_run(RunStore(storage, odd), "miseg/test", "run")
    (tmp_path / "file").write_text("kept")
    journal = Journal(tmp_path / name / "journals", odd, run_id)
    journal.artifact(tmp_path / "file")
    assert journal.close()
    assert (tmp_path / name / "mlflow.db").stat().st_size and not (tmp_path / "mlflow.db").exists()
    assert Path(MlflowClient(odd).download_artifacts(run_id, "file", str(tmp_path))).read_text() == "kept"


@pytest.mark.slow
@pytest.mark.faults
def test_first_jobs_of_one_moment_make_the_store_once(tmp_path):
    """As of several machines: MLflow's own lock is in the folder for temporary files."""
    code = "import sys; from miseg.service.tracking import mlflow_runs; mlflow_runs.check(*sys.argv[1:])"
    with processes() as started:
        jobs = []
        for number in range(3):
            (tmp_path / str(number)).mkdir()
            environment = started.environment(TMPDIR=str(tmp_path / str(number)))
            arguments = [f"sqlite:///{tmp_path}/storage/mlflow.db", str(tmp_path / "storage")]
            jobs.append(started.start(f"job-{number}", [sys.executable, "-c", code, *arguments], environment, ROOT))
        for number, job in enumerate(jobs):
            assert job.wait(120) == 0, started.text(f"job-{number}")
    assert MlflowClient(f"sqlite:///{tmp_path}/storage/mlflow.db").search_experiments()


def test_a_store_on_a_file_system_without_locks_can_be_used(uri, tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    mlflow_runs.check(uri, str(tmp_path))
