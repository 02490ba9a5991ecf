"""Ray on this machine or a cluster: resources, Ray Data settings, the preemption notice, Prometheus metrics."""
