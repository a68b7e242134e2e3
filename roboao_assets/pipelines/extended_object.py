"""A resolved object: its frames registered on the disc, the sharpest stacked, deconvolved."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roboao_assets.pipelines.context import NothingToMakeError, ObservationContext
from roboao_assets.pipelines.deconvolution_psf import PsfStar, choose_psf_star
from roboao_assets.pipelines.extended_pictures import before_after_preview
from roboao_assets.pipelines.faint_star import find_star, unregistered_ceiling
from roboao_assets.pipelines.freshness import fingerprint
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.previews import cropped_preview, full_preview
from roboao_assets.pipelines.sky_picture import Sky
from roboao_assets.pipelines.stack_products import (
    frame_provenance_cards,
    observation_cards,
    publish_stack,
    wcs_cards,
    write_together,
)
from roboao_assets.pipelines.star_measures import publish_pictures
from roboao_assets.science.deconvolution import (
    FLUX_TOLERANCE,
    BlurredField,
    Deconvolution,
    richardson_lucy,
)
from roboao_assets.science.errors import NoStarError, ScienceError
from roboao_assets.science.extended_object import (
    ExtendedOptions,
    ExtendedStack,
    Outline,
    find_outline,
    measure_noise,
    stack_extended_object,
)
from roboao_assets.science.myopic_deconvolution import deconvolve_myopic
from roboao_assets.storage.files import remove_file, write_text_whole
from roboao_assets.storage.fits_cards import Card
from roboao_assets.storage.fits_products import write_image

PIPELINE = "extended_object"
STAGE = "extended_object"
# The previews show this many diameters, and at least so much of the sky.
_PREVIEW_DIAMETERS = 2.5
_LEAST_PREVIEW_ARCSEC = 3.0


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """The surroundings of the object in its stack (drizzled px), and what came of them."""

    rows: slice
    columns: slice
    background: float
    made: Deconvolution | None
    reason: str


def make_extended_object(ctx: ObservationContext) -> StageOutcome:
    """Make `<id>_stack.fits`, `<id>_deconvolved.fits`, `shifts.txt` and the previews.

    Without a PSF, or of an object no wider than the PSF, there is no deconvolution but the stack,
    with the reason.
    """
    ws, frames = ctx.ws, ctx.frames
    options = ws.settings.extended_object
    star = choose_psf_star(ctx)

    def identity() -> str:
        groups = ws.settings.bright_star.groups
        psf = [star.observation, star.fingerprint] if star else []
        return fingerprint(STAGE, frames.inputs, options.fingerprint(), groups, psf)

    record = ctx.product(PIPELINE)
    if not ctx.force and record.get("fingerprint"):
        kept = ctx.kept(record, identity())
        if kept:
            return StageOutcome(stage=STAGE, status="unchanged", fingerprint=kept)
    stack = _stack(ctx)
    cut = _deconvolve(ctx, stack, star)
    made = identity()
    pictures = _draw(ctx, stack, cut)
    products = _write_products(ctx, stack, cut, star, made)
    products += publish_pictures(ctx, PIPELINE, pictures)
    summary = _summary(ctx, stack, cut, star)
    outcome = publish_stack(ctx, STAGE, PIPELINE, summary, made, products)
    return StageOutcome(
        stage=STAGE,
        status=outcome.status,
        fingerprint=made,
        metadata=outcome.metadata,
        preview_png=pictures.get("deconvolved", pictures["cropped"]),
    )


def _stack(ctx: ObservationContext) -> ExtendedStack:
    ws, frames, profile = ctx.ws, ctx.frames, ctx.profile
    loaded = frames.load()
    bias, mean_image = loaded.averager.bias, loaded.averager.mean_image()
    outline = _find_object(ctx, mean_image)
    shared = ws.settings.extended_object.model_dump(
        include=set(ExtendedOptions.__dataclass_fields__)
    )
    return stack_extended_object(
        loaded.cube.frames,
        bias,
        mean_image,
        unregistered_ceiling(frames, mean_image),
        frames.calibration,
        profile,
        outline=outline,
        options=ExtendedOptions(**shared, threads=ws.settings.threads),
    )


def _find_object(ctx: ObservationContext, image: NDArray[np.float32]) -> Outline:
    near = find_star(ctx, image)
    try:
        return find_outline(image, near.x, near.y)
    except NoStarError as error:
        raise NothingToMakeError(str(error)) from error


def _deconvolve(ctx: ObservationContext, stack: ExtendedStack, star: PsfStar | None) -> _Cut:
    options = ctx.ws.settings.extended_object
    half_px = options.psf_half_arcsec / ctx.profile.drizzled_scale_arcsec
    reach = stack.diameter_px / 2 + half_px
    rows, columns = (
        slice(max(round(middle - reach), 0), min(round(middle + reach) + 1, length))
        for middle, length in zip((stack.y, stack.x), stack.image.shape, strict=True)
    )
    background = _sky_level(stack, reach)
    cut = partial(_Cut, rows=rows, columns=columns, background=background)
    if star is None:
        return cut(
            made=None,
            reason=(
                f"no PSF: no single bright star in {ctx.exposure.name.filter_name} was reduced in "
                f"the night {ctx.night} and none of {ctx.profile.name} in that filter is in the "
                f"PSF library; reduce one, and run {STAGE} again"
            ),
        )
    if stack.diameter_px < options.min_size_ratio * star.diameter_px:
        return cut(
            made=None,
            reason=(
                f"not resolved: it is {stack.diameter_px:.0f} px wide and the star "
                f"{star.observation} {star.diameter_px:.0f} px; {options.min_size_ratio:g} times "
                f"that are needed (setting extended_object.min_size_ratio)"
            ),
        )
    try:
        made = _restore(ctx, stack, star, rows, columns, background)
    except ScienceError as error:
        return cut(made=None, reason=f"not deconvolved: {error}")
    if abs(made.flux_ratio - 1) > FLUX_TOLERANCE:
        return cut(made=None, reason=f"not deconvolved: {made.reason}")
    return cut(made=made, reason=made.reason)


def _sky_level(stack: ExtendedStack, reach: float) -> float:
    """Median of the sky outside of the PSF's reach, or of what is farthest from the object."""
    rows, columns = np.ogrid[: stack.image.shape[0], : stack.image.shape[1]]
    distance = np.hypot(rows - stack.y, columns - stack.x)
    finite = np.isfinite(stack.image)
    far = finite & (distance > min(reach, float(np.quantile(distance, 0.9))))
    return float(np.median(stack.image[far if far.any() else finite]))


