import base64
import io
import math

import dagster as dg
import numpy as np
from PIL import Image

from roboao_assets.orchestration.events import (
    failure_observation,
    materialization,
    materialize_result,
    strehl_flag_evaluation,
)
from roboao_assets.pipelines.outcome import StageOutcome


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
