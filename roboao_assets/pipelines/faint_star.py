"""The faint-star stack of an observation: registered on all of the star's light."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roboao_assets.pipelines.context import NothingToMakeError, ObservationContext
from roboao_assets.pipelines.frames import ObservationFrames
from roboao_assets.pipelines.freshness import fingerprint
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.stack_products import (
    frame_provenance_cards,
    observation_cards,
    publish_stack,
    wcs_cards,
    write_together,
)
from roboao_assets.science.cosmic_rays import frame_ceiling
from roboao_assets.science.errors import NoStarError
from roboao_assets.science.faint_star import (
    FaintStarOptions,
    FaintStarStack,
    FrameShifts,
    stack_faint_star,
)
from roboao_assets.science.guide_star import GuideStar, find_guide_star
from roboao_assets.storage.files import write_text_whole
from roboao_assets.storage.fits_cards import Card
from roboao_assets.storage.fits_products import write_image

PIPELINE = "faint_star"
STAGE = "faint_star_stack"
# Before the frames are registered, the image is taken to move no further.
_TYPICAL_MOTION_PX = 20.0


def make_stack(ctx: ObservationContext) -> StageOutcome:
    """Make `<id>_summed.fits`, its weight map, `<id>_simple_sum.fits` and `shifts.txt`."""
    ws, frames = ctx.ws, ctx.frames
    options = ws.settings.faint_star

    def identity() -> str:
        groups = ws.settings.bright_star.groups
        return fingerprint(STAGE, frames.inputs, options.fingerprint(), groups)

    record = ctx.product(PIPELINE)
    if not ctx.force and record.get("fingerprint"):
        kept = ctx.kept(record, identity())
        if kept:
            return StageOutcome(stage=STAGE, status="unchanged", fingerprint=kept)
    loaded = frames.load()
    simple_sum = loaded.averager.mean_image()
    star = find_star(ctx, simple_sum)
    bias = loaded.averager.bias
    shared = options.model_dump(include=set(FaintStarOptions.__dataclass_fields__))
    stack = stack_faint_star(
        loaded.cube.frames,
        bias,
        simple_sum,
        unregistered_ceiling(frames, simple_sum),
        frames.calibration,
        ctx.profile,
        star_x=star.x,
        star_y=star.y,
        options=FaintStarOptions(**shared, threads=ws.settings.threads),
    )
    made = identity()
    products = _write_products(ctx, stack, simple_sum, made)
    return publish_stack(ctx, STAGE, PIPELINE, _summary(stack), made, products)


def unregistered_ceiling(
    frames: ObservationFrames, mean_image: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Brightest value each pixel can have, while it is not known how far the image moved."""
    loaded = frames.load()
    bias = loaded.averager.bias
    return frame_ceiling(
        loaded.cube.frames,
        bias,
        mean_image,
        frames.calibration,
        order=np.arange(len(bias)),
        motion_px=_TYPICAL_MOTION_PX,
    )


def find_star(ctx: ObservationContext, image: NDArray[np.float32]) -> GuideStar:
    """The brightest star of a mean image (NothingToMakeError if there is none)."""
    profile = ctx.profile
    try:
        return find_guide_star(
            image,
            star_sigma_px=profile.star_sigma_px,
            background_sigma_px=profile.background_sigma_px,
            edge_px=profile.edge_px,
        )
    except NoStarError as error:
        raise NothingToMakeError(str(error)) from error


def _summary(stack: FaintStarStack) -> dict[str, Any]:
    shifts = stack.shifts
    errors = np.concatenate([shifts.ex[shifts.used], shifts.ey[shifts.used]])
    return {
        "frames": len(shifts.used),
        "frames_used": int(shifts.used.sum()),
        "shift_error_px": float(np.median(errors)),
        "lock_position": [stack.lock_x, stack.lock_y],
    }


def _write_products(
    ctx: ObservationContext, stack: FaintStarStack, simple_sum: np.ndarray, identity: str
) -> list[Path]:
    paths, profile = ctx.ws.paths, ctx.profile
    provenance = frame_provenance_cards(
        ctx, STAGE, ctx.ws.settings.faint_star.fingerprint(), identity
    )
    common = observation_cards(ctx)
    cards: list[Card] = [
        *common,
        *wcs_cards(ctx, stack.image.shape, profile.drizzled_scale_arcsec),
        ("NFRAMES", int(stack.shifts.used.sum()), "frames stacked"),
        ("LOCK_X", stack.lock_x, "lock star, 0-based px"),
        ("LOCK_Y", stack.lock_y, "lock star, 0-based px"),
        ("PIXFRAC", profile.drizzle_pixfrac, "drizzle drop (raw px)"),
        *provenance,
    ]
    unit: Card = ("BUNIT", "frame px2", "overlap of the drops (drizzled px2)")
    raw_field = wcs_cards(ctx, simple_sum.shape, profile.plate_scale_arcsec)
    images = {
        "summed": (stack.image, cards),
        "summed_weight": (stack.weight, [*cards, unit]),
        "simple_sum": (simple_sum, [*common, *raw_field, *provenance]),
    }
    written = write_together(
        [
            (
                paths.faint_star_sum(ctx.night, ctx.id, kind),
                partial(write_image, data=image, cards=of_image),
            )
            for kind, (image, of_image) in images.items()
        ]
    )
    ctx.keep_image(paths.faint_star_sum(ctx.night, ctx.id, "summed"), stack.image, None)
    table = paths.shifts_table(ctx.night, ctx.id)
    write_text_whole(table, _shifts_text(stack.shifts))
    return [*written, table]


def _shifts_text(shifts: FrameShifts) -> str:
    rows = ["# frame x y ex ey used"]
    rows += [
        f"{i} {shifts.x[i]:.4f} {shifts.y[i]:.4f} {shifts.ex[i]:.4f} {shifts.ey[i]:.4f} "
        f"{int(shifts.used[i])}"
        for i in range(len(shifts.x))
    ]
    return "\n".join(rows) + "\n"
