"""The bright-star products of an observation: stack, Strehl ratio, previews."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from roboao_assets.pipelines.calibration import Cards, frame_calibration, known_records
from roboao_assets.pipelines.context import NothingToMakeError, ObservationContext
from roboao_assets.pipelines.freshness import fingerprint, is_current, product_record
from roboao_assets.pipelines.outcome import StageOutcome
from roboao_assets.pipelines.previews import cropped_preview, full_preview
from roboao_assets.science.bright_star import (
    BrightStarStack,
    StackOptions,
    stack_bright_star,
)
from roboao_assets.science.errors import RawDataError
from roboao_assets.science.frame_averages import FrameAverager
from roboao_assets.science.strehl import StrehlMeasurement, measure_strehl
from roboao_assets.storage.files import write_bytes_whole, write_text_whole
from roboao_assets.storage.fits_products import provenance_cards, write_image
from roboao_assets.storage.raw_frames import FrameCube, file_record, read_frames
from roboao_assets.storage.raw_header import parse_facts, read_header

PIPELINE = "bright_star"


def make_stack(ctx: ObservationContext) -> StageOutcome:
    """Make `sum.fits`, the stacks of the best frames, `frames.txt` and `sorted.txt`."""
    ws, exposure = ctx.ws, ctx.exposure
    if exposure.problem:
        raise RawDataError(exposure.problem)
    wavelength_nm = ctx.profile.filter(exposure.name.filter_name).wavelength_nm
    header = read_header(exposure.files[0])
    facts = parse_facts(header)
    calibration, masters, master_fingerprints = frame_calibration(
        ws,
        ctx.night,
        ctx.profile,
        mode=facts.mode,
        filter_name=exposure.name.filter_name,
        shape=_frame_shape(header, exposure.files[0]),
    )
    known = known_records(ws.catalogue.raw_records(ctx.id))
    records = [file_record(path, known.get(path.name)) for path in exposure.files]
    ws.catalogue.set_raw_records(ctx.id, [asdict(r) for r in records])
    options = ws.settings.bright_star
    identity = fingerprint(
        "bright_star_stack",
        [[r.name, r.sha256] for r in records],
        master_fingerprints,
        options.fingerprint(),
        ctx.profile.name,
    )
    record = ctx.product(PIPELINE)
    if not ctx.force and is_current(record, identity, ws.paths.root):
        return StageOutcome(
            stage="bright_star_stack",
            status="unchanged",
            fingerprint=identity,
            metadata={"class": record["classified_as"], "frames": record["frames"]},
        )
    averager = FrameAverager(calibration, groups=options.groups, threads=ws.settings.threads)

    def take(frames: Any, first: int) -> None:
        averager.add(frames, first)
        if ctx.on_frames is not None:
            ctx.on_frames(first + len(frames))

    cube = read_frames(
        exposure.files, threads=max(2, ws.settings.threads), on_frames=take, known=records
    )
    shared = options.model_dump(include=set(StackOptions.__dataclass_fields__))
    stack = stack_bright_star(
        cube.frames,
        averager,
        calibration,
        ctx.profile,
        wavelength_nm=wavelength_nm,
        options=StackOptions(**shared, threads=ws.settings.threads),
    )
    cards = provenance_cards(
        stage="bright_star_stack",
        raw=records,
        calibration=masters,
        settings_fingerprint=options.fingerprint(),
        fingerprint=identity,
    )
    products = _write_stack(ctx, stack, cube, cards)
    summary = _stack_summary(stack, cube)
    ws.catalogue.publish(
        ctx.id,
        PIPELINE,
        {
            "location": str(ws.paths.pipeline(ctx.night, ctx.id, PIPELINE)),
            **summary,
            **product_record(ws.paths.root, identity, products),
        },
    )
    metadata = {k: v for k, v in summary.items() if isinstance(v, str | int | float)}
    return StageOutcome(
        stage="bright_star_stack", status="done", fingerprint=identity, metadata=metadata
    )


def _frame_shape(header: Any, path: Path) -> tuple[int, int]:
    try:
        return int(header["NAXIS2"]), int(header["NAXIS1"])
    except (KeyError, ValueError) as error:
        raise RawDataError(
            f"{path} has no image in its primary header: NAXIS1 and NAXIS2 are needed ({error})"
        ) from None


def _stack_summary(stack: BrightStarStack, cube: FrameCube) -> dict[str, Any]:
    used = 0 if stack.table is None else int(stack.table.used.sum())
    return {
        "classified_as": stack.classification,
        "reason": stack.reason,
        "frames": len(cube.frames),
        "frames_used": used,
        "frames_not_finite": len(cube.nonfinite_frames),
        "frames_saturated": stack.saturated_frames,
        "frames_cosmic_ray": stack.cosmic_ray_frames,
        "snr": stack.snr,
        "lock_position": [stack.lock_x, stack.lock_y] if stack.stacks else None,
    }


def _write_stack(
    ctx: ObservationContext, stack: BrightStarStack, cube: FrameCube, provenance: Cards
) -> list[Path]:
    paths = ctx.ws.paths
    folder = paths.pipeline(ctx.night, ctx.id, PIPELINE)
    common: Cards = [
        ("OBJECT", ctx.exposure.name.object_name, "target"),
        ("FILTER", ctx.exposure.name.filter_name, "filter"),
        ("DATE-OBS", ctx.exposure.name.utc.strftime("%Y-%m-%dT%H:%M:%S.%f"), "UTC of the start"),
        ("TELESCOP", ctx.profile.telescope, "telescope"),
        ("INSTRUME", ctx.profile.camera, "camera"),
        ("BUNIT", "adu", "per raw pixel and frame"),
        ("CLASS", stack.classification, "by the guide star's signal-to-noise"),
        ("GUIDESNR", stack.snr, "mean signal-to-noise of the guide star"),
    ]
    sum_path = paths.stack_sum(ctx.night, ctx.id)
    scale = ("PIXSCALE", ctx.profile.plate_scale_arcsec, "arcsec/px")
    write_image(sum_path, stack.sum_image, [*common, scale, *provenance])
    written = [sum_path]
    for percent, one in stack.stacks.items():
        path = paths.stack(ctx.night, ctx.id, percent)
        write_image(
            path,
            one.image,
            [
                *common,
                ("PIXSCALE", ctx.profile.drizzled_scale_arcsec, "arcsec/px"),
                ("NFRAMES", one.frames, "frames stacked"),
                ("PERCENT", percent, "best frames selected (percent)"),
                ("LOCK_X", stack.lock_x, "lock star, 0-based px"),
                ("LOCK_Y", stack.lock_y, "lock star, 0-based px"),
                ("PIXFRAC", ctx.profile.drizzle_pixfrac, "drizzle drop (raw px)"),
                *provenance,
            ],
        )
        written.append(path)
        if percent == 100:
            ctx.keep_image(path, one.image, None)
    if stack.table is not None:
        written += _write_tables(ctx, stack, cube)
    for old in folder.glob("*p.fits"):
        # A stack of a selection that is no longer asked for would pass for a product of this run.
        if old not in written:
            old.unlink()
    return written


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


def require_stack(ctx: ObservationContext) -> dict[str, Any]:
    """What the catalogue has of the stack.

    Raises
    ------
    NothingToMakeError
        If the observation has no stack, by its class.
    RawDataError
        If the stack has not been made.
    """
    record = ctx.product(PIPELINE)
    if not record.get("classified_as"):
        raise RawDataError(
            f"{ctx.id} has no bright-star stack yet: materialise bright_star_stack first"
        )
    if not record.get("lock_position"):
        raise NothingToMakeError(
            f"there is no stack of {ctx.id} (class {record['classified_as']}): {record['reason']}"
        )
    return record


def make_strehl(ctx: ObservationContext) -> StageOutcome:
    """Measure the Strehl ratio in `100p.fits`; write the table and the box."""
    ws, paths = ctx.ws, ctx.ws.paths
    stack = require_stack(ctx)
    identity = fingerprint("strehl_ratio", stack["fingerprint"], ctx.profile.name)
    record = ctx.product(f"{PIPELINE}.strehl")
    if not ctx.force and is_current(record, identity, paths.root):
        return StageOutcome(
            stage="strehl_ratio",
            status="unchanged",
            fingerprint=identity,
            metadata={"strehl_percent": record["ratio_percent"], "flag": record["flag"]},
        )
    image, _ = ctx.image(paths.stack(ctx.night, ctx.id, 100))
    x, y = stack["lock_position"]
    strehl = measure_strehl(
        image,
        x,
        y,
        ctx.profile,
        ctx.exposure.name.filter_name,
        pixfrac=ctx.profile.drizzle_pixfrac,
    )
    table = paths.strehl_table(ctx.night, ctx.id, PIPELINE)
    write_text_whole(table, _strehl_text(strehl))
    box = paths.strehl_box(ctx.night, ctx.id, PIPELINE)
    write_image(
        box,
        strehl.box,
        [
            ("STREHL", strehl.ratio_percent, "Strehl ratio (percent)"),
            ("STREHLER", strehl.total_error_percent, "its uncertainty (percent)"),
            ("STREHLUN", strehl.uncorrected_percent, "not corrected for the sampling"),
            ("PIXSCALE", ctx.profile.drizzled_scale_arcsec, "arcsec/px"),
            *provenance_cards(
                stage="strehl_ratio",
                raw=(),
                calibration=(),
                settings_fingerprint="",
                fingerprint=identity,
            ),
        ],
    )
    ws.catalogue.publish(
        ctx.id,
        f"{PIPELINE}.strehl",
        {
            "lock_position": [strehl.x, strehl.y],
            "ratio_percent": strehl.ratio_percent,
            "ratio_error_percent": strehl.total_error_percent,
            "uncorrected_percent": strehl.uncorrected_percent,
            "core_arcsec": strehl.core_arcsec,
            "halo_arcsec": strehl.halo_arcsec,
            "fwhm_arcsec": strehl.fwhm_arcsec,
            "flag": strehl.flag,
            **product_record(paths.root, identity, [table, box]),
        },
    )
    return StageOutcome(
        stage="strehl_ratio",
        status="done",
        fingerprint=identity,
        metadata={
            "strehl_percent": strehl.ratio_percent,
            "strehl_error_percent": strehl.total_error_percent,
            "fwhm_arcsec": strehl.fwhm_arcsec,
            "core_arcsec": strehl.core_arcsec,
            "halo_arcsec": strehl.halo_arcsec,
            "flag": strehl.flag,
        },
    )


def _strehl_text(s: StrehlMeasurement) -> str:
    return (
        '# lock_x[px] lock_y[px] core["] halo["] SR[%] FWHM["] flag\n'
        f"{s.x:.3f} {s.y:.3f} {s.core_arcsec:.5f} {s.halo_arcsec:.5f} "
        f"{s.ratio_percent:.4f} {s.fwhm_arcsec:.5f} {s.flag}\n"
    )


def make_preview(ctx: ObservationContext) -> StageOutcome:
    """Draw the full and the cropped preview of `100p.fits`."""
    ws, paths = ctx.ws, ctx.ws.paths
    stack = require_stack(ctx)
    strehl = ctx.product(f"{PIPELINE}.strehl")
    identity = fingerprint("bright_star_preview", stack["fingerprint"], strehl.get("fingerprint"))
    record = ctx.product(f"{PIPELINE}.preview")
    if not ctx.force and is_current(record, identity, paths.root):
        return StageOutcome(stage="bright_star_preview", status="unchanged", fingerprint=identity)
    image, _ = ctx.image(paths.stack(ctx.night, ctx.id, 100))
    x, y = stack["lock_position"]
    scale = ctx.profile.drizzled_scale_arcsec
    pictures = {
        "full": full_preview(
            image,
            plate_scale_arcsec=scale,
            title=ctx.id,
            east_is_left=ctx.profile.east_is_left,
            y_axis_pa_deg=ctx.profile.y_axis_pa_deg,
            lock_xy=(x, y),
        ),
        "cropped": cropped_preview(
            image,
            x,
            y,
            ctx.profile.cropped_preview_arcsec,
            plate_scale_arcsec=scale,
            title=ctx.exposure.name.object_name,
            east_is_left=ctx.profile.east_is_left,
            y_axis_pa_deg=ctx.profile.y_axis_pa_deg,
            strehl_percent=strehl.get("ratio_percent"),
            strehl_error_percent=strehl.get("ratio_error_percent"),
            fwhm_arcsec=strehl.get("fwhm_arcsec"),
            flag=strehl.get("flag", ""),
        ),
    }
    written = publish_pictures(ctx, PIPELINE, pictures)
    ws.catalogue.publish(
        ctx.id, f"{PIPELINE}.preview", product_record(paths.root, identity, written)
    )
    return StageOutcome(
        stage="bright_star_preview",
        status="done",
        fingerprint=identity,
        preview_png=pictures["cropped"],
    )


def publish_pictures(
    ctx: ObservationContext, pipeline: str, pictures: dict[str, bytes]
) -> Sequence[Path]:
    """Write previews to the archive and to the catalogue; return their paths."""
    written = []
    for kind, png in pictures.items():
        path = ctx.ws.paths.preview(ctx.night, ctx.id, pipeline, kind)
        write_bytes_whole(path, png)
        ctx.ws.catalogue.put_image(
            f"{ctx.id}/{pipeline}/{kind}", png, night=ctx.night, observation=ctx.id
        )
        written.append(path)
    return written
