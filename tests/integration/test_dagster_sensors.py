import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from dashboards.access import Access, AccessError, Visitor
from dashboards.administration_actions import Administration
from dashboards.source import CatalogueSource
from roboao_assets.automation import following, raw_nights
from roboao_assets.automation.tags import (
    FOREGROUND_TAG,
    NIGHT_TAG,
    PARTITION_TAG,
    PRIORITY_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    active_nights,
    night_tags,
    nights_of_run,
    range_tags,
)
from roboao_assets.definitions import build_definitions
from roboao_assets.orchestration.partitions import register_raw_nights
from roboao_assets.orchestration.reloading import ReloadAnswer
from roboao_assets.orchestration.resources import load_code_location
from roboao_assets.orchestration.run_process import this_process
from roboao_assets.pipelines.freshness import product_record
from roboao_assets.pipelines.redo import plan_redo
from roboao_assets.storage.catalogue import User, new_observation, open_catalogue, product
from roboao_assets.storage.processes import start_ticks
from roboao_assets.storage.raw_names import parse_exposure_name
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
        self.clock = lambda: datetime.now(UTC)

    def observe(self, observation, age_s=7200.0):
        night = observation.split("_")[-2]
        (self.raw / night).mkdir(exist_ok=True)
        path = self.raw / night / f"{observation}.fits.bz2"
        path.touch()
        os.utime(path, (time.time() - age_s,) * 2)

    def sensors(self):
        location = load_code_location(self.settings)
        self.location = replace(location, clock=self.clock)
        repository = build_definitions(self.location).get_repository_def()
        return {sensor.name: sensor for sensor in repository.sensor_defs}

    def tick(self, instance, cursor=None):
        """One tick of the raw-night sensor of a freshly loaded code location."""
        return self.tick_of("raw_nights", instance, cursor)

    def tick_of(self, sensor, instance, cursor=None):
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        return self.sensors()[sensor](context)

    def at(self, moment):
        self.clock = lambda: moment

    def catalogue(self):
        return open_catalogue(self.settings.resolved_catalogue_url)

    def registered(self, *observations):
        """The observations, in the manifest and in the catalogue."""
        for observation in observations:
            self.observe(observation)
        register_raw_nights(self.settings)
        catalogue = self.catalogue()
        for observation in observations:
            catalogue.register_observation(new_observation(parse_exposure_name(observation)))
        return catalogue


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
        "requests",
        "products_on_disk",
        "dead_runs",
        "old_run_logs",
    }
    assert {s.default_status for s in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}


def test_a_new_night_asks_for_a_reload_and_is_calibrated_after_it(archive, instance, monkeypatch):
    asked = []

    def reload(name, url):
        asked.append((name, url))
        return ReloadAnswer(done=True)

    monkeypatch.setattr(raw_nights, "ask_for_reload", reload)
    archive.observe(A)
    sensor = archive.sensors()["raw_nights"]
    archive.observe(C)
    archive.observe(B)
    result = sensor(dg.build_sensor_context(instance=instance))
    assert result.run_requests == []
    assert "reloaded" in result.skip_reason.skip_message
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
    monkeypatch.setattr(raw_nights, "MAX_ACTIVE_NIGHTS", 3)
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


def finished(archive, instance, sensor, status, tags, made=(), **run_fields):
    """What a run-status sensor says of a finished run that has materialised `made`."""
    run = ended_run(instance, status, tags, made, **run_fields)
    kind = "PIPELINE_SUCCESS" if status == dg.DagsterRunStatus.SUCCESS else "PIPELINE_FAILURE"
    context = dg.build_run_status_sensor_context(
        sensor_name=sensor,
        dagster_instance=instance,
        dagster_run=run,
        dagster_event=dg.DagsterEvent(event_type_value=kind, job_name="any"),
    )
    answer = archive.sensors()[sensor](context)
    return answer if isinstance(answer, dg.RunRequest | dg.SkipReason) else list(answer)


def ended_run(instance, status, tags, made=(), **fields):
    run = instance.add_run(
        dg.DagsterRun(job_name="any", run_id=str(uuid.uuid4()), tags=tags, status=status, **fields)
    )
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
    return run


SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
MASTERS = ("raw_night", "master_darks", "master_flats", "bad_pixel_mask")


def test_after_the_masters_come_all_observations_of_the_night(archive, instance):
    for observation in (A, B, C):
        archive.observe(observation)
    tags = {PARTITION_TAG: "20160925"}
    request = finished(archive, instance, "calibrated_nights_success", SUCCESS, tags, MASTERS)
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


def test_a_run_that_goes_on_where_another_died_has_its_masters_too(archive, instance):
    archive.observe(A)
    tags = {PARTITION_TAG: "20160925"}
    died = ended_run(instance, FAILURE, tags, MASTERS[:2])
    again = {"parent_run_id": died.run_id, "root_run_id": died.run_id}
    rest = [*MASTERS[2:], "seeing"]
    sensor = "calibrated_nights_success"
    request = finished(
        archive, instance, sensor, SUCCESS, tags, rest, step_keys_to_execute=rest, **again
    )
    assert request.tags[RANGE_START_TAG] == A
    # What it was to make itself, and has not, is missing, whatever was made before.
    everything = list(MASTERS)
    skipped = finished(
        *(archive, instance, "calibrated_nights_failure", FAILURE, tags, MASTERS[2:]),
        step_keys_to_execute=everything,
        **again,
    )
    assert "not calibrated: raw_night, master_darks" in skipped.skip_message


@pytest.mark.parametrize("status", [SUCCESS, FAILURE])
def test_a_night_is_summarised_however_its_reduction_ended(archive, instance, status):
    for observation in (A, B, C):
        archive.observe(observation)
    archive.sensors()
    tags = range_tags(archive.location, "20160925")
    sensor = f"reduced_nights_{status.value.lower()}"
    requests = finished(archive, instance, sensor, status, tags)
    assert [request.partition_key for request in requests] == ["20160925"]


NOBODY = "mongodb://127.0.0.1:1/roboao?serverSelectionTimeoutMS=100"


@pytest.mark.parametrize("what", ["calibration", "reduction"])
def test_a_run_that_failed_while_the_catalogue_was_away_is_asked_for_later(archive, instance, what):
    catalogue = archive.registered(A)
    archive.sensors()
    here = archive.settings
    away = Settings(**here.model_dump() | {"catalogue_url": NOBODY})
    archive.settings = away
    if what == "calibration":
        tags, subject = {PARTITION_TAG: "20160925"}, "20160925"
        answer = finished(archive, instance, "calibrated_nights_failure", FAILURE, tags)
        assert "not calibrated" in answer.skip_message
    else:
        tags, subject = range_tags(archive.location, "20160925"), A
        answer = finished(archive, instance, "reduced_nights_failure", FAILURE, tags)
        assert [request.partition_key for request in answer] == ["20160925"]
    assert catalogue.requests.of(subject) is None
    archive.settings = here
    # It waits a minute before it is begun.
    assert not archive.tick_of("requests", instance).run_requests
    request = catalogue.requests.of(subject)
    assert set(request.stages) > {"bright_star_stack"} or set(request.stages) == set(MASTERS)
    catalogue.requests.put_off(subject, datetime.now(UTC) + timedelta(hours=1))
    archive.tick_of("requests", instance)
    assert catalogue.requests.of(subject).attempts == 1, "it is asked for once"


def test_what_failed_and_could_not_tell_the_catalogue_is_asked_for(archive, instance):
    catalogue = archive.registered(A, B)
    archive.sensors()
    tags = range_tags(archive.location, "20160925")
    run = ended_run(instance, FAILURE, tags)
    for observation, error in ((A, "CatalogueUnavailableError"), (B, "RawDataError")):
        seen = dg.AssetObservation("strehl_ratio", partition=observation, metadata={"error": error})
        instance.report_dagster_event(
            dg.DagsterEvent(
                event_type_value="ASSET_OBSERVATION",
                job_name="any",
                event_specific_data=dg._core.events.AssetObservationData(seen),  # noqa: SLF001
            ),
            run_id=run.run_id,
        )
    following.settle_or_remember(archive.location, instance, run)
    assert set(catalogue.requests.of(A).stages) == {"strehl_ratio"}
    assert catalogue.requests.of(B) is None
    # What was tried in vain as often as it may be is not asked for any more.
    for stage in catalogue.requests.of(A).stages.values():
        catalogue.requests.finish(A, stage, "failed")
    for _ in range(archive.settings.most_retries + 1):
        catalogue.record_failure(A, "bright_star.strehl", "the catalogue is away")
    following.settle_or_remember(archive.location, instance, run)
    assert catalogue.requests.of(A) is None


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
    kept = json.loads(archive.tick(instance, cursor).cursor)
    assert set(kept["started"]) == {"20160925"}


