"""Show the recorded runs: MLflow's pages over a storage's own store, until Ctrl-C.

miseg ui
miseg ui --storage ~/other --port 5001

The pages answer on this machine alone. Runs of an MLflow server are seen at the server's own address.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from miseg.service.cloud import programs
from miseg.service.cloud.programs import LOOPBACK
from miseg.service.cluster.uris import recorded
from miseg.service.command.options import JobOptions, execute
from miseg.service.tracking.description import TRAINING_PAGES


@dataclass
class Ui:
    """Start MLflow's pages."""

    storage: str | None = None
    """Folder whose runs are shown. Default: $MISEG_STORAGE, else ~/miseg."""
    port: int = 5000
    """Port on 127.0.0.1."""


def run(arguments: Ui) -> int:
    """Serve until Ctrl-C; 1 where the server ended by itself.

    Raises:
        ValueError: runs are on a server, there is no store, or a port that cannot be had.
    """
    store = _store(arguments.storage)
    programs.check_free("--port", arguments.port)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store]
    command += ["--host", LOOPBACK, "--port", str(arguments.port)]
    address = f"http://{LOOPBACK}:{arguments.port}/#/experiments?{TRAINING_PAGES}"
    print(f"MLflow over {store}: {address}; Ctrl-C ends it", flush=True)
    programs.interrupted_by_sigterm()
    # Its background jobs serve MLflow's own language model features: four processes that nothing here needs.
    process = programs.start(command, {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | os.environ)
    try:
        process.wait()
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        programs.end(process)


def _store(storage: str | None) -> str:
    """The SQLite store of --storage, else of $MLFLOW_TRACKING_URI, else of the default storage.

    Raises:
        ValueError: runs are on a server, the storage is no folder, or nothing was recorded in it.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if storage is None and uri.startswith("sqlite:"):
        return uri
    if storage is None and uri:
        # Without a login that may be in it.
        raise ValueError(f"MLFLOW_TRACKING_URI = {uri.rpartition('@')[2]}: open that server's address in a browser")
    root = JobOptions(storage=storage).root
    if "://" in root:
        raise ValueError(f"--storage {root} is no folder: its runs are on the MLflow server that they were recorded on")
    return f"sqlite:///{recorded(root)}"


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(Ui, run, __doc__)
