"""The PSF library as Dagster sees it: its own page, the sensor, and who is stale."""

import sys
from pathlib import Path

import dagster as dg
import pytest

from roboao_assets.definitions import build_definitions
from roboao_assets.orchestration.partitions import ArchivePartitions
from roboao_assets.orchestration.reference_checks import failing_observations
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.manifest import Manifest
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_library import PsfLibrary
from roboao_assets.storage.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "pipelines"))
from library_stars import ID, NIGHT, later, library_star, reduced  # noqa: E402

OTHER = f"4_HD_2_VIC_lp600_o_{NIGHT}_053211.000000"
CHECK = dg.AssetCheckKey(dg.AssetKey("pca_residual"), "references_current")


class Archive:
    """Two reduced observations, a library, and the Dagster deployment that they belong to."""

    def __init__(self, root, instance):
        self.settings = Settings(archive_root=root, high_contrast={"references": 1})
        self.paths, self.instance = ArchivePaths(root), instance
        self.library = PsfLibrary(self.paths.psf_library)
        self.library.add(library_star("good", 0.9, 1))
        self.library.add(library_star("red", 0.9, 2, filter_name="lp600"))
        with open_catalogue(self.settings.resolved_catalogue_url) as catalogue:
            reduced(catalogue, self.paths, ["good"])
            reduced(catalogue, self.paths, ["red"], OTHER)
        for observation in (ID, OTHER):
            instance.report_runless_asset_event(
                dg.AssetMaterialization("pca_residual", partition=observation)
            )
        location = CodeLocation(
            settings=self.settings,
            partitions=ArchivePartitions(Manifest().with_nights({NIGHT: [ID, OTHER]})),
        )
        self.definitions = build_definitions(location)
        sensors = self.definitions.get_repository_def().sensor_defs
        self.sensor = next(s for s in sensors if s.name == "psf_library_changes")

    def observe(self):
        job = self.definitions.resolve_job_def("follow_psf_library")
        done = job.execute_in_process(instance=self.instance)
        assert done.success
        (event,) = done.get_asset_observation_events()
        return {
            k: v.value for k, v in event.asset_observation_data.asset_observation.metadata.items()
        }

    def evaluations(self):
        """What the check says of each observation, the last word of each."""
        records = self.instance.event_log_storage.get_asset_check_execution_history(CHECK, 100)
        told = {}
        for record in reversed(records):
            told[record.evaluation.partition] = record.evaluation
        return told

    def tick(self, cursor=None):
        return self.sensor(dg.build_sensor_context(instance=self.instance, cursor=cursor))


@pytest.fixture
def archive(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        yield Archive(tmp_path, instance)


def test_the_page_of_the_library_lists_its_stars_and_last_change(archive):
    archive.library.add(library_star("last|one", 0.1), by="duev", comment="looks single")
    page = archive.observe()
    assert page["stars"] == page["changes"] == 3
    assert "| last\\|one | object of last\\|one | Si | 10.0 |  |" in page["list"]
    assert "last|one added by duev (looks single)" in page["last_change"]


def test_a_change_is_told_to_those_concerned_and_taken_back(archive):
    assert archive.observe()["stale_observations"] == 0
    assert archive.evaluations() == {}, "nothing is told of those that were current"
    archive.library.add(library_star("better", 0.99, 3, added=later()))
    assert archive.observe()["stale_observations"] == 1
    (evaluation,) = archive.evaluations().values()
    assert (evaluation.partition, evaluation.passed) == (ID, False)
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    assert "better was added (correlation 0.9" in evaluation.description
    assert failing_observations(archive.instance) == {ID}
    assert archive.instance.get_runs_count() == 2, "nothing was redone"

    archive.library.remove("better")
    assert archive.observe()["stale_observations"] == 0
    assert archive.evaluations()[ID].passed
    assert failing_observations(archive.instance) == set()

    archive.library.remove("red")
    archive.observe()
    assert "red was removed" in archive.evaluations()[OTHER].description
    assert archive.evaluations()[ID].passed


def test_the_page_of_the_check_counts_the_evaluation_for_the_product_that_is_there(archive):
    archive.library.remove("good")
    archive.observe()
    (info,) = archive.instance.event_log_storage.get_asset_check_partition_info([CHECK])
    assert info.is_current, "else Dagster shows the check of this observation as not evaluated"


def test_the_check_alone_judges_and_makes_nothing(archive):
    archive.library.remove("good")
    archive.library.remove("red")
    job = dg.define_asset_job(
        "checks",
        selection=dg.AssetSelection.checks(CHECK),
    )
    resolved = dg.Definitions(
        assets=archive.definitions.assets, jobs=[job], executor=dg.in_process_executor
    ).resolve_job_def("checks")
    assert resolved.execute_in_process(
        instance=archive.instance, tags={"dagster/partition": ID}
    ).success
    assert "good was removed" in archive.evaluations()[ID].description
    assert OTHER not in archive.evaluations()
    made = archive.instance.fetch_materializations(dg.AssetKey("strehl_ratio"), limit=1)
    assert made.records == []


def test_the_sensor_asks_for_one_look_after_each_change(archive):
    first = archive.tick()
    assert len(first.run_requests) == 1
    assert isinstance(archive.tick(first.cursor), dg.SkipReason)
    archive.library.path.touch()
    same = archive.tick(first.cursor)
    assert same.run_requests == []
    archive.library.remove("good")
    archive.library.add(library_star("good", 0.9, 1))
    again = archive.tick(same.cursor)
    assert len(again.run_requests) == 1
    assert again.run_requests[0].run_key != first.run_requests[0].run_key


def test_the_sensor_without_a_library_or_with_a_broken_one(archive):
    archive.library.path.write_bytes(b"no library")
    assert "cannot be read" in archive.tick().skip_message
    archive.library.path.unlink()
    assert "there is no PSF library" in archive.tick().skip_message
