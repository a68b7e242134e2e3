"""The telemetry of an archive, in both homes of the catalogue, and as Prometheus reads it."""

import json
import socket
import urllib.request
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from roboao_assets.commands.telemetry import as_json, print_telemetry
from roboao_assets.commands.terminal import console
from roboao_assets.orchestration.home import open_instance
from roboao_assets.orchestration.metrics import ArchiveCollector, metrics_text, serving_metrics
from roboao_assets.orchestration.telemetry import dagster_state, gather_telemetry
from roboao_assets.pipelines.telemetry import gather_catalogue, newest_product_age
from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.catalogue import new_observation, open_catalogue
from roboao_assets.storage.manifest import update_manifest
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_names import parse_exposure_name
from roboao_assets.storage.settings import Settings

EXPOSURE_S = 90.0
NIGHTS = ("20160923", "20160924", "20160925", "20160926")


@pytest.fixture(autouse=True)
def own_dagster_home(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "raw").mkdir()
    return Settings(
        raw_roots=(tmp_path / "raw",), archive_root=tmp_path / "archive", dagster_port=free_port()
    )


def names(night, count):
    return [f"4_star{n}_VIC_Si_o_{night}_0{n}0000.000000" for n in range(count)]


def observe(settings, catalogue, night, count, *, entered=None, raw=True, reported=True):
    """A night of `count` observations in the manifest, `entered` of them in the catalogue."""
    made = names(night, count)
    update_manifest(ArchivePaths(settings.archive_root).manifest, {night: made})
    if raw:
        (settings.raw_roots[0] / night).mkdir()
    for name in made[:entered]:
        document = new_observation(parse_exposure_name(name), exposure_s=EXPOSURE_S)
        catalogue.register_observation(document)
    if reported:
        catalogue.publish_night(night, "report", {"file": "report.html"})
    return made


def gauges(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_the_catalogue_says(settings, catalogue):
    done, gone, late, new = NIGHTS
    made = observe(settings, catalogue, done, 3)
    observe(settings, catalogue, gone, 1, raw=False, reported=False)
    observe(settings, catalogue, late, 3, entered=2)
    observe(settings, catalogue, new, 1, entered=0, reported=False)
    for name in made[:2]:
        catalogue.publish(name, "bright_star", {"classified_as": "high_flux"})
    catalogue.record_failure(made[2], "bright_star", "clouds")
    catalogue.record_failure(made[2], "bright_star", "clouds")
    catalogue.requests.ask(made[2], done, ["bright_star_stack"], by="admin", why="clouds are gone")
    state = gather_catalogue(settings, catalogue)
    assert (state.nights, state.observations, state.reduced) == (4, 6, 2)
    assert state.failed == {"bright_star": 1, "faint_star": 0, "extended_object": 0}
    assert state.requests_waiting == 1
    # What lacks an observation, and what lacks everything; not the one whose raw data are gone.
    assert state.unprocessed == (late, new)


def test_a_failed_report_is_no_reason_to_call_a_night_done(settings, catalogue):
    observe(settings, catalogue, NIGHTS[0], 1, reported=False)
    assert gather_catalogue(settings, catalogue).unprocessed == (NIGHTS[0],)
    catalogue.record_night_failure(NIGHTS[0], "report", "the disk is full")
    assert gather_catalogue(settings, catalogue).unprocessed == (NIGHTS[0],)
    catalogue.publish_night(NIGHTS[0], "report", {})
    assert gather_catalogue(settings, catalogue).unprocessed == ()


def test_age_from_shutter_close_to_stack(settings, catalogue):
    assert newest_product_age(catalogue) is None
    old = observe(settings, catalogue, NIGHTS[0], 1)
    new = observe(settings, catalogue, NIGHTS[1], 3)
    before = datetime.now(UTC)
    for name in (*old, *new[:2]):
        catalogue.publish(name, "bright_star", {})
    age = newest_product_age(catalogue)
    assert (age.night, age.observations) == (NIGHTS[1], 2)
    closed = [
        datetime(2016, 9, 24, hour, tzinfo=UTC) + timedelta(seconds=EXPOSURE_S) for hour in (0, 1)
    ]
    longest = (before - closed[0]).total_seconds()
    assert age.maximum_s == pytest.approx(longest, abs=30)
    assert age.median_s == pytest.approx(longest - 1800, abs=30)


def test_a_fresh_place_has_telemetry_and_nothing_is_made_by_looking(settings, tmp_path):
    telemetry = gather_telemetry(settings)
    assert telemetry.catalogue is None
    assert "there is no catalogue" in telemetry.problems["catalogue"]
    assert telemetry.dagster is None
    assert "dagster" not in telemetry.problems
    assert telemetry.webserver_alive is False
    assert {disk.purpose for disk in telemetry.disks} == {"archive", "raw"}
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "archive").exists()
    with console.capture() as said:
        print_telemetry(telemetry)
    assert "daemon never ran here; its webserver does not answer" in said.get()
    assert "there is no catalogue" in said.get()
    assert json.loads(as_json(telemetry))["catalogue"] is None


