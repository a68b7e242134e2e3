"""Runs whose process is gone are ended, whoever should have done so."""

import dagster as dg

from roboao_assets.orchestration.dead_runs import end_dead_runs
from roboao_assets.orchestration.resources import CodeLocation

_INTERVAL_S = 60


def build_dead_runs_sensor(location: CodeLocation) -> dg.SensorDefinition:
    """Return the sensor that ends runs which have no process any more.

    The code server does it for the runs that it has started, until that fails once: on a full
    disk it cannot write the run's end, and never looks again. The night of such a run would count
    as under way for a day. So would that of a `roboao night` that was killed.
    """

    @dg.sensor(
        name="dead_runs",
        minimum_interval_seconds=max(_INTERVAL_S, location.settings.sensor_interval_s),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends the runs of this host whose process is gone, as a kill or a full disk "
        "leaves them. It starts nothing.",
    )
    def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        ended = end_dead_runs(context.instance)
        if not ended:
            return dg.SkipReason("every run that is under way has its process")
        return dg.SkipReason(f"ended, as their processes are gone: {', '.join(ended)}")

    return dead_runs
