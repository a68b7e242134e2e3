"""What the kernels cost, against copying the memory that they must read and write.

For each kernel: wall and processor milliseconds a frame (best of the repeats), and how many times
more processor time that is than moving its bytes at the speed of a copy in the same run: 1 is as
fast as memory allows. Processor time is compared as other work on the machine disturbs it least.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import roboao_native
from benchmarks.rows import Options, Row

MOST_FRAMES, QUICK_FRAMES = 100, 20


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kernel's call and the bytes a frame that it cannot do without."""

    name: str
    call: Callable[[int], object]
    bytes_per_frame: float
    parallel: bool = True


def make_frames(frames: int, side: int) -> NDArray[np.uint16]:
    """Return frames of noise on a level, as an EMCCD dark has them."""
    rng = np.random.default_rng(1)
    few = np.rint(rng.normal(1000, 30, (min(frames, 16), side, side))).astype(np.uint16)
    return np.concatenate([np.roll(few, 7 * i, axis=2) for i in range(-(-frames // len(few)))])[
        :frames
    ]


def cases(frames: NDArray[np.uint16]) -> list[Case]:
    """Return what is measured."""
    n, side, _ = frames.shape
    rng = np.random.default_rng(2)
    plane = side * side
    sums = np.zeros((5, side, side))
    floats = frames.astype(np.float32)
    raw = frames.copy()
    order, shifts = np.arange(n), rng.normal(0, 3, (n, 2))
    flat = np.ones((side, side), np.float32)
    bad = flat.copy()
    bad.flat[rng.integers(0, plane, plane // 1000)] = 0
    uneven = rng.uniform(0.5, 1.0, (side, side)).astype(np.float32)
    bias = np.zeros(n, np.float32)
    box = min(128, side)
    images = 2 * 4 * 4 * plane

    def drizzle(weight: NDArray[np.float32], boundaries: list[int]) -> Callable[[int], object]:
        return lambda threads: roboao_native.drizzle(
            frames, order, shifts, dark=flat, inverse_flat=flat, weight=weight, bias=bias,
            boundaries=boundaries, threads=threads,
        )  # fmt: skip

    def blocks(threads: int) -> None:
        for first in range(0, n, 16):
            roboao_native.accumulate_groups(frames[first : first + 16], sums, first, threads)

    return [
        Case(
            name="decode_uint16",
            call=lambda _: roboao_native.decode_uint16(raw),
            bytes_per_frame=4 * plane,
            parallel=False,
        ),
        Case(
            name="accumulate_groups, whole cube",
            call=lambda threads: roboao_native.accumulate_groups(frames, sums, 0, threads),
            bytes_per_frame=2 * plane + 2 * sums.nbytes / n,
        ),
        Case(
            name="accumulate_groups, 16 at a time",
            call=blocks,
            bytes_per_frame=2 * plane + 2 * sums.nbytes / 16,
        ),
        Case(
            name="median_of_groups, a frame of 5",
            call=lambda threads: [
                roboao_native.median_of_groups(sums, [n] * 5, [0.0] * 5, threads) for _ in range(n)
            ],
            bytes_per_frame=sums.nbytes + 4 * plane,
        ),
        Case(
            name="sigma_clipped_mean, uint16",
            call=lambda threads: roboao_native.sigma_clipped_mean(frames, threads=threads),
            bytes_per_frame=2 * plane,
        ),
        Case(
            name="sigma_clipped_mean, float32",
            call=lambda threads: roboao_native.sigma_clipped_mean(floats, threads=threads),
            bytes_per_frame=4 * plane,
        ),
        Case(
            name=f"calibrate_boxes, {box} px",
            call=lambda threads: roboao_native.calibrate_boxes(
                frames, 0, 0, box, flat, flat, bias, threads
            ),
            bytes_per_frame=6 * box * box,
        ),
        Case(
            name="drizzle x2, 1 stack, bad pixels",
            call=drizzle(bad, [n]),
            bytes_per_frame=2 * plane + images / n,
        ),
        Case(
            name="drizzle x2, 2 stacks, bad pixels",
            call=drizzle(bad, [max(1, n // 5), n] if n > 1 else [n]),
            bytes_per_frame=2 * plane + 2 * images / n,
        ),
        Case(
            name="drizzle x2, 1 stack, any weights",
            call=drizzle(uneven, [n]),
            bytes_per_frame=2 * plane + images / n,
        ),
    ]


def times_of(repeats: int, call: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Return the wall and the processor times of the calls in seconds."""
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return walls, processors


def measure(options: Options) -> Iterator[Row]:
    """Yield how far each kernel is from the speed of memory, with one thread and with all cores."""
    number = min(options.frames, QUICK_FRAMES if options.quick else MOST_FRAMES)
    frames = make_frames(number, options.size_px)
    repeats = max(options.repeats, 2)
    target = np.empty_like(frames)
    # The first copy takes the target's pages from the system.
    _, copies = times_of(repeats + 1, lambda: np.copyto(target, frames))
    bytes_per_s = 2 * frames.nbytes / min(copies[1:])
    yield Row(
        name="a copy",
        values=tuple(2 * frames.nbytes / 1e9 / seconds for seconds in copies[1:]),
        unit="GB/s",
        note=f"bytes read and written, uint16, {options.described(number)}",
    )
    for case in cases(frames):
        for threads in sorted({1, options.cores}) if case.parallel else [1]:
            walls, processors = times_of(repeats, lambda c=case, t=threads: c.call(t))
            floor_s = case.bytes_per_frame * number / bytes_per_s
            yield Row(
                name=f"{case.name}, {threads} thread{'s' if threads > 1 else ''}",
                values=tuple(seconds / floor_s for seconds in processors),
                unit="x copy",
                note=f"{1e3 * min(walls) / number:.3f} ms a frame, "
                f"{1e3 * min(processors) / number:.3f} of a processor",
            )
