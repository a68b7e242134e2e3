"""Night plots: statistics against plain NumPy, colours in the picture."""

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from roboao_assets.pipelines import night_plots, strehl_plots
from roboao_assets.pipelines.picture_style import FILTER_STYLES
from roboao_assets.science.contrast_quartiles import NightCurve
from roboao_assets.science.errors import ScienceError

START = datetime(2017, 6, 7, 3, 0, tzinfo=UTC)


def colours(png):
    """Return the picture and how many pixels have exactly a colour."""
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)

    def count(colour):
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        return int((picture == wanted).all(axis=2).sum())

    return picture, count


def seeing(minute, fwhm=1.2, filter_name="lp600", exposure_s=10.0):
    return night_plots.SeeingPoint(
        utc=START + timedelta(minutes=minute),
        fwhm_arcsec=fwhm,
        filter_name=filter_name,
        exposure_s=exposure_s,
    )


def strehl(minute, flag="OK", filter_name="Si", **known):
    return strehl_plots.StrehlPoint(
        utc=START + timedelta(minutes=minute),
        ratio_percent=5.0,
        filter_name=filter_name,
        flag=flag,
        **known,
    )


def test_seeing_plot_shows_every_filter_in_its_colour():
    points = [seeing(10 * n, filter_name=name) for n, name in enumerate(FILTER_STYLES)]
    trend = [(point.utc, 1.2) for point in points]
    png = night_plots.seeing_plot(points, title="Seeing", trend=trend, median_arcsec=1.2)
    picture, count = colours(png)
    assert picture.shape == (540, 900, 3)
    for colour, _ in FILTER_STYLES.values():
        assert count(colour) > 30


@pytest.mark.parametrize("points", [[seeing(0)], [seeing(0, exposure_s=None)]])
def test_seeing_plot_of_one_exposure(points):
    picture, count = colours(night_plots.seeing_plot(points, title="$one$"))
    assert picture.shape == (540, 900, 3)
    assert count(FILTER_STYLES["lp600"][0]) > 30


def test_seeing_plot_of_an_unknown_filter_has_a_style_of_its_own():
    _, count = colours(night_plots.seeing_plot([seeing(0, filter_name="J$")], title=""))
    assert count("#C8CDD5") > 20


def test_strehl_ratios_stand_against_what_is_known():
    """Against seeing and magnitude only those of which it is known."""
    png = strehl_plots.strehl_plot([strehl(n * 5) for n in range(9)], title="")
    picture, in_time_only = colours(png)
    assert picture.shape == (900, 900, 3)
    points = [strehl(n * 5, seeing_arcsec=1 + n / 10, magnitude=8.0 + n) for n in range(9)]
    _, in_all = colours(strehl_plots.strehl_plot(points, title=""))
    colour = FILTER_STYLES["Si"][0]
    assert in_all(colour) > 2 * in_time_only(colour)


def test_flagged_strehl_ratios_are_hollow():
    _, filled = colours(strehl_plots.strehl_plot([strehl(n * 5) for n in range(9)], title=""))
    flagged = [strehl(n * 5, flag="BAD?") for n in range(9)]
    _, hollow = colours(strehl_plots.strehl_plot(flagged, title=""))
    colour = FILTER_STYLES["Si"][0]
    assert 0 < hollow(colour) < 0.6 * filled(colour)


@pytest.mark.parametrize("jump", [-9.0, 20.0])
def test_a_jump_at_the_outer_end_does_not_set_the_axis(jump):
    separation = np.linspace(0.1, 1.7, 30)
    contrast = 1 + 3 * separation
    contrast[-2:] += jump
    low, high = night_plots.contrast_limits([(separation, contrast)])
    assert low == pytest.approx(1.3, abs=1.5)
    assert high == pytest.approx(6.1, abs=1.5)
    assert night_plots.contrast_limits([([0.1], np.array([4.0]))]) == (3.75, 4.25)


def test_contrast_plot_orders_and_cleans_curves():
    curves = [
        NightCurve(
            filter_name="Si", separation_arcsec=[0.9, 0.1, 0.5, 0.7], contrast_mag=[7, 2, np.nan, 6]
        ),
        NightCurve(filter_name="Sr", separation_arcsec=[], contrast_mag=[]),
    ]
    picture, count = colours(night_plots.contrast_plot(curves, title=""))
    assert picture.shape == (540, 900, 3)
    assert count(FILTER_STYLES["Si"][0]) > 100
    assert count(FILTER_STYLES["Sr"][0]) == 0


def test_nothing_to_plot_is_said():
    with pytest.raises(ScienceError, match="without any measured seeing"):
        night_plots.seeing_plot([], title="")
    with pytest.raises(ScienceError, match="without any Strehl ratio"):
        strehl_plots.strehl_plot([], title="")
    with pytest.raises(ScienceError, match="0 contrast curves"):
        night_plots.contrast_plot([], title="")
