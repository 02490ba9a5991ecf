"""Ray on this machine or a cluster: resources, Ray Data settings, the preemption notice, Prometheus metrics."""

from miseg.extras import require

require("service", "miseg.service.cluster", "ray")
