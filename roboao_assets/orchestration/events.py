"""Stage outcomes as Dagster events: data versions, figures, small inline pictures."""

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

import dagster as dg
from PIL import Image

from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.storage.page_links import night_url, observation_url
from roboao_assets.storage.settings import Settings

# An inline picture is part of a row of the event log: the archive has the large one.
MAX_PREVIEW_BYTES = 50_000
_THUMBNAIL_PX = 320


def outcome_metadata(outcome: StageOutcome, page: str = "") -> dict[str, Any]:
    """Return what the asset's page shows of an outcome; `page` of the dashboard shows the rest."""
    metadata: dict[str, Any] = {"status": outcome.status}
    if page:
        metadata["dashboard"] = dg.MetadataValue.url(page)
    if outcome.reason:
        metadata["reason"] = outcome.reason
    metadata.update({name: _figure(value) for name, value in outcome.metadata.items()})
    metadata["seconds"] = round(outcome.seconds, 3)
    if outcome.preview_png is not None:
        metadata["preview"] = preview_metadata(outcome.preview_png, outcome.stage)
    return metadata


def _figure(value: Any) -> str | int | float:
    # NaN is not JSON, and NumPy's scalars are nothing that Dagster knows.
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float) and not math.isfinite(plain):
        return str(plain)
    return plain


def preview_metadata(png: bytes, name: str) -> dg.MetadataValue:
    """Return a picture, made small if need be, that the pages show inline."""
    kind, picture = ("png", png) if len(png) <= MAX_PREVIEW_BYTES else ("jpeg", _thumbnail(png))
    encoded = base64.b64encode(picture).decode("ascii")
    return dg.MetadataValue.md(f"![{name}](data:image/{kind};base64,{encoded})")


def _thumbnail(png: bytes) -> bytes:
    with Image.open(io.BytesIO(png)) as full:
        small = full.convert("RGB")
    # At this size a JPEG of pure noise has less than MAX_PREVIEW_BYTES.
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return file.getvalue()


def night_page(settings: Settings, night: str) -> str:
    """Return the address of a night's page of the dashboard."""
    return settings.resolved_dashboard_url + night_url(night)


def observation_page(settings: Settings, observation: str) -> str:
    """Return the address of an observation's page of the dashboard."""
    return settings.resolved_dashboard_url + observation_url(observation)


def materialize_result(outcome: StageOutcome, page: str = "") -> dg.MaterializeResult:
    """Return the result of a night's asset. The outcome must not be a failed one."""
    return dg.MaterializeResult(
        metadata=outcome_metadata(outcome, page),
        data_version=dg.DataVersion(outcome.fingerprint) if outcome.fingerprint else None,
    )


def materialization(
    observation: str, outcome: StageOutcome, tags: Mapping[str, str], page: str = ""
) -> dg.AssetMaterialization:
    """Return the event that says that a product of an observation is there.

    `tags` tell what it was made from (`provenance.ProvenanceTags`), `page` is its address on the
    dashboard.
    """
    return dg.AssetMaterialization(
        asset_key=outcome.stage,
        partition=observation,
        description=outcome.reason or None,
        metadata=outcome_metadata(outcome, page),
        tags=tags,
    )


def failure_observation(
    observation: str, outcome: StageOutcome, page: str = ""
) -> dg.AssetObservation:
    """Return the event that tells, on the page of the asset, why a product is not there."""
    return dg.AssetObservation(
        asset_key=outcome.stage,
        partition=observation,
        description=outcome.reason,
        metadata={**outcome_metadata(outcome, page), "error": outcome.error_type or "-"},
    )


def strehl_flag_evaluation(
    observation: str, outcome: StageOutcome, target: Any = None
) -> dg.AssetCheckEvaluation:
    """Return what the check of the Strehl ratio's flag says of an outcome of that stage.

    `target` is the materialisation that it is about: without it, Dagster counts the partition
    as not evaluated (`reference_checks.newest_product`). A flag of ``BAD?`` is a warning: the
    star may be a double, or the correction poor.
    """
    flag = str(outcome.metadata.get("flag", "")) or outcome.status
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("strehl_ratio"),
        check_name="strehl_flag",
        passed=flag != "BAD?",
        partition=observation,
        severity=dg.AssetCheckSeverity.WARN,
        description=outcome.reason or None,
        metadata={"flag": flag},
        target_materialization_data=target,
    )
