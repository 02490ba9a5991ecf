"""System metrics: the machine of a training, beside the training's own metrics."""

from __future__ import annotations

import time

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from miseg.service.checkpoints.fencing import FencedError
from miseg.service.journal.journal import Journal
from miseg.service.terminal.messages import say


class SystemMetrics(SystemMetricsMonitor):
    """MLflow's monitor of processor, memory and GPU, whose samples go to a journal.

    MLflow's own thread asks the server before each sample, and ends for good where it does not answer. A sample's step
    is its time in seconds since 1970, so that a run which moves to another machine goes on where it was.

    Args:
        journal: the run's.
        every: seconds between two samples.
    """

    def __init__(self, journal: Journal, every: float = 5) -> None:
        super().__init__(journal.run_id, sampling_interval=every, tracking_uri=journal.tracking_uri)
        self._journal = journal

    def monitor(self) -> None:
        """Until `finish`; the thread that `start` starts."""
        while not self._shutdown_event.is_set():
            self.collect_metrics()
            if not self._shutdown_event.wait(self.sampling_interval):
                try:
                    self.publish_metrics(self.aggregate_metrics())
                except FencedError:  # which the training says
                    return

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        """Log a sample."""
        named = {f"{self._metrics_prefix}{name}": value for name, value in metrics.items()}
        self._journal.metrics(int(time.time()), named)
        for monitor in self.monitors:
            monitor.clear_metrics()


def start(journal: Journal, every: float = 5) -> SystemMetrics | None:
    """The monitor of this machine, at work; None where it does not start."""
    try:
        monitor = SystemMetrics(journal, every)
        monitor.start()
        return monitor
    except Exception as error:  # a monitor is no reason to stop a training
        say(f"system metrics are not logged: {error}")
        return None
