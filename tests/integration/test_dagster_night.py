"""A night in the foreground, on the real pipelines: made, found unchanged, with a file spoilt."""

import re
import shutil
from dataclasses import dataclass, field

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleCauseCategory
from dagster._core.loader import LoadingContextForTest

from roboao_assets.automation.jobs import CALIBRATION_ASSETS, SUMMARY_ASSETS
from roboao_assets.definitions import build_definitions
from roboao_assets.night_run import NightEvent, NightRun, run_night
from roboao_assets.orchestration.home import open_instance
from roboao_assets.orchestration.resources import load_code_location
from roboao_assets.pipelines.freshness import CODE_VERSIONS
from roboao_assets.pipelines.observation import OBSERVATION_STAGES
from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
# What cannot be made of raw files that cannot be read.
BROKEN = ("bright_star_stack", "faint_star_stack", "strehl_ratio")
pytestmark = pytest.mark.slow


@dataclass
class Night:
    settings: Settings
    instance: dg.DagsterInstance
    runs: list[NightRun] = field(default_factory=list)
    events: list[list[NightEvent]] = field(default_factory=list)

    def run(self, **options):
        told = []
        run = run_night(self.settings, NIGHT, self.instance, told.append, **options)
        self.runs.append(run)
        self.events.append(told)
        return run

    def data_version(self, asset, partition):
        record = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition]), limit=1
        ).records[0]
        return record.asset_materialization.tags["dagster/data_version"]


