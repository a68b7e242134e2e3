"""What the compiled module offers; roboao_native checks the arguments and makes the outputs."""

import numpy as np
from numpy.typing import NDArray

_Cube = NDArray[np.uint16] | NDArray[np.float32]
_MaybeFloats = NDArray[np.float32] | None

def decode_uint16(values: NDArray[np.uint16]) -> None: ...
def accumulate_groups(
    frames: _Cube, sums: NDArray[np.float64], first_index: int, threads: int
) -> None: ...
def median_of_groups(
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
    offsets: NDArray[np.float64],
    median: NDArray[np.float32],
    threads: int,
) -> None: ...
def sigma_clipped_mean(
    cube: _Cube,
    sigma: float,
    passes: int,
    scale_floor: float,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    count: NDArray[np.int32],
    threads: int,
) -> None: ...
def calibrate_boxes(
    frames: _Cube,
    x0: int,
    y0: int,
    dark: _MaybeFloats,
    inverse_flat: _MaybeFloats,
    bias: _MaybeFloats,
    boxes: NDArray[np.float32],
    threads: int,
) -> None: ...
def drizzle(
    frames: _Cube,
    order: NDArray[np.int64],
    shifts: NDArray[np.float64],
    dark: _MaybeFloats,
    inverse_flat: _MaybeFloats,
    weight: _MaybeFloats,
    ceiling: _MaybeFloats,
    bias: _MaybeFloats,
    scale: int,
    pixfrac: float,
    boundaries: NDArray[np.int64],
    images: NDArray[np.float32],
    weights: NDArray[np.float32],
    threads: int,
) -> None: ...
