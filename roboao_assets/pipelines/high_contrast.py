"""High contrast: the PCA residual and the contrast curve of an observation."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from roboao_assets.pipelines.bright_star import PIPELINE, require_stack
from roboao_assets.pipelines.context import NothingToMakeError, ObservationContext
from roboao_assets.pipelines.freshness import fingerprint, is_current, product_record
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.previews import (
    CandidateMark,
    contrast_curve_plot,
    residual_preview,
)
from roboao_assets.science.errors import NoReferencesError
from roboao_assets.science.high_contrast import (
    Candidate,
    PreparedPsf,
    choose_references,
    contrast_at,
    contrast_curve,
    detect_candidates,
    prepare_psf,
    subtract_reference_pca,
)
from roboao_assets.storage.files import write_bytes_whole, write_text_whole
from roboao_assets.storage.fits_products import provenance_cards, write_image
from roboao_assets.storage.psf_library import PsfEntry, PsfLibrary

# Separation at which the summary tables tell the contrast.
SUMMARY_SEPARATION_ARCSEC = 1.0


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """The star's box and its references, chosen from the library."""

    star: PreparedPsf
    references: NDArray[np.float32]
    reference_names: list[str]
    reference_fingerprints: list[str]
    correlations: list[float]


def library_candidate(ctx: ObservationContext) -> PsfEntry:
    """The observation's PSF as an entry for the library.

    Raises
    ------
    NothingToMakeError
        If the observation has no stack, or is of a class that is no candidate.
    """
    stack = require_stack(ctx)
    if stack["classified_as"] in {"zero_flux", "failed"} or ctx.exposure.name.program == "24":
        raise NothingToMakeError(
            f"{ctx.id} is no candidate for the PSF library: its class is "
            f"{stack['classified_as']}, its program {ctx.exposure.name.program} "
            f"(zero_flux, failed and program 24 are excluded)"
        )
    strehl = ctx.product(f"{PIPELINE}.strehl")
    prepared = _prepare(ctx, stack)
    return PsfEntry(
        obs_name=ctx.id,
        obj_name=ctx.exposure.name.object_name,
        filter_name=ctx.exposure.name.filter_name,
        telescope=ctx.profile.telescope,
        strehl_percent=float(strehl.get("ratio_percent", np.nan)),
        frame=prepared.frame,
        preparation=prepared.preparation,
    )


def _prepare(ctx: ObservationContext, stack: dict[str, Any]) -> PreparedPsf:
    options = ctx.ws.settings.high_contrast
    image, _ = ctx.image(ctx.ws.paths.stack(ctx.night, ctx.id, 100))
    x, y = stack["lock_position"]
    return prepare_psf(
        image,
        x,
        y,
        ctx.profile.strehl_box_half_px,
        highpass=options.highpass,
        highpass_coefficient=options.highpass_coefficient,
        highpass_planes=options.highpass_planes,
        max_recentre_px=options.max_recentre_px,
    )


def _prepare_with_references(ctx: ObservationContext, stack: dict[str, Any]) -> _Prepared:
    entries = PsfLibrary(ctx.ws.paths.psf_library).entries()
    if not entries:
        raise NothingToMakeError(
            f"the PSF library {ctx.ws.paths.psf_library} is empty: add the PSFs of single stars "
            f"with `roboao psf-library add`"
        )
    star = _prepare(ctx, stack)
    try:
        indices, correlations = choose_references(
            star.frame,
            np.array([e.frame for e in entries]),
            [e.obj_name for e in entries],
            [e.filter_name for e in entries],
            [e.telescope for e in entries],
            object_name=ctx.exposure.name.object_name,
            filter_name=ctx.exposure.name.filter_name,
            telescope=ctx.profile.telescope,
            number=ctx.ws.settings.high_contrast.references,
            library_preparations=[e.preparation for e in entries],
            preparation=star.preparation,
        )
    except NoReferencesError as error:
        raise NothingToMakeError(str(error)) from error
    chosen = [entries[i] for i in indices]
    return _Prepared(
        star=star,
        references=np.array([e.frame for e in chosen]),
        reference_names=[e.obs_name for e in chosen],
        reference_fingerprints=[e.sha256 for e in chosen],
        correlations=[float(c) for c in correlations],
    )


