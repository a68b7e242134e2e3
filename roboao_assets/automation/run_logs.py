"""The logs of old runs are forgotten, a few runs at a time."""

from datetime import datetime, timedelta

import dagster as dg

from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.orchestration.run_logs import forget_run_logs

# A tick takes seconds then, and a season's runs are through in a day.
_RUNS_A_TICK = 50
_INTERVAL_S = 600


def build_run_logs_sensor(location: CodeLocation) -> dg.SensorDefinition:
    """Return the sensor that forgets what runs have logged `keep_run_logs_days` ago."""
    kept_days = location.settings.keep_run_logs_days

    @dg.sensor(
        name="old_run_logs",
        minimum_interval_seconds=max(_INTERVAL_S, location.settings.sensor_interval_s),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Forgets what runs have logged long ago (keep_run_logs_days). How they ended, "
        "and what was made of the assets, is kept. It starts nothing.",
    )
    def old_run_logs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if not kept_days:
            return dg.SkipReason("keep_run_logs_days is 0: logs of runs are kept for ever")
        before = location.now() - timedelta(days=kept_days)
        after = datetime.fromisoformat(context.cursor) if context.cursor else None
        done = forget_run_logs(context.instance, before, after=after, most=_RUNS_A_TICK)
        if done.up_to is None:
            return dg.SkipReason(f"no finished run of before {before:%Y-%m-%d} has its logs still")
        return dg.SensorResult(
            skip_reason=f"{done.events} events of {done.runs} runs were forgotten",
            cursor=done.up_to.isoformat(),
        )

    return old_run_logs
