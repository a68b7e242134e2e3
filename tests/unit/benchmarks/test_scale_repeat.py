"""A night's rows for other nights: every name, run, version and number is its own."""

import json
import os

import dagster as dg
import pytest

from benchmarks.scale_archive import ScaleArchive, Size, make_archive
from roboao_assets.orchestration.resources import load_code_location

SIZE = Size(nights=3, per_night=2)
STACK, STREHL = dg.AssetKey("bright_star_stack"), dg.AssetKey("strehl_ratio")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # The filling sets it.
        patch.setenv("DAGSTER_HOME", os.environ.get("DAGSTER_HOME", ""))
        yield make_archive(tmp_path_factory.mktemp("scale") / "archive", SIZE)


@pytest.fixture(scope="module")
def nights(archive):
    return load_code_location(archive.settings).partitions.manifest.nights


@pytest.fixture(scope="module")
def instance(archive):
    with dg.DagsterInstance.from_config(str(archive.home)) as opened:
        yield opened


def test_every_partition_of_every_asset_is_there(instance, nights):
    observations = {o for night in nights.values() for o in night}
    assert len(observations) == SIZE.observations
    for key in (STACK, STREHL, dg.AssetKey("psf_candidate")):
        assert instance.get_materialized_partitions(key) == observations
    for name in ("raw_night", "night_report"):
        assert instance.get_materialized_partitions(dg.AssetKey(name)) == set(nights)


def test_what_a_product_was_made_from_is_its_own_nights(instance, nights):
    versions = set()
    for night, observations in nights.items():
        for observation in observations:
            made = instance.get_latest_data_version_record(STREHL, False, observation)
            tags = made.event_log_entry.tags
            source = instance.get_latest_data_version_record(STACK, False, observation)
            pointer = tags["dagster/input_event_pointer/bright_star_stack"]
            assert pointer == str(source.storage_id)
            version = tags["dagster/input_data_version/bright_star_stack"]
            assert version == source.event_log_entry.tags["dagster/data_version"]
            versions.add(version)
            run = instance.get_run_by_id(made.event_log_entry.run_id)
            assert run.tags["roboao/night"] == night
    assert len(versions) == SIZE.observations


def test_nothing_is_left_to_fill_in(instance):
    for key in instance.all_asset_keys():
        (record,) = instance.get_asset_records([key])
        last = record.asset_entry.last_materialization_record
        assert "<<" not in json.dumps(last.event_log_entry.tags)
        assert instance.fetch_materializations(key, limit=1).records[0].storage_id == (
            last.storage_id
        )


def test_an_archive_that_is_complete_is_taken_as_it_is(archive):
    manifest = archive.settings.archive_root / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert make_archive(archive.folder, SIZE) == ScaleArchive(folder=archive.folder, size=SIZE)
    assert manifest.stat().st_mtime_ns == before
