"""Prometheus' own plots of what miseg exports, for machines without Grafana."""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlencode

from miseg.service.cloud.programs import LOOPBACK

QUERIES = (
    "max by (run) (ray_miseg_validation_mean_iou_ratio)",
    "max by (run) (ray_miseg_training_loss)",
    "max by (run) (ray_miseg_run_progress_ratio)",
    "sum by (run) (rate(ray_miseg_training_images_total[1m]))",
    "sum by (tuning, state) (ray_miseg_tuning_trials)",
    "max by (run) (ray_miseg_tracking_backlog_bytes)",
)
"""Expressions of the plots, in PromQL: one line a run, since the labels that Ray adds fill a page.

Ray puts `ray_` before metrics' names, and `_total` behind those of counters.
"""

RANGE = "30m"
"""Time that the plots span, as Prometheus has it."""

PATIENCE_S = 15.0
"""Seconds for which Prometheus, once started, may not answer yet."""


def address(port: int) -> str:
    """Address of the plots of the Prometheus at a port of this machine; of its first page where it does not answer."""
    start = f"http://{LOOPBACK}:{port}"
    page = _page(port)
    parameters: dict[str, str] = {}
    for number, query in enumerate(QUERIES):
        parameters |= {f"g{number}.expr": query, f"g{number}.tab": "0", f"g{number}.range_input": RANGE}
    return f"{start}{page}?{urlencode(parameters)}" if page else start


def _page(port: int) -> str:
    """Path of the page with expressions, to which the first page leads; "" where nothing answers.

    It is /graph, in Debian's packages /classic/graph, and in Prometheus 3 /query.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
        try:
            connection.request("GET", "/")
            location = connection.getresponse().getheader("Location", "")
        except OSError:
            time.sleep(0.2)
        else:
            return location if location.startswith("/") else ""
        finally:
            connection.close()
    return ""
