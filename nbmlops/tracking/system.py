"""The machine's load as metrics of a run, ``system/…``: MLflow's own monitor, sampled so that a short cell has some."""

import logging
import os
from typing import Any

INTERVAL_S = 1.0  # MLflow's own is 10, by which most cells are over


def watch(run_id: str, uri: str) -> None:
    """Log CPU, memory, disk, network and GPU of this machine to a run, until the run ends.

    ``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL`` says how often, in seconds; every second without it.
    """
    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
    from mlflow.tracking.fluent import run_id_to_system_metrics_monitor

    monitor = _monitor(run_id, uri)
    run_id_to_system_metrics_monitor[run_id] = monitor  # where the run's end looks for it
    monitor.start()


def _monitor(run_id: str, uri: str) -> Any:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    class Monitor(SystemMetricsMonitor):  # type: ignore[misc]  # MLflow has no types
        """MLflow's monitor, which by itself forgets the samples that the run's end finds unpublished."""

        def finish(self) -> None:
            self._shutdown_event.set()
            if self._process is not None:
                self._process.join()
                self.collect_metrics()
                self.publish_metrics(self.aggregate_metrics())
            super().finish()

    interval = None if os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") else INTERVAL_S
    return Monitor(run_id, tracking_uri=uri, **({"sampling_interval": interval} if interval else {}))
