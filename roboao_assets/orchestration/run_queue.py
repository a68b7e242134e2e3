"""Dagster's queue of runs, which lets nothing out while the archive naps or its disk is full.

In the daemon it is also what notices a clock that was set back.
"""

import logging
from typing import Any

from dagster._core.run_coordinator.queued_run_coordinator import (
    QueuedRunCoordinator,
    RunQueueConfig,
)

from roboao_assets.orchestration.readiness import why_not_now
from roboao_assets.orchestration.sensor_ticks import ClockWatch, wake_sensors
from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.settings import load_settings

log = logging.getLogger(__name__)


class ArchiveRunCoordinator(QueuedRunCoordinator):
    """Dagster's own coordinator, named in `dagster.yaml`, with one rule more.

    A run that is queued when the nap begins, by a backfill say, waits for its end. Runs that
    were started go on.
    """

    _told = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock = ClockWatch()

    def get_run_queue_config(self) -> RunQueueConfig:
        """Return the limits that hold now: the daemon asks every few seconds."""
        config = super().get_run_queue_config()
        if self.has_instance and self._clock.was_set_back():
            # Here, because nothing else of ours is in Dagster's daemon all the time.
            wake_sensors(self._instance)
        try:
            reason = why_not_now(load_settings())
        except SettingsError as error:
            reason = f"nothing is started: {error}"
        if reason != self._told:
            log.warning("%s", reason or "runs are started again")
            self._told = reason
        return config._replace(max_concurrent_runs=0) if reason else config
