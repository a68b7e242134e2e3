"""The bright star against the original's way of making it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.nights import NIGHT, BenchNight, forget, make_night, reduce_cold, with_frames
from benchmarks.original_way import SPLINE_ORDER, Masters, OriginalStack, reduce_the_original_way
from benchmarks.rows import Goal, Options, Row, interleave
from roboao_assets.storage.fits_products import read_image
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_header import parse_facts, read_header
from roboao_assets.storage.raw_night import RawExposure

SPEEDUP_GOAL = Goal(limit=10, at_least=True)
SAMPLED_FRAMES = 40
MOST_REPEATS = 3
LINEAR = 1


def measure(options: Options) -> Iterator[Row]:
    """Yield how many times faster ours is, and the original's seconds a frame, step by step.

    Ours are measured on the whole observation with Strehl ratio and previews; the original's
    stack alone on its first frames, since it would take minutes.
    """
    night = make_night(options, targets=1, frames=options.frames)
    exposure = night.observations[0]
    sampled = min(SAMPLED_FRAMES, options.frames)
    short = with_frames(night, sampled).observations[0]
    masters = read_masters(night, exposure)
    made: dict[int, list[OriginalStack]] = {SPLINE_ORDER: [], LINEAR: []}

    def original(spline_order: int) -> float:
        forget(short.files)
        with tempfile.TemporaryDirectory(prefix="original-", dir=options.scratch) as folder:
            stack = reduce_the_original_way(
                short.files,
                Path(folder),
                masters,
                cores=options.cores,
                spline_order=spline_order,
            )
        made[spline_order].append(stack)
        return stack.seconds_for(options.frames)

    reduce_cold(night, exposure.id)  # imports
    pairs = interleave(
        lambda: reduce_cold(night, exposure.id)[0],
        {"original": lambda: original(SPLINE_ORDER), "linear": lambda: original(LINEAR)},
        min(options.repeats, MOST_REPEATS),
    )
    found = pairs["original"]
    yield Row(
        name="the original's way / bright star, Strehl, preview",
        values=tuple(p.ratio for p in found),
        key="speedup_over_original_way",
        goal=SPEEDUP_GOAL,
        note=f"ours {options.described(options.frames)}; the original's stack alone, "
        f"measured on {sampled} of them and scaled by the frame",
    )
    yield Row(
        name="  with linear interpolation",
        values=tuple(p.ratio for p in pairs["linear"]),
        note="in place of scipy's cubic splines: cheaper, and a Strehl ratio a tenth lower",
    )
    yield Row(
        name="  ours, a frame",
        values=tuple(1e3 * p.baseline / options.frames for p in found),
        unit="ms",
    )
    yield Row(
        name="  the original's, a frame",
        values=tuple(1e3 * p.seconds / options.frames for p in found),
        unit="ms",
    )
    for step in made[SPLINE_ORDER][0].seconds:
        yield Row(
            name=f"    {step}",
            values=tuple(1e3 * stack.seconds[step] / sampled for stack in made[SPLINE_ORDER]),
            unit="ms",
        )


def read_masters(night: BenchNight, exposure: RawExposure) -> Masters:
    """Return the night's masters for an observation's frames, without what cannot be divided by."""
    paths = ArchivePaths(night.masters)
    header = read_header(exposure.files[0])
    shape = int(header["NAXIS2"]), int(header["NAXIS1"])
    flat, _ = read_image(paths.master_flat(NIGHT, exposure.name.filter_name))
    mode = parse_facts(header).mode
    dark, _ = read_image(paths.master_dark(NIGHT, f"{mode}{'' if shape == flat.shape else '4'}"))
    y, x = (spare // 2 for spare in np.subtract(flat.shape, shape))
    flat = flat[y : y + shape[0], x : x + shape[1]]
    good = np.isfinite(flat) & (flat > 0) & np.isfinite(dark)
    return Masters(np.where(good, dark, 0), np.where(good, flat, 1))
