"""Median and quartiles of contrast curves, against plain NumPy."""

import numpy as np
import pytest

from roboao_assets.science.contrast_quartiles import (
    NightCurve,
    contrast_quartiles,
    quartiles_by_filter,
)


def test_contrast_quartiles_are_those_of_the_curves_that_reach():
    rng = np.random.default_rng(4)
    grid = np.linspace(0.1, 1.1, 50)
    curves = [(grid, 3 + rng.normal(0, 0.3) + 2 * grid) for _ in range(9)]
    short = (grid[:20], np.full(20, 9.0))
    found = contrast_quartiles([*curves, short], points=50)
    np.testing.assert_allclose(found.separation_arcsec, grid)
    assert found.total == 10
    np.testing.assert_array_equal(found.curves[[0, 19, 20, 49]], [10, 10, 9, 9])
    table = np.array([contrast for _, contrast in curves])
    quartiles = ((found.lower_mag, 25), (found.median_mag, 50), (found.upper_mag, 75))
    for values, percent in quartiles:
        np.testing.assert_allclose(values[25:], np.percentile(table[:, 25:], percent, axis=0))
        near = np.vstack([table[:, :15], short[1][:15]])
        np.testing.assert_allclose(values[:15], np.percentile(near, percent, axis=0))


@pytest.mark.parametrize(("number", "reach_arcsec"), [(1, 1.0), (3, 1.0), (4, 1.0)])
def test_few_long_curves_do_not_draw_the_median_out(number, reach_arcsec):
    grid = np.linspace(0.1, 1.0, 40)
    curves = [(grid, 5.0 * grid + 0.1 * n) for n in range(number)]
    if number > 1:
        curves.append((np.linspace(0.1, 2.0, 40), np.full(40, -3.0)))
    found = contrast_quartiles(curves)
    assert found.separation_arcsec[-1] == pytest.approx(reach_arcsec, abs=0.02)
    assert np.abs(np.diff(found.median_mag)).max() < 0.5


def test_quartiles_are_of_each_filter_alone():
    def curve(name, level):
        return NightCurve(
            filter_name=name, separation_arcsec=[0.1, 1.0], contrast_mag=[level, level]
        )

    curves = [curve("Si", level) for level in (2.0, 3.0, 7.0)] + [curve("lp600", 9.0)]
    found = quartiles_by_filter([*curves, curve("Sr", None)])
    assert list(found) == ["Si", "lp600"]
    assert set(found["Si"].median_mag) == {3.0}
    assert set(found["Si"].lower_mag) == {2.5}
    assert set(found["lp600"].median_mag) == {9.0}


def test_where_nowhere_half_of_the_curves_reach_there_is_no_median():
    curves = [(np.array([x, x + 0.1]), np.array([1.0, 2.0])) for x in (0.0, 1.0, 2.0)]
    assert contrast_quartiles(curves) is None
    apart = [NightCurve(filter_name="Si", separation_arcsec=x, contrast_mag=y) for x, y in curves]
    assert quartiles_by_filter(apart) == {}
