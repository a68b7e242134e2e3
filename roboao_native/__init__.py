"""Native kernels over cubes of short exposures.

Python checks and explains, C++ computes: every function here looks at the shapes, dtypes and
values of its arguments, raises ValueError (or TypeError for what is no array) with the numbers
that do not fit, and hands plain buffers to the compiled module, which releases the GIL.

Of all kernels:

- Cubes are (n, y, x), C-contiguous and in native byte order; they are read in place. A cube that
  is not so is refused and never copied, as it may be larger than the memory that is left. Small
  full-frame arrays (dark, flat, weight, bias, shifts) are converted to what is needed.
- Arithmetic on samples is float32, sums are float64.
- Results have the same bits for any number of threads.
- A cube of no frames is allowed; the result is said in each docstring.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roboao_native import _kernels

__all__ = [
    "accumulate_groups",
    "calibrate_boxes",
    "decode_uint16",
    "drizzle",
    "median_of_groups",
    "sigma_clipped_mean",
]

_LARGEST_SCALE = 16


def decode_uint16(frames: NDArray[np.uint16]) -> None:
    """Convert 16-bit FITS pixels to native unsigned integers, in place.

    Parameters
    ----------
    frames : ndarray of uint16, any shape, C-contiguous, writable
        Holds the bytes as they stand in the file: big-endian int16 with BZERO = 32768.
        Afterwards it holds the pixel values.

    Raises
    ------
    TypeError
        If `frames` is no array.
    ValueError
        If it is not native uint16, not C-contiguous or not writable.
    """
    _require_array("frames", frames)
    if frames.dtype != np.uint16:
        raise ValueError(f"frames must be native uint16, not {frames.dtype.str}")
    _require_contiguous("frames", frames)
    if not frames.flags.writeable:
        raise ValueError("frames are converted in place, but the array is not writable")
    if frames.size:
        _kernels.decode_uint16(frames.reshape(-1))


def accumulate_groups(
    frames: NDArray[np.uint16] | NDArray[np.float32],
    sums: NDArray[np.float64],
    first_index: int,
    threads: int = 1,
) -> None:
    """Add frames to interleaved group sums: ``sums[(first_index + i) % g] += frames[i]``.

    A cube that arrives in blocks is added block by block, `first_index` being the number of the
    first frame of the block in the whole cube. NaN in a frame makes its sum NaN.

    Parameters
    ----------
    frames : ndarray of uint16 or float32, shape (n, y, x)
        n = 0 adds nothing.
    sums : ndarray of float64, shape (g, y, x), g >= 1, C-contiguous, writable
        Modified in place.
    first_index : int
        Not negative.
    threads : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message has the numbers.
    """
    _require_cube("frames", frames)
    _require_array("sums", sums)
    if sums.dtype != np.float64 or sums.ndim != 3 or sums.shape[0] < 1:
        raise ValueError(
            f"sums must be float64 of shape (g, y, x) with g >= 1, not {sums.dtype} {sums.shape}"
        )
    if sums.shape[1:] != frames.shape[1:]:
        raise ValueError(f"sums of {sums.shape[1:]} px do not fit frames of {frames.shape[1:]} px")
    _require_contiguous("sums", sums)
    if not sums.flags.writeable:
        raise ValueError("sums are added to in place, but the array is not writable")
    if np.may_share_memory(frames, sums):
        raise ValueError("frames and sums share memory")
    if first_index < 0:
        raise ValueError(f"first_index must not be negative, it is {first_index}")
    _kernels.accumulate_groups(frames, sums, int(first_index), _checked_threads(threads))


def median_of_groups(
    sums: NDArray[np.float64],
    counts: ArrayLike,
    offsets: ArrayLike,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Median over groups of their means, pixel by pixel.

    Parameters
    ----------
    sums : ndarray of float64, shape (g, y, x), C-contiguous
        Sums of frames, as `accumulate_groups` makes them.
    counts : array_like of int, shape (g,)
        Frames in each sum; a group of none is left out.
    offsets : array_like of float64, shape (g,)
        Taken off the mean of each group (its bias level).
    threads : int
        At least 1.

    Returns
    -------
    ndarray of float32, shape (y, x)
        Median of ``sums[g] / counts[g] - offsets[g]``, the mean of the middle two for an even
        number; NaN where a group is NaN, and everywhere if no group has a frame.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message has the numbers.
    """
    _require_array("sums", sums)
    if sums.dtype != np.float64 or sums.ndim != 3:
        raise ValueError(f"sums must be float64 of shape (g, y, x), not {sums.dtype} {sums.shape}")
    _require_contiguous("sums", sums)
    counts = _integers("counts", counts)
    offsets = np.ascontiguousarray(offsets, np.float64)
    if counts.shape != sums.shape[:1] or offsets.shape != sums.shape[:1]:
        raise ValueError(
            f"counts and offsets must have one value for each of the {len(sums)} groups, not the "
            f"shapes {counts.shape} and {offsets.shape}"
        )
    median = np.empty(sums.shape[1:], np.float32)
    _kernels.median_of_groups(sums, counts, offsets, median, _checked_threads(threads))
    return median


