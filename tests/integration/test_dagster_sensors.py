import json
import os
import time

import dagster as dg
import pytest

from roboao_assets import automation
from roboao_assets.automation import (
    FOREGROUND_TAG,
    NIGHT_TAG,
    PARTITION_TAG,
    PRIORITY_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    nights_of_run,
    range_tags,
)
from roboao_assets.definitions import build_definitions
from roboao_assets.orchestration.reloading import ReloadAnswer
from roboao_assets.orchestration.resources import load_code_location
from roboao_assets.storage.settings import Settings

A = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
B = "24_HD1_VIC_Si_o_20160925_030000.000000"
C = "1.5_X_VIC_Si_o_20160926_020000.5"


class Archive:
    """An archive of empty raw files: a sensor looks at nothing else of them."""

    def __init__(self, folder):
        self.raw = folder / "raw"
        self.raw.mkdir()
        self.settings = Settings(
            raw_roots=(self.raw,), archive_root=folder / "archive", dagster_port=1
        )

    def observe(self, observation, age_s=100.0):
        night = observation.split("_")[-2]
        (self.raw / night).mkdir(exist_ok=True)
        path = self.raw / night / f"{observation}.fits.bz2"
        path.touch()
        os.utime(path, (time.time() - age_s,) * 2)

    def sensors(self):
        self.location = load_code_location(self.settings)
        repository = build_definitions(self.location).get_repository_def()
        return {sensor.name: sensor for sensor in repository.sensor_defs}

    def tick(self, instance, cursor=None):
        """One tick of the raw-night sensor of a freshly loaded code location."""
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        return self.sensors()["raw_nights"](context)


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_all_sensors_run_by_default(archive):
    sensors = archive.sensors()
    assert set(sensors) == {
        "raw_nights",
        "calibrated_nights_success",
        "calibrated_nights_failure",
        "reduced_nights_success",
        "reduced_nights_failure",
        "psf_library_changes",
    }
    assert {s.default_status for s in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}


def test_a_new_night_asks_for_a_reload_and_is_calibrated_after_it(archive, instance, monkeypatch):
    asked = []

    def reload(name, port):
        asked.append((name, port))
        return ReloadAnswer(done=True)

    monkeypatch.setattr(automation, "ask_for_reload", reload)
    archive.observe(A)
    sensor = archive.sensors()["raw_nights"]
    archive.observe(C)
    archive.observe(B)
    result = sensor(dg.build_sensor_context(instance=instance))
    assert isinstance(result, dg.SkipReason)
    assert len(asked) == 1
    result = archive.tick(instance)
    assert len(asked) == 1
    assert [request.partition_key for request in result.run_requests] == ["20160926", "20160925"]
    first = result.run_requests[0]
    assert first.tags[NIGHT_TAG] == first.tags[PRIORITY_TAG] == "20160926"
    assert archive.tick(instance, result.cursor).run_requests == []


def test_without_a_webserver_known_nights_go_on(archive, instance):
    archive.observe(A)
    sensor = archive.sensors()["raw_nights"]
    archive.observe(C)
    result = sensor(dg.build_sensor_context(instance=instance))
    assert [request.partition_key for request in result.run_requests] == ["20160925"]


def test_new_files_make_a_new_run_key_and_young_ones_wait(archive, instance):
    archive.observe(A)
    first = archive.tick(instance)
    archive.observe(B, age_s=1)
    waiting = archive.tick(instance, first.cursor)
    assert waiting.run_requests == []
    archive.observe(B)
    archive.tick(instance, waiting.cursor)
    again = archive.tick(instance, waiting.cursor)
    assert [r.partition_key for r in again.run_requests] == ["20160925"]
    assert again.run_requests[0].run_key != first.run_requests[0].run_key


