"""What a tick of each sensor costs in a large archive: with an empty cursor, and with its own."""

import time
from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.run_status_sensor_definition import RunStatusSensorCursor

from benchmarks.rows import Goal, Row
from benchmarks.scale_archive import ScaleArchive
from roboao_assets.definitions import build_definitions
from roboao_assets.orchestration.resources import load_code_location

TICK_GOAL = Goal(limit=5)
_WARM_TICKS = 3


def sensor_rows(archive: ScaleArchive) -> Iterator[Row]:
    """Yield the seconds of the slowest tick, and of each sensor's ticks."""
    location = load_code_location(archive.settings)
    repository = build_definitions(location).get_repository_def()
    rows = []
    with dg.DagsterInstance.from_config(str(archive.home)) as instance:
        for sensor in sorted(repository.sensor_defs, key=lambda s: s.name):
            cold, warm, said = _ticks(instance, repository, sensor)
            note = f"warm; cold {cold:.2f} s; {said}"
            row = Row(name=f"  tick of {sensor.name}", values=warm, unit="s", note=note)
            rows.append((max(cold, *warm), row))
    slowest = max(seconds for seconds, _ in rows)
    yield Row(
        name="slowest tick of a sensor",
        values=(slowest,),
        unit="s",
        key="sensor_tick_s",
        goal=TICK_GOAL,
        note=f"{archive.size}, {archive.size.raw_files} raw files; cold ticks included",
    )
    yield from (row for _, row in rows)


def _ticks(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, sensor: dg.SensorDefinition
) -> tuple[float, tuple[float, ...], str]:
    """Seconds of a tick without a cursor, of ticks with one, and what the last one said."""
    cursor, seconds, cpu_s, said = _first_cursor(instance, sensor), [], [], ""
    for _ in range(1 + _WARM_TICKS):
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, repository_def=repository, sensor_name=sensor.name
        )
        start, cpu_start = time.perf_counter(), time.process_time()
        result = sensor.evaluate_tick(context)
        seconds.append(time.perf_counter() - start)
        cpu_s.append(time.process_time() - cpu_start)
        cursor = result.cursor or cursor
        said = result.skip_message or f"{len(result.run_requests or ())} runs asked for"
    return seconds[0], tuple(seconds[1:]), f"{max(cpu_s):.2f} s of processor at most; {said}"


def _first_cursor(instance: dg.DagsterInstance, sensor: dg.SensorDefinition) -> str | None:
    """Return no cursor; of a sensor that follows runs, one from which it has a night to follow."""
    if not isinstance(sensor, dg.RunStatusSensorDefinition):
        return None
    records = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_SUCCESS, limit=4).records
    oldest = records[-1]
    return RunStatusSensorCursor(
        record_id=oldest.storage_id,
        update_timestamp=None,
    ).to_json()
