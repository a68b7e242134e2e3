"""Pictures of residuals: signs, circles, compass and table stand where they belong."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from roboao_assets.pipelines import residual_pictures
from roboao_assets.pipelines.residual_pictures import CandidateMark
from roboao_assets.science.errors import ScienceError

OPTIONS = {"plate_scale_arcsec": 0.02, "title": "HD 1"}
TITLE_PX, WIDTH_PX, SIZE = 36, 600, 101
MARK = CandidateMark(
    x=20, y=80, separation_arcsec=0.85, pa_deg=45.0, contrast_mag=4.2, snr=9.1,
    false_alarm_probability=2e-7,
)  # fmt: skip


def decode(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def place(x, y):
    """Row and column of a pixel of the image in the picture."""
    return TITLE_PX + round(WIDTH_PX * (1 - (y + 0.5) / SIZE)), round(WIDTH_PX * (x + 0.5) / SIZE)


def yellow(picture):
    return np.argwhere(np.abs(picture - [0xF0, 0xE4, 0x42]).sum(axis=2) < 60)


@pytest.fixture(scope="module")
def residual():
    image = np.random.default_rng(2).normal(0, 1, (SIZE, SIZE)).astype(np.float32)
    image[78:83, 18:23] += 30
    image[18:23, 78:83] -= 30
    return image


@pytest.mark.parametrize(
    "draw", [residual_pictures.residual_preview, residual_pictures.snr_map_preview]
)
def test_sign_is_told_by_colour_and_no_data_is_grey(draw, residual):
    image = residual.copy()
    image[50:53, 10:13] = np.nan
    picture = decode(draw(image, **OPTIONS))
    above, below, nothing = (picture[place(*xy)] for xy in ((20, 80), (80, 20), (11, 51)))
    assert above[0] > above[2] + 30
    assert below[2] > below[0] + 30
    assert np.ptp(nothing) < 20
    assert 30 < nothing.mean() < 70


@pytest.mark.parametrize("fwhm_px", [6.0, 14.0])
def test_circles_have_the_size_of_the_resolution_element(residual, fwhm_px):
    mark = replace(MARK, label=" ")
    png = residual_pictures.residual_preview(
        residual, candidates=[mark], fwhm_px=fwhm_px, **OPTIONS
    )
    ring = yellow(decode(png)[: TITLE_PX + WIDTH_PX])
    assert ring.mean(axis=0) == pytest.approx(place(20, 80), abs=2)
    assert np.ptp(ring, axis=0) == pytest.approx([fwhm_px * WIDTH_PX / SIZE] * 2, abs=4)


def test_table_is_below_the_image_and_only_where_there_are_candidates(residual):
    plain = decode(residual_pictures.residual_preview(residual, **OPTIONS))
    one, two = (
        decode(residual_pictures.residual_preview(residual, candidates=marks, **OPTIONS))
        for marks in ([MARK], [MARK, replace(MARK, x=70.0)])
    )
    assert plain.shape[0] < one.shape[0] < two.shape[0]
    foot = plain.shape[0]
    assert (plain[TITLE_PX + WIDTH_PX :] == one[TITLE_PX + WIDTH_PX : foot]).all()
    assert len(yellow(one[foot:]))
    many = [replace(MARK, x=float(x)) for x in range(0, 100, 2)]
    long = decode(residual_pictures.residual_preview(residual, candidates=many, **OPTIONS))
    assert long.shape[0] < foot + 400
    middle = (slice(TITLE_PX + 200, TITLE_PX + 400), slice(200, 400))
    assert (plain[middle] == two[middle]).all(), "no text on the image"


@pytest.mark.parametrize(("east_is_left", "pa_deg"), [(True, 0.0), (False, 137.0), (True, 225.0)])
def test_compass_stays_within_the_footer(residual, east_is_left, pa_deg):
    def draw(turn_deg):
        return decode(
            residual_pictures.residual_preview(
                residual, east_is_left=east_is_left, y_axis_pa_deg=turn_deg, **OPTIONS
            )
        )

    changed = np.argwhere((draw(pa_deg) != draw(pa_deg + 90.0)).any(axis=2))
    assert changed[:, 0].min() > TITLE_PX + WIDTH_PX + 2
    assert changed[:, 0].max() < TITLE_PX + WIDTH_PX + 90
    assert 0.8 * WIDTH_PX < changed[:, 1].min() <= changed[:, 1].max() < WIDTH_PX - 1


def test_candidate_at_the_edge_has_its_number_inside(residual):
    marks = [replace(MARK, x=99.0, y=50.0)]
    picture = decode(residual_pictures.residual_preview(residual, candidates=marks, **OPTIONS))
    digits = yellow(picture[place(0, 54)[0] : place(0, 46)[0]])
    assert digits[:, 1].min() < place(94, 0)[1]


def test_signal_to_noise_map_below_its_threshold_is_drawn(residual):
    quiet = np.clip(residual, -2, 2)
    assert decode(residual_pictures.snr_map_preview(quiet, threshold=5.0, **OPTIONS)).any()


@pytest.mark.parametrize("shape", [(20, 20), (3, 20, 20), (0, 4)])
def test_what_is_no_image_is_refused(shape):
    nothing = np.full(shape, np.nan, np.float32)
    for draw in (residual_pictures.residual_preview, residual_pictures.snr_map_preview):
        with pytest.raises(ScienceError, match=r"shape \("):
            draw(nothing, **OPTIONS)
