"""Candidates of the PSF library, and observations entering it on the administrator's decision."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from roboao_assets.pipelines.bright_star import PIPELINE
from roboao_assets.pipelines.candidate_preview import candidate_preview
from roboao_assets.pipelines.context import NothingToMakeError, ObservationContext
from roboao_assets.pipelines.decisions import NotYetKnownError, decide
from roboao_assets.pipelines.freshness import fingerprint, product_record
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.reference_stars import library_candidate
from roboao_assets.pipelines.sky_picture import Sky
from roboao_assets.pipelines.stacks import BRIGHT_STAR
from roboao_assets.pipelines.workspace import open_workspace
from roboao_assets.science.errors import FitFailedError, RawDataError, ScienceError
from roboao_assets.science.star_quality import elongation, find_second_peak, measure_core
from roboao_assets.storage.catalogue import night_of
from roboao_assets.storage.catalogue.values import now_utc
from roboao_assets.storage.files import write_bytes_whole
from roboao_assets.storage.fits_cards import Card
from roboao_assets.storage.fits_products import provenance_cards
from roboao_assets.storage.psf_candidates import (
    CANDIDATE,
    add_candidate,
    candidate_record,
    preview_key,
    section_of,
)
from roboao_assets.storage.psf_library import PsfEntry, PsfLibrary, write_psf_candidate
from roboao_assets.storage.settings import Settings

STAGE = "psf_candidate"
CHAIN = "psf_library"
_MOST_COMPANIONS = 3


def make_candidate(ctx: ObservationContext) -> StageOutcome:
    """Make the observation's PSF-library candidate: its frame, its preview, its quality.

    Raises
    ------
    NothingToMakeError
        If the observation is no candidate by the chain `decisions.psf_library`.
    """
    ws, paths = ctx.ws, ctx.ws.paths
    _check_chain(ctx)
    stack = BRIGHT_STAR.require(ctx)
    strehl, pca = ctx.product(f"{PIPELINE}.strehl"), ctx.product(f"{PIPELINE}.pca")
    seen = _companions_of_pca(pca)
    identity = fingerprint(
        STAGE,
        stack["fingerprint"],
        strehl.get("fingerprint"),
        seen,
        ws.settings.high_contrast.fingerprint(),
        ctx.profile.name,
    )
    record = candidate_record(ws.catalogue, ctx.night, ctx.id)
    known = PsfLibrary(paths.psf_library).checksums()
    kept = ctx.kept(record, identity)
    if kept and record.get("done") is True:
        if record.get("in_lib") is not (ctx.id in known):
            _publish(ctx, {"in_lib": ctx.id in known})
        return StageOutcome(
            stage=STAGE, status="unchanged", fingerprint=kept, metadata=_figures(record)
        )
    entry = _with_quality(ctx, _prepare(ctx), stack, strehl, seen)
    fits_path = paths.psf_candidate(ctx.night, ctx.id, "fits")
    write_psf_candidate(fits_path, entry, _cards(ctx, identity))
    image, _ = ctx.image(paths.stack(ctx.night, ctx.id, 100))
    picture = candidate_preview(image, *stack["lock_position"], entry, _sky(ctx))
    png_path = paths.psf_candidate(ctx.night, ctx.id, "png")
    write_bytes_whole(png_path, picture)
    ws.catalogue.put_image(preview_key(ctx.night, ctx.id), picture, night=ctx.night)
    published = {
        "observation": ctx.id,
        "status": CANDIDATE,
        "in_lib": ctx.id in known,
        "enqueued": False,
        "updated": now_utc(),
        "object": entry.obj_name,
        "filter": entry.filter_name,
        "telescope": entry.telescope,
        "strehl_percent": entry.strehl_percent,
        "fwhm_arcsec": entry.fwhm_arcsec,
        "elongation": entry.elongation,
        "companion": entry.companion,
        "n_modes": len(entry.modes),
        "sha256": entry.sha256,
        **product_record(paths.root, identity, [fits_path, png_path]),
    }
    _publish(ctx, published)
    return StageOutcome(
        stage=STAGE,
        status="done",
        fingerprint=identity,
        metadata=_figures(published),
        preview_png=picture,
    )


def record_no_candidate(ctx: ObservationContext, reason: str) -> None:
    """Note in the night's document why the observation is no candidate."""
    value = {
        "observation": ctx.id,
        "status": reason,
        "in_lib": ctx.id in PsfLibrary(ctx.ws.paths.psf_library).checksums(),
        "enqueued": False,
        "object": ctx.exposure.name.object_name,
        "filter": ctx.exposure.name.filter_name,
        "telescope": ctx.profile.telescope,
    }
    ctx.ws.catalogue.publish_night(ctx.night, section_of(ctx.id), value, done=False)


def record_failed_candidate(ctx: ObservationContext, reason: str) -> None:
    """Note in the night's document that making the candidate failed, and why."""
    ctx.ws.catalogue.record_night_failure(ctx.night, section_of(ctx.id), reason)


