"""What the kernels cost, against copying the memory that they must read and write.

    python benchmarks/kernels.py [--frames 100] [--side 1024] [--threads 1 2] [--repeats 3]

For each kernel: wall and processor milliseconds a frame (best of the repeats), and how many times
more processor time that is than moving its bytes at the speed of a copy in the same run: 1 is as
fast as memory allows. Processor time is compared as other work on the machine disturbs it least.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import roboao_native


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


def best_of(repeats: int, call: Callable[[], object]) -> tuple[float, float]:
    """Return the shortest wall and processor times of the calls in seconds."""
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return min(walls), min(processors)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    frames = make_frames(arguments.frames, arguments.side)
    target = np.empty_like(frames)
    copied_s = best_of(arguments.repeats + 1, lambda: np.copyto(target, frames))[1]
    bytes_per_s = 2 * frames.nbytes / copied_s
    print(
        f"{len(frames)} frames of {arguments.side} x {arguments.side} px, uint16; a copy takes "
        f"{1e3 * copied_s / len(frames):.2f} ms a frame ({bytes_per_s / 1e9:.1f} GB/s moved)"
    )
    print(f"{'kernel':34}{'threads':>8}{'wall ms':>9}{'CPU ms':>9}{'x the copy of its bytes':>25}")
    for case in cases(frames):
        for threads in arguments.threads if case.parallel else [1]:
            times = best_of(arguments.repeats, lambda c=case, t=threads: c.call(t))
            wall_s, processor_s = (seconds / len(frames) for seconds in times)
            ratio = processor_s / (case.bytes_per_frame / bytes_per_s)
            print(
                f"{case.name:34}{threads:8}{1e3 * wall_s:9.3f}{1e3 * processor_s:9.3f}{ratio:25.1f}"
            )


if __name__ == "__main__":
    main()
