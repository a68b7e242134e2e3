"""The guide star is found where it was put, whatever stands beside it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboao_assets.science.errors import NoStarError
from roboao_assets.science.guide_star import find_guide_star

SIZES = {"star_sigma_px": 10.0, "background_sigma_px": 60.0, "edge_px": 60}


def star_field(shape, stars, noise=3.0, seed=0):
    """Sky with stars (x, y, flux): a core on a halo, as adaptive optics makes them."""
    y, x = np.indices(shape)
    image = np.random.default_rng(seed).normal(100, noise, shape)
    for star_x, star_y, flux in stars:
        r2 = (x - star_x) ** 2 + (y - star_y) ** 2
        image += flux * (
            0.1 * np.exp(-r2 / 2 / 1.2**2) / (2 * np.pi * 1.2**2)
            + 0.9 * np.exp(-r2 / 2 / 12**2) / (2 * np.pi * 12**2)
        )
    return image.astype(np.float32)


@given(x=st.floats(75, 436), y=st.floats(75, 436))
@settings(max_examples=25, deadline=None)
def test_star_is_found_to_a_pixel(x, y):
    star = find_guide_star(star_field((512, 512), [(x, y, 2e5)]), **SIZES)
    assert np.hypot(star.x - x, star.y - y) < 1.5


def test_brightest_of_two_is_taken():
    image = star_field((512, 512), [(150, 200, 1e5), (350, 300, 3e5)])
    star = find_guide_star(image, **SIZES)
    assert np.hypot(star.x - 350, star.y - 300) < 1.5


def test_hot_pixel_beside_a_faint_star_is_no_star():
    image = star_field((512, 512), [(150, 200, 5e4)])
    image[330, 340] += 2000
    image[205, 155] += 2000
    star = find_guide_star(image, **SIZES)
    assert np.hypot(star.x - 150, star.y - 200) < 2


def test_star_in_the_border_is_not_taken():
    image = star_field((512, 512), [(20, 250, 1e6), (300, 300, 1e5)])
    star = find_guide_star(image, **SIZES)
    assert np.hypot(star.x - 300, star.y - 300) < 2


def test_empty_field_raises_with_numbers():
    with pytest.raises(NoStarError, match=r"512 x 512 px .* standard deviations"):
        find_guide_star(star_field((512, 512), []), **SIZES, min_significance=8)


def test_small_frames_shrink_the_border():
    image = star_field((64, 64), [(33, 30, 5e4)])
    star = find_guide_star(image, star_sigma_px=3, background_sigma_px=15, edge_px=60)
    assert np.hypot(star.x - 33, star.y - 30) < 1.5


def test_image_is_not_modified():
    image = star_field((256, 256), [(120, 130, 1e5)])
    before = image.copy()
    find_guide_star(image, **SIZES)
    np.testing.assert_array_equal(image, before)
