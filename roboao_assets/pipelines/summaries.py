"""Night summaries: the Strehl ratios and the contrast curves of a night on one page each."""

from collections.abc import Callable
from typing import Any

from roboao_assets.pipelines.freshness import fingerprint, is_current, product_record
from roboao_assets.pipelines.night_plots import (
    NightCurve,
    StrehlPoint,
    contrast_plot,
    strehl_plot,
)
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.storage.catalogue import ObservationQuery, product
from roboao_assets.storage.files import write_bytes_whole

PIPELINE = "bright_star"


def summarise_strehl(ws: Workspace, night: str, *, force: bool = False) -> StageOutcome:
    """Plot the Strehl ratios of the night against time: `strehl.YYYYMMDD.png`."""
    measured = [
        (document, product(document, f"{PIPELINE}.strehl")) for document in _observations(ws, night)
    ]
    measured = [(d, s) for d, s in measured if s.get("ratio_percent") is not None]
    inputs = [[d["_id"], s.get("fingerprint")] for d, s in measured]
    if not measured:
        reason = f"no observation of {night} has a Strehl ratio"
        return _nothing("strehl_summary", reason)

    def draw() -> bytes:
        points = [
            StrehlPoint(
                utc=d["date_utc"],
                ratio_percent=s["ratio_percent"],
                ratio_error_percent=s.get("ratio_error_percent"),
                filter_name=d["filter"],
                flag=s.get("flag", ""),
            )
            for d, s in measured
        ]
        return strehl_plot(points, title=f"Strehl ratio {night}")

    return _summarise(ws, night, "strehl_summary", "strehl", inputs, draw, force=force)


def summarise_contrast(ws: Workspace, night: str, *, force: bool = False) -> StageOutcome:
    """Plot the contrast curves of the night: `contrast_curve.YYYYMMDD.png`."""
    measured = [
        (document, product(document, f"{PIPELINE}.pca")) for document in _observations(ws, night)
    ]
    measured = [(d, p) for d, p in measured if p.get("contrast_curve")]
    inputs = [[d["_id"], p["contrast"]["fingerprint"]] for d, p in measured]
    if not measured:
        reason = f"no observation of {night} has a contrast curve (is the PSF library empty?)"
        return _nothing("contrast_summary", reason)

    def draw() -> bytes:
        curves = [
            NightCurve(
                separation_arcsec=p["contrast_curve"][0],
                contrast_mag=p["contrast_curve"][1],
                filter_name=d["filter"],
            )
            for d, p in measured
        ]
        return contrast_plot(curves, title=f"Contrast {night}")

    return _summarise(ws, night, "contrast_summary", "contrast_curve", inputs, draw, force=force)


def _observations(ws: Workspace, night: str) -> list[dict[str, Any]]:
    query = ObservationQuery(nights=(night,), summary_only=True)
    return ws.catalogue.find_observations(query)


def _nothing(stage: str, reason: str) -> StageOutcome:
    return StageOutcome(
        stage=stage, status="skipped", reason=reason, fingerprint=fingerprint(stage, [])
    )


def _summarise(
    ws: Workspace,
    night: str,
    stage: str,
    kind: str,
    inputs: list[list[Any]],
    draw: Callable[[], bytes],
    *,
    force: bool,
) -> StageOutcome:
    """Draw the plot of `kind` unless it stands for just these inputs."""
    identity = fingerprint(stage, inputs)
    stored = (ws.catalogue.night(night) or {}).get(kind)
    if not force and is_current(stored, identity, ws.paths.root):
        return StageOutcome(
            stage=stage,
            status="unchanged",
            fingerprint=identity,
            metadata={"observations": len(inputs)},
        )
    picture = draw()
    path = ws.paths.summary_plot(night, kind)
    write_bytes_whole(path, picture)
    ws.catalogue.put_image(f"{night}/{kind}", picture, night=night)
    ws.catalogue.publish_night(night, kind, product_record(ws.paths.root, identity, [path]))
    return StageOutcome(
        stage=stage,
        status="done",
        fingerprint=identity,
        metadata={"observations": len(inputs)},
        preview_png=picture,
    )
