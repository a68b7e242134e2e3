"""The picture of a deconvolution."""

import io

import numpy as np
import pytest
from PIL import Image

from roboao_assets.pipelines.extended_pictures import before_after_preview
from roboao_assets.pipelines.sky_picture import Sky
from roboao_assets.science.errors import ScienceError


@pytest.mark.parametrize("sky", [Sky(plate_scale_arcsec=0.0176), None])
def test_both_panels_have_one_scale_of_brightness(sky):
    before = np.full((60, 60), 20.0)
    after = np.where(np.hypot(*np.mgrid[-30:30, -30:30]) < 12, 100.0, 0.0)
    before[0, 0] = np.nan
    png = before_after_preview(before, after, sky=sky, title="Titan", text="60 iterations")
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(float)
    assert picture.shape == (536, 1006)
    assert picture[286, 756] > 2 * picture[286, 250] > 0


def test_a_cube_is_refused():
    with pytest.raises(ScienceError, match="preview was asked for"):
        before_after_preview(np.zeros((2, 9, 9)), np.zeros((9, 9)), sky=None, title="", text="")