def test_a_night_with_a_run_under_way_waits(archive, instance):
    archive.observe(A)
    run = instance.create_run_for_job(
        dg.job(name="any")(lambda: None),
        tags={NIGHT_TAG: "20160925"},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert archive.tick(instance).run_requests == []
    instance.report_run_canceled(run)
    assert len(archive.tick(instance).run_requests) == 1


def test_a_long_backlog_is_taken_in_newest_first(archive, instance, monkeypatch):
    monkeypatch.setattr(automation, "MAX_ACTIVE_NIGHTS", 3)
    for day in range(10, 20):
        archive.observe(f"1_x_VIC_Si_o_201609{day}_000000")
    result = archive.tick(instance)
    nights = [request.partition_key for request in result.run_requests]
    assert nights == ["20160919", "20160918", "20160917"]
    result = archive.tick(instance, result.cursor)
    assert [r.partition_key for r in result.run_requests] == ["20160916", "20160915", "20160914"]


def test_no_raw_root(tmp_path, instance):
    archive = Archive(tmp_path)
    archive.settings = Settings(archive_root=tmp_path / "archive")
    assert "no raw roots" in archive.tick(instance).skip_message


def finished(archive, instance, sensor, status, tags, made=()):
    """What a run-status sensor says of a finished run that has materialised `made`."""
    job = dg.job(name="any")(lambda: None)
    run = instance.create_run_for_job(job, tags=tags, status=status)
    for name in made:
        event = dg.AssetMaterialization(name, partition=tags[PARTITION_TAG])
        instance.report_dagster_event(
            dg.DagsterEvent(
                event_type_value="ASSET_MATERIALIZATION",
                job_name="any",
                event_specific_data=dg._core.events.StepMaterializationData(event),  # noqa: SLF001
            ),
            run_id=run.run_id,
        )
    kind = "PIPELINE_SUCCESS" if status == dg.DagsterRunStatus.SUCCESS else "PIPELINE_FAILURE"
    context = dg.build_run_status_sensor_context(
        sensor_name=sensor,
        dagster_instance=instance,
        dagster_run=run,
        dagster_event=dg.DagsterEvent(event_type_value=kind, job_name="any"),
    )
    answer = archive.sensors()[sensor](context)
    return answer if isinstance(answer, dg.RunRequest | dg.SkipReason) else list(answer)


SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
MASTERS = ("raw_night", "master_darks", "master_flats", "bad_pixel_mask")


def test_after_the_masters_come_all_observations_of_the_night(archive, instance):
    for observation in (A, B, C):
        archive.observe(observation)
    tags = {PARTITION_TAG: "20160925"}
    request = finished(archive, instance, "calibrated_nights_success", SUCCESS, tags)
    assert request.tags[RANGE_START_TAG] == B
    assert request.tags[RANGE_END_TAG] == A
    assert request.tags[NIGHT_TAG] == "20160925"


def test_failed_seeing_keeps_no_observation_back_but_a_missing_master_does(archive, instance):
    archive.observe(A)
    tags = {PARTITION_TAG: "20160925"}
    sensor = "calibrated_nights_failure"
    request = finished(archive, instance, sensor, FAILURE, tags, MASTERS)
    assert request.tags[RANGE_START_TAG] == A
    skipped = finished(archive, instance, sensor, FAILURE, tags, MASTERS[:2])
    assert "not calibrated: master_flats, bad_pixel_mask" in skipped.skip_message


@pytest.mark.parametrize("status", [SUCCESS, FAILURE])
def test_a_night_is_summarised_however_its_reduction_ended(archive, instance, status):
    for observation in (A, B, C):
        archive.observe(observation)
    archive.sensors()
    tags = range_tags(archive.location, "20160925")
    sensor = f"reduced_nights_{status.value.lower()}"
    requests = finished(archive, instance, sensor, status, tags)
    assert [request.partition_key for request in requests] == ["20160925"]


def test_no_sensor_follows_a_foreground_run(archive, instance):
    archive.observe(A)
    tags = {PARTITION_TAG: "20160925", FOREGROUND_TAG: "true"}
    answer = finished(archive, instance, "calibrated_nights_success", SUCCESS, tags)
    assert isinstance(answer, dg.SkipReason)


def test_nights_of_a_run(archive):
    for observation in (A, B, C):
        archive.observe(observation)
    archive.sensors()
    location = archive.location
    both = {RANGE_START_TAG: A, RANGE_END_TAG: C}
    assert nights_of_run(location, both) == ["20160925", "20160926"]
    assert nights_of_run(location, {PARTITION_TAG: C}) == ["20160926"]
    assert nights_of_run(location, {PARTITION_TAG: "gone"}) == []
    assert range_tags(location, "20160927") is None


def test_a_cursor_remembers_only_nights_that_are_there(archive, instance):
    archive.observe(A)
    cursor = json.dumps({"20150101": "gone"})
    assert set(json.loads(archive.tick(instance, cursor).cursor)) == {"20160925"}
