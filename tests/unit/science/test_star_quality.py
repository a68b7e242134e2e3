"""The shape of a core, and whether a star is single, against stars that were made so."""

import numpy as np
import pytest

from roboao_assets.science.star_quality import elongation, find_second_peak, measure_core

SIDE, HALF = 241, 100


def make_star(x, y, flux=1e5, fwhm=(5.0, 5.0)):
    """A core in a halo, both round unless `fwhm` says otherwise."""
    grid_y, grid_x = np.indices((SIDE, SIDE))
    core = ((grid_x - x) / fwhm[0]) ** 2 + ((grid_y - y) / fwhm[1]) ** 2
    halo = ((grid_x - x) ** 2 + (grid_y - y) ** 2) / 40.0**2
    return flux * (np.exp(-4 * np.log(2) * core) + 0.1 * np.exp(-4 * np.log(2) * halo))


def add_noise(image, seed=1):
    rng = np.random.default_rng(seed)
    return image + rng.normal(size=image.shape) * np.sqrt(np.abs(image) + 100.0)


@pytest.mark.parametrize("ratio", [1.0, 1.3, 2.0])
def test_elongation_is_that_of_the_core(ratio):
    image = add_noise(make_star(120.3, 119.6, fwhm=(5.0 * ratio, 5.0)))
    assert elongation(measure_core(image, 120, 120, 6.0)) == pytest.approx(ratio, rel=0.05)


@pytest.mark.parametrize(("dx", "dy", "magnitudes"), [(12, 5, 1.0), (-40, 31, 2.5), (0, -90, 2.0)])
def test_a_second_star_is_found_where_it_is(dx, dy, magnitudes):
    faint = 1e5 * 10 ** (-0.4 * magnitudes)
    image = add_noise(make_star(120.3, 119.6) + make_star(120.3 + dx, 119.6 + dy, faint))
    peak = find_second_peak(image, measure_core(image, 120, 120, 5.0), HALF)
    assert (peak.dx_px, peak.dy_px) == pytest.approx((dx, dy), abs=1.0)
    assert peak.contrast_mag == pytest.approx(magnitudes, abs=0.25)


@pytest.mark.parametrize("seed", range(5))
def test_a_single_star_has_no_second_peak(seed):
    image = add_noise(make_star(120.3, 119.6), seed)
    image[:30] = np.nan
    assert find_second_peak(image, measure_core(image, 120, 120, 5.0), HALF) is None


def test_what_is_much_fainter_than_a_speckle_is_no_star():
    image = make_star(120, 120) + make_star(160, 120, 1e5 * 0.02)
    assert find_second_peak(image, measure_core(image, 120, 120, 5.0), HALF) is None
