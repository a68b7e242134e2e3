"""The seeing of a night: each AO-off exposure measured, tabulated, plotted, told to all."""

import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path

from astropy.table import Table
from PIL import Image

from roboao_assets.pipelines.freshness import fingerprint, product_record
from roboao_assets.pipelines.night_plots import SeeingPoint, seeing_plot
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.seeing_exposure import MeasuredExposure, measure_exposure
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import ArchiveError
from roboao_assets.science.seeing import SeeingSummary, summarise_seeing
from roboao_assets.storage.catalogue import ObservationQuery
from roboao_assets.storage.files import write_bytes_whole, write_text_whole
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.tables import ecsv_text

# Steps in which the robust polynomial is drawn.
_TREND_POINTS = 60
# Of the animation: width, and how long each exposure is seen.
_MOVIE_WIDTH_PX = 640
_MOVIE_STEP_MS = 700
# What of an exposure is no figure of a table.
_NO_COLUMNS = ("fingerprint", "products")


def measure_night_seeing(ws: Workspace, night: str, *, force: bool = False) -> StageOutcome:
    """Measure every AO-off exposure of the night that changed, then tabulate and plot them all.

    An exposure that cannot be measured is left out and told of; it stops no other.
    """
    raw = read_night(ws.settings.raw_roots, night)
    stored = (ws.catalogue.night(night) or {}).get("seeing", {})
    known = {item["id"]: item for item in stored.get("measured", [])}
    measured: list[MeasuredExposure] = []
    discarded: list[list[str]] = []
    anew = 0
    for exposure in raw.seeing:
        try:
            one, fresh = measure_exposure(ws, night, exposure, known.get(exposure.id), force=force)
        except (ArchiveError, OSError) as error:
            discarded.append([exposure.id, str(error)])
            continue
        measured.append(one)
        anew += fresh
    identity = fingerprint("seeing", [m.fingerprint for m in measured], discarded)
    summary = None
    if measured:
        summary = summarise_seeing([m.utc for m in measured], [m.fwhm_arcsec for m in measured])
    kept = "" if anew else ws.kept(stored, identity)
    if not kept:
        products = _write_summary(ws, night, measured, summary, discarded)
        ws.catalogue.publish_night(
            night,
            "seeing",
            {
                "frames": [
                    [
                        m.id,
                        m.utc,
                        m.filter,
                        m.fwhm_arcsec,
                        m.fwhm_x_arcsec,
                        m.fwhm_y_arcsec,
                        m.exposure_s,
                    ]
                    for m in measured
                ],
                "measured": [asdict(m) for m in measured],
                "discarded": discarded,
                "median": summary.median_arcsec if summary else None,
                "mean": summary.mean_arcsec if summary else None,
                **product_record(ws.paths.root, identity, products),
            },
        )
        status = "done"
    else:
        status = "unchanged"
    if summary is not None:
        _tell_observations(ws, night, summary)
    metadata: dict[str, str | int | float] = {
        "exposures": len(raw.seeing),
        "measured": len(measured),
        "discarded": "; ".join(f"{name}: {reason}" for name, reason in discarded) or "none",
    }
    if summary is not None:
        metadata |= {
            "median_arcsec": summary.median_arcsec,
            "mean_arcsec": summary.mean_arcsec,
        }
    if not raw.seeing:
        return StageOutcome(
            stage="seeing",
            status="skipped",
            reason=f"the night {night} has no AO-off exposure (seeing_*)",
            fingerprint=identity,
            metadata=metadata,
        )
    return StageOutcome(
        stage="seeing",
        status=status,
        fingerprint=kept or identity,
        metadata=metadata,
        preview_png=ws.catalogue.image(f"{night}/seeing"),
    )


