"""The tuning as a user submits it to a cluster: a real head with a token, a real MLflow server, nothing replaced."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from miseg.service.tracking import models
from tests.support import ROOT
from tests.support.cloud.clusters import start_head, start_mlflow
from tests.support.processes import Processes, http, processes, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200, method="signal")]

STEPS, VALIDATE_EVERY = 10, 2
COMMIT = "submitted-by-the-test"
LARGEST_UPLOAD = 10_000_000
"""Bytes. The checkout is half of this; a .venv is 700 times as much, and Ray refuses uploads of 500 MiB."""


@dataclass
class Cluster:
    """Ray's head and the MLflow server beside it."""

    processes: Processes
    head: subprocess.Popen
    server: subprocess.Popen
    dashboard: str
    mlflow: str
    token: str
    secret: str
    """What the cluster's environment holds of its cloud."""
    with_token: dict[str, str]
    without_token: dict[str, str]

    @property
    def storage(self) -> Path:
        """MISEG_STORAGE of the jobs."""
        return self.processes.folder / "storage"

    @property
    def packed(self) -> Path:
        """A small packed data set."""
        return self.processes.folder / "scenes"

    def submission(self, submission_id: str, name: str = "submitted") -> list[str]:
        """The README's command from the repository root, with tiny arguments."""
        variables = {"MLFLOW_TRACKING_URI": self.mlflow, "MISEG_STORAGE": str(self.storage), "MISEG_COMMIT": COMMIT}
        job = ["python", "jobs/tune_rmi.py", "--data", str(self.packed), "--name", name]
        job += ["--trials", "2", "--confirm-seeds", "1", "--steps", str(STEPS), "--concurrent", "1"]
        options = ["--address", self.dashboard, "--submission-id", submission_id, "--working-dir", "."]
        options += ["--runtime-env-json", json.dumps({"env_vars": variables})]
        return ["ray", "job", "submit", *options, "--", *job]

    def jobs(self) -> list[dict[str, Any]]:
        """What the dashboard knows of jobs."""
        status, body = http(f"{self.dashboard}/api/jobs/", self.token)
        assert status == 200, body
        return json.loads(body)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with processes() as started:
        token = secrets.token_hex(32)
        token_file = started.folder / "token"
        token_file.write_text(token)
        token_file.chmod(0o600)
        secret = secrets.token_hex(20)
        without = started.environment(
            RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", AWS_SECRET_ACCESS_KEY=secret
        )
        environment = without | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}
        head, (server, address) = start_head(started, environment, cpus=2), start_mlflow(started)
        found = Cluster(started, head.process, server, head.dashboard, address, token, secret, environment, without)
        needs = [head.process, server]
        sizes = ["--train", "16", "--val", "4", "--splits", "train", "val", "--out", str(found.packed)]
        pack = started.start("pack", [sys.executable, "jobs/prepare_data.py", *sizes], started.environment(), ROOT)
        wait_until(lambda: pack.poll() == 0 or not _sound(pack), 120, "the packed data set", needs)
        assert pack.returncode == 0, started.text("pack")
        wait_until(lambda: http(f"{found.mlflow}/health")[0] == 200, 120, "the MLflow server", needs)
        wait_until(lambda: http(f"{found.dashboard}/api/jobs/", token)[0] == 200, 120, "the dashboard", needs)
        yield found


def _sound(process: subprocess.Popen) -> bool:
    return process.poll() in (None, 0)


@pytest.fixture
def client(cluster: Cluster) -> Iterator[MlflowClient]:
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(cluster.mlflow)
    yield MlflowClient(cluster.mlflow)
    mlflow.set_tracking_uri(before)


def test_a_submission_without_the_token_is_refused(cluster: Cluster) -> None:
    refused = cluster.processes.start("refused", cluster.submission("refused"), cluster.without_token, ROOT)
    with cluster.processes.explained():
        wait_until(lambda: refused.poll() is not None, 120, "the refusal", [cluster.head])
    said = cluster.processes.text("refused")
    assert refused.returncode != 0, said
    assert "authentication" in said.lower() and "token" in said.lower(), said
    assert http(f"{cluster.dashboard}/api/jobs/")[0] == 401
    assert http(f"{cluster.dashboard}/api/jobs/", secrets.token_hex(32))[0] == 403
    assert "refused" not in [job["submission_id"] for job in cluster.jobs()]


