"""Errors of libraries that reach a command: one line with the mend, the right status, and no trace."""

import errno
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy
from pyarrow import fs
from ray import exceptions as of_ray
from ray.train import WorkerGroupError

from miseg.data.storage import file_system
from miseg.service.checkpoints.checkpoint_files import CheckpointError
from miseg.service.command.library_errors import library_failure
from miseg.service.command.options import execute
from miseg.service.terminal.going_on import goes_on_with

GOES_ON = "the same command goes on, with its --name or --resume"


@dataclass
class Options:
    """Options of a command without any."""


def ended(monkeypatch, capsys, work: Callable[[], object]) -> tuple[int, str]:
    """Status of a command that does `work`, and what it wrote as an error."""
    monkeypatch.setattr(sys, "argv", ["miseg test"])
    with pytest.raises(SystemExit) as end:
        execute(Options, lambda options: work() and None, "A test.")
    assert isinstance(end.value.code, int)
    return end.value.code, capsys.readouterr().err


def task_error(cause: Exception, file: str = "/site-packages/torch/x.py") -> BaseException:
    """As Ray raises what a task raised."""
    trace = f'ray::f()\n  File "{file}", line 3, in f\n{type(cause).__name__}: {cause}'
    return of_ray.RayTaskError("f", trace, cause, "ray::f", 1, "127.0.0.1").as_instanceof_cause()


def test_a_job_that_has_its_name_says_the_command_that_goes_on(monkeypatch, capsys):
    def work() -> None:
        with goes_on_with("--name", "first"):
            raise of_ray.NodeDiedError("The node died")

    _, said = ended(monkeypatch, capsys, work)
    assert "; to go on:\n" in said and said.endswith("miseg test --name first\n")
    _, said = ended(monkeypatch, capsys, lambda: _raised(of_ray.NodeDiedError("The node died")))
    assert GOES_ON in said, "the name of a job before is not this one's"


def _raised(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "said", "status"),
    [
        (of_ray.OutOfMemoryError("Task was killed due to the node running low on memory.\nMore"), "--concurrent", 1),
        (of_ray.ObjectStoreFullError("The object store is full"), "make room on the disk of Ray's folder", 1),
        (of_ray.RuntimeEnvSetupError("pip: no such package"), "correct the runtime environment", 2),
        (of_ray.GetTimeoutError("Get timed out"), f"reach each other (ray status); {GOES_ON}", 1),
        (of_ray.ActorDiedError(), f"was lost (ray status, and the logs in /tmp/ray); {GOES_ON}", 1),
        (of_ray.WorkerCrashedError(), GOES_ON, 1),
        (of_ray.NodeDiedError("The node died"), GOES_ON, 1),
        (of_ray.OwnerDiedError("00" * 14, b"", ""), GOES_ON, 1),
        (of_ray.ObjectReconstructionFailedError("00" * 14, reason=0, owner_address=b"", call_site=""), GOES_ON, 1),
        (of_ray.ActorUnschedulableError("no node fits"), "more nodes", 1),
        (of_ray.AuthenticationError("token mismatch"), "RAY_AUTH_TOKEN", 2),
        (WorkerGroupError("died", {0: of_ray.OutOfMemoryError("low on memory")}), "--concurrent", 1),
        (task_error(of_ray.ActorDiedError()), GOES_ON, 1),
        (task_error(CheckpointError("x was altered: use another")), "error: x was altered: use another\n", 1),
        (task_error(ValueError("steps = 0: use 1"), "/x/site-packages/miseg/y.py"), "error: steps = 0: use 1\n", 1),
        (task_error(MemoryError()), "use a smaller batch or image size", 1),
        (sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("database is locked")), "MLFLOW_TRACKING_URI", 2),
        (mlflow.MlflowException("The run x must be in the 'active' state. Current state is deleted."), "restore", 2),
        (mlflow.MlflowException("API request to endpoint failed"), "MLFLOW_TRACKING_URI", 2),
        (pa.ArrowMemoryError("malloc of size 9 failed"), "use a smaller batch or image size", 1),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "/x/y: No space left on device: make room there", 1),
        (OSError(errno.EMFILE, "Too many open files"), "error: Too many open files: raise the limit", 1),
    ],
)
def test_an_error_of_a_library_is_one_line_with_the_mend(monkeypatch, capsys, error, said, status):
    code, text = ended(monkeypatch, capsys, lambda: _raised_elsewhere(error))
    assert (code, text.count("\n")) == (status, 1) and text.startswith("error: ") and said in text, text
    assert len(text) < 700


