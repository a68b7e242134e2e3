"""High contrast: the PCA residual, the companions in it, and the contrast curve of a stack."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
from astropy.table import Table

from roboao_assets.pipelines import astrometry
from roboao_assets.pipelines.context import ObservationContext
from roboao_assets.pipelines.contrast_pictures import night_median, publish_contrast_picture
from roboao_assets.pipelines.freshness import fingerprint, product_record, same_inputs
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.reference_stars import ChosenSubtraction, choose_subtraction
from roboao_assets.pipelines.residual_pictures import (
    CandidateMark,
    residual_preview,
    snr_map_preview,
)
from roboao_assets.pipelines.stack_products import observation_cards, write_together
from roboao_assets.pipelines.stacks import StackKind
from roboao_assets.science.high_contrast import (
    Candidate,
    ContrastCurve,
    Detection,
    contrast_at,
    contrast_curve,
    detect_candidates,
)
from roboao_assets.storage.catalogue import CONTRAST_SEPARATIONS_ARCSEC, contrast_key
from roboao_assets.storage.files import write_bytes_whole, write_text_whole
from roboao_assets.storage.fits_cards import Card
from roboao_assets.storage.fits_products import provenance_cards, write_image
from roboao_assets.storage.psf_library import PsfLibrary
from roboao_assets.storage.tables import ecsv_text

# Separation at which the summary tables tell the contrast.
SUMMARY_SEPARATION_ARCSEC = 1.0


def make_residual(ctx: ObservationContext, kind: StackKind) -> StageOutcome:
    """Subtract the library's references from a stack's star, and search what is left.

    Makes `<id>_pca.fits`, the signal-to-noise map `<id>_snr.fits`, `<id>_candidates.ecsv` and
    the pictures.
    """
    paths = ctx.ws.paths
    record = ctx.product(f"{kind.pipeline}.pca")
    kept = _kept(ctx, record, _inputs(ctx, kind, kind.residual))
    if kept:
        return StageOutcome(stage=kind.residual, status="unchanged", fingerprint=kept)
    chosen = choose_subtraction(ctx, kind)
    identity, inputs = _identity(ctx, kind, kind.residual, chosen)
    kept = ctx.kept(record, identity)
    if kept:
        ctx.ws.catalogue.publish(ctx.id, f"{kind.pipeline}.pca", {"inputs": inputs})
        return StageOutcome(stage=kind.residual, status="unchanged", fingerprint=kept)
    detection = _detect(ctx, kind, chosen)
    written = _write_images(ctx, kind, chosen, detection, identity)
    table = paths.pca(ctx.night, ctx.id, kind.pipeline, "candidates.ecsv")
    write_text_whole(table, _candidates_text(detection.candidates))
    pictures = _draw(ctx, chosen, detection)
    for name, picture in pictures.items():
        written.append(paths.pca(ctx.night, ctx.id, kind.pipeline, f"{name}.png"))
        write_bytes_whole(written[-1], picture)
        ctx.ws.catalogue.put_image(
            f"{ctx.id}/{kind.pipeline}/{name}", picture, night=ctx.night, observation=ctx.id
        )
    ctx.ws.catalogue.publish(
        ctx.id,
        f"{kind.pipeline}.pca",
        {
            "lock_position": list(kind.require(ctx)["lock_position"]),
            "library_psf_id_corr": [
                list(pair) for pair in zip(chosen.names, chosen.correlations, strict=True)
            ],
            "components": chosen.components.number,
            "candidates": [asdict(candidate) for candidate in detection.candidates],
            "snr_threshold": ctx.ws.settings.high_contrast.candidate_snr,
            "false_alarms_expected": detection.false_alarms,
            "inputs": inputs,
            **product_record(paths.root, identity, [*written, table]),
        },
    )
    ctx.ws.catalogue.publish(ctx.id, f"{kind.pipeline}.pca.preview", {})
    return StageOutcome(
        stage=kind.residual,
        status="done",
        fingerprint=identity,
        metadata={
            "references": len(chosen.names),
            "components": chosen.components.number,
            "best_correlation": max(chosen.correlations),
            "candidates": len(detection.candidates),
            "false_alarms_expected": detection.false_alarms,
        },
        preview_png=pictures["pca"],
    )


def make_contrast_curve(ctx: ObservationContext, kind: StackKind) -> StageOutcome:
    """Measure the contrast curve: `<id>_contrast_curve.txt`, `.ecsv` and its plot."""
    ws, paths, options = ctx.ws, ctx.ws.paths, ctx.ws.settings.high_contrast
    record = ctx.product(f"{kind.pipeline}.pca").get("contrast") or {}
    kept = _kept(ctx, record, _inputs(ctx, kind, kind.contrast))
    if kept:
        return StageOutcome(stage=kind.contrast, status="unchanged", fingerprint=kept)
    chosen = choose_subtraction(ctx, kind)
    identity, inputs = _identity(ctx, kind, kind.contrast, chosen)
    kept = ctx.kept(record, identity)
    if kept:
        ctx.ws.catalogue.publish(
            ctx.id, f"{kind.pipeline}.pca", {"contrast": {**record, "inputs": inputs}}
        )
        return StageOutcome(stage=kind.contrast, status="unchanged", fingerprint=kept)
    curve = contrast_curve(
        chosen.star.frame,
        chosen.components,
        fwhm_px=chosen.star.fwhm_px,
        plate_scale_arcsec=ctx.profile.drizzled_scale_arcsec,
        sigma=options.sigma,
        companions=_detect(ctx, kind, chosen).companions,
        threads=ws.settings.threads,
    )
    text, table = (
        paths.pca(ctx.night, ctx.id, kind.pipeline, f"contrast_curve.{suffix}")
        for suffix in ("txt", "ecsv")
    )
    write_text_whole(text, _curve_text(curve))
    write_text_whole(table, _curve_table(curve))
    at_summary = contrast_at(curve, SUMMARY_SEPARATION_ARCSEC)
    ws.catalogue.publish(
        ctx.id,
        f"{kind.pipeline}.pca",
        {
            "contrast_curve": [curve.separation_arcsec.tolist(), curve.contrast_mag.tolist()],
            **_contrasts(curve),
            "contrast": {
                "inputs": inputs,
                **product_record(paths.root, identity, [text, table]),
            },
        },
    )
    picture = publish_contrast_picture(
        ws,
        ctx.night,
        ctx.id,
        kind.pipeline,
        ws.catalogue.observation(ctx.id),
        night_median(ws, ctx.night, ctx.exposure.name.filter_name),
    )
    metadata = {"contrast_1_arcsec_mag": at_summary} if np.isfinite(at_summary) else {}
    return StageOutcome(
        stage=kind.contrast,
        status="done",
        fingerprint=identity,
        metadata=metadata,
        preview_png=picture,
    )


def _inputs(ctx: ObservationContext, kind: StackKind, stage: str) -> str:
    """Identity of all that a stage may look at: known before anything is read or prepared."""
    library = PsfLibrary(ctx.ws.paths.psf_library).checksums()
    return fingerprint(stage, *_own_inputs(ctx, kind), library)


def _identity(
    ctx: ObservationContext, kind: StackKind, stage: str, chosen: ChosenSubtraction
) -> tuple[str, str]:
    """Identity of what a stage does use, and that of what it may look at.

    Stars of the library that are not used make no other product.
    """
    used = fingerprint(
        stage,
        *_own_inputs(ctx, kind),
        chosen.names,
        chosen.checksums,
        chosen.components.number,
    )
    return used, _inputs(ctx, kind, stage)


def _own_inputs(ctx: ObservationContext, kind: StackKind) -> list[str]:
    return [
        kind.require(ctx)["fingerprint"],
        ctx.ws.settings.high_contrast.fingerprint(),
        ctx.profile.name,
        # Where candidates are, is told by it.
        ctx.product(astrometry.PRODUCT).get("fingerprint", ""),
    ]


def _kept(ctx: ObservationContext, record: dict[str, Any], inputs: str) -> str:
    """Fingerprint of the product if all that it may have looked at is as it was, else ""."""
    seen = str(record.get("inputs") or "")
    any_code = not ctx.ws.settings.redo_for_new_code
    if not (same_inputs(seen, inputs) if any_code else seen == inputs):
        return ""
    return ctx.kept(record, record["fingerprint"])


def _detect(ctx: ObservationContext, kind: StackKind, chosen: ChosenSubtraction) -> Detection:
    """Search the residual for companions; once a task."""
    name = f"{kind.pipeline}: detection"
    if name not in ctx.memory:
        detection = detect_candidates(
            chosen.star.frame,
            chosen.components,
            chosen.star.fwhm_px,
            ctx.profile,
            snr_threshold=ctx.ws.settings.high_contrast.candidate_snr,
        )
        half = chosen.star.frame.shape[0] // 2
        on_sky = [
            astrometry.offset_on_sky(ctx, kind.path(ctx), c.x - half, c.y - half)
            for c in detection.candidates
        ]
        ctx.memory[name] = replace(
            detection,
            candidates=tuple(
                replace(c, separation_arcsec=separation, pa_deg=pa)
                for c, (separation, pa) in zip(detection.candidates, on_sky, strict=True)
            ),
        )
    return ctx.memory[name]


def _write_images(
    ctx: ObservationContext,
    kind: StackKind,
    chosen: ChosenSubtraction,
    detection: Detection,
    identity: str,
) -> list:
    options = ctx.ws.settings.high_contrast
    cards = [
        *observation_cards(ctx),
        *_subtraction_cards(ctx, chosen),
        ("SNRLIMIT", options.candidate_snr, "signal-to-noise of a candidate"),
        ("NCAND", len(detection.candidates), "candidates found"),
        ("FALSEEXP", detection.false_alarms, "candidates expected of noise alone"),
        *provenance_cards(
            stage=kind.residual,
            raw=(),
            calibration=(),
            settings_fingerprint=options.fingerprint(),
            fingerprint=identity,
        ),
    ]
    residual = detection.residual.astype(np.float32)
    significance = detection.significance.snr.astype(np.float32)
    unit: Card = ("BUNIT", "", "signal-to-noise ratio")
    images = {"pca.fits": (residual, cards), "snr.fits": (significance, [*cards, unit])}
    return write_together(
        [
            (
                ctx.ws.paths.pca(ctx.night, ctx.id, kind.pipeline, name),
                partial(write_image, data=image, cards=of_image),
            )
            for name, (image, of_image) in images.items()
        ]
    )


def _subtraction_cards(ctx: ObservationContext, chosen: ChosenSubtraction) -> list[Card]:
    scale = ctx.profile.drizzled_scale_arcsec
    inner, outer = (radius * scale for radius in chosen.annulus_px)
    cards: list[Card] = [
        ("PIXSCALE", scale, "arcsec/px"),
        ("FWHM", chosen.star.fwhm_px * scale, "resolution element (arcsec)"),
        ("PREPARED", chosen.star.preparation, "what was done to the frame before"),
        ("NREF", len(chosen.names), "reference stars"),
        ("NCOMP", chosen.components.number, "principal components subtracted"),
        ("PCAANN", chosen.components.annulus_px * scale, "annuli of the PCA (arcsec), 0: none"),
        ("CORRIN", inner, "frames are compared from here (arcsec)"),
        ("CORROUT", outer, "to here"),
        ("TUNEGAIN", chosen.gain_mag, "over one component of one reference (mag)"),
    ]
    for number, (name, correlation) in enumerate(
        zip(chosen.names, chosen.correlations, strict=True), start=1
    ):
        cards.append((f"REF{number}", name, "reference"))
        cards.append((f"REFCOR{number}", correlation, "its Pearson correlation"))
    return cards


def _draw(
    ctx: ObservationContext, chosen: ChosenSubtraction, detection: Detection
) -> dict[str, bytes]:
    marks = [CandidateMark(**asdict(candidate)) for candidate in detection.candidates]
    shared = {
        "plate_scale_arcsec": ctx.profile.drizzled_scale_arcsec,
        "title": ctx.exposure.name.object_name,
        "candidates": marks,
        "east_is_left": ctx.profile.east_is_left,
        "y_axis_pa_deg": ctx.profile.y_axis_pa_deg,
        "fwhm_px": chosen.star.fwhm_px,
    }
    residual = detection.residual.astype(np.float32)
    threshold = ctx.ws.settings.high_contrast.candidate_snr
    return {
        "pca": residual_preview(residual, **shared),
        "snr_map": snr_map_preview(detection.significance.snr, threshold=threshold, **shared),
    }


def _candidates_text(candidates: Sequence[Candidate]) -> str:
    """The candidates as ECSV, the most significant first; no rows where there are none."""
    columns = {
        "sep_arcsec": [c.separation_arcsec for c in candidates],
        "pa_deg": [c.pa_deg for c in candidates],
        "dmag": [c.contrast_mag for c in candidates],
        "snr": [c.snr for c in candidates],
        "fap": [c.false_alarm_probability for c in candidates],
        "x": [c.x for c in candidates],
        "y": [c.y for c in candidates],
    }
    units = {"sep_arcsec": "arcsec", "pa_deg": "deg", "dmag": "mag", "x": "pixel", "y": "pixel"}
    table = Table(columns, dtype=[float] * len(columns), units=units)
    table["fap"].description = "that noise gives a peak as significant anywhere in the frame"
    return ecsv_text(table)


def _curve_text(curve: ContrastCurve) -> str:
    rows = ['# separation["] contrast[mag]']
    rows += [
        f"{separation:.5f} {magnitude:.4f}"
        for separation, magnitude in zip(curve.separation_arcsec, curve.contrast_mag, strict=True)
    ]
    return "\n".join(rows) + "\n"


def _contrasts(curve: ContrastCurve) -> dict[str, float | None]:
    """The contrast at the separations that can be searched; None outside the curve."""
    found = {contrast_key(s): contrast_at(curve, s) for s in CONTRAST_SEPARATIONS_ARCSEC}
    return {key: value if np.isfinite(value) else None for key, value in found.items()}


def _curve_table(curve: ContrastCurve) -> str:
    table = Table(
        {
            "separation_arcsec": curve.separation_arcsec,
            "contrast_mag": curve.contrast_mag,
            "blind_contrast_mag": curve.blind_contrast_mag,
            "noise": curve.noise,
            "throughput": curve.throughput,
            "apertures": curve.apertures,
        },
        units={"separation_arcsec": "arcsec", "contrast_mag": "mag", "blind_contrast_mag": "mag"},
    )
    descriptions = {
        "contrast_mag": "noise of all apertures of the ring",
        "blind_contrast_mag": "noise of the other apertures alone, as a search has it",
        "noise": "of an aperture's flux, in units of the frame",
        "throughput": "part of a companion's flux that the subtraction leaves",
        "apertures": "that the noise was measured in",
    }
    for name, words in descriptions.items():
        table[name].description = words
    table.meta = {
        "sigma": curve.sigma,
        "fwhm_px": curve.fwhm_px,
        "star_flux": curve.star_flux,
    }
    return ecsv_text(table)
