"""The seeing of a night: each AO-off exposure measured, tabulated, plotted, told to all."""

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roboao_assets.pipelines.calibration import frame_calibration
from roboao_assets.pipelines.frames import frame_shape
from roboao_assets.pipelines.freshness import fingerprint, is_current, product_record
from roboao_assets.pipelines.night_plots import SeeingPoint, seeing_plot
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.previews import seeing_exposure_preview
from roboao_assets.pipelines.workspace import Workspace
from roboao_assets.science.errors import ArchiveError, RawDataError
from roboao_assets.science.frame_averages import FrameAverager
from roboao_assets.science.seeing import SeeingSummary, measure_seeing, summarise_seeing
from roboao_assets.storage.catalogue import ObservationQuery
from roboao_assets.storage.files import write_bytes_whole, write_text_whole
from roboao_assets.storage.raw_frames import file_record, read_frames
from roboao_assets.storage.raw_header import parse_facts, read_header
from roboao_assets.storage.raw_night import RawExposure, read_night

# Steps in which the robust polynomial is drawn.
_TREND_POINTS = 60


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """One AO-off exposure, as the night's document keeps it."""

    id: str
    utc: datetime
    filter: str
    fwhm_arcsec: float
    fwhm_x_arcsec: float
    fwhm_y_arcsec: float
    exposure_s: float | None
    fingerprint: str
    products: list[list[Any]]


def measure_night_seeing(ws: Workspace, night: str, *, force: bool = False) -> StageOutcome:
    """Measure every AO-off exposure of the night that changed, then tabulate and plot them all.

    An exposure that cannot be measured is left out and told of; it stops no other.
    """
    raw = read_night(ws.settings.raw_roots, night)
    stored = (ws.catalogue.night(night) or {}).get("seeing", {})
    known = {item["id"]: item for item in stored.get("measured", [])}
    measured: list[_Measured] = []
    discarded: list[list[str]] = []
    anew = 0
    for exposure in raw.seeing:
        try:
            one, fresh = _measure(ws, night, exposure, known.get(exposure.id), force=force)
        except (ArchiveError, OSError) as error:
            discarded.append([exposure.id, str(error)])
            continue
        measured.append(one)
        anew += fresh
    identity = fingerprint("seeing", [m.fingerprint for m in measured], discarded)
    summary = None
    if measured:
        summary = summarise_seeing([m.utc for m in measured], [m.fwhm_arcsec for m in measured])
    if anew or not is_current(stored, identity, ws.paths.root):
        products = _write_summary(ws, night, measured, summary)
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
        fingerprint=identity,
        metadata=metadata,
        preview_png=ws.catalogue.image(f"{night}/seeing"),
    )


def _measure(
    ws: Workspace,
    night: str,
    exposure: RawExposure,
    known: dict[str, Any] | None,
    *,
    force: bool,
) -> tuple[_Measured, bool]:
    """Measure one exposure, or return what is known of it; and whether it was measured."""
    if exposure.problem:
        raise RawDataError(exposure.problem)
    name = exposure.name
    profile = ws.settings.profile(name.camera, name.utc)
    header = read_header(exposure.files[0])
    facts = parse_facts(header)
    calibration, _, masters = frame_calibration(
        ws,
        night,
        profile,
        mode=facts.mode,
        filter_name=name.filter_name,
        shape=frame_shape(header, exposure.files[0]),
    )
    records = [file_record(path) for path in exposure.files]
    options = ws.settings.seeing
    identity = fingerprint(
        "seeing", [r.sha256 for r in records], masters, options.fingerprint(), profile.name
    )
    if not force and is_current(known, identity, ws.paths.root):
        return _Measured(**known), False
    averager = FrameAverager(calibration, groups=1, threads=ws.settings.threads)
    read_frames(
        exposure.files,
        threads=ws.settings.threads,
        on_frames=averager.add,
        known=records,
    )
    image = _clean_cosmic_rays(averager.median_image(), ws)
    seeing = measure_seeing(
        image,
        profile,
        model=options.model,
        smoothing_px=options.smoothing_px,
        bad_pixels=calibration.bad_pixels,
    )
    picture = seeing_exposure_preview(
        image,
        x=seeing.x,
        y=seeing.y,
        fwhm_x_arcsec=seeing.fwhm_x_arcsec,
        fwhm_y_arcsec=seeing.fwhm_y_arcsec,
        fwhm_arcsec=seeing.fwhm_arcsec,
        plate_scale_arcsec=profile.plate_scale_arcsec,
        title=exposure.id,
    )
    path = ws.paths.seeing_preview(night, exposure.id)
    write_bytes_whole(path, picture)
    ws.catalogue.put_image(f"{night}/seeing/{exposure.id}", picture, night=night)
    measured = _Measured(
        id=exposure.id,
        utc=name.utc,
        filter=name.filter_name,
        fwhm_arcsec=float(seeing.fwhm_arcsec),
        fwhm_x_arcsec=float(seeing.fwhm_x_arcsec),
        fwhm_y_arcsec=float(seeing.fwhm_y_arcsec),
        exposure_s=facts.exposure_s,
        **product_record(ws.paths.root, identity, [path]),
    )
    return measured, True


def _clean_cosmic_rays(image: NDArray[np.float32], ws: Workspace) -> NDArray[np.float32]:
    import astroscrappy

    options = ws.settings.cosmic_rays
    _, cleaned = astroscrappy.detect_cosmics(
        image,
        sigclip=options.sigclip,
        sigfrac=options.sigfrac,
        objlim=options.objlim,
        gain=options.gain,
        readnoise=options.readnoise,
        satlevel=options.satlevel,
        niter=options.niter,
    )
    return cleaned


def _write_summary(
    ws: Workspace, night: str, measured: list[_Measured], summary: SeeingSummary | None
) -> list[Path]:
    table = ws.paths.seeing_table(night)
    rows = ["# id utc filter fwhm_arcsec fwhm_x_arcsec fwhm_y_arcsec exposure_s"]
    rows += [
        f"{m.id} {m.utc:%Y-%m-%dT%H:%M:%S.%f} {m.filter} {m.fwhm_arcsec:.4f} "
        f"{m.fwhm_x_arcsec:.4f} {m.fwhm_y_arcsec:.4f} "
        f"{'nan' if m.exposure_s is None else format(m.exposure_s, 'g')}"
        for m in measured
    ]
    write_text_whole(table, "\n".join(rows) + "\n")
    if summary is None:
        return [table]
    picture = seeing_plot(
        [
            SeeingPoint(
                utc=m.utc,
                fwhm_arcsec=m.fwhm_arcsec,
                filter_name=m.filter,
                exposure_s=m.exposure_s,
            )
            for m in measured
        ],
        title=f"Seeing {night}",
        trend=_trend(summary),
        median_arcsec=summary.median_arcsec,
    )
    plot = ws.paths.seeing_plot(night)
    write_bytes_whole(plot, picture)
    ws.catalogue.put_image(f"{night}/seeing", picture, night=night)
    return [table, plot]


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