def _restore(
    ctx: ObservationContext,
    stack: ExtendedStack,
    star: PsfStar,
    rows: slice,
    columns: slice,
    background: float,
) -> Deconvolution:
    options = ctx.ws.settings.extended_object
    image = stack.image[rows, columns]
    field = BlurredField(
        image,
        star.psf,
        measure_noise(image, stack.noise_image[rows, columns], background),
        background=background,
        threads=ctx.ws.settings.threads,
    )
    if options.method == "myopic":
        return deconvolve_myopic(field, psf_spread=options.psf_spread)
    return richardson_lucy(
        field, most_iterations=options.most_iterations, smoothing=options.total_variation
    )


def _summary(
    ctx: ObservationContext, stack: ExtendedStack, cut: _Cut, star: PsfStar | None
) -> dict[str, Any]:
    made = cut.made
    found = {
        "frames": len(stack.shifts.used),
        "frames_used": int(stack.shifts.used.sum()),
        "lock_position": [stack.x, stack.y],
        "diameter_arcsec": stack.diameter_px * ctx.profile.drizzled_scale_arcsec,
        "deconvolved": made is not None,
        "reason": cut.reason,
        "psf_observation": star.observation if star else None,
        "psf_origin": star.origin if star else None,
        "method": ctx.ws.settings.extended_object.method if made else None,
    }
    for name in ("iterations", "converged", "chi2", "flux_ratio", "object_flux_ratio"):
        found[name] = getattr(made, name) if made else None
    return found


def _write_products(
    ctx: ObservationContext,
    stack: ExtendedStack,
    cut: _Cut,
    star: PsfStar | None,
    identity: str,
) -> list[Path]:
    paths, profile = ctx.ws.paths, ctx.profile
    cards: list[Card] = [
        *observation_cards(ctx),
        *wcs_cards(ctx, stack.image.shape, profile.drizzled_scale_arcsec),
        ("NFRAMES", int(stack.shifts.used.sum()), "frames stacked"),
        ("LOCK_X", stack.x, "middle of the object, 0-based px"),
        ("LOCK_Y", stack.y, "middle of the object, 0-based px"),
        ("DIAMETER", stack.diameter_px, "of the circle of its area (px)"),
        ("PIXFRAC", profile.drizzle_pixfrac, "drizzle drop (raw px)"),
        *frame_provenance_cards(
            ctx, STAGE, ctx.ws.settings.extended_object.fingerprint(), identity
        ),
    ]
    image = paths.extended_object(ctx.night, ctx.id, "stack")
    deconvolved = paths.extended_object(ctx.night, ctx.id, "deconvolved")
    layers = [("WEIGHT", stack.weight), ("NOISE", stack.noise_image)]
    writers = [(image, partial(write_image, data=stack.image, cards=cards, extensions=layers))]
    if cut.made is not None and star is not None:
        writers.append(
            (
                deconvolved,
                partial(
                    write_image,
                    data=cut.made.image,
                    cards=[*cards, *_deconvolution_cards(ctx, cut, cut.made, star, cards)],
                    extensions=[("PSF", cut.made.psf), ("RESIDUAL", cut.made.residual)],
                ),
            )
        )
    else:
        # That of an earlier run would pass for one of this stack.
        remove_file(deconvolved)
    written = write_together(writers)
    table = paths.extended_shifts_table(ctx.night, ctx.id)
    write_text_whole(table, _shifts_text(stack))
    return [*written, table]


