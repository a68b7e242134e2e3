"""A night on one page: HTML that needs nothing else, to be read, kept or sent.

Pictures are in it, and nothing is loaded from anywhere.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from roboao_assets.pipelines.freshness import fingerprint, product_record
from roboao_assets.pipelines.night_table import NightRow, night_rows
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.storage.catalogue import ObservationQuery, leading_pipeline, product
from roboao_assets.storage.files import write_text_whole

STAGE, SECTION = "night_report", "report"
_PLOTS = (
    ("seeing", "Seeing"),
    ("strehl", "Strehl ratio"),
    ("contrast_curve", "Contrast curves"),
)
_PLOT_WIDTH_PX = 900
_THUMBNAIL_PX = 150
# Candidates that noise gives no oftener than this are named.
_FALSE_ALARM = 1e-2

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c2127; background: #ffffff;
       max-width: 1060px; margin: 24px auto; padding: 0 16px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 32px 0 8px; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #d7dce2; padding: 5px 8px; text-align: left;
         vertical-align: top; }
th { color: #5a6572; font-weight: 600; } td.figure { text-align: right; white-space: nowrap; }
img.plot { width: 100%; max-width: 900px; display: block; margin: 8px 0 16px; }
img.thumbnail { width: 110px; display: block; }
.quiet { color: #5a6572; } .failed { color: #b3261e; } .id { word-break: break-all; }
@media print { tr { break-inside: avoid; } }
"""


def report_night(ws: Workspace, night: str, *, force: bool = False) -> StageOutcome:
    """Write `summary/report.YYYYMMDD.html`: all that is known of the night."""
    rows = night_rows(ws.catalogue, night)
    document = ws.catalogue.night(night) or {}
    if not rows and not document:
        reason = f"the catalogue knows nothing of the night {night}"
        return StageOutcome(
            stage=STAGE, status="skipped", reason=reason, fingerprint=fingerprint(STAGE, [])
        )
    observations = {
        o["_id"]: o for o in ws.catalogue.find_observations(ObservationQuery(nights=(night,)))
    }
    identity = fingerprint(STAGE, _inputs(rows, document, observations))
    stored = document.get(SECTION)
    kept = "" if force else ws.kept(stored, identity)
    if kept:
        return StageOutcome(stage=STAGE, status="unchanged", fingerprint=kept)
    page = _page(ws, night, rows, document, observations)
    path = ws.paths.night_report(night)
    write_text_whole(path, page)
    ws.catalogue.publish_night(night, SECTION, product_record(ws.paths.root, identity, [path]))
    return StageOutcome(
        stage=STAGE,
        status="done",
        fingerprint=identity,
        metadata={"observations": len(rows), "size_bytes": path.stat().st_size},
    )


def _inputs(
    rows: Sequence[NightRow],
    document: Mapping[str, Any],
    observations: Mapping[str, Mapping[str, Any]],
) -> list[Any]:
    sections = {name: (document.get(name) or {}).get("fingerprint") for name, _ in _PLOTS}
    pictures = [
        [
            product(observations[row.observation], f"{pipeline}.{part}").get("fingerprint")
            for pipeline in ("bright_star", "faint_star")
            for part in ("preview", "pca")
        ]
        + [product(observations[row.observation], "extended_object").get("fingerprint")]
        for row in rows
    ]
    comment = (document.get("calib") or {}).get("comment")
    return [sections, comment, [str(row) for row in rows], pictures]


