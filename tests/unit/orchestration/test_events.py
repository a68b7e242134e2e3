import base64
import io
import math

import dagster as dg
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from roboao_assets.orchestration.events import (
    failure_observation,
    materialization,
    materialize_result,
    night_page,
    observation_page,
    strehl_flag_evaluation,
)
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.storage.settings import Settings


def outcome(**values):
    return StageOutcome(
        **{"stage": "strehl_ratio", "status": "done", "fingerprint": "f00", **values}
    )


def test_a_product_carries_its_data_version_and_figures():
    event = materialization(
        "obs", outcome(metadata={"ratio_percent": 12.5}, preview_png=b"png"), {"a": "b"}
    )
    assert event.asset_key == dg.AssetKey("strehl_ratio")
    assert event.partition == "obs"
    assert event.tags == {"a": "b"}
    assert event.metadata["status"].value == "done"
    assert event.metadata["ratio_percent"].value == 12.5
    assert event.metadata["preview"].value == "![strehl_ratio](data:image/png;base64,cG5n)"


def test_figures_that_json_or_dagster_do_not_know():
    event = materialization(
        "obs", outcome(metadata={"a": math.nan, "b": np.float32(2.0), "c": np.int64(3)}), {}
    )
    assert [event.metadata[name].value for name in "abc"] == ["nan", 2.0, 3]


def test_a_large_picture_is_made_small():
    noise = np.random.default_rng(1).integers(0, 255, (900, 700, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    event = materialization("obs", outcome(preview_png=file.getvalue()), {})
    text = event.metadata["preview"].value
    head, encoded = text.rstrip(")").split(",")
    assert head == "![strehl_ratio](data:image/jpeg;base64"
    assert len(encoded) < 100_000
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as small:
        assert small.size == (249, 320)


def test_a_night_product():
    result = materialize_result(outcome(stage="master_darks", status="unchanged"))
    assert result.data_version.value == "f00"
    assert result.metadata["status"] == "unchanged"


def test_a_failed_stage_tells_its_reason_without_becoming_a_version():
    event = failure_observation("obs", outcome(status="failed", reason="no star", fingerprint=""))
    assert event.tags == {}
    assert event.metadata["reason"].value == "no star"


def test_the_flag_check():
    good = strehl_flag_evaluation("obs", outcome(metadata={"flag": "OK"}))
    bad = strehl_flag_evaluation("obs", outcome(metadata={"flag": "BAD?"}))
    skipped = strehl_flag_evaluation("obs", outcome(status="skipped", reason="no star"))
    assert [e.passed for e in (good, bad, skipped)] == [True, False, True]
    assert bad.severity == dg.AssetCheckSeverity.WARN
    assert bad.partition == "obs"


def test_events_lead_to_the_pages_of_the_dashboard():
    settings = Settings(dashboard_url="https://archive.example.org/roboao/")
    page = observation_page(settings, "4_a b/<_VIC_Si_o_20170607_043211.367797")
    expected = "observation?id=4_a%20b%2F%3C_VIC_Si_o_20170607_043211.367797"
    assert page == f"https://archive.example.org/roboao/{expected}"
    for event in (
        materialization("obs", outcome(), {}, page),
        failure_observation("obs", outcome(status="failed", reason="no"), page),
        materialize_result(outcome(), page),
    ):
        assert event.metadata["dashboard"] == dg.MetadataValue.url(page)
    assert "dashboard" not in materialization("obs", outcome(), {}).metadata
    night = night_page(Settings(dashboard_port=5099), "20170607")
    assert night == "http://127.0.0.1:5099/night?night=20170607"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "archive.example.org", "http://a b"])
def test_what_is_no_address_of_the_dashboard_is_refused(url):
    with pytest.raises(ValidationError):
        Settings(dashboard_url=url)