def test_a_growing_file_waits_until_it_stood_still_for_two_ticks(archive, instance):
    archive.registered(A)
    first = archive.tick(instance)
    path = archive.raw / "20160925" / f"{B}.fits.bz2"
    ticks = [first]
    # Its time stands still, as a copy that keeps times makes it; its size does not.
    when = time.time() - 60
    for size in (100, 200, 200):
        path.write_bytes(b"x" * size)
        os.utime(path, (when, when))
        ticks.append(archive.tick(instance, ticks[-1].cursor))
    assert [len(tick.run_requests) for tick in ticks[1:]] == [0, 0, 0]
    assert "1 files are still arriving" in ticks[2].skip_reason.skip_message
    # The third look made it known; the location is loaded anew and the night begun.
    (request,) = archive.tick(instance, ticks[-1].cursor).run_requests
    assert request.partition_key == "20160925"


def test_a_marker_says_that_all_has_arrived(archive, instance):
    archive.observe(A, age_s=0)
    assert archive.tick(instance).run_requests == []
    (archive.raw / "20160925" / "end_of_night").touch()
    archive.tick(instance)
    assert len(archive.tick(instance).run_requests) == 1


def test_nothing_is_started_during_the_nap(archive, instance):
    catalogue = archive.registered(A)
    catalogue.request_redo(A, "bright_star")
    archive.settings = archive.settings.model_copy(
        update={"nap": "22:00-05:30", "nap_timezone": "US/Arizona"}
    )
    evening = datetime(2030, 9, 26, 5, 30, tzinfo=UTC)  # 22:30 of the 25th there
    archive.at(evening)
    for sensor in ("raw_nights", "requests", "products_on_disk"):
        result = archive.tick_of(sensor, instance)
        assert result.run_requests in ([], None)
        assert "starts nothing until 2030-09-26 05:30" in result.skip_reason.skip_message
    # What was wished for in the meantime is not forgotten.
    archive.at(evening + timedelta(hours=7))
    assert len(archive.tick_of("raw_nights", instance).run_requests) == 1
    assert len(archive.tick_of("requests", instance).run_requests) == 1


def test_a_full_disk_starts_nothing(archive, instance):
    archive.registered(A)
    archive.settings = archive.settings.model_copy(update={"least_free_gb": 1e6})
    result = archive.tick(instance)
    assert result.run_requests == []
    assert "GB left" in result.skip_reason.skip_message


def test_a_night_that_waits_for_its_calibration_is_only_registered(archive, instance):
    catalogue = archive.registered(A)
    first = archive.tick(instance)
    assert len(first.run_requests[0].asset_selection) == 5
    catalogue.record_night_failure("20160925", "calib", "3 dark files; 10 are needed")
    archive.registered(B)
    again = archive.tick(instance, first.cursor)
    names = {key.to_user_string() for key in again.run_requests[0].asset_selection}
    assert names == {"raw_night", "seeing"}
    tags = {PARTITION_TAG: "20160925"}
    after = finished(archive, instance, "calibrated_nights_success", SUCCESS, tags, ["raw_night"])
    assert "not calibrated: master_darks" in after.skip_message
    (archive.raw / "20160925" / "dark_6_20160925_010000.fits.bz2").touch()
    os.utime(archive.raw / "20160925" / "dark_6_20160925_010000.fits.bz2", (1e9, 1e9))
    full = archive.tick(instance, again.cursor)
    assert len(full.run_requests[0].asset_selection) == 5