def _raised_elsewhere(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    "error",
    [
        TypeError("f() takes 1 argument"),
        KeyError("x"),
        task_error(TypeError("in a task")),
        task_error(ValueError("of a library: nobody says what to do")),
        WorkerGroupError("died", {0: ZeroDivisionError("a fault")}),
        FileNotFoundError(errno.ENOENT, "No such file", "x"),
        of_ray.RayError("Exception x isn't serializable"),
    ],
)
def test_what_may_be_a_fault_of_ours_keeps_its_trace(monkeypatch, error):
    monkeypatch.setattr(sys, "argv", ["miseg test"])
    assert library_failure(error) is None
    with pytest.raises(type(error)):
        execute(Options, lambda options: _raised_elsewhere(error), "A test.")


def test_the_trace_of_a_library_s_error_is_there_for_whoever_asks(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["miseg test"])
    monkeypatch.setenv("MISEG_TRACEBACK", "1")
    with pytest.raises(of_ray.ActorDiedError):
        execute(Options, lambda options: _raised_elsewhere(of_ray.ActorDiedError()), "A test.")


def test_parquet_that_is_none_is_one_line(monkeypatch, capsys, tmp_path):
    path = tmp_path / "x.parquet"
    for content, status in ((b"", 2), (b"no parquet at all", 2), (_parquet(path)[:-40] + b"PAR1", 2)):
        path.write_bytes(content)
        code, text = ended(monkeypatch, capsys, lambda: pq.read_table(path))
        assert (code, text.count("\n")) == (status, 1) and "pack the data set anew" in text, text


def _parquet(path: Path) -> bytes:
    pq.write_table(pa.table({"a": range(100)}), path)
    return path.read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_parquet_that_may_not_be_read_is_one_line(monkeypatch, capsys, tmp_path):
    path = tmp_path / "x.parquet"
    _parquet(path), path.chmod(0)
    code, text = ended(monkeypatch, capsys, lambda: pq.read_table(path))
    assert (code, text.count("\n")) == (1, 1) and "make it readable" in text


ANSWERS = {
    403: ("AccessDenied", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", 2),
    404: ("NoSuchBucket", "correct the bucket or path of --storage or --data", 2),
    500: ("InternalError", f"the storage does not answer: see whether it is up; {GOES_ON}", 1),
}


@pytest.mark.parametrize("status", [403, 404, pytest.param(500, marks=pytest.mark.slow)])
def test_what_an_object_store_answers_is_one_line(monkeypatch, capsys, status):
    """pyarrow's own S3 client, against a store that refuses everything."""
    code, said, expected = ANSWERS[status]

    class Refusing(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET = do_HEAD = do_PUT

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_MAX_ATTEMPTS", "1")):
            monkeypatch.setenv(name, value)
        host = f"127.0.0.1:{server.server_address[1]}"
        system, path = file_system(
            f"s3://bucket/x?endpoint_override={host}&scheme=http&region=x&allow_bucket_creation=0"
        )

        def write() -> None:
            with system.open_output_stream(f"{path}/file") as stream:
                stream.write(b"x")

        reached, text = ended(monkeypatch, capsys, write)
    finally:
        server.shutdown()
        server.server_close()
    assert (reached, text.count("\n")) == (expected, 1) and said in text, text
    assert isinstance(system, fs.S3FileSystem)