def _write_summary(
    ws: Workspace,
    night: str,
    measured: list[MeasuredExposure],
    summary: SeeingSummary | None,
    discarded: Sequence[Sequence[str]],
) -> list[Path]:
    table, details = ws.paths.seeing_table(night), ws.paths.seeing_details(night)
    rows = ["# id utc filter fwhm_arcsec fwhm_x_arcsec fwhm_y_arcsec exposure_s"]
    rows += [
        f"{m.id} {m.utc:%Y-%m-%dT%H:%M:%S.%f} {m.filter} {m.fwhm_arcsec:.4f} "
        f"{m.fwhm_x_arcsec:.4f} {m.fwhm_y_arcsec:.4f} "
        f"{'nan' if m.exposure_s is None else format(m.exposure_s, 'g')}"
        for m in measured
    ]
    write_text_whole(table, "\n".join(rows) + "\n")
    write_text_whole(details, _details_text(measured, discarded, ws.settings.seeing.model))
    if summary is None:
        return [table, details]
    picture = seeing_plot(
        [
            SeeingPoint(
                utc=m.utc,
                fwhm_arcsec=m.fwhm_arcsec,
                fwhm_error_arcsec=m.fwhm_error_arcsec,
                filter_name=m.filter,
                exposure_s=m.exposure_s,
            )
            for m in measured
        ],
        title=f"Seeing {night}" + (" (zenith, 500 nm)" if ws.settings.seeing.standard else ""),
        trend=_trend(summary),
        median_arcsec=summary.median_arcsec,
    )
    plot, movie = ws.paths.seeing_plot(night), ws.paths.seeing_movie(night)
    write_bytes_whole(plot, picture)
    ws.catalogue.put_image(f"{night}/seeing", picture, night=night)
    animation = _animate([ws.paths.seeing_preview(night, m.id) for m in measured])
    write_bytes_whole(movie, animation)
    ws.catalogue.put_image(f"{night}/seeing_movie", animation, night=night)
    return [table, details, plot, movie]


def _details_text(
    measured: Sequence[MeasuredExposure], discarded: Sequence[Sequence[str]], model: str
) -> str:
    """A row an exposure, the discarded ones in the header with their reasons."""
    columns = [f.name for f in fields(MeasuredExposure) if f.name not in _NO_COLUMNS]
    table = Table(
        {
            name: [
                value.isoformat() if isinstance(value := getattr(m, name), datetime)
                else float("nan") if value is None else value
                for m in measured
            ]
            for name in columns
        }
    )  # fmt: skip
    for name in columns:
        if name.endswith("_arcsec"):
            table[name].unit = "arcsec"
    table.meta = {"model": model, "discarded": dict(discarded)}
    return ecsv_text(table)


def _animate(pictures: Sequence[Path]) -> bytes:
    """Animated PNG of pictures that are there, in their order."""
    frames = []
    for path in pictures:
        with Image.open(path) as picture:
            height = round(picture.height * _MOVIE_WIDTH_PX / picture.width)
            # Colours of the stretch: a palette takes a third of the room.
            frames.append(
                picture.convert("RGB")
                .resize((_MOVIE_WIDTH_PX, height), Image.Resampling.LANCZOS)
                .quantize(128)
            )
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        format="png",
        save_all=True,
        append_images=frames[1:],
        duration=_MOVIE_STEP_MS,
        loop=0,
    )
    return buffer.getvalue()


def _trend(summary: SeeingSummary) -> list[tuple[datetime, float]]:
    first, last = summary.times[0], summary.times[-1]
    times = [first + (last - first) * k / _TREND_POINTS for k in range(_TREND_POINTS + 1)]
    return list(zip(times, summary.evaluate(times).tolist(), strict=True))


def _tell_observations(ws: Workspace, night: str, summary: SeeingSummary) -> None:
    """Give each observation the night's median and mean, and the seeing nearest in time."""
    query = ObservationQuery(nights=(night,), summary_only=True)
    for document in ws.catalogue.find_observations(query):
        time, value = summary.nearest(document["date_utc"])
        ws.catalogue.set_seeing(
            document["_id"],
            {
                "median": summary.median_arcsec,
                "mean": summary.mean_arcsec,
                "nearest": [time, value],
            },
        )
