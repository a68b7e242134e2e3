import dagster as dg
import pytest

from roboao_assets.orchestration.partitions import (
    ArchivePartitions,
    load_partitions,
    register_raw_nights,
)
from roboao_assets.storage.manifest import Manifest
from roboao_assets.storage.settings import Settings

A = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
B = "24_HD1_VIC_Si_o_20160925_030000.000000"
C = "1.5_X_VIC_Si_o_20160926_020000.5"


@pytest.fixture
def partitions():
    return ArchivePartitions(
        Manifest().with_nights({"20160925": [A, B], "20160926": [C], "20160927": []})
    )


def test_a_night_is_a_contiguous_range_in_time_order(partitions):
    assert partitions.observations.get_partition_keys() == [B, A, C]
    assert partitions.nights.get_partition_keys() == ["20160925", "20160926", "20160927"]
    assert partitions.observation_range("20160925") == (B, A)
    assert partitions.observation_range("20160926") == (C, C)
    assert partitions.observation_range("20160927") is None
    assert partitions.observation_range("20160101") is None


def mapped(mapping, upstream, downstream, key):
    subset = upstream.empty_subset().with_partition_keys([key])
    return mapping.get_downstream_partitions_for_partitions(
        subset, upstream, downstream
    ).get_partition_keys()


def test_nights_and_observations_map_to_each_other_and_to_no_other(partitions):
    nights, observations = partitions.nights, partitions.observations
    there, back = partitions.night_to_observations, partitions.observations_to_night
    assert set(mapped(there, nights, observations, "20160925")) == {A, B}
    assert set(mapped(there, nights, observations, "20160927")) == set()
    assert set(mapped(back, observations, nights, C)) == {"20160926"}
    there.validate_partition_mapping(nights, observations)
    back.validate_partition_mapping(observations, nights)


def test_an_archive_without_manifest_gets_one_once(tmp_path):
    raw = tmp_path / "raw"
    (raw / "20160925").mkdir(parents=True)
    (raw / "20160925" / f"{A}.fits.bz2").touch()
    settings = Settings(raw_roots=(raw,), archive_root=tmp_path / "archive", settle_s=0)
    assert load_partitions(settings).observations.get_partition_keys() == [A]
    (raw / "20160926").mkdir()
    (raw / "20160926" / f"{C}.fits.bz2").touch()
    assert load_partitions(settings).observations.get_partition_keys() == [A]
    assert register_raw_nights(settings) == {"20160925": (A,), "20160926": (C,)}
    assert load_partitions(settings).observations.get_partition_keys() == [A, C]


def test_no_raw_root_and_no_manifest_is_an_archive_without_nights(tmp_path):
    settings = Settings(archive_root=tmp_path / "archive")
    partitions = load_partitions(settings)
    assert partitions.nights.get_partition_keys() == []
    assert isinstance(partitions.observations, dg.StaticPartitionsDefinition)
    assert not (tmp_path / "archive").exists()
