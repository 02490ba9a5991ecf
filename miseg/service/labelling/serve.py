"""The labelling page behind Ray Serve: one replica, which holds the session, on the machine that has the files."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Serve ends a proxy that is not there after 5 s, and starts another: on a machine with other work none ever came up.
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S", "60")

# A body is held in Serve's proxy as it comes, which knows no limit of its own.
os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "miseg.service.labelling.entrance.middlewares")

import ray
import torch
from ray import serve
from ray.serve.config import ProxyLocation
from starlette.applications import Starlette

from miseg.data.labels import files as label_files
from miseg.data.labels.marks import Problem
from miseg.data.labels.store import LabelStore
from miseg.data.raster.scenes import Scene
from miseg.files import replacing
from miseg.methods.few.nearest import NearestLabelMethod
from miseg.service.checkpoints import checkpoint, checkpoint_files
from miseg.service.cluster.ray_cluster import Resources
from miseg.service.cluster.ray_internals import serve_replica
from miseg.service.labelling.http import application
from miseg.service.labelling.session import FirstView, Session, check_bands

APP = "miseg-labelling"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TOKEN = re.compile(r"[\w-]{32}", re.ASCII)
TOKEN = "token"  # noqa: S105  (a file's name)
"""File in the labels' folder: it stays, so that pages go on after a restart."""


@dataclass(frozen=True)
class PageSetup:
    """Parts of a labelling page: model, scenes, folder of labels, and access.

    Attributes:
        files: a few-label method's checkpoint, as `checkpoint_files.files_of` gives it.
        scenes: by date or name.
        folder: where the labels are kept.
        page: folder of index.html and what belongs to it.
        shown: what the page shows at first.
        hosts: names that requests may address; "*" for any.
        token: what requests must bear.
    """

    files: Mapping[str, bytes]
    scenes: Mapping[str, Scene]
    folder: Path
    page: Path
    shown: FirstView
    hosts: tuple[str, ...]
    token: str

    def method(self) -> NearestLabelMethod:
        """The checkpoint's method.

        Raises:
            ValueError: it takes no labelled pixels, or is damaged.
        """
        with tempfile.TemporaryDirectory() as folder:
            method, experiment, _ = checkpoint.open_method(checkpoint_files.unpack(self.files, Path(folder)))
        if not isinstance(method, NearestLabelMethod):
            kind = type(experiment.method).__name__
            raise ValueError(f"{kind} learns from dense labels: it takes no labelled pixels")
        return method

    def check(self, labels: Path | None = None, class_property: str = "class") -> list[Problem]:
        """Add the labels of a file, before a process is started; what of them is left out.

        Raises:
            ValueError: no session can be made of this, or the file cannot be read.
            OSError: the labels' folder cannot be written.
        """
        check_bands(self.method(), self.scenes)
        grid = next(iter(self.scenes.values())).grid
        if self.shown.window is not None:
            grid.part(self.shown.window)
        with contextlib.closing(LabelStore(self.folder, grid, tuple(self.scenes))) as store:
            if labels is None:
                return []
            loaded = label_files.load(
                labels, grid, self.shown.scene or next(iter(self.scenes)), tuple(self.scenes), class_property
            )
            store.replace(lambda drawings: label_files.added(drawings, loaded))
            return loaded.problems


@serve.deployment(name="LabellingPage", num_replicas=1, max_ongoing_requests=64)
@serve.ingress()
class LabellingPage:
    """Holds the session; whatever is asked of it goes through `labelling.http`."""

    def __init__(self, setup_reference: Any) -> None:
        _listen_on_the_loopback()
        setup: PageSetup = ray.get(setup_reference[0])
        torch.set_num_threads(os.cpu_count() or 1)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.session = Session(setup.method().to(device), setup.scenes, setup.folder, setup.shown, device)
        self.setup = setup
        threading.Thread(target=self.session.prepare_all, name="miseg-prepare", daemon=True).start()

    def __serve_build_asgi_app__(self) -> Starlette:
        return application(self.session, self.setup.page, list(self.setup.hosts), self.setup.token)

    def __del__(self) -> None:
        if hasattr(self, "session"):
            self.session.close()


def _listen_on_the_loopback() -> None:
    # Once this object is there, Serve has its process listen on all addresses for other deployments, whose requests are
    # pickles: whoever reached it could run anything. There are none here, and no setting turns it off.
    listen = serve_replica.add_port_to_grpc_server
    serve_replica.add_port_to_grpc_server = lambda server, address: listen(
        server, f"{LOOPBACK[0]}:{address.rpartition(':')[2]}"
    )


def start(setup: PageSetup, host: str, port: int, resources: Resources) -> None:
    """Serve the page on `host` and `port` of this machine until `stop`.

    Raises:
        OSError: the port is taken.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    http = {"host": host, "port": port}
    _patiently(lambda: serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=http))
    options = {
        "num_cpus": 0.1,
        "num_gpus": int(resources.use_gpu),
        # Where the driver is, there are the files.
        "resources": {f"node:{ray.util.get_node_ip_address()}": 0.001},
    }
    page = LabellingPage.options(ray_actor_options=options, logging_config={"log_level": "ERROR"})  # type: ignore[attr-defined]
    app = page.bind([ray.put(setup)])
    _patiently(lambda: serve.run(app, name=APP, route_prefix="/"))


def _patiently(work: Callable[[], object]) -> None:
    # Serve gives its proxy a minute, in which a machine with other work does not always start a process.
    for left in (2, 1, 0):
        try:
            work()
            return
        except TimeoutError as error:
            if not left:
                raise RuntimeError(f"Ray Serve does not answer ({error}): the machine may be too busy") from error


def stop() -> None:
    """End what `start` started."""
    serve.shutdown()


def token(folder: Path) -> str:
    """Token that requests must bear: that in the labels' folder, made where none is.

    On the loopback, too: whoever else is logged in to this machine reaches it there.

    Raises:
        OSError: it cannot be written.
        ValueError: the file holds none.
    """
    path = folder / TOKEN
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path, several=True) as new:
            new.touch(0o600)  # before it holds anything: nobody else may read it
            new.write_text(secrets.token_urlsafe(24))
    text = path.read_text(errors="replace").strip()
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{path} holds no token of 32 letters and digits: remove it, and a new one is made")
    return text


def free_port(host: str, port: int) -> int:
    """`port`, or where it is 0 one that nobody uses.

    Raises:
        OSError: it is taken, or this machine has no such address.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(f"port {port} of {host} cannot be had ({error.strerror}): choose another --port") from error
        return int(probe.getsockname()[1])
