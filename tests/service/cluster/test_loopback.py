"""A Ray of this machine's own answers nobody else: each of its processes listens on the loopback alone."""

import os

import psutil
import pytest
import ray

from tests.support.processes import http

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_here")]


def test_nothing_of_ray_listens_elsewhere():
    @ray.remote
    def where() -> int:
        return os.getpid()

    worker = ray.get(where.remote())
    mine = {os.getpid(), *(process.pid for process in psutil.Process().children(recursive=True))}
    assert worker in mine
    found = [c for c in psutil.net_connections("inet") if c.pid in mine and c.status == psutil.CONN_LISTEN]
    assert len({c.pid for c in found}) >= 4, "control store, raylet, dashboard and worker"
    assert {c.laddr.ip.removeprefix("::ffff:") for c in found} <= {"127.0.0.1", "::1"}, found
    context = ray.get_runtime_context()
    assert context.gcs_address.startswith("127.0.0.1:")
    dashboard = ray.worker.get_dashboard_url() if hasattr(ray.worker, "get_dashboard_url") else None
    assert dashboard is None or http(f"http://{dashboard}/api/jobs/")[0] == 401
