import dagster as dg
import pytest

from roboao_assets.assets.observation_products import STAGES
from roboao_assets.automation.jobs import SUMMARY_ASSETS
from roboao_assets.definitions import build_definitions
from roboao_assets.orchestration.partitions import ArchivePartitions
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.pipelines.freshness import CODE_VERSIONS
from roboao_assets.pipelines.observation import OBSERVATION_STAGES
from roboao_assets.storage.manifest import Manifest
from roboao_assets.storage.settings import Settings

NIGHT_ASSETS = {
    "raw_night",
    "master_darks",
    "master_flats",
    "bad_pixel_mask",
    "seeing",
    "strehl_summary",
    "contrast_summary",
    "night_report",
}
OBSERVATION_ASSETS = {
    "bright_star_stack",
    "faint_star_stack",
    "extended_object",
    "astrometric_solution",
    "strehl_ratio",
    "bright_star_preview",
    "pca_residual",
    "contrast_curve",
    "faint_star_strehl_ratio",
    "faint_star_preview",
    "faint_star_pca_residual",
    "faint_star_contrast_curve",
    "psf_candidate",
    "distribution_package",
}
A = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
B = "24_HD1_VIC_Si_o_20160925_030000.000000"


def definitions(tmp_path, nights):
    location = CodeLocation(
        settings=Settings(archive_root=tmp_path / "archive"),
        partitions=ArchivePartitions(Manifest().with_nights(nights)),
    )
    return build_definitions(location)


@pytest.fixture
def graph(tmp_path):
    return definitions(tmp_path, {"20160925": [A, B]}).resolve_asset_graph()


def test_every_product_is_an_asset_with_what_the_pages_show(graph):
    names = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert names == NIGHT_ASSETS | OBSERVATION_ASSETS | {"psf_library"}
    for name in NIGHT_ASSETS | OBSERVATION_ASSETS:
        node = graph.get(dg.AssetKey(name))
        assert node.description
        assert node.group_name != "default"
        assert node.owners
        assert node.code_version == CODE_VERSIONS[name]


def test_each_is_partitioned_by_night_or_observation(graph):
    for name in NIGHT_ASSETS:
        assert graph.get(dg.AssetKey(name)).partitions_def.get_partition_keys() == ["20160925"]
    for name in OBSERVATION_ASSETS:
        node = graph.get(dg.AssetKey(name))
        assert node.partitions_def.get_partition_keys() == [B, A]
        assert node.backfill_policy == dg.BackfillPolicy.single_run()


def test_the_flow_goes_from_raw_to_summaries(graph):
    order = [k.to_user_string() for level in graph.toposorted_asset_keys_by_level for k in level]
    flow = ["raw_night", "master_darks", "master_flats", "bad_pixel_mask", "bright_star_stack"]
    for chain in (
        [*flow, "strehl_ratio", "strehl_summary"],
        [*flow, "pca_residual", "contrast_curve", "contrast_summary"],
        ["psf_library", "pca_residual", "psf_candidate"],
    ):
        assert sorted(chain, key=order.index) == chain


def test_checks_are_there_and_a_partition_each(graph):
    checks = {key.name: graph.get(key) for key in graph.asset_check_keys}
    assert set(checks) == {
        "every_raw_file_is_understood",
        "every_raw_file_is_there",
        "nothing_failed",
        "dark_noise",
        "flat_level",
        "bad_pixel_count",
        "strehl_flag",
        "references_current",
    }
    assert all(check.partitions_def is not None for check in checks.values())


def test_an_archive_without_nights_loads(tmp_path):
    repository = definitions(tmp_path, {}).get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} >= {
        "calibrate_night",
        "reduce_observations",
        "summarise_night",
    }


def test_the_stages_are_those_of_the_pipeline():
    assert STAGES == OBSERVATION_STAGES


@pytest.mark.parametrize(("scheduler", "pools"), [("", {"local_cluster"}), ("tcp://a:1", set())])
def test_runs_that_bring_a_cluster_of_their_own_are_in_one_pool(tmp_path, scheduler, pools):
    location = CodeLocation(
        settings=Settings(archive_root=tmp_path / "archive", dask_scheduler=scheduler),
        partitions=ArchivePartitions(Manifest()),
    )
    job = build_definitions(location).resolve_job_def("reduce_observations")
    assert job.get_node_named("reduce_observation").definition.pools == pools


def test_jobs_take_the_assets_of_their_grain(tmp_path):
    loaded = definitions(tmp_path, {"20160925": [A, B]})
    for job, assets in {
        "calibrate_night": NIGHT_ASSETS - set(SUMMARY_ASSETS),
        "reduce_observations": OBSERVATION_ASSETS,
        "summarise_night": set(SUMMARY_ASSETS),
        "follow_psf_library": {"psf_library"},
    }.items():
        layer = loaded.resolve_job_def(job).asset_layer
        assert {key.to_user_string() for key in layer.executable_asset_keys} == assets