def _page(
    ws: Workspace,
    night: str,
    rows: Sequence[NightRow],
    document: Mapping[str, Any],
    observations: Mapping[str, Mapping[str, Any]],
) -> str:
    title = f"Robo-AO, night {night[:4]}-{night[4:6]}-{night[6:]}"
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *_summary(rows, document),
        *_plots(ws, night),
        "<h2>Observations</h2>",
        _table(ws, rows, observations),
        *_remarks(rows, document),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _summary(rows: Sequence[NightRow], document: Mapping[str, Any]) -> Iterator[str]:
    seeing = document.get("seeing") or {}
    done = sum(row.status == "done" for row in rows)
    facts = [
        f"{len(rows)} observations, {done} reduced, {sum(row.failed for row in rows)} with failures"
    ]
    if seeing.get("median") is not None:
        number = len(seeing.get("frames") or ())
        facts.append(
            f'seeing in {number} exposures: median {seeing["median"]:.2f}", '
            f'mean {seeing["mean"]:.2f}"'
        )
    ratios = sorted(row.strehl_percent for row in rows if row.strehl_percent is not None)
    if ratios:
        facts.append(f"Strehl ratio {ratios[0]:.1f} to {ratios[-1]:.1f} %")
    calib = document.get("calib") or {}
    if calib.get("comment"):
        facts.append(f"calibration: {calib['comment']}")
    yield "".join(f"<p>{escape(fact)}</p>" for fact in facts)


def _plots(ws: Workspace, night: str) -> Iterator[str]:
    for kind, caption in _PLOTS:
        png = ws.catalogue.image(f"{night}/{kind}")
        if png is None:
            yield f'<h2>{caption}</h2><p class="quiet">not measured this night</p>'
        else:
            picture = _inline(png, _PLOT_WIDTH_PX)
            yield f'<h2>{caption}</h2><img class="plot" alt="{caption}" src="{picture}">'


def _table(
    ws: Workspace, rows: Sequence[NightRow], observations: Mapping[str, Mapping[str, Any]]
) -> str:
    heads = ("", "observation", "class", "Strehl (%)", 'seeing (")', 'at 1" (mag)', "companions")
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(_line(ws, row, observations[row.observation]) for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _line(ws: Workspace, row: NightRow, document: Mapping[str, Any]) -> str:
    leading = leading_pipeline(document)
    kinds = ("cropped", "deconvolved") if leading == "extended_object" else ("cropped",)
    found = [ws.catalogue.image(f"{row.observation}/{leading}/{kind}") for kind in kinds]
    picture = "".join(
        f'<img class="thumbnail" alt="" src="{_inline(png, _THUMBNAIL_PX)}">'
        for png in found
        if png is not None
    )
    strehl = _figure(row.strehl_percent, ".1f")
    if row.strehl_error_percent is not None:
        strehl += f" ± {row.strehl_error_percent:.1f}"
    state = f'<div class="failed">{escape(row.status)}</div>' if row.failed else ""
    return (
        f'<tr><td>{picture}</td><td class="id">{escape(row.observation)}{state}</td>'
        f"<td>{escape(row.classified_as or '-')}</td>"
        f'<td class="figure">{strehl}</td>'
        f'<td class="figure">{_figure(row.seeing_arcsec, ".2f")}</td>'
        f'<td class="figure">{_figure(row.contrast_1_arcsec_mag, ".1f")}</td>'
        f"<td>{_companions(document)}</td></tr>"
    )


def _companions(document: Mapping[str, Any]) -> str:
    candidates = product(document, f"{leading_pipeline(document, 'pca')}.pca").get("candidates")
    return "<br>".join(
        f'{c["separation_arcsec"]:.2f}", PA {c["pa_deg"]:.0f}°, {c["contrast_mag"]:.1f} mag'
        for c in candidates or ()
        if c["false_alarm_probability"] <= _FALSE_ALARM
    )


def _remarks(rows: Sequence[NightRow], document: Mapping[str, Any]) -> Iterator[str]:
    remarks = [
        f"{row.observation}: {reason}" for row in rows for reason in row.reasons if row.failed
    ]
    discarded = (document.get("seeing") or {}).get("discarded") or ()
    remarks += [f"{name}: {reason}" for name, reason in discarded]
    if remarks:
        items = "".join(f'<li class="id">{escape(remark)}</li>' for remark in remarks)
        yield f"<h2>Failures and what was left out</h2><ul>{items}</ul>"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _inline(png: bytes, width_px: int) -> str:
    """Picture as an address that holds it: JPEG, as wide as it is shown at most."""
    with Image.open(io.BytesIO(png)) as full:
        picture = full.convert("RGB")
    if picture.width > width_px:
        height = round(picture.height * width_px / picture.width)
        picture = picture.resize((width_px, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