def test_runs_and_daemon(settings):
    with open_instance(settings) as instance:
        job = dg.job(name="calibrate_night")(lambda: None)
        run = instance.create_run_for_job(
            job, tags={"roboao/night": NIGHTS[0]}, status=dg.DagsterRunStatus.STARTED
        )
        state = dagster_state(instance)
        assert [(r.run_id, r.job, r.night) for r in state.running] == [
            (run.run_id, "calibrate_night", NIGHTS[0])
        ]
        assert abs((datetime.now(UTC) - state.running[0].since).total_seconds()) < 60
        # Never heard of.
        assert set(state.heartbeat_age_s.values()) == {None}
        assert not state.daemon_alive
        beat(instance, age_s=5)
        assert dagster_state(instance).daemon_alive
        beat(instance, age_s=600)
        assert not dagster_state(instance).daemon_alive
    telemetry = gather_telemetry(settings)
    with console.capture() as said:
        print_telemetry(telemetry)
    assert "silent for 10 min" in said.get()
    assert f"1 run: calibrate_night {NIGHTS[0]} for" in said.get()
    assert json.loads(as_json(telemetry))["dagster"]["running"][0]["night"] == NIGHTS[0]


def beat(instance, age_s):
    from dagster._daemon.types import DaemonHeartbeat

    for daemon in instance.get_required_daemon_types():
        then = datetime.now(UTC).timestamp() - age_s
        instance.add_daemon_heartbeat(DaemonHeartbeat(then, daemon, "test", []))


def test_metrics_of_a_real_archive(settings):
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        made = observe(settings, catalogue, NIGHTS[0], 2)
        observe(settings, catalogue, NIGHTS[1], 1, reported=False)
        catalogue.record_failure(made[0], "faint_star", "no star")
    with open_instance(settings) as instance:
        job = dg.job(name="calibrate_night")(lambda: None)
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    text = metrics_text(settings)
    told = gauges(text)
    assert told["roboao_observations",] == 3
    assert told["roboao_observations_failed", "faint_star"] == 1
    assert told["roboao_runs_running", "calibrate_night"] == 1
    assert told["roboao_nights_unprocessed",] == 1
    oldest = datetime(2016, 9, 24, tzinfo=UTC).timestamp()
    assert told["roboao_oldest_unprocessed_night_timestamp_seconds",] == oldest
    assert told["roboao_disk_free_bytes", str(settings.archive_root), "archive"] > 0
    assert {v for (name, *_), v in told.items() if name == "roboao_collection_errors_total"} == {0}
    for family in text_string_to_metric_families(text):
        assert family.documentation, f"{family.name} has no help text"


def test_what_cannot_be_read_is_absent_and_counted_once_a_look(settings, monkeypatch):
    settings.archive_root.mkdir()
    (settings.archive_root / "catalogue.sqlite").write_bytes(b"no database" * 100)
    looks = []

    def gather(settings):
        looks.append(1)
        return gather_telemetry(settings)

    collector = ArchiveCollector(settings, gather)
    for _ in range(3):
        families = {family.name: family for family in collector.collect()}
    assert len(looks) == 1, "kept for some seconds"
    assert "roboao_observations" not in families
    assert "roboao_memory_total_bytes" in families
    counted = {s.labels["part"]: s.value for s in families["roboao_collection_errors"].samples}
    assert counted["catalogue"] == 1
    assert counted["disks"] == 0
    later = collector._at_s + 60
    monkeypatch.setattr("roboao_assets.orchestration.metrics.time.monotonic", lambda: later)
    families = {family.name: family for family in collector.collect()}
    counted = {s.labels["part"]: s.value for s in families["roboao_collection_errors"].samples}
    assert (len(looks), counted["catalogue"]) == (2, 2)


def test_metrics_are_served_on_their_port_and_a_taken_one_is_told(settings):
    served = settings.model_copy(update={"metrics_port": free_port()})
    url = f"http://127.0.0.1:{served.metrics_port}/metrics"
    with serving_metrics(served):
        with urllib.request.urlopen(url, timeout=30) as reply:
            told = gauges(reply.read().decode())
        assert told["roboao_disk_full",] == 0
        with pytest.raises(SettingsError, match="ROBOAO_METRICS_PORT"), serving_metrics(served):
            pass
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)
    with serving_metrics(settings.model_copy(update={"metrics_port": 0})):
        pass


def test_a_raw_root_that_is_not_mounted_is_told(settings, tmp_path):
    away = settings.model_copy(update={"raw_roots": (*settings.raw_roots, tmp_path / "away")})
    telemetry = gather_telemetry(away)
    assert telemetry.missing_raw_roots == (str(tmp_path / "away"),)