def _deconvolution_cards(
    ctx: ObservationContext, cut: _Cut, made: Deconvolution, star: PsfStar, cards: list[Card]
) -> list[Card]:
    corner = {"1": cut.columns.start, "2": cut.rows.start}
    moved: list[Card] = [
        (keyword, value - corner[keyword[-1]], comment)
        for keyword, value, comment in cards
        if keyword in ("CRPIX1", "CRPIX2")
    ]
    positions = {card[0]: card[1] for card in cards}
    return [
        *moved,
        ("LOCK_X", positions["LOCK_X"] - cut.columns.start, "middle of the object, 0-based px"),
        ("LOCK_Y", positions["LOCK_Y"] - cut.rows.start, "middle of the object, 0-based px"),
        ("CORNER_X", cut.columns.start, "first pixel's place in the stack (0-based)"),
        ("CORNER_Y", cut.rows.start, "first pixel's place in the stack (0-based)"),
        ("BACKGRND", cut.background, "level taken off (adu)"),
        ("METHOD", ctx.ws.settings.extended_object.method, "of the deconvolution"),
        ("PSFOBS", star.observation, "star that the PSF was cut from"),
        ("PSFFROM", star.origin, "the star is of this night, or of the library"),
        ("NITER", made.iterations, "iterations"),
        ("CONVERGE", made.converged, "a rule stopped it"),
        ("CHI2", made.chi2, "mean squared residual on the object (sigma2)"),
        ("FLUXRAT", made.flux_ratio, "flux, blurred again, over the image's"),
        ("OBJRAT", made.object_flux_ratio, "flux of the object over the image's"),
        ("REASON", made.reason, "why it ended"),
    ]


def _shifts_text(stack: ExtendedStack) -> str:
    shifts = stack.shifts
    rows = ["# frame x y ex ey sharpness used"]
    rows += [
        f"{i} {shifts.x[i]:.4f} {shifts.y[i]:.4f} {shifts.ex[i]:.4f} {shifts.ey[i]:.4f} "
        f"{stack.sharpness[i]:.6g} {int(shifts.used[i])}"
        for i in range(len(shifts.x))
    ]
    return "\n".join(rows) + "\n"


def _draw(ctx: ObservationContext, stack: ExtendedStack, cut: _Cut) -> dict[str, bytes]:
    profile, title = ctx.profile, ctx.exposure.name.object_name
    scale = profile.drizzled_scale_arcsec
    sky = Sky(
        plate_scale_arcsec=scale,
        east_is_left=profile.east_is_left,
        y_axis_pa_deg=profile.y_axis_pa_deg,
    )
    orientation = {
        "plate_scale_arcsec": scale,
        "east_is_left": profile.east_is_left,
        "y_axis_pa_deg": profile.y_axis_pa_deg,
    }
    side_arcsec = max(_PREVIEW_DIAMETERS * stack.diameter_px * scale, _LEAST_PREVIEW_ARCSEC)
    pictures = {
        "full": full_preview(
            stack.image,
            title=ctx.id,
            lock_xy=(stack.x, stack.y),
            lock_side_arcsec=side_arcsec,
            **orientation,
        ),
        "cropped": cropped_preview(
            stack.image, stack.x, stack.y, side_arcsec, title=title, **orientation
        ),
    }
    if cut.made is not None:
        near = _middle_of(cut, stack, side_arcsec / scale)
        pictures["deconvolved"] = before_after_preview(
            stack.image[cut.rows, cut.columns][near] - cut.background,
            cut.made.image[near],
            sky=sky,
            title=f"{title}, {ctx.exposure.name.filter_name}",
            text=(
                f"{ctx.ws.settings.extended_object.method.replace('_', '-')}\n"
                f"{cut.made.iterations} iterations\n"
                f"residual {cut.made.chi2:.2f} × noise variance\n"
                f"flux {100 * cut.made.flux_ratio:.1f} %"
            ),
        )
    return pictures


def _middle_of(cut: _Cut, stack: ExtendedStack, side_px: float) -> tuple[slice, slice]:
    """What of the cut lies within `side_px` round the object."""
    rows, columns = (
        slice(max(round(middle - side_px / 2) - whole.start, 0),
              max(min(round(middle + side_px / 2), whole.stop) - whole.start, 1))
        for middle, whole in ((stack.y, cut.rows), (stack.x, cut.columns))
    )  # fmt: skip
    return rows, columns