# The second time: of the same experiments at the same time, on one cluster, storage and server.
@pytest.mark.parametrize("names", [("submitted",), pytest.param(("one", "beside"), marks=pytest.mark.long)])
def test_submitted_tunings_run_on_the_cluster_and_their_runs_are_in_mlflow(
    cluster: Cluster, client: MlflowClient, tmp_path: Path, names: tuple[str, ...]
) -> None:
    with cluster.processes.explained():
        submitted = _submit(cluster, names)
    for name, (job, log) in submitted.items():
        assert job["status"] == "SUCCEEDED", job
        for line in (
            f"tuning {name}: 2 trials of 10 steps",
            "\nTrials\n",
            "Mean IoU on val after step 10, 1 fresh seed",
        ):
            assert line in log, log
        for row in ("RMI as published", "BCE"):
            assert row in log.split("Mean IoU on val")[1], log
    _check_uploads(cluster)

    found = client.get_experiment_by_name("miseg/scenes")
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    parents = {run.data.tags["miseg.run"]: run for run in runs if "mlflow.parentRunId" not in run.data.tags}
    assert set(names) <= set(parents)
    for name in names:
        _check_tuning(client, name, parents[name], runs, submitted[name][0]["job_id"], tmp_path)
    known = {parent.info.run_id for parent in parents.values()}
    assert all(run.data.tags.get("mlflow.parentRunId", run.info.run_id) in known for run in runs)


def _check_tuning(client: MlflowClient, name: str, parent: Run, runs: list[Run], job_id: str, folder: Path) -> None:
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    (folder / name).mkdir()
    # Two trials, then published setting and baseline on one seed, and the winner where it is another than these.
    assert len(children) in (4, 5)
    for run in (parent, *children):
        _check_tags(run, job_id)
    _check_tables(client, parent, children, folder / name)
    for run in children:
        _check_child(client, run, name, folder)


def test_no_secret_is_in_a_log_a_run_a_checkpoint_or_a_journal(cluster: Cluster) -> None:
    """After a tuning: of the cluster's token, and of a key in the environment of all its processes.

    Ray's own runtime_env_agent.log holds that environment, on the node's disk: nothing of ours can change that.
    """
    needles = [cluster.token.encode(), cluster.secret.encode()]
    searched, found = 0, []
    for path in cluster.processes.folder.rglob("*"):
        own = path.name not in ("token", "runtime_env_agent.log")
        if own and path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            searched += 1
            found += [f"{path} at {content.find(needle)}" for needle in needles if needle in content]
    assert searched > 100, "logs, stores, checkpoints and journals"
    assert not found


def test_a_job_that_is_stopped_ends_its_run_and_says_how_to_go_on(cluster: Cluster, client: MlflowClient) -> None:
    submit = cluster.submission("stopped")
    submit = submit[: submit.index("--") + 1]
    command = ["python", "jobs/train.py", "embedded-ce", "--data", str(cluster.packed), "--name", "begun"]
    started, needs = cluster.processes, [cluster.head, cluster.server]
    words = [*submit, *command, "--steps", "4000", "--validate-every", "5"]
    follow = started.start("job-stopped", words, cluster.with_token, ROOT)
    with started.explained():
        wait_until(lambda: re.search(r"^ +10 +0\.", started.text("job-stopped"), re.M), 240, "a validation", needs)
        stop = ["ray", "job", "stop", "--address", cluster.dashboard, "stopped"]
        subprocess.run(stop, env=cluster.with_token, check=True, timeout=60, capture_output=True)
        wait_until(lambda: follow.poll() is not None, 60, "the end of the job", needs)
    assert next(job["status"] for job in cluster.jobs() if job["submission_id"] == "stopped") == "STOPPED"
    ended = re.search(r"^interrupted; (.*); to go on:\n(.*)$", started.text("job-stopped"), re.M)
    assert ended is not None, started.text("job-stopped")
    assert ended[1] == "the checkpoint of the last validation stays" and shlex.split(ended[2]) == words[len(submit) :]
    found = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.`miseg.run` = 'begun'")
    assert [(run.info.status, run.data.tags["miseg.ended"]) for run in found] == [
        ("KILLED", "interrupted; --name begun continues")
    ]


def _submit(cluster: Cluster, names: tuple[str, ...]) -> dict[str, tuple[dict[str, Any], str]]:
    """Submit and follow to the end, as `ray job submit` does: each job's entry in the dashboard, and its log."""
    started = cluster.processes
    needs = [cluster.head, cluster.server]
    follows = {
        name: started.start(f"job-{name}", cluster.submission(name, name), cluster.with_token, ROOT) for name in names
    }

    def said(name: str, text: str) -> Callable[[], bool]:
        return lambda: text in started.text(f"job-{name}") or follows[name].poll() is not None

    for name in names:
        wait_until(said(name, "trial 1/2  starts"), 240, f"the first trial of {name}", needs)
    # The drivers are connected by now. A Ray of its own would have brought a second control store.
    stores = [process.pid for process, name, _ in started.titles() if name.startswith("gcs_server")]
    assert len(stores) == 1, started.tails()
    found = {}
    for name, follow in follows.items():
        wait_until(lambda follow=follow: follow.poll() is not None, 800, f"the end of {name}", needs)
        assert follow.returncode == 0, started.text(f"job-{name}")
        entry = next(job for job in cluster.jobs() if job["submission_id"] == name)
        # Ray knows a driver for the submission: the job joined this cluster.
        assert entry["type"] == "SUBMISSION" and entry["job_id"] and entry["driver_info"], entry
        found[name] = entry, started.text(f"job-{name}")
    return found


