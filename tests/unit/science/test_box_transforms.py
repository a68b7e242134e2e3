"""Boxes in Fourier space: there and back, shifted, and evaluated between the pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboao_assets.science.box_transforms import (
    backward,
    evaluate,
    fine_peaks,
    forward,
    recentred_sum,
    shift_phases,
)

offsets = st.floats(-9, 9)


def blobs(y, x, side=48, width=2.0):
    rows, columns = np.indices((side, side))
    r2 = (rows - np.asarray(y)[:, None, None]) ** 2 + (columns - np.asarray(x)[:, None, None]) ** 2
    return np.exp(-r2 / 2 / width**2).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 32), (17, 30, 30), (2, 9, 9)])
def test_there_and_back(shape):
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    spectra = forward(images)
    np.testing.assert_allclose(spectra, np.fft.rfft2(images), atol=2e-4)
    np.testing.assert_allclose(backward(spectra, shape[2]), images, atol=2e-6)


@given(st.lists(st.tuples(offsets, offsets), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_shift_there_and_back(shifts):
    dy, dx = np.array(shifts, float).T
    images = blobs(24 + dy, 24 + dx)
    to_y, to_x = shift_phases(48, dy, dx)
    centred = backward(forward(images) * to_y[:, :, None] * to_x[:, None, :], 48)
    np.testing.assert_allclose(centred, blobs(24 + 0 * dy, 24 + 0 * dx), atol=2e-5)
    back_y, back_x = shift_phases(48, -dy, -dx)
    back = backward(forward(centred) * back_y[:, :, None] * back_x[:, None, :], 48)
    np.testing.assert_allclose(back, images, atol=2e-5)


@given(offsets, offsets)
@settings(max_examples=30, deadline=None)
def test_values_and_peaks_between_the_pixels(dy, dx):
    y, x = np.array([24 + dy]), np.array([24 + dx])
    spectra = forward(blobs(y, x))
    np.testing.assert_allclose(evaluate(spectra, y, x), 1, atol=1e-4)
    found_y, found_x, peak = fine_peaks(spectra, np.rint(y), np.rint(x))
    np.testing.assert_allclose([found_y[0], found_x[0]], [y[0], x[0]], atol=2e-3)
    np.testing.assert_allclose(peak, 1, atol=1e-3)


def test_recentred_sum_puts_all_at_the_origin():
    y, x = np.array([20.3, 27.0, 24.5]), np.array([25.0, 22.2, 23.9])
    total = recentred_sum(forward(blobs(y, x)), np.array([0.5, 0.25, 0.25]), y, x)
    image = backward(total[None], 48)[0]
    expected = np.roll(blobs([24], [24])[0], (-24, -24), axis=(0, 1))
    np.testing.assert_allclose(image, expected, atol=2e-5)