def test_flags_in_the_catalogue_become_runs_once(archive, instance):
    catalogue = archive.registered(A, B, C)
    catalogue.request_redo(A, "bright_star.strehl")
    catalogue.request_redo(B, "bright_star.strehl")
    catalogue.request_redo(C, "faint_star.pca")
    result = archive.tick_of("requests", instance)
    by_start = {r.tags[RANGE_START_TAG]: r for r in result.run_requests}
    assert set(by_start) == {B, C}
    both = by_start[B]
    assert both.tags[RANGE_END_TAG] == A
    assert both.tags[NIGHT_TAG] == "20160925"
    assert both.tags[PRIORITY_TAG] > "20991231"
    assert {key.to_user_string() for key in both.asset_selection} == {
        "strehl_ratio",
        "bright_star_preview",
        "psf_candidate",
        "distribution_package",
    }
    status = product(catalogue.observation(A), "bright_star.strehl")["status"]
    assert (status["force_redo"], status["enqueued"]) == (False, True)
    # Until its run has ended, or a while has passed, the same is not started again.
    assert archive.tick_of("requests", instance).run_requests == []
    assert {r.observation for r in catalogue.requests.all()} == {A, B, C}


def test_what_an_administrator_asks_for_on_the_pages_becomes_runs(archive, instance):
    catalogue = archive.registered(A, B, C)
    catalogue.publish_night("20160926", "psf_lib.other", {})
    catalogue.publish(C, "bright_star", {"classified_as": "high_flux"})
    access = Access(CatalogueSource(archive.settings.resolved_catalogue_url))
    pages = Administration(settings=archive.settings, access=access)

    def ask(programs, **fields):
        user = User(name="ann", password_hash="", programs=programs, stamp="")
        return pages.perform(Visitor(user=user, login="one"), fields)

    for programs in ((), ("24", "4", "1.5")):
        with pytest.raises(AccessError):
            ask(programs, action="redo", subject=A, product="bright_star.strehl")
    assert archive.tick_of("requests", instance).run_requests == []
    ask("all", action="redo", subject=A, product="bright_star.strehl")
    ask("all", action="pca", night="20160926")
    ask("all", action="redo", subject="20160926", product="calibration")
    requests = archive.tick_of("requests", instance).run_requests
    assert {request.tags["roboao/asked_by"] for request in requests} == {"ann"}
    runs = {r.tags.get(RANGE_START_TAG) or r.partition_key: r for r in requests}
    assert set(runs) == {A, C, "20160926"}
    asked = {name: {key.to_user_string() for key in runs[name].asset_selection} for name in (A, C)}
    # The very stages of which the page has told before.
    plan = plan_redo(catalogue, A, "bright_star.strehl")
    assert asked[A] == {*plan.stages, *plan.dependents}
    assert {"pca_residual", "contrast_curve", "psf_candidate"} <= asked[C]
    assert "bright_star_stack" not in asked[C]
    assert runs["20160926"].job_name == "calibrate_night"


def test_a_request_of_which_nothing_comes_is_tried_a_limited_number_of_times(archive, instance):
    catalogue = archive.registered(A)
    catalogue.requests.ask(A, "20160925", ["strehl_ratio"], by="ann", why="why not")
    moment, starts = datetime(2026, 1, 1, tzinfo=UTC), []
    # Every tick comes when the wait before it is over.
    for _ in range(30):
        archive.at(moment)
        if archive.tick_of("requests", instance).run_requests:
            starts.append(moment)
        request = catalogue.requests.of(A)
        moment = max(moment, request.not_before) + timedelta(seconds=1)
    assert len(starts) == archive.settings.most_retries + 1
    gaps = [later - earlier for earlier, later in zip(starts, starts[1:], strict=False)]
    assert gaps[0] >= timedelta(minutes=1)
    assert gaps == sorted(gaps)
    assert gaps[-1] <= timedelta(days=1, seconds=2)


def test_a_request_that_a_wrong_clock_put_off_does_not_wait_for_it(archive, instance):
    catalogue = archive.registered(A)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    asked = {"by": "the archive", "why": "it failed", "force": False}
    wait = timedelta(minutes=2)
    catalogue.requests.ask(A, "20160925", ["strehl_ratio"], not_before=moment + wait, **asked)
    archive.at(moment)
    assert not archive.tick_of("requests", instance).run_requests
    # Put off a year ahead; then the clock was set right.
    year = timedelta(days=365)
    catalogue.requests.ask(
        A, "20160925", ["strehl_ratio"], not_before=moment + year + wait, **asked
    )
    assert len(archive.tick_of("requests", instance).run_requests) == 1