def make_residual(ctx: ObservationContext) -> StageOutcome:
    """Subtract the library's references from the star: `<id>_pca.fits` and its picture."""
    paths, options = ctx.ws.paths, ctx.ws.settings.high_contrast
    stack = require_stack(ctx)
    prepared = _prepare_with_references(ctx, stack)
    identity = _identity("pca_residual", ctx, stack, prepared)
    record = ctx.product(f"{PIPELINE}.pca")
    if not ctx.force and is_current(record, identity, paths.root):
        return StageOutcome(stage="pca_residual", status="unchanged", fingerprint=identity)
    result = subtract_reference_pca(prepared.star.frame, prepared.references, options.components)
    path = paths.pca(ctx.night, ctx.id, PIPELINE, "pca.fits")
    cards = [
        ("NREF", len(prepared.references), "reference PSFs"),
        ("NCOMP", result.components, "principal components subtracted"),
        ("PIXSCALE", ctx.profile.drizzled_scale_arcsec, "arcsec/px"),
        ("PREPARED", prepared.star.preparation, "what was done to the frame before"),
    ]
    for number, (name, correlation) in enumerate(
        zip(prepared.reference_names, prepared.correlations, strict=True), start=1
    ):
        cards.append((f"REF{number}", name, "reference"))
        cards.append((f"REFCOR{number}", correlation, "its Pearson correlation"))
    cards += provenance_cards(
        stage="pca_residual",
        raw=(),
        calibration=(),
        settings_fingerprint=options.fingerprint(),
        fingerprint=identity,
    )
    write_image(path, result.residual, cards)
    candidates = detect_candidates(
        prepared.star.frame,
        result.basis,
        prepared.star.fwhm_px,
        ctx.profile,
        snr_threshold=options.sigma,
    )
    table = paths.pca(ctx.night, ctx.id, PIPELINE, "candidates.ecsv")
    write_text_whole(table, _candidates_text(candidates))
    picture = residual_preview(
        result.residual,
        plate_scale_arcsec=ctx.profile.drizzled_scale_arcsec,
        title=ctx.exposure.name.object_name,
        candidates=[
            CandidateMark(x=c.x, y=c.y, label=f"{c.separation_arcsec:.2f}″ Δ{c.contrast_mag:.1f}")
            for c in candidates
        ],
        east_is_left=ctx.profile.east_is_left,
        y_axis_pa_deg=ctx.profile.y_axis_pa_deg,
    )
    picture_path = _publish_picture(ctx, "pca", picture)
    ctx.ws.catalogue.publish(
        ctx.id,
        f"{PIPELINE}.pca",
        {
            "lock_position": list(stack["lock_position"]),
            "library_psf_id_corr": [
                list(pair)
                for pair in zip(prepared.reference_names, prepared.correlations, strict=True)
            ],
            "components": result.components,
            "candidates": [asdict(candidate) for candidate in candidates],
            **product_record(paths.root, identity, [path, table, picture_path]),
        },
    )
    ctx.ws.catalogue.publish(ctx.id, f"{PIPELINE}.pca.preview", {})
    return StageOutcome(
        stage="pca_residual",
        status="done",
        fingerprint=identity,
        reason=result.note,
        metadata={
            "references": len(prepared.references),
            "candidates": len(candidates),
            "best_correlation": max(prepared.correlations),
        },
        preview_png=picture,
    )


def make_contrast_curve(ctx: ObservationContext) -> StageOutcome:
    """Measure the contrast curve: `<id>_contrast_curve.txt` and its plot."""
    paths, options = ctx.ws.paths, ctx.ws.settings.high_contrast
    stack = require_stack(ctx)
    prepared = _prepare_with_references(ctx, stack)
    identity = _identity("contrast_curve", ctx, stack, prepared)
    record = ctx.product(f"{PIPELINE}.pca")
    if not ctx.force and is_current(record.get("contrast"), identity, paths.root):
        return StageOutcome(stage="contrast_curve", status="unchanged", fingerprint=identity)
    curve = contrast_curve(
        prepared.star.frame,
        prepared.references,
        components=options.components,
        fwhm_px=prepared.star.fwhm_px,
        plate_scale_arcsec=ctx.profile.drizzled_scale_arcsec,
        sigma=options.sigma,
    )
    table = paths.pca(ctx.night, ctx.id, PIPELINE, "contrast_curve.txt")
    rows = ['# separation["] contrast[mag]']
    rows += [
        f"{separation:.5f} {magnitude:.4f}"
        for separation, magnitude in zip(curve.separation_arcsec, curve.contrast_mag, strict=True)
    ]
    write_text_whole(table, "\n".join(rows) + "\n")
    picture = contrast_curve_plot(
        curve.separation_arcsec,
        curve.contrast_mag,
        title=ctx.exposure.name.object_name,
        sigma=options.sigma,
    )
    picture_path = _publish_picture(ctx, "contrast_curve", picture)
    at_summary = contrast_at(curve, SUMMARY_SEPARATION_ARCSEC)
    ctx.ws.catalogue.publish(
        ctx.id,
        f"{PIPELINE}.pca",
        {
            "contrast_curve": [curve.separation_arcsec.tolist(), curve.contrast_mag.tolist()],
            "contrast_1_arcsec_mag": at_summary if np.isfinite(at_summary) else None,
            "contrast": product_record(paths.root, identity, [table, picture_path]),
        },
    )
    metadata = {"contrast_1_arcsec_mag": at_summary} if np.isfinite(at_summary) else {}
    return StageOutcome(
        stage="contrast_curve",
        status="done",
        fingerprint=identity,
        metadata=metadata,
        preview_png=picture,
    )


def _candidates_text(candidates: Sequence[Candidate]) -> str:
    """The candidates as ECSV; no rows where there are none."""
    columns = {
        "sep_arcsec": [c.separation_arcsec for c in candidates],
        "pa_deg": [c.pa_deg for c in candidates],
        "dmag": [c.contrast_mag for c in candidates],
        "snr": [c.snr for c in candidates],
        "fap": [c.false_alarm_probability for c in candidates],
        "x": [c.x for c in candidates],
        "y": [c.y for c in candidates],
    }
    table = Table(columns, dtype=[float] * len(columns))
    units = {"sep_arcsec": "arcsec", "pa_deg": "deg", "dmag": "mag", "x": "pixel", "y": "pixel"}
    for name, unit in units.items():
        table[name].unit = unit
    text = io.StringIO()
    table.write(text, format="ascii.ecsv")
    return text.getvalue()


def _identity(
    stage: str, ctx: ObservationContext, stack: dict[str, Any], prepared: _Prepared
) -> str:
    return fingerprint(
        stage,
        stack["fingerprint"],
        prepared.reference_names,
        prepared.reference_fingerprints,
        ctx.ws.settings.high_contrast.fingerprint(),
        ctx.profile.name,
    )


def _publish_picture(ctx: ObservationContext, kind: str, picture: bytes) -> Path:
    path = ctx.ws.paths.pca(ctx.night, ctx.id, PIPELINE, f"{kind}.png")
    write_bytes_whole(path, picture)
    ctx.ws.catalogue.put_image(
        f"{ctx.id}/{PIPELINE}/{kind}", picture, night=ctx.night, observation=ctx.id
    )
    return path
