"""The bright-star stack of an observation, with all that the frames tell on the way."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from roboao_assets.pipelines.context import ObservationContext
from roboao_assets.pipelines.freshness import fingerprint
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.stack_products import (
    frame_provenance_cards,
    observation_cards,
    publish_stack,
    wcs_cards,
    write_together,
)
from roboao_assets.science.bright_star import BrightStarStack, StackOptions, stack_bright_star
from roboao_assets.storage.files import remove_file, write_text_whole
from roboao_assets.storage.fits_cards import Card
from roboao_assets.storage.fits_products import write_image
from roboao_assets.storage.raw_frames import FrameCube

PIPELINE = "bright_star"
STAGE = "bright_star_stack"


def make_stack(ctx: ObservationContext) -> StageOutcome:
    """Make `sum.fits`, the stacks of the best frames, `frames.txt` and `sorted.txt`."""
    ws, frames = ctx.ws, ctx.frames
    options = ws.settings.bright_star
    wavelength_nm = frames.wavelength_nm

    def identity() -> str:
        return fingerprint(STAGE, frames.inputs, options.fingerprint())

    record = ctx.product(PIPELINE)
    # A new observation is read at once: its files are hashed while they are unpacked.
    if not ctx.force and record.get("fingerprint"):
        kept = ctx.kept(record, identity())
        if kept:
            figures = {"class": record["classified_as"], "frames": record["frames"]}
            return StageOutcome(stage=STAGE, status="unchanged", fingerprint=kept, metadata=figures)
    loaded = frames.load()
    shared = options.model_dump(include=set(StackOptions.__dataclass_fields__))
    stack = stack_bright_star(
        loaded.cube.frames,
        loaded.averager,
        frames.calibration,
        ctx.profile,
        wavelength_nm=wavelength_nm,
        options=StackOptions(**shared, threads=ws.settings.threads),
    )
    made = identity()
    products = _write_products(ctx, stack, loaded.cube, made)
    return publish_stack(ctx, STAGE, PIPELINE, _summary(stack, loaded.cube), made, products)


def _summary(stack: BrightStarStack, cube: FrameCube) -> dict[str, Any]:
    used = 0 if stack.table is None else int(stack.table.used.sum())
    return {
        "classified_as": stack.classification,
        "reason": stack.reason,
        "frames": len(cube.frames),
        "frames_used": used,
        "frames_not_finite": len(cube.nonfinite_frames),
        "frames_saturated": stack.saturated_frames,
        "frames_cosmic_ray": stack.cosmic_ray_frames,
        "flags": [str(flag) for flag in stack.flags],
        "snr": stack.snr,
        "lock_position": [stack.lock_x, stack.lock_y] if stack.stacks else None,
    }


def _write_products(
    ctx: ObservationContext, stack: BrightStarStack, cube: FrameCube, identity: str
) -> list[Path]:
    paths = ctx.ws.paths
    provenance = frame_provenance_cards(
        ctx, STAGE, ctx.ws.settings.bright_star.fingerprint(), identity
    )
    common: list[Card] = [
        *observation_cards(ctx),
        ("CLASS", stack.classification, "by the guide star's signal-to-noise"),
        ("GUIDESNR", stack.snr, "mean signal-to-noise of the guide star"),
        ("FLAGS", " ".join(stack.flags), "words of warning"),
    ]
    raw_scale = ctx.profile.plate_scale_arcsec
    field = wcs_cards(ctx, stack.sum_image.shape, raw_scale)
    writers = [
        (
            paths.stack_sum(ctx.night, ctx.id),
            partial(write_image, data=stack.sum_image, cards=[*common, *field, *provenance]),
        ),
        *_stack_writers(ctx, stack, common, provenance),
    ]
    if stack.short_stacks is not None:
        writers.append(_short_stacks_writer(ctx, stack, [*common, *provenance]))
    if stack.psfs is not None:
        scale: Card = ("PIXSCALE", raw_scale, "arcsec/px")
        writers += _psf_writers(ctx, stack, [*common, scale, *provenance])
    written = write_together(writers)
    if stack.table is not None:
        written += _write_tables(ctx, stack, cube)
    for old in paths.pipeline(ctx.night, ctx.id, PIPELINE).glob("*.fits"):
        # A stack of a selection that is no longer asked for would pass for a product of this run.
        if old not in written:
            remove_file(old)
    return written


def _stack_writers(
    ctx: ObservationContext, stack: BrightStarStack, common: list[Card], provenance: list[Card]
) -> list:
    scale = ctx.profile.drizzled_scale_arcsec
    height, width = stack.sum_image.shape
    field = wcs_cards(
        ctx, (height * ctx.profile.drizzle_scale, width * ctx.profile.drizzle_scale), scale
    )
    writers = []
    for percent, one in stack.stacks.items():
        cards: list[Card] = [
            *common,
            *field,
            ("NFRAMES", one.frames, "frames stacked"),
            ("PERCENT", percent, "best frames selected (percent)"),
            ("LOCK_X", stack.lock_x, "lock star, 0-based px"),
            ("LOCK_Y", stack.lock_y, "lock star, 0-based px"),
            ("PIXFRAC", ctx.profile.drizzle_pixfrac, "drizzle drop (raw px)"),
            *provenance,
        ]
        path = ctx.ws.paths.stack(ctx.night, ctx.id, percent)
        writers.append((path, partial(write_image, data=one.image, cards=cards)))
        weight = ctx.ws.paths.stack_weight(ctx.night, ctx.id, percent)
        unit: Card = ("BUNIT", "frame px2", "overlap of the drops (drizzled px2)")
        writers.append((weight, partial(write_image, data=one.weight, cards=[*cards, unit])))
        if percent == 100:
            ctx.keep_image(path, one.image, None)
    return writers


def _short_stacks_writer(
    ctx: ObservationContext, stack: BrightStarStack, cards: list[Card]
) -> tuple:
    of_cube: list[Card] = [
        *cards,
        ("PIXSCALE", ctx.profile.drizzled_scale_arcsec, "arcsec/px"),
        ("NSTACKS", len(stack.short_stacks), "groups of consecutive frames"),
    ]
    path = ctx.ws.paths.short_stacks(ctx.night, ctx.id)
    return path, partial(write_image, data=stack.short_stacks, cards=of_cube)


def _psf_writers(ctx: ObservationContext, stack: BrightStarStack, common: list[Card]) -> list:
    psfs, table, paths = stack.psfs, stack.table, ctx.ws.paths
    chosen: list[Card] = []
    for plane, frame in enumerate(psfs.frames, 1):
        chosen.append((f"FRAME{plane}", int(frame), "number of the frame (from 0)"))
        chosen.append((f"QUAL{plane}", float(table.quality[frame]), "its quality"))
    return [
        (
            paths.frame_psfs(ctx.night, ctx.id),
            partial(write_image, data=psfs.images, cards=[*common, *chosen]),
        ),
        (
            paths.quick_look(ctx.night, ctx.id),
            partial(write_image, data=psfs.quick_look, cards=common),
        ),
    ]


def _write_tables(ctx: ObservationContext, stack: BrightStarStack, cube: FrameCube) -> list[Path]:
    table = stack.table
    assert table is not None
    rows = ["# frame quality flux x y bias"]
    rows += [
        f"{i} {table.quality[i]:.7g} {table.flux[i]:.7g} {table.x[i]:.4f} {table.y[i]:.4f} "
        f"{table.bias[i]:.3f}"
        for i in range(len(table.quality))
    ]
    frames_path = ctx.ws.paths.frames_table(ctx.night, ctx.id)
    write_text_whole(frames_path, "\n".join(rows) + "\n")
    starts = np.array(cube.first_frame)
    rows = ["# quality flux x y file[frame]"]
    for i in table.order:
        part = int(np.searchsorted(starts, i, side="right")) - 1
        name = cube.files[part].name.removesuffix(".bz2")
        rows.append(
            f"{table.quality[i]:.7g} {table.flux[i]:.7g} {table.x[i]:.4f} {table.y[i]:.4f} "
            f"{name}[{i - starts[part]}]"
        )
    sorted_path = ctx.ws.paths.sorted_table(ctx.night, ctx.id)
    write_text_whole(sorted_path, "\n".join(rows) + "\n")
    return [frames_path, sorted_path]