@pytest.fixture(scope="module")
def night(small_night, tmp_path_factory):
    """The night after a first run, a second, and a third with the raw file of one spoilt."""
    folder = tmp_path_factory.mktemp("foreground")
    shutil.copytree(small_night, folder / "raw")
    settings = Settings(raw_roots=(folder / "raw",), archive_root=folder / "archive", workers=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        with open_instance(settings) as instance:
            night = Night(settings, instance)
            night.run()
            night.run()
            spoilt = read_night(settings.raw_roots, NIGHT).observations[1].files[0]
            spoilt.write_bytes(spoilt.read_bytes()[: spoilt.stat().st_size // 2])
            night.run()
            yield night


def test_the_first_run_makes_every_product(night):
    run = night.runs[0]
    assert run.succeeded, run.problems
    assert len(run.observations) == 2
    expected = {(NIGHT, asset) for asset in (*CALIBRATION_ASSETS, *SUMMARY_ASSETS)}
    expected |= {(o, asset) for o in run.observations for asset in OBSERVATION_STAGES}
    assert set(run.products) == expected
    # An empty PSF library is a reason and no failure.
    skipped = {asset for (_, asset), e in run.products.items() if e.status == "skipped"}
    no_library = {"pca_residual", "contrast_curve", "contrast_summary"}
    stars = {"extended_object", *(s for s in OBSERVATION_STAGES if s.startswith("faint_star"))}
    assert skipped == no_library | stars
    strehl = run.products[run.observations[0], "strehl_ratio"]
    assert 0 < strehl.figures["strehl_percent"] < 100


def test_events_are_told_job_by_job(night):
    told = night.events[0]
    starts = [event.job for event in told if event.kind == "job_started"]
    assert starts == ["calibrate_night", "reduce_observations", "summarise_night"]
    jobs = [event.job for event in told]
    assert jobs == sorted(jobs, key=starts.index)


def test_the_archive_and_the_instance_agree(night):
    paths = ArchivePaths(night.settings.archive_root)
    first = night.runs[0].observations[0]
    assert paths.stack(NIGHT, first, 100).is_file()
    assert paths.summary_plot(NIGHT, "strehl").is_file()
    made = night.instance.get_materialized_partitions(dg.AssetKey("bright_star_stack"))
    assert made == set(night.runs[0].observations)
    assert (night.settings.archive_root / "dagster" / "dagster.yaml").is_file()


def test_checks_were_evaluated(night):
    for asset, name in (
        ("raw_night", "every_raw_file_is_understood"),
        ("master_darks", "dark_noise"),
        ("master_flats", "flat_level"),
        ("bad_pixel_mask", "bad_pixel_count"),
        ("strehl_ratio", "strehl_flag"),
        ("pca_residual", "references_current"),
    ):
        key = dg.AssetCheckKey(dg.AssetKey(asset), name)
        records = night.instance.event_log_storage.get_asset_check_execution_history(key, 10)
        assert any(getattr(record.evaluation, "passed", False) for record in records), name
        if name in ("strehl_flag", "references_current"):
            # Else Dagster shows the partitions of the check as not evaluated.
            infos = night.instance.event_log_storage.get_asset_check_partition_info([key])
            first = night.runs[0].observations[0]
            assert next(info for info in infos if info.partition_key == first).is_current


def test_the_second_run_finds_everything_unchanged(night):
    run = night.runs[1]
    assert run.succeeded, run.problems
    assert run.products.keys() == night.runs[0].products.keys()
    remade = {asset for (_, asset), e in run.products.items() if e.status == "done"}
    # Registering is cheap and always done: the catalogue may have been lost.
    assert remade <= {"raw_night"}


def test_a_spoilt_file_stops_only_its_own_observation(night):
    run = night.runs[2]
    good, bad = run.observations
    assert not run.succeeded, run.problems
    assert all(p.startswith(f"{bad}: ") for p in run.problems), run.problems
    assert {run.products[bad, stage].kind for stage in BROKEN} == {"failed"}
    assert {run.products[good, stage].kind for stage in OBSERVATION_STAGES} == {"materialised"}
    assert run.products[NIGHT, "strehl_summary"].kind == "materialised"
    statuses = {
        night.instance.get_run_by_id(run_id).job_name: night.instance.get_run_by_id(run_id).status
        for run_id in run.run_ids.values()
    }
    assert statuses == {
        "calibrate_night": dg.DagsterRunStatus.SUCCESS,
        "reduce_observations": dg.DagsterRunStatus.FAILURE,
        "summarise_night": dg.DagsterRunStatus.SUCCESS,
    }


def test_products_carry_their_data_version(night):
    for observation in night.runs[0].observations:
        version = night.data_version("bright_star_stack", observation)
        assert re.fullmatch(r"\d+-[0-9a-f]{64}", version)


def test_a_night_without_darks_says_so_and_begins_no_observation(small_night, tmp_path):
    raw = tmp_path / "raw"
    without = shutil.ignore_patterns("dark_*", "seeing_*")
    shutil.copytree(small_night, raw, ignore=without)
    settings = Settings(raw_roots=(raw,), archive_root=tmp_path / "archive")
    with dg.DagsterInstance.ephemeral() as instance:
        run = run_night(settings, NIGHT, instance)
    assert set(run.run_ids) == {"calibrate_night"}
    assert any("master_darks" in p and "0 dark and" in p for p in run.problems), run.problems


def test_a_night_that_is_nowhere(tmp_path):
    settings = Settings(raw_roots=(tmp_path,), archive_root=tmp_path / "archive")
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(RawDataError, match="no raw data of the night 20170607"),
    ):
        run_night(settings, NIGHT, instance)


class Freshness:
    """What Dagster's pages say of an observation's products."""

    def __init__(self, night):
        self.night = night

    def stale(self, observation):
        graph = build_definitions(load_code_location(self.night.settings)).resolve_asset_graph()
        loading = LoadingContextForTest(self.night.instance)
        resolver = CachingStaleStatusResolver(self.night.instance, graph, loading)
        return {
            stage: {cause.category for cause in causes}
            for stage in OBSERVATION_STAGES
            if (causes := resolver.get_stale_causes(dg.AssetKey(stage), observation))
        }


def test_dagster_shows_what_is_stale_and_why(night, monkeypatch):
    fresh = Freshness(night)
    observation = night.runs[0].observations[0]
    assert fresh.stale(observation) == {}
    with monkeypatch.context() as patch:
        patch.setitem(CODE_VERSIONS, "strehl_ratio", "99")
        assert fresh.stale(observation) == {"strehl_ratio": {StaleCauseCategory.CODE}}
    dark = next((night.settings.raw_roots[0] / NIGHT).glob("dark_6*"))
    dark.write_bytes(dark.read_bytes() + b"\n")
    job = build_definitions(load_code_location(night.settings)).resolve_job_def("calibrate_night")
    job.execute_in_process(
        instance=night.instance, tags={"dagster/partition": NIGHT}, raise_on_error=False
    )
    stale = fresh.stale(observation)
    assert stale["bright_star_stack"] == {StaleCauseCategory.DATA}
    assert "bright_star_preview" not in stale  # its own input is what it was
    night.run()
    assert fresh.stale(observation) == {}
