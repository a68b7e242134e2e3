"""Previews: what is drawn stands where, and as bright as, the image says."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from roboao_assets.pipelines import picture_style, previews
from roboao_assets.pipelines.sky_picture import round_length
from roboao_assets.science.errors import ScienceError
from roboao_assets.storage.instruments import load_instruments

SCALE_ARCSEC = 0.02
TITLE_PX = 36


def decode(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def star(x, y, *, size=400, peak=5000.0, sigma=4.0, noise=3.0):
    rows, columns = np.mgrid[:size, :size]
    image = peak * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return (image + np.random.default_rng(1).normal(20.0, noise, image.shape)).astype(np.float32)


def brightest(picture):
    """Centre (x, y) of the brightest part inside the picture's middle, without the writing."""
    light = picture.sum(axis=2)[TITLE_PX:-90, :-90]
    rows, columns = np.nonzero(light >= light.max() - 15)
    return float(columns.mean()), float(rows.mean() + TITLE_PX)


def full(image, **options):
    return decode(
        previews.full_preview(image, plate_scale_arcsec=SCALE_ARCSEC, title="t", **options)
    )


@pytest.mark.parametrize(("x", "y"), [(100.0, 300.0), (220.0, 200.0)])
def test_full_preview_has_y_up_and_the_star_in_its_place(x, y):
    picture = full(star(x, y))
    assert picture.shape == (800 + TITLE_PX, 800, 3)
    seen_x, seen_y = brightest(picture)
    assert seen_x == pytest.approx((x + 0.5) * 2, abs=3)
    assert seen_y == pytest.approx(TITLE_PX + 800 - (y + 0.5) * 2, abs=3)


def test_full_preview_of_a_large_image_keeps_positions():
    picture = full(star(1500.0, 700.0, size=2000, sigma=12.0))
    assert brightest(picture) == pytest.approx((600.2, TITLE_PX + 800 - 280.2), abs=4)


def test_sky_is_dark_and_core_and_halo_are_told_apart():
    picture = full(star(200.0, 200.0) + star(200.0, 200.0, peak=50.0, sigma=40.0)).sum(axis=2)
    at = {r: picture[TITLE_PX + 400, 400 + 2 * r] for r in (0, 30, 190)}
    assert at[0] > 500 > at[30] > at[190] + 40
    assert np.median(picture[TITLE_PX:]) < 60


def test_lock_star_is_boxed():
    image = star(200.0, 200.0)
    with_box = full(image, lock_xy=(200.0, 200.0), lock_side_arcsec=2.0)
    changed = np.argwhere(np.abs(with_box - full(image)).sum(axis=2) > 60)
    top, left = changed.min(axis=0)
    bottom, right = changed.max(axis=0)
    assert (right - left, bottom - top) == pytest.approx((200, 200), abs=4)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((401, 435), abs=3)


@pytest.mark.parametrize(("scale", "length_arcsec"), [(0.02, 1.0), (0.05, 2.0), (0.002, 0.1)])
def test_scale_bar_is_as_long_as_it_says(scale, length_arcsec):
    assert round_length(0.2 * 400 * scale) == length_arcsec
    png = previews.full_preview(
        np.zeros((400, 400), np.float32), plate_scale_arcsec=scale, title=""
    )
    row = decode(png)[-round(0.04 * 800)].sum(axis=1)[:400]
    assert (row > 550).sum() == pytest.approx(length_arcsec / scale * 2, abs=3)


@given(pa=st.floats(0, 359.9), axis_pa=st.floats(-180, 180), east_is_left=st.booleans())
def test_compass_agrees_with_the_instrument_profile(pa, axis_pa, east_is_left):
    sky = previews.Sky(plate_scale_arcsec=1, east_is_left=east_is_left, y_axis_pa_deg=axis_pa)
    profile = next(iter(load_instruments().values()))
    turned = type(profile)(
        **{**vars(profile), "east_is_left": east_is_left, "y_axis_pa_deg": axis_pa}
    )
    difference = turned.position_angle_deg(*sky.direction(pa)) - pa
    assert (difference + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)


def test_missing_pixels_are_grey_and_do_no_harm():
    image = star(200.0, 200.0)
    image[:, :50] = np.nan
    picture = full(image)
    assert np.ptp(picture[300, 20]) < 20
    assert 30 < picture[300, 20].mean() < 70
    assert brightest(picture) == pytest.approx((401, 435), abs=3)


@pytest.mark.parametrize(
    "image",
    [np.full((20, 20), np.nan, np.float32), np.zeros((3, 20, 20)), np.zeros((0, 4))],
    ids=["all NaN", "a cube", "empty"],
)
def test_images_that_cannot_be_shown_are_refused(image):
    with pytest.raises(ScienceError, match=r"shape \("):
        previews.full_preview(image, plate_scale_arcsec=1.0, title="")
    with pytest.raises(ScienceError, match=r"shape \("):
        previews.cropped_preview(image, 1, 1, 5, plate_scale_arcsec=1.0, title="")