def add_to_library(settings: Settings, observation: str, *, by: str, comment: str = "") -> None:
    """Add the PSF of a reduced observation to the library; its candidate is made if need be.

    Parameters
    ----------
    settings : Settings
    observation : str
    by, comment : str
        For the library's history.

    Raises
    ------
    ArchiveError
        The observation is unknown, has no stack, is of an excluded class or program,
        or is in the library already.
    """
    # Only here: a stage that registers itself there must not need it.
    from roboao_assets.pipelines.observation import open_context

    with open_workspace(settings) as ws:
        document = ws.catalogue.observation(observation)
        if document is None:
            raise RawDataError(
                f"the catalogue has no observation {observation}; `roboao status` lists the nights"
            )
        night = str(night_of(document))
        make_candidate(open_context(ws, night, observation))
        add_candidate(ws.catalogue, ws.paths, night, observation, by=by, comment=comment)


def _check_chain(ctx: ObservationContext) -> None:
    try:
        decide(ctx, CHAIN)
    except NotYetKnownError:
        # That there is no stack, and what to do, says more.
        BRIGHT_STAR.require(ctx)
        raise
    except NothingToMakeError as reason:
        raise NothingToMakeError(
            f"{ctx.id} is no candidate for the PSF library: {reason}"
        ) from reason


def _prepare(ctx: ObservationContext) -> PsfEntry:
    try:
        return library_candidate(ctx)
    except ScienceError as error:
        # Too faint, too close to the edge, double: nothing went wrong, it is just no reference.
        raise NothingToMakeError(
            f"{ctx.id} is no candidate for the PSF library: {error}"
        ) from error


def _companions_of_pca(pca: Mapping[str, Any]) -> str | None:
    """What the PCA has found beside the star, in words; None if none was made."""
    status, candidates = pca.get("status"), pca.get("candidates")
    if not isinstance(status, Mapping) or status.get("done") is not True:
        return None
    if not isinstance(candidates, list):
        return None
    rows = [
        (row.get("contrast_mag"), row.get("separation_arcsec"), row.get("pa_deg"))
        for row in candidates
        if isinstance(row, Mapping)
    ]
    good = sorted(row for row in rows if all(isinstance(value, int | float) for value in row))
    return _in_words(
        [(separation, pa, magnitude) for magnitude, separation, pa in good[:_MOST_COMPANIONS]]
    )


def _in_words(companions: Sequence[tuple[float, float, float]]) -> str:
    """Separation (arcsec), position angle (deg) and contrast (mag) of each, in words."""
    words = [f'{sep:.2f}" at PA {pa:.0f}, {mag:.1f} mag' for sep, pa, mag in companions]
    return f"suspected: {'; '.join(words)}" if words else ""


def _with_quality(
    ctx: ObservationContext,
    entry: PsfEntry,
    stack: Mapping[str, Any],
    strehl: Mapping[str, Any],
    seen: str | None,
) -> PsfEntry:
    image, _ = ctx.image(ctx.ws.paths.stack(ctx.night, ctx.id, 100))
    scale = ctx.profile.drizzled_scale_arcsec
    fwhm_arcsec = strehl.get("fwhm_arcsec")
    guess_px = fwhm_arcsec / scale if fwhm_arcsec else 2.0 * ctx.profile.drizzle_scale
    try:
        core = measure_core(image, *stack["lock_position"], guess_px)
    except FitFailedError:
        # Then there is no figure; the preview shows why.
        return replace(entry, companion=seen or "")
    if seen is None:
        peak = find_second_peak(image, core, ctx.profile.strehl_box_half_px)
        seen = (
            ""
            if peak is None
            else _in_words(
                [
                    (
                        math.hypot(peak.dx_px, peak.dy_px) * scale,
                        ctx.profile.position_angle_deg(peak.dx_px, peak.dy_px),
                        peak.contrast_mag,
                    )
                ]
            )
        )
    return replace(
        entry,
        fwhm_arcsec=float(fwhm_arcsec) if fwhm_arcsec else core.fwhm_px * scale,
        elongation=elongation(core),
        companion=seen,
    )


def _publish(ctx: ObservationContext, value: Mapping[str, Any]) -> None:
    ctx.ws.catalogue.publish_night(ctx.night, section_of(ctx.id), value)


def _cards(ctx: ObservationContext, identity: str) -> list[Card]:
    return [
        ("PIXSCALE", ctx.profile.drizzled_scale_arcsec, "arcsec/px"),
        *provenance_cards(
            stage=STAGE,
            raw=(),
            calibration=(),
            settings_fingerprint=ctx.ws.settings.high_contrast.fingerprint(),
            fingerprint=identity,
        ),
    ]


def _sky(ctx: ObservationContext) -> Sky:
    return Sky(
        plate_scale_arcsec=ctx.profile.drizzled_scale_arcsec,
        east_is_left=ctx.profile.east_is_left,
        y_axis_pa_deg=ctx.profile.y_axis_pa_deg,
    )


def _figures(record: Mapping[str, Any]) -> dict[str, str | int | float]:
    names = ("strehl_percent", "fwhm_arcsec", "elongation", "companion", "n_modes")
    figures = {name: record.get(name) for name in names}
    return {name: value for name, value in figures.items() if isinstance(value, str | int | float)}