def _check_uploads(cluster: Cluster) -> None:
    folders = list(cluster.processes.folder.glob("ray/session_2*/runtime_resources/working_dir_files/_ray_pkg_*/"))
    assert len(folders) == 1
    files = [path.relative_to(folders[0]) for path in folders[0].rglob("*") if path.is_file()]
    assert Path("jobs/tune_rmi.py") in files
    left_out = {".git", ".venv", "venv", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
    assert not left_out & {path.parts[0] for path in files}
    # Python writes its caches there when the job runs.
    size = sum((folders[0] / path).stat().st_size for path in files if "__pycache__" not in path.parts)
    print(f"upload: {size / 1e3:.0f} kB in {len(files)} files")
    assert size < LARGEST_UPLOAD


def _check_tags(run: Run, job_id: str) -> None:
    tags = run.data.tags
    assert run.info.status == "FINISHED", run
    # The uploaded copy ran, not an installed one: it lies outside the repository and so takes the commit it is given.
    assert tags["mlflow.source.git.commit"] == COMMIT
    assert tags["miseg.ray_job_id"] == job_id
    assert len(tags["miseg.experiment_id"]) >= 8
    assert tags["miseg.ended"] == "finished" or tags["miseg.ended"].startswith("stopped early by ASHA at step ")


def _check_tables(client: MlflowClient, parent: Run, children: list[Run], folder: Path) -> None:
    tables = {
        name: pd.read_csv(client.download_artifacts(parent.info.run_id, f"{name}.csv", str(folder)))
        for name in ("trials", "confirmation", "summary")
    }
    assert len(tables["trials"]) == 2
    assert set(tables["trials"]["run_id"]) | set(tables["confirmation"]["run_id"]) == {c.info.run_id for c in children}
    rows = set(tables["confirmation"]["row"])
    assert rows in ({"RMI tuned", "RMI as published", "BCE"}, {"RMI as published (= tuned)", "BCE"})
    assert set(tables["summary"]["row"]) == rows
    assert tables["confirmation"]["mean_iou"].between(0, 1).all()
    assert (tables["confirmation"]["step"] == STEPS).all()


def _check_child(client: MlflowClient, run: Run, name: str, folder: Path) -> None:
    run_id, tags, params = run.info.run_id, run.data.tags, run.data.params
    assert tags["miseg.kind"] == "trial" and tags["miseg.tuning"] == name
    assert tags["miseg.run"] == f"{name}-{tags['miseg.experiment_id']}" and tags["miseg.trial_id"]
    regional = {"lambda", "downsampling_factor", "region_size", "downsampling"}
    is_rmi = tags["miseg.method"] == "RegionMutualInformation"
    assert (regional <= params.keys()) if is_rmi else not regional & params.keys()
    assert params["steps"] == str(STEPS) and params["optimiser.learning_rate"]

    scores = client.get_metric_history(run_id, "val/mean_iou")
    last = max(metric.step for metric in scores)
    assert last == STEPS if tags["miseg.ended"] == "finished" else last % VALIDATE_EVERY == 0
    assert [metric.step for metric in scores] == list(range(VALIDATE_EVERY, last + 1, VALIDATE_EVERY))
    losses = client.get_metric_history(run_id, "train/loss")
    # A loss is logged at the number of steps before its own. A stopped trial may have trained on past its last report.
    assert sorted(metric.step for metric in losses) == list(range(len(losses)))
    assert len(losses) == STEPS if tags["miseg.ended"] == "finished" else last <= len(losses) <= STEPS
    assert all(0 <= metric.value <= 1 for metric in scores)
    assert np.isfinite([metric.value for metric in losses]).all()

    image = np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), dtype=np.uint8)
    by_role = {role: models.of_role(client.tracking_uri, run_id, role) for role in ("best", "last")}
    for role, (model,) in by_role.items():
        assert model.name == models.name_of(run, role)
        # What MLflow's page gives to copy, and a path in the run as MLflow writes it.
        uri = model.model_uri if role == "best" else f"runs:/{run_id}/{model.name}"
        path = mlflow.artifacts.download_artifacts(uri, dst_path=str(folder / run_id / role))
        probabilities = mlflow.pyfunc.load_model(path).predict(image)
        assert probabilities.shape[0] == 1 and probabilities.shape[2:] == (96, 128)
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
