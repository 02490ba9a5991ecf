"""Send to MLflow what was recorded without it: runs of --offline, and journals.

miseg sync
MLFLOW_TRACKING_URI=http://HOST:5000 miseg sync --storage ~/miseg
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from miseg.service.command.options import JobOptions, execute


@dataclass
class Sync(JobOptions):
    """Send what a storage holds to $MLFLOW_TRACKING_URI, or to the storage's own store. What is there stays."""

    JOINS_RAY: ClassVar[bool] = False


def run(arguments: Sync) -> int:
    """Send, and list what was sent; status 1 where something had to wait."""
    if arguments.offline:
        raise ValueError("--offline: the place to send to is the server, $MLFLOW_TRACKING_URI")
    # Not at the top: --help must not wait for them.
    from miseg.service.journal import copies, journal, sender
    from miseg.service.tracking import mlflow_runs, sync
    from miseg.service.tracking.run_store import RunStore

    uri = mlflow_runs.tracking_uri(arguments.root)
    mlflow_runs.check(uri, arguments.root)
    folder = journal.journal_folder(arguments.root)
    entries = sender.sync(folder, uri, again=True) + copies.sync(arguments.root, uri)
    print(f"{entries} entries of journals sent to {uri}")
    offline = mlflow_runs.tracking_uri(arguments.root, offline=True) if "://" not in arguments.root else ""
    if not sync.recorded(offline):
        print("no run was recorded with --offline")
        return 0
    sender.sync(folder, offline, again=True)
    synced = sync.sync(offline, RunStore(arguments.root, uri))
    for name in synced.sent:
        print(f"sent {name}")
    print(f"{len(synced.sent)} runs sent, {synced.sent_before} were there")
    if synced.running:
        print(f"not closed yet, so not sent: {', '.join(synced.running)}")
    return 1 if synced.running else 0


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(Sync, run, __doc__)
