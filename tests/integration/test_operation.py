"""Redoing, retrying, lending calibration, raw files that go: on a real night's products."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from dashboards.access import Access, Visitor
from dashboards.administration_actions import Administration
from dashboards.source import CatalogueSource
from roboao_assets.assets.observation_products import observation_specs
from roboao_assets.automation import raw_nights as raw_nights_module
from roboao_assets.definitions import build_definitions
from roboao_assets.orchestration.partitions import register_raw_nights
from roboao_assets.orchestration.reporting import report_night
from roboao_assets.orchestration.resources import load_code_location
from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines import observation as observation_module
from roboao_assets.pipelines.calibration_copy import copy_calibration
from roboao_assets.pipelines.failures import night_failures
from roboao_assets.pipelines.freshness import CODE_VERSIONS
from roboao_assets.pipelines.inspection import inspect_night
from roboao_assets.pipelines.observation import OBSERVATION_STAGES, reduce_observation
from roboao_assets.pipelines.rebuilding import rebuild_catalogue, refresh_records
from roboao_assets.pipelines.redo import READS, RECORD_OF_STAGE, STAGE_OF_PRODUCT, with_dependents
from roboao_assets.pipelines.stacks import BRIGHT_STAR, FAINT_STAR
from roboao_assets.pipelines.workspace import open_workspace
from roboao_assets.science.errors import CalibrationMissingError
from roboao_assets.storage.catalogue import ObservationQuery, User, open_catalogue, product
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings

NIGHT, OTHER = "20170607", "20170609"
NIGHT_STAGES = (
    stages.register_night,
    stages.make_master_darks,
    stages.make_master_flats,
    stages.make_bad_pixel_mask,
    stages.measure_night_seeing,
)


def link_files(source: Path, target: Path, keep=lambda name: True):
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if keep(path.name):
            os.link(path, target / path.name)


def reduce(settings, observation, night=NIGHT, **options):
    made = reduce_observation(settings.model_dump_json(), night, observation, **options)
    return {outcome.stage: outcome for outcome in made}


def prepare(settings, night=NIGHT):
    return {o.stage: o for o in (stage(settings, night) for stage in NIGHT_STAGES)}


@pytest.fixture(scope="module")
def reduced(small_night, tmp_path_factory):
    """An archive with the small night in it: copied by each test that changes it."""
    root = tmp_path_factory.mktemp("reduced")
    link_files(small_night / NIGHT, root / "raw" / NIGHT)
    settings = Settings(raw_roots=(root / "raw",), archive_root=root / "archive", threads=2)
    prepare(settings)
    for exposure in read_night(settings.raw_roots, NIGHT).observations:
        assert all(o.succeeded for o in reduce(settings, exposure.id).values())
    return root


@pytest.fixture
def settings(reduced, tmp_path):
    shutil.copytree(reduced / "archive", tmp_path / "archive")
    link_files(reduced / "raw" / NIGHT, tmp_path / "raw" / NIGHT)
    return Settings(raw_roots=(tmp_path / "raw",), archive_root=tmp_path / "archive", threads=2)


@pytest.fixture
def catalogue(settings):
    with open_catalogue(settings.resolved_catalogue_url) as opened:
        yield opened


def statuses(outcomes):
    return {stage: outcome.status for stage, outcome in outcomes.items()}


def test_names_of_stages_agree():
    assert set(READS) | set(RECORD_OF_STAGE) <= set(OBSERVATION_STAGES)
    for kind in (BRIGHT_STAR, FAINT_STAR):
        assert STAGE_OF_PRODUCT[kind.pipeline] == kind.stack
        assert STAGE_OF_PRODUCT[f"{kind.pipeline}.strehl"] == kind.strehl
        assert STAGE_OF_PRODUCT[f"{kind.pipeline}.pca"] == kind.residual
        assert RECORD_OF_STAGE[kind.contrast] == f"{kind.pipeline}.pca.contrast"
    assert with_dependents(["strehl_ratio"]) == {
        "strehl_ratio",
        "bright_star_preview",
        "psf_candidate",
        "distribution_package",
    }


def test_a_flag_makes_a_product_and_its_dependents_again(settings, catalogue, small_observations):
    name = small_observations[0]
    before = catalogue.observation(name)
    catalogue.request_redo(name, "bright_star.strehl")
    ended = statuses(reduce(settings, name))
    again = {stage for stage, status in ended.items() if status == "done"}
    assert again == {
        *("strehl_ratio", "bright_star_preview"),
        *("psf_candidate", "distribution_package"),
    }
    after = catalogue.observation(name)
    status = product(after, "bright_star.strehl")["status"]
    assert (status["done"], status["force_redo"], status["enqueued"]) == (True, False, False)
    modified = "last_modified"
    assert product(after, "bright_star")[modified] == product(before, "bright_star")[modified]
    (entry,) = catalogue.actions.newest(name)
    assert (entry.action, entry.by) == ("made strehl_ratio", "operator (catalogue)")
    assert entry.detail["result"] == "done"
    assert catalogue.requests.all() == []
    assert set(statuses(reduce(settings, name)).values()) <= {"unchanged", "skipped"}


def test_a_wish_survives_the_death_of_the_run_that_took_it(
    settings, catalogue, small_observations, monkeypatch
):
    name = small_observations[0]
    catalogue.request_redo(name, "bright_star.strehl")

    def die(*args, **kwargs):
        raise SystemExit("killed")

    monkeypatch.setattr(observation_module, "_make", die)
    with pytest.raises(SystemExit):
        reduce(settings, name)
    monkeypatch.undo()
    assert set(catalogue.requests.of(name).stages) == {"strehl_ratio"}
    assert statuses(reduce(settings, name))["strehl_ratio"] == "done"


def test_a_changed_product_is_made_again_and_a_touched_one_is_not(settings, small_observations):
    name = small_observations[0]
    folder = settings.archive_root / NIGHT / name / "bright_star"
    os.utime(folder / "100p.fits")
    assert set(statuses(reduce(settings, name)).values()) <= {"unchanged", "skipped"}
    content = bytearray((folder / "strehl" / f"{name}_strehl.txt").read_bytes())
    content[-2] ^= 1
    (folder / "strehl" / f"{name}_strehl.txt").write_bytes(content)
    ended = statuses(reduce(settings, name))
    assert ended["strehl_ratio"] == "done"
    assert ended["bright_star_stack"] == "unchanged"


def test_new_code_makes_anew_on_demand_only(settings, small_observations, monkeypatch):
    name = small_observations[0]
    before = reduce(settings, name)["strehl_ratio"].fingerprint
    monkeypatch.setitem(CODE_VERSIONS, "strehl_ratio", "99")
    kept = reduce(settings, name)["strehl_ratio"]
    assert (kept.status, kept.fingerprint) == ("unchanged", before)
    asked = settings.model_copy(update={"redo_for_new_code": True})
    ended = reduce(asked, name)
    assert ended["strehl_ratio"].status == "done"
    assert ended["strehl_ratio"].fingerprint.startswith("99-")
    # What is made of it knows that it is another.
    assert ended["bright_star_preview"].status == "done"
    assert ended["bright_star_stack"].status == "unchanged"


def test_a_spoilt_file_is_read_once_and_not_at_every_look(settings, catalogue, small_observations):
    name = small_observations[0]
    path = next(settings.raw_roots[0].glob(f"{NIGHT}/{name}.fits.bz2"))
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2])
    first = reduce(settings, name)["bright_star_stack"]
    assert first.status == "failed"
    retries = product(catalogue.observation(name), "bright_star")["status"]["retries"]
    again = reduce(settings, name)["bright_star_stack"]
    assert (again.status, again.error_type) == ("failed", "KnownFailure")
    assert again.reason == first.reason
    status = product(catalogue.observation(name), "bright_star")["status"]
    assert status["retries"] == retries
    assert catalogue.requests.all() == []
    (failure, *_) = night_failures(catalogue, NIGHT)
    assert (failure.subject, failure.product, failure.next_attempt) == (name, "bright_star", None)
    path.write_bytes(whole)
    assert reduce(settings, name)["bright_star_stack"].succeeded


def test_a_file_that_may_be_read_again_is_tried_again(
    settings, catalogue, small_observations, monkeypatch
):
    """A change of rights changes neither size nor time."""
    name = small_observations[0]
    path = next(settings.raw_roots[0].glob(f"{NIGHT}/{name}.fits.bz2"))
    half = path.read_bytes()[:5000]
    path.unlink()
    path.write_bytes(half)
    access = os.access
    monkeypatch.setattr(os, "access", lambda p, how: str(p) != str(path) and access(p, how))
    for error_type in ("RawDataError", "KnownFailure"):
        assert reduce(settings, name)["bright_star_stack"].error_type == error_type
    monkeypatch.undo()
    assert reduce(settings, name)["bright_star_stack"].error_type == "RawDataError"


def test_a_spoilt_file_that_is_removed_is_no_failure_for_ever(settings, catalogue, small_night):
    spoilt = f"1_spoilt_VIC_Si_o_{NIGHT}_090000.0"
    path = settings.raw_roots[0] / NIGHT / f"{spoilt}.fits.bz2"
    path.write_bytes(b"garbage")
    prepare(settings)
    assert reduce(settings, spoilt)["bright_star_stack"].status == "failed"
    assert spoilt in {failure.subject for failure in night_failures(catalogue, NIGHT)}
    path.unlink()
    prepare(settings)
    ended = reduce(settings, spoilt)
    assert {outcome.status for outcome in ended.values()} == {"skipped"}
    told = f"the raw file {path.name} is gone: nothing to make"
    assert {outcome.reason for outcome in ended.values()} == {told}
    assert night_failures(catalogue, NIGHT) == []
    assert product(catalogue.observation(spoilt), "bright_star")["status"]["reason"] == told


def test_a_failure_that_may_pass_is_asked_for_again_later(
    settings, catalogue, small_observations, monkeypatch
):
    name = small_observations[0]
    catalogue.request_redo(name, "bright_star.strehl")
    stage = observation_module._STAGES["strehl_ratio"]

    def stale_handle(ctx):
        raise OSError(116, "Stale file handle")

    broken = stage._replace(make=stale_handle)
    monkeypatch.setitem(observation_module._STAGES, "strehl_ratio", broken)
    assert reduce(settings, name)["strehl_ratio"].status == "failed"
    asked = catalogue.requests.of(name)
    assert asked.stages["strehl_ratio"].by == "archive"
    assert "attempt 2 of 21" in asked.stages["strehl_ratio"].why
    assert asked.not_before - datetime.now(UTC) > timedelta(seconds=50)
    reduce(settings, name, stages=("strehl_ratio",))
    later = catalogue.requests.of(name)
    assert later.not_before - asked.not_before > timedelta(seconds=50)
    monkeypatch.undo()
    assert reduce(settings, name)["strehl_ratio"].status == "done"
    assert catalogue.requests.of(name) is None


def test_a_raw_file_that_vanished_is_told_and_nothing_is_lost(
    settings, catalogue, small_observations
):
    gone, other = small_observations
    before = catalogue.observation(gone)["pipelined"]
    for path in settings.raw_roots[0].glob(f"{NIGHT}/{gone}*"):
        path.unlink()
    registered = prepare(settings)["raw_night"]
    assert registered.metadata["missing_files"] >= 1
    assert any(gone in name for name in catalogue.night(NIGHT)["raw"]["missing"])
    ended = reduce(settings, gone)
    assert ended["bright_star_stack"].status == "unchanged"
    assert "gone: what was made of it is kept" in ended["bright_star_stack"].reason
    assert all(outcome.succeeded for outcome in ended.values())
    assert catalogue.observation(gone)["pipelined"] == before
    assert (settings.archive_root / NIGHT / gone / "bright_star" / "100p.fits").exists()
    assert set(statuses(reduce(settings, other)).values()) <= {"unchanged", "skipped"}


def on_the_pages(settings, **fields):
    access = Access(CatalogueSource(settings.resolved_catalogue_url))
    ann = User(name="ann", password_hash="", programs="all", stamp="")
    pages = Administration(settings=settings, access=access)
    return pages.perform(Visitor(user=ann, login="one"), {"action": "copy-calibration", **fields})


def test_a_night_without_darks_waits_and_can_be_lent_masters(
    settings, catalogue, small_night, small_observations
):
    raw = settings.raw_roots[0]
    names = {}
    for path in (small_night / NIGHT).iterdir():
        if not path.name.startswith(("dark", "truth", "flat")):
            names[path] = raw / OTHER / path.name.replace(NIGHT, OTHER)
    (raw / OTHER).mkdir()
    for path, link in names.items():
        os.link(path, link)
    ended = prepare(settings, OTHER)
    waits = ended["master_darks"]
    assert (waits.status, waits.error_type) == ("failed", "CalibrationMissingError")
    assert f"`roboao calib copy {OTHER}`; these can lend: {NIGHT}" in waits.reason
    with open_workspace(settings) as ws:
        with pytest.raises(CalibrationMissingError, match="has no masters of its own"):
            copy_calibration(ws, OTHER, "20170101", by="ann")
        with pytest.raises(CalibrationMissingError, match="has no masters of its own"):
            on_the_pages(settings, night=OTHER, source="20170101")
        assert catalogue.actions.newest() == []
    # As an administrator does on the dashboard; `roboao calib copy` calls the same.
    told = on_the_pages(settings, night=OTHER, source="")
    assert told == "The masters of 2017-06-09 are copied from 2017-06-07."
    section = catalogue.night(OTHER)["calib"]
    assert section["comment"] == f"Copied from {NIGHT}"
    (entry,) = catalogue.actions.newest(OTHER)
    assert (entry.by, entry.detail["source"]) == ("ann", NIGHT)
    assert set(catalogue.requests.of(OTHER).stages) == {stage for stage in ended}
    ended = prepare(settings, OTHER)
    assert ended["master_darks"].status == "unchanged"
    # What was asked for was tried: it is not asked for for ever.
    assert catalogue.requests.of(OTHER) is None
    assert {e.action for e in catalogue.actions.newest(OTHER)} >= {f"made {s}" for s in ended}
    assert ended["master_flats"].reason == f"Copied from {NIGHT}"
    name = small_observations[0].replace(NIGHT, OTHER)
    assert reduce(settings, name, OTHER)["bright_star_stack"].succeeded
    same = (settings.archive_root / NIGHT / small_observations[0] / "bright_star" / "frames.txt",)
    other = settings.archive_root / OTHER / name / "bright_star" / "frames.txt"
    assert other.read_text() == same[0].read_text()
    # A night that was lent its masters lends none.
    with open_workspace(settings) as ws, pytest.raises(CalibrationMissingError):
        copy_calibration(ws, NIGHT, OTHER, by="ann")
    # Its own files, when they come, are better.
    for path in (small_night / NIGHT).iterdir():
        if path.name.startswith(("dark", "flat")):
            os.link(path, raw / OTHER / path.name.replace(NIGHT, OTHER))
    ended = prepare(settings, OTHER)
    assert ended["master_darks"].status == "done"
    assert catalogue.night(OTHER)["calib"]["copied_from"] is None


def test_a_wish_for_masters_anew_is_met_by_a_run_that_makes_them_anew(settings, catalogue):
    catalogue.requests.ask(NIGHT, NIGHT, ["master_darks"], by="ann", why="a test", force=True)
    assert stages.make_master_darks(settings, NIGHT).status == "unchanged"
    assert catalogue.requests.of(NIGHT) is not None
    assert stages.make_master_darks(settings, NIGHT, force=True).status == "done"
    assert catalogue.requests.of(NIGHT) is None


def test_every_file_that_vanishes_from_a_night_is_noticed(settings, catalogue, small_observations):
    paths, name = ArchivePaths(settings.archive_root), small_observations[0]
    assert list(inspect_night(catalogue, paths, NIGHT)) == []
    for path in (paths.package(NIGHT, name), paths.psf_candidate(NIGHT, name, "fits")):
        path.unlink()
    told = {broken.stage: broken.reason for broken in inspect_night(catalogue, paths, NIGHT)}
    assert set(told) == {"distribution_package", "psf_candidate"}
    assert told["distribution_package"].endswith(f"{name}.tar.bz2 was removed on disk")
    made = reduce(settings, name)
    assert {s for s, o in made.items() if o.status == "done"} == set(told)
    assert list(inspect_night(catalogue, paths, NIGHT)) == []


def documents(catalogue):
    observations = catalogue.find_observations(ObservationQuery())
    nights = [catalogue.night(row.night) for row in catalogue.nights()]
    return {document["_id"]: document for document in (*observations, *nights)}


def test_a_lost_database_is_made_again_from_the_archive_tree(settings, tmp_path):
    for stage in (stages.summarise_strehl, stages.summarise_contrast, stages.report_night):
        assert stage(settings, NIGHT).succeeded
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        name = next(iter(catalogue.find_observations(ObservationQuery())))["_id"]
        catalogue.set_distributed(name, True, ["by hand"])
        # What was changed by another client is copied by the sensor that goes round.
        assert refresh_records(catalogue, ArchivePaths(settings.archive_root), NIGHT) == 1
        before = documents(catalogue)
        images = {key: catalogue.image(key) for key in catalogue.image_keys()}
    assert len(images) > 8
    for path in settings.archive_root.glob("catalogue.sqlite*"):
        path.unlink()
    with open_workspace(settings) as ws:
        (rebuilt,) = rebuild_catalogue(ws)
    assert (rebuilt.entered, rebuilt.kept, rebuilt.problems) == (3, 0, ())
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        assert documents(catalogue) == before
        assert {key: catalogue.image(key) for key in catalogue.image_keys()} == images
        catalogue.set_distributed(name, False)
    with open_workspace(settings) as ws:
        (again,) = rebuild_catalogue(ws)
        assert (again.entered, again.kept, again.images) == (0, 3, 0)
        assert ws.catalogue.observation(name)["distributed"]["status"] is False
    # Nothing is reduced anew for it.
    for observation in before.keys() - {NIGHT}:
        ended = statuses(reduce(settings, observation))
        packed = ended.pop("distribution_package")
        assert packed == ("done" if observation == name else "unchanged"), "as was asked above"
        assert set(ended.values()) <= {"unchanged", "skipped"}


def test_a_copy_that_cannot_be_read_is_named_and_the_others_are_entered(settings):
    records = sorted((settings.archive_root / NIGHT / "records").glob("*.json"))
    records[0].write_text("{")
    for path in settings.archive_root.glob("catalogue.sqlite*"):
        path.unlink()
    with open_workspace(settings) as ws:
        (rebuilt,) = rebuild_catalogue(ws)
    assert rebuilt.entered == len(records) - 1
    assert str(records[0]) in rebuilt.problems[0]


def test_a_new_dagster_instance_is_told_what_there_is(settings, small_observations):
    for stage in (stages.summarise_strehl, stages.summarise_contrast, stages.report_night):
        stage(settings, NIGHT)
    register_raw_nights(settings)
    location = load_code_location(settings)
    specs = observation_specs(location)
    with (
        dg.DagsterInstance.ephemeral() as instance,
        open_catalogue(settings.resolved_catalogue_url) as catalogue,
    ):
        reported = report_night(instance, location, catalogue, specs, NIGHT)
        # Without a PSF library there is no summary of contrast curves.
        assert reported == len(specs) * 2 + 7
        assert report_night(instance, location, catalogue, specs, NIGHT) == 0
        pages = {small_observations[0]: "observation?id=", NIGHT: "night?night="}
        for stage, partition in (("strehl_ratio", small_observations[0]), ("seeing", NIGHT)):
            told = instance.get_latest_data_version_record(dg.AssetKey(stage), False, partition)
            link = told.asset_materialization.metadata["dashboard"]
            assert link == dg.MetadataValue.url(
                f"http://127.0.0.1:5006/{pages[partition]}{partition}"
            )
        # The very data versions that a run tells, and nothing is stale.
        for name in small_observations:
            for stage, outcome in reduce(settings, name).items():
                if outcome.status == "skipped":
                    continue  # its reason names the archive, which was copied
                record = instance.get_latest_data_version_record(dg.AssetKey(stage), False, name)
                assert record.event_log_entry.tags["dagster/data_version"] == outcome.fingerprint
        graph = build_definitions(location).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        stale = {
            (spec.key.to_user_string(), name): resolver.get_stale_causes(spec.key, name)
            for spec in specs
            for name in small_observations
        }
        assert {key: causes for key, causes in stale.items() if causes} == {}


def test_a_sensor_that_lost_its_cursor_starts_nothing_that_is_done(settings, monkeypatch):
    for stage in (stages.summarise_strehl, stages.summarise_contrast, stages.report_night):
        stage(settings, NIGHT)
    register_raw_nights(settings)
    for path in settings.raw_roots[0].glob(f"{NIGHT}/*"):
        os.utime(path, (1e9, 1e9))
    prepare(settings)
    location = load_code_location(settings)
    (sensor,) = (s for s in build_definitions(location).sensors if s.name == "raw_nights")
    with dg.DagsterInstance.ephemeral() as instance:
        with monkeypatch.context() as no_time:
            no_time.setattr(raw_nights_module, "_LOOK_UP_S", -1.0)
            result = sensor(dg.build_sensor_context(instance=instance))
        assert result.run_requests == []
        assert "1 of them are looked up at the next ticks" in result.skip_reason.skip_message
        result = sensor(dg.build_sensor_context(instance=instance, cursor=result.cursor))
        assert result.run_requests == []
        assert "looked up" not in result.skip_reason.skip_message
        dark = next(settings.raw_roots[0].glob(f"{NIGHT}/dark*"))
        os.utime(dark, (1e9 + 5, 1e9 + 5))
        result = sensor(dg.build_sensor_context(instance=instance, cursor=result.cursor))
        assert [request.partition_key for request in result.run_requests] == [NIGHT]
