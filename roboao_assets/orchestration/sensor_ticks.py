"""Sensors after the clock was set back: Dagster lets each rest until its last tick is past.

It asks for how long a sensor has rested, by the time of day. After a year ahead and back that
would be a year.
"""

import logging
import time

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorType, SensorInstigatorData

log = logging.getLogger(__name__)

# Daemons of other hosts may tick by a clock that is a little ahead.
_TOLERANCE_S = 60.0
_TIMES = ("last_tick_timestamp", "last_tick_start_timestamp", "last_tick_success_timestamp")


class ClockWatch:
    """Notices that the clock of this machine was set."""

    def __init__(self) -> None:
        self._ahead_s: float | None = None

    def was_set(self) -> bool:
        """Whether it was, back or forth, since the last look."""
        step_s = self._step_s()
        return step_s is not None and abs(step_s) > _TOLERANCE_S

    def was_set_back(self) -> bool:
        """Whether it was since the last look; at the first one that cannot be told: True."""
        step_s = self._step_s()
        return step_s is None or step_s < -_TOLERANCE_S

    def _step_s(self) -> float | None:
        before, self._ahead_s = self._ahead_s, time.time() - time.monotonic()
        return None if before is None else self._ahead_s - before


def wake_sensors(instance: dg.DagsterInstance) -> list[str]:
    """Forget the ticks that sensors have had in the future; what else they remember stays.

    Returns
    -------
    list of str
        Names of the sensors that look again at once.
    """
    latest_s, woken = time.time() + _TOLERANCE_S, []
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        # It may have ticked meanwhile: what is written is what stands there now.
        now = instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
        data = now.instigator_data if now is not None else None
        if now is None or not isinstance(data, SensorInstigatorData):
            continue
        ahead = {name: None for name in _TIMES if (getattr(data, name) or 0.0) > latest_s}
        if ahead:
            instance.update_instigator_state(now.with_data(data._replace(**ahead)))
            woken.append(now.instigator_name)
    if woken:
        log.warning(
            "the clock was set back: the sensors %s have last looked in the future, and would "
            "rest until then; they look again now",
            ", ".join(sorted(woken)),
        )
    return woken
