import dagster as dg
import pytest

from roboao_assets.orchestration import failures, night_stage
from roboao_assets.orchestration.night_stage import build_night_asset, run_night_stage
from roboao_assets.orchestration.partitions import ArchivePartitions
from roboao_assets.orchestration.resources import CodeLocation
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.storage.manifest import Manifest
from roboao_assets.storage.settings import Settings

NIGHT = "20160925"
DONE = StageOutcome(
    stage="master_darks", status="done", fingerprint="f00", metadata={"masters": "dark_0"}
)


def failed(error_type, *, retryable):
    return StageOutcome(
        stage="master_darks",
        status="failed",
        reason="what was looked for was not there",
        error_type=error_type,
        retryable=retryable,
    )


@pytest.fixture
def materialize(tmp_path, monkeypatch):
    """Materialise `master_darks` of a stage that ends as it is told to, attempt by attempt."""

    def run(*outcomes, force=False):
        asked = []
        endings = iter(outcomes)

        def end(stage, settings, night, *, force):
            asked.append((stage, night, force))
            return next(endings)

        monkeypatch.setattr(night_stage, "run_night_stage", end)
        monkeypatch.setattr(failures, "wait_before_retry_s", lambda attempt: 0)
        location = CodeLocation(
            settings=Settings(archive_root=tmp_path),
            partitions=ArchivePartitions(Manifest().with_nights({NIGHT: []})),
        )
        asset = build_night_asset(location, "master_darks", group="calibration", description="-")
        result = dg.materialize(
            [asset],
            partition_key=NIGHT,
            raise_on_error=False,
            run_config={"ops": {"master_darks": {"config": {"force": force}}}},
        )
        return result, asked

    return run


def test_a_product_is_materialised_with_its_figures(materialize):
    result, asked = materialize(DONE, force=True)
    assert asked == [("master_darks", NIGHT, True)]
    (made,) = result.asset_materializations_for_node("master_darks")
    assert made.partition == NIGHT
    assert made.metadata["masters"].value == "dark_0"
    assert made.tags["dagster/data_version"] == "f00"


def test_a_permanent_failure_is_not_tried_again(materialize):
    result, asked = materialize(failed("CalibrationMissingError", retryable=False))
    assert not result.success
    assert len(asked) == 1
    failure = result.failure_data_for_node("master_darks").user_failure_data
    assert failure.description == (f"master_darks of {NIGHT}: what was looked for was not there")


def test_an_unreachable_catalogue_is_tried_again(materialize):
    away = failed("CatalogueUnavailableError", retryable=True)
    result, asked = materialize(away, away, DONE)
    assert result.success
    assert len(asked) == 3


def test_but_not_for_ever(materialize):
    away = failed("CatalogueUnavailableError", retryable=True)
    result, asked = materialize(*[away] * 9)
    assert not result.success
    assert len(asked) == 1 + failures.MAX_RETRIES


def test_the_real_stages_take_these_names(tmp_path):
    settings = Settings(archive_root=tmp_path / "archive")
    for stage in ("raw_night", "master_darks", "master_flats", "bad_pixel_mask", "seeing"):
        outcome = run_night_stage(stage, settings, NIGHT)
        assert outcome.stage == stage
        assert outcome.status == "failed"
        assert "no raw data of the night 20160925 were found" in outcome.reason