def test_a_run_whose_process_is_gone_holds_up_its_night_no_longer(archive, instance):
    job = dg.job(name="any")(lambda: None)
    run = instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags=night_tags("20160925")
    )
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        of_process = replace(
            this_process(run.run_id), pid=process.pid, start_ticks=start_ticks(process.pid)
        )
        instance.add_run_tags(run.run_id, of_process.tags())
        alive = archive.tick_of("dead_runs", instance)
        assert "has its process" in alive.skip_message
        process.kill()
    gone = archive.tick_of("dead_runs", instance)
    assert run.run_id in gone.skip_message
    assert active_nights(instance) == set()


def test_a_night_without_psf_lib_has_its_candidates_made_again(archive, instance):
    catalogue = archive.registered(A, C)
    catalogue.publish_night("20160925", "raw", {})
    catalogue.publish_night("20160926", "psf_lib.other", {})
    for observation in (A, C):
        catalogue.publish(observation, "bright_star", {"classified_as": "high_flux"})
    (request,) = archive.tick_of("requests", instance).run_requests
    assert request.tags[RANGE_START_TAG] == A
    assert [key.to_user_string() for key in request.asset_selection] == ["psf_candidate"]


def test_products_changed_or_removed_on_disk_are_asked_for(archive, instance):
    catalogue = archive.registered(A, C)
    root = archive.settings.archive_root.absolute()
    files = {}
    for observation in (A, C):
        files[observation] = root / "20160925" / f"{observation}.fits"
        files[observation].parent.mkdir(parents=True, exist_ok=True)
        files[observation].write_bytes(b"what was made")
        record = product_record(root, "1-abc", [files[observation]])
        catalogue.publish(observation, "bright_star", record)
    result = archive.tick_of("products_on_disk", instance)
    assert "all is in order" in result.skip_reason.skip_message
    os.utime(files[A])  # touched, and what it was
    archive.tick_of("products_on_disk", instance)
    assert catalogue.requests.all() == []
    files[A].write_bytes(b"what was bade")
    files[C].unlink()
    archive.tick_of("products_on_disk", instance)
    why = {r.observation: r.stages["bright_star_stack"].why for r in catalogue.requests.all()}
    assert "was changed on disk" in why[A]
    assert "was removed on disk" in why[C]
    assert len(archive.tick_of("requests", instance).run_requests) == 2


def test_observations_that_a_dead_run_did_not_come_to_are_asked_for(archive, instance):
    catalogue = archive.registered(A, B)
    archive.sensors()
    tags = range_tags(archive.location, "20160925")
    finished(archive, instance, "reduced_nights_failure", FAILURE, tags)
    waiting = catalogue.requests.all()
    assert {r.observation for r in waiting} == {A, B}
    assert all(not asked.force for r in waiting for asked in r.stages.values())
    assert archive.tick_of("requests", instance).run_requests == []  # not at once
    archive.at(datetime.now(UTC) + timedelta(minutes=2))
    (request,) = archive.tick_of("requests", instance).run_requests
    assert (request.tags[RANGE_START_TAG], request.tags[RANGE_END_TAG]) == (B, A)


def test_a_dead_run_that_dagster_has_started_again_is_left_to_it(archive, instance):
    catalogue = archive.registered(A, B)
    archive.sensors()
    tags = range_tags(archive.location, "20160925")
    again = ended_run(instance, dg.DagsterRunStatus.STARTED, tags)
    retried = {**tags, "dagster/will_retry": "true", "dagster/auto_retry_run_id": again.run_id}
    finished(archive, instance, "reduced_nights_failure", FAILURE, retried)
    assert catalogue.requests.all() == []
    # It only means to: nothing may come of it, and the wish waits a minute.
    intended = {**tags, "dagster/will_retry": "true"}
    finished(archive, instance, "reduced_nights_failure", FAILURE, intended)
    assert {r.observation for r in catalogue.requests.all()} == {A, B}
