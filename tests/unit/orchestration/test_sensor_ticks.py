import time

import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
)

from roboao_assets.orchestration.home import open_instance
from roboao_assets.orchestration.sensor_ticks import ClockWatch, wake_sensors
from roboao_assets.storage.settings import Settings

HOUR_S = 3600.0


@pytest.fixture
def instance(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with open_instance(Settings(archive_root=tmp_path / "archive")) as instance:
        yield instance


def remember(instance, name, ticked_s):
    """A sensor that has ticked at a time."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__")
    state = InstigatorState(
        RemoteInstigatorOrigin(repository, name),
        InstigatorType.SENSOR,
        InstigatorStatus.DECLARED_IN_CODE,
        SensorInstigatorData(
            last_tick_timestamp=ticked_s,
            last_tick_start_timestamp=ticked_s,
            cursor=f"of {name}",
            min_interval=30,
        ),
    )
    instance.add_instigator_state(state)


def remembered(instance, name):
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    return next(state.instigator_data for state in states if state.instigator_name == name)


@pytest.fixture
def settable_time(monkeypatch):
    """A function that sets the clock this far (s) from the right time."""
    time_of_day = time.time
    return lambda step_s: monkeypatch.setattr(time, "time", lambda: time_of_day() + step_s)


def test_a_sensor_with_a_tick_in_the_future_looks_again_and_keeps_its_cursor(instance):
    now = time.time()
    remember(instance, "ahead", now + HOUR_S)
    remember(instance, "right", now - 5)
    assert wake_sensors(instance) == ["ahead"]
    ahead, right = remembered(instance, "ahead"), remembered(instance, "right")
    assert (ahead.last_tick_timestamp, ahead.last_tick_start_timestamp) == (None, None)
    assert ahead.cursor == "of ahead"
    assert right.last_tick_timestamp == pytest.approx(now - 5)
    assert wake_sensors(instance) == []


def test_a_clock_that_is_set_back_is_noticed_once(settable_time):
    watch = ClockWatch()
    assert watch.was_set_back(), "before the first look anything may have been"
    assert not watch.was_set_back()
    settable_time(HOUR_S)
    assert not watch.was_set_back()
    settable_time(0.0)
    assert watch.was_set_back()
    assert not watch.was_set_back()


def test_a_clock_that_is_set_back_or_forth_is_noticed(settable_time):
    watch = ClockWatch()
    assert not watch.was_set()
    for step_s in (HOUR_S, 0.0, -HOUR_S):
        settable_time(step_s)
        assert watch.was_set()
        assert not watch.was_set()
    settable_time(-HOUR_S + 1.0)
    assert not watch.was_set(), "a second is nothing"


def test_the_queue_wakes_them_when_the_clock_was_set_back(instance, settable_time):
    instance.run_coordinator.get_run_queue_config()
    settable_time(365 * 24 * HOUR_S)
    remember(instance, "ticking", time.time())
    instance.run_coordinator.get_run_queue_config()
    assert remembered(instance, "ticking").last_tick_timestamp == pytest.approx(time.time(), abs=60)
    settable_time(0.0)
    instance.run_coordinator.get_run_queue_config()
    assert remembered(instance, "ticking").last_tick_timestamp is None
