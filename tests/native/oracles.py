"""Every kernel said plainly in NumPy, in float64 and without a thought for time."""

import numpy as np


def accumulate_groups(frames, sums, first_index):
    sums = sums.copy()
    for i, frame in enumerate(frames):
        sums[(first_index + i) % len(sums)] += frame
    return sums


def median_of_groups(sums, counts, offsets):
    means = [s / n - o for s, n, o in zip(sums, counts, offsets, strict=True) if n]
    return np.median(means, axis=0) if means else np.full(sums.shape[1:], np.nan)


def sigma_clipped_mean(cube, sigma, passes, scale_floor):
    cube = cube.astype(np.float64)
    mean = np.full(cube.shape[1:], np.nan)
    std = np.full(cube.shape[1:], np.nan)
    count = np.zeros(cube.shape[1:], np.int32)
    for place in np.ndindex(*cube.shape[1:]):
        samples = cube[(slice(None), *place)]
        samples = samples[np.isfinite(samples)]
        if samples.size == 0:
            continue
        kept = samples
        for number in range(passes):
            if number == 0:
                centre = np.median(samples)
                scale = 1.4826 * np.median(np.abs(samples - centre))
            else:
                centre, scale = kept.mean(), kept.std()
            inside = np.abs(samples - centre) <= sigma * max(scale, scale_floor)
            kept = samples[inside] if inside.any() else kept
        mean[place], std[place], count[place] = kept.mean(), kept.std(), kept.size
    return mean, std, count


def calibrate(frame, bias, dark, inverse_flat):
    """In float32, as the kernel does it."""
    value = frame.astype(np.float32)
    value = value - np.float32(0 if bias is None else bias)
    if dark is not None:
        value = value - dark.astype(np.float32)
    if inverse_flat is not None:
        value = value * inverse_flat.astype(np.float32)
    return value


def drizzle(
    frames, order, shifts, *, dark, inverse_flat, weight, bias, scale, pixfrac, boundaries,
    ceiling=None,
):  # fmt: skip
    """Area of the overlap of every drop with every output pixel: a dense matrix an axis."""
    _, height, width = frames.shape
    shape = (height * scale, width * scale)
    values, weights = np.zeros(shape), np.zeros(shape)
    snapshots = []
    if 0 in boundaries:
        snapshots.append((np.full(shape, np.nan), weights.copy()))
    for done, (number, (dx, dy)) in enumerate(zip(order, shifts, strict=True), start=1):
        value = calibrate(
            frames[number], None if bias is None else bias[number], dark, inverse_flat
        )
        w = np.ones((height, width)) if weight is None else weight.astype(np.float64)
        if ceiling is not None:
            value = np.where(value > ceiling, np.nan, value)
        w = np.where(np.isfinite(value), w, 0.0)
        value = np.where(np.isfinite(value), value, 0.0).astype(np.float64)
        down = overlaps(height, dy, scale, pixfrac)
        across = overlaps(width, dx, scale, pixfrac)
        values += down @ (w * value) @ across.T
        weights += down @ w @ across.T
        if done in boundaries:
            with np.errstate(invalid="ignore"):
                image = np.where(weights > 0, values / weights, np.nan)
            snapshots.append((image, weights.copy()))
    images, stacked = zip(*snapshots, strict=True)
    return np.array(images), np.array(stacked)


def overlaps(length, shift, scale, pixfrac):
    """Matrix (output, raw) of the lengths in which drops and output pixels overlap (output px)."""
    centre = (np.arange(length) + shift + 0.5) * scale - 0.5
    pixel = np.arange(length * scale)[:, np.newaxis]
    half = 0.5 * pixfrac * scale
    top = np.minimum(centre + half, pixel + 0.5)
    overlap = np.maximum(0.0, top - np.maximum(centre - half, pixel - 0.5))
    return np.where(overlap > 1e-9, overlap, 0.0)