def test_constant_and_tiny_images_are_drawn():
    for image in (np.zeros((64, 64)), np.full((5, 7), 3.0), np.full((64, 64), -2e5)):
        picture = full(image.astype(np.float32))
        assert picture.shape[1] == 800


@pytest.mark.parametrize(
    "name", ["$x_{1}$", "a\\frac{", "星\U0001f600", "<script>", "line\nbreak\x07", "", "x" * 400]
)
def test_any_object_name_is_drawn_as_it_is(name):
    png = previews.cropped_preview(
        star(50, 50, size=100), 50, 50, 1.0, plate_scale_arcsec=SCALE_ARCSEC, title=name, flag=name
    )
    assert decode(png).shape == (636, 600, 3)


def test_cropped_preview_centres_the_star_even_at_the_edge():
    picture = decode(
        previews.cropped_preview(
            star(396.0, 5.0), 396.0, 5.0, 2.0, plate_scale_arcsec=SCALE_ARCSEC, title=""
        )
    )
    assert brightest(picture) == pytest.approx((300, 336), abs=6)
    assert np.ptp(picture[500, 500]) < 20, "outside the detector: grey"


def test_cropped_preview_tells_numbers_and_warns_in_colour():
    image = star(200.0, 200.0)
    arguments = (image, 200.0, 200.0, 2.0)
    options = {"plate_scale_arcsec": SCALE_ARCSEC, "title": ""}
    plain = decode(previews.cropped_preview(*arguments, **options))
    told = decode(previews.cropped_preview(*arguments, strehl_percent=7.1, **options))
    good = decode(previews.cropped_preview(*arguments, flag="OK", **options))
    bad = decode(previews.cropped_preview(*arguments, flag="BAD?", **options))
    assert (plain != told)[TITLE_PX : TITLE_PX + 60, :300].any()
    region = np.s_[TITLE_PX : TITLE_PX + 60, 450:]
    assert np.ptp(good[region], axis=2).max() < 60, "white"
    assert (bad[region][..., 0] - bad[region][..., 2]).max() > 150, "orange"


def test_seeing_preview_draws_the_fitted_width():
    image = star(150.0, 260.0, sigma=12.0)
    fwhm = 12.0 * 2.3548 * SCALE_ARCSEC
    png = previews.seeing_exposure_preview(
        image,
        x=150.0,
        y=260.0,
        fwhm_x_arcsec=fwhm,
        fwhm_y_arcsec=fwhm,
        fwhm_arcsec=fwhm,
        plate_scale_arcsec=SCALE_ARCSEC,
        title="seeing",
        residual=np.ones((5, 5), np.float32),
    )
    picture = decode(png)
    assert picture.shape == (536, 1000, 3)
    ring = np.argwhere(np.abs(picture - [0x56, 0xB4, 0xE9]).sum(axis=2)[:, 503:] < 60)
    width, height = np.ptp(ring[:, 1]), np.ptp(ring[:, 0])
    assert (width, height) == pytest.approx((497 / 6, 497 / 6), rel=0.06)


@pytest.mark.parametrize(("shape", "most"), [((64, 64), 100), ((100, 90), 30), ((101, 67), 50)])
def test_shrink_is_the_mean_of_finite_pixels(shape, most):
    rng = np.random.default_rng(3)
    image = rng.normal(size=shape).astype(np.float32)
    image[rng.random(shape) < 0.2] = np.nan
    image[:9, :9] = np.nan
    small, step = picture_style.shrink(image, most)
    assert max(small.shape) <= most
    for y, x in np.ndindex(small.shape):
        block = image[y * step : (y + 1) * step, x * step : (x + 1) * step]
        finite = block[np.isfinite(block)]
        expected = finite.mean() if finite.size else np.nan
        np.testing.assert_allclose(small[y, x], expected, rtol=1e-5, atol=1e-6)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=30))
def test_stretch_keeps_order_and_stays_within_0_and_1(values):
    image = np.array(values, np.float32)[np.newaxis]
    level, spread = picture_style.measure_background(image)
    shown = picture_style.stretch_asinh(image, level=level, spread=spread, depth=1e-3)
    assert ((shown >= 0) & (shown <= 1)).all()
    assert (np.diff(shown[0][np.argsort(image[0])]) >= -1e-6).all()


def test_pictures_drawn_in_threads_are_the_same():
    images = [star(100 + 20 * n, 200, size=300) for n in range(4)]

    def draw(image):
        return previews.full_preview(image, plate_scale_arcsec=SCALE_ARCSEC, title="t")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(draw, images)) == [draw(image) for image in images]


def test_pyplot_is_never_loaded():
    code = (
        "import sys, numpy as np\n"
        "from roboao_assets.pipelines import night_plots, previews\n"
        "previews.full_preview(np.ones((9, 9), 'f4'), plate_scale_arcsec=1.0, title='')\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
