"""Show the dashboards: Prometheus and Grafana beside the Ray of this machine.

They run until Ctrl-C.

miseg monitor

On a cluster it runs on the head, where Prometheus sees every node, and you look through a tunnel:

ssh -L 3000:127.0.0.1:3000 -L 9090:127.0.0.1:9090 HEAD

Prometheus comes with the system's packages. Without Grafana, Prometheus' own pages show the metrics and the alerts.
"""

from __future__ import annotations

from miseg.service.cloud.monitor import Monitor, run
from miseg.service.command.options import execute


def main() -> None:
    """Run the command that sys.argv holds, and exit with its status."""
    execute(Monitor, run, __doc__)