def sigma_clipped_mean(
    cube: NDArray[np.uint16] | NDArray[np.float32],
    sigma: float = 3.0,
    passes: int = 2,
    scale_floor: float = 0.0,
    threads: int = 1,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Sigma-clipped mean over the frames, pixel by pixel.

    In the first pass the centre is the median and the scale ``max(1.4826 MAD, scale_floor)``;
    in each later pass they are the mean and ``max(standard deviation, scale_floor)`` of the
    samples that the pass before kept. A pass keeps, of all samples, those with
    ``|x - centre| <= sigma * scale``, each with full weight. Samples that are not finite are never
    counted.

    Parameters
    ----------
    cube : ndarray of uint16 or float32, shape (n, y, x)
    sigma : float
        At least 1: below that a pass could leave nothing.
    passes : int
        0 gives the plain mean of the finite samples.
    scale_floor : float
        Least scale, in the unit of the cube. With few frames the scale of one pixel is itself
        noisy and clips good samples; a floor from many pixels keeps them.
    threads : int
        At least 1.

    Returns
    -------
    mean : ndarray of float32, shape (y, x)
        NaN where no sample is finite (everywhere if n = 0).
    std : ndarray of float32, shape (y, x)
        Standard deviation (divisor: count) of the samples kept; NaN where no sample is finite.
    count : ndarray of int32, shape (y, x)
        Number of samples kept.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message has the numbers.
    """
    _require_cube("cube", cube)
    if not (np.isfinite(sigma) and sigma >= 1.0):
        raise ValueError(f"sigma must be finite and at least 1, it is {sigma}")
    if passes < 0:
        raise ValueError(f"passes must not be negative, it is {passes}")
    if not (np.isfinite(scale_floor) and scale_floor >= 0.0):
        raise ValueError(f"scale_floor must be finite and not negative, it is {scale_floor}")
    mean = np.empty(cube.shape[1:], np.float32)
    std = np.empty(cube.shape[1:], np.float32)
    count = np.empty(cube.shape[1:], np.int32)
    _kernels.sigma_clipped_mean(
        cube, float(sigma), int(passes), float(scale_floor), mean, std, count,
        _checked_threads(threads),
    )  # fmt: skip
    return mean, std, count


def calibrate_boxes(
    frames: NDArray[np.uint16] | NDArray[np.float32],
    x0: int,
    y0: int,
    side: int,
    dark: ArrayLike | None,
    inverse_flat: ArrayLike | None,
    bias: ArrayLike | None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Cut the same box out of every frame and calibrate it.

    ``(frame[y0 : y0 + side, x0 : x0 + side] - bias[i] - dark) * inverse_flat``, in float32 and in
    this order.

    Parameters
    ----------
    frames : ndarray of uint16 or float32, shape (n, y, x)
    x0, y0 : int
        First column and row of the box (raw px).
    side : int
        Side of the box (px), at least 1.
    dark : array_like of float32, shape (y, x), or None
        Full frame, in ADU. None: nothing is subtracted.
    inverse_flat : array_like of float32, shape (y, x), or None
        Full frame, 1 / flat. None: nothing is multiplied.
    bias : array_like of float32, shape (n,), or None
        Level of each frame, in ADU. None: 0.
    threads : int
        At least 1.

    Returns
    -------
    ndarray of float32, shape (n, side, side)

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit or the box is not inside the frame; the message has the numbers.
    """
    _require_cube("frames", frames)
    n, height, width = frames.shape
    if side < 1 or x0 < 0 or y0 < 0 or x0 + side > width or y0 + side > height:
        raise ValueError(
            f"a box of {side} px at x0 = {x0}, y0 = {y0} is not inside frames of "
            f"{width} x {height} px (x, y)"
        )
    boxes = np.empty((n, int(side), int(side)), np.float32)
    _kernels.calibrate_boxes(
        frames, int(x0), int(y0),
        _optional_floats("dark", dark, (height, width)),
        _optional_floats("inverse_flat", inverse_flat, (height, width)),
        _optional_floats("bias", bias, (n,)),
        boxes, _checked_threads(threads),
    )  # fmt: skip
    return boxes


def drizzle(
    frames: NDArray[np.uint16] | NDArray[np.float32],
    order: ArrayLike,
    shifts: ArrayLike,
    *,
    dark: ArrayLike | None,
    inverse_flat: ArrayLike | None,
    weight: ArrayLike | None,
    bias: ArrayLike | None,
    ceiling: ArrayLike | None = None,
    scale: int = 2,
    pixfrac: float = 0.45,
    boundaries: Sequence[int] | NDArray[np.integer],
    threads: int = 1,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Stack shifted frames on a finer grid (drizzle), best first, with snapshots on the way.

    The centre of raw pixel x goes to the output position ``(x + dx + 0.5) * scale - 0.5``, y
    likewise. A pixel drops as a square of side ``pixfrac * scale`` output px; its weight in an
    output pixel is their exact overlap area (output px^2) times `weight`. The image is the
    weighted mean of the calibrated values (as `calibrate_boxes` has them), so it keeps surface
    brightness: a raw pixel's unit is the output pixel's. Values that are not finite have no
    weight.

    Parameters
    ----------
    frames : ndarray of uint16 or float32, shape (n, y, x)
    order : array_like of int, shape (k,)
        Numbers of the frames to stack, best first; a number may occur more than once.
    shifts : array_like of float64, shape (k, 2)
        (dx, dy) in raw px, added to the positions of frame ``order[j]``.
    dark, inverse_flat : array_like of float32, shape (y, x), or None
        Full frames; see `calibrate_boxes`.
    weight : array_like of float32, shape (y, x), or None
        Finite, not negative; 0 is a bad pixel. None: 1.
    bias : array_like of float32, shape (n,), or None
        Level of each frame (by its number, not by its place in `order`), in ADU. None: 0.
    ceiling : array_like of float32, shape (y, x), or None
        A calibrated value above it has no weight: a cosmic ray has hit the pixel. None: none.
    scale : int
        Output pixels a raw pixel, per axis: 1 to 16.
    pixfrac : float
        Side of the drop over that of the raw pixel: above 0, at most 1.
    boundaries : sequence of int, shape (m,)
        Increasing numbers of frames (0 to k) after which the stack is written out.
    threads : int
        At least 1.

    Returns
    -------
    images : ndarray of float32, shape (m, y * scale, x * scale)
        ``images[j]`` is the stack of the first ``boundaries[j]`` frames; NaN without weight.
    weights : ndarray of float32, same shape
        Sums of the weights.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message has the numbers.

    References
    ----------
    Fruchter & Hook 2002, PASP 114, 144, doi:10.1086/338393.
    """
    _require_cube("frames", frames)
    n, height, width = frames.shape
    if not 1 <= scale <= _LARGEST_SCALE or int(scale) != scale:
        raise ValueError(f"scale must be an integer from 1 to {_LARGEST_SCALE}, it is {scale}")
    if not 0.0 < pixfrac <= 1.0:
        raise ValueError(f"pixfrac must be above 0 and at most 1, it is {pixfrac}")
    order, shifts, boundaries = _checked_sequence(n, order, shifts, boundaries)
    weight = _optional_floats("weight", weight, (height, width))
    if weight is not None and not bool(np.all((weight >= 0) & np.isfinite(weight))):
        raise ValueError(
            f"weight must be finite and not negative; {np.count_nonzero(~np.isfinite(weight))} px "
            f"are not finite, {np.count_nonzero(weight < 0)} px are negative"
        )
    ceiling = _optional_floats("ceiling", ceiling, (height, width))
    if ceiling is not None and bool(np.isnan(ceiling).any()):
        raise ValueError(f"ceiling must not be NaN; {np.count_nonzero(np.isnan(ceiling))} px are")
    shape = (len(boundaries), height * int(scale), width * int(scale))
    images, weights = np.empty(shape, np.float32), np.empty(shape, np.float32)
    _kernels.drizzle(
        frames, order, shifts,
        _optional_floats("dark", dark, (height, width)),
        _optional_floats("inverse_flat", inverse_flat, (height, width)),
        weight,
        ceiling,
        _optional_floats("bias", bias, (n,)),
        int(scale), float(pixfrac), boundaries, images, weights, _checked_threads(threads),
    )  # fmt: skip
    return images, weights


def _require_array(name: str, array: object) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, not {type(array).__name__}")


def _require_contiguous(name: str, array: np.ndarray) -> None:
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise ValueError(
            f"{name} must be C-contiguous and aligned; an array of shape {array.shape} with "
            f"strides {array.strides} is not (numpy.ascontiguousarray makes a copy that is)"
        )


def _require_cube(name: str, cube: object) -> None:
    _require_array(name, cube)
    assert isinstance(cube, np.ndarray)
    if cube.dtype not in (np.uint16, np.float32):
        raise ValueError(f"{name} must be native uint16 or float32, not {cube.dtype.str}")
    if cube.ndim != 3:
        raise ValueError(f"{name} must have the shape (n, y, x), not {cube.shape}")
    _require_contiguous(name, cube)


def _checked_threads(threads: int) -> int:
    if threads < 1:
        raise ValueError(f"threads must be at least 1, it is {threads}")
    return int(threads)


def _optional_floats(
    name: str, values: ArrayLike | None, shape: tuple[int, ...]
) -> NDArray[np.float32] | None:
    """Return `values` as contiguous float32 of `shape`, or None."""
    if values is None:
        return None
    array = np.ascontiguousarray(values, np.float32)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, not {array.shape}")
    return array


def _checked_sequence(
    n: int, order: ArrayLike, shifts: ArrayLike, boundaries: Sequence[int] | NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    order = _integers("order", order)
    if order.size and (order.min() < 0 or order.max() >= n):
        raise ValueError(
            f"order must hold frame numbers from 0 to {n - 1}; it has {order.min()} to "
            f"{order.max()}"
        )
    shifts = np.ascontiguousarray(shifts, np.float64)
    if shifts.size == 0 and order.size == 0:
        shifts = np.zeros((0, 2))
    if shifts.shape != (len(order), 2):
        raise ValueError(f"shifts must have the shape ({len(order)}, 2), not {shifts.shape}")
    if not bool(np.all(np.isfinite(shifts))):
        places = np.flatnonzero(~np.isfinite(shifts).all(axis=1))
        raise ValueError(
            f"shifts must be finite; {len(places)} of {len(shifts)} are not, the first for frame "
            f"{order[places[0]]}"
        )
    boundaries = _integers("boundaries", boundaries)
    if boundaries.size and (
        boundaries[0] < 0 or boundaries[-1] > len(order) or bool(np.any(np.diff(boundaries) <= 0))
    ):
        raise ValueError(
            f"boundaries must increase within 0 to {len(order)}, they are {boundaries.tolist()}"
        )
    return order, shifts, boundaries


def _integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not the shape {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integers, not {array.dtype}")
    return np.ascontiguousarray(array, np.int64)
