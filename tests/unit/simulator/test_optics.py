"""Images of the telescope against what is known of them exactly."""

import numpy as np
import pytest

from roboao_assets.storage.instruments import load_instruments
from simulator.optics import PATCH_STEP_PX, Optics, peak_of

KPNO = load_instruments()["KPNO_2.1m"]


@pytest.fixture(scope="module")
def optics() -> Optics:
    return Optics.of_profile(KPNO, "Si", 320)


@pytest.mark.parametrize("name", ["KPNO_2.1m", "Palomar_P60"])
@pytest.mark.parametrize("filter_name", ["Sg", "Sr", "Si", "Sz", "lp600"])
def test_published_strehl_factors(name, filter_name):
    profile = load_instruments()[name]
    optics = Optics.of_profile(profile, filter_name, 256)
    # The table is per drizzled pixel, of half a raw one's side.
    factor = optics.perfect_peak_to_flux / profile.drizzle_scale**2
    assert factor == pytest.approx(profile.filters[filter_name].strehl_factor, rel=0.025)


def test_aperture_has_the_annulus_area(optics):
    area = optics.aperture.sum() * optics.aperture_pixel_m**2
    expected = np.pi / 4.0 * (KPNO.primary_diameter_m**2 - KPNO.secondary_diameter_m**2)
    assert area == pytest.approx(expected, rel=2e-3)


def test_tilt_moves_the_image_exactly(optics):
    moved = optics.mean_transfer(optics.tilt_phase(3.3, -7.8)[None])
    ramped = optics.moved(optics.perfect_transfer, 3.3, -7.8)
    assert np.abs(moved - ramped).max() < 1e-5


def test_pixel_image_has_flux_and_place(optics):
    image = optics.pixel_image(optics.perfect_transfer, [(40.25, 60.5, 1000.0)])
    assert image.sum() == pytest.approx(1000.0, rel=1e-4)
    y, x = np.mgrid[:320, :320]
    near = np.hypot(x - 40.25, y - 60.5) < 12
    assert (image * x)[near].sum() / image[near].sum() == pytest.approx(40.25, abs=0.02)
    assert (image * y)[near].sum() / image[near].sum() == pytest.approx(60.5, abs=0.02)


def test_pixel_image_is_the_integral_over_the_pixel(optics):
    # Oracle: the surface brightness summed over a pixel's area by the midpoint rule.
    image = optics.pixel_image(optics.perfect_transfer, [(0.0, 0.0, 1.0)])
    patch = optics.patch(optics.perfect_transfer, 0.0625, 0.0625)
    middle = patch.shape[0] // 2
    half = round(0.5 / PATCH_STEP_PX)
    cell = patch[middle - half : middle + half, middle - half : middle + half]
    assert image[0, 0] == pytest.approx(cell.sum() * PATCH_STEP_PX**2, rel=2e-3)


def test_box_flux_is_the_sum_over_the_box(optics):
    image = optics.pixel_image(optics.perfect_transfer, [(160.0, 160.0, 1.0)])
    half = KPNO.strehl_flux_box_arcsec / KPNO.plate_scale_arcsec / 2.0 + 0.5
    whole = int(half)
    inner = image[160 - whole + 1 : 160 + whole, 160 - whole + 1 : 160 + whole].sum()
    outer = image[160 - whole : 160 + whole + 1, 160 - whole : 160 + whole + 1].sum()
    part = half - whole
    flux = optics.box_flux(optics.perfect_transfer, 0.0, 0.0)
    assert inner < flux < outer
    assert flux == pytest.approx(inner + part * (outer - inner), rel=1e-3)


def test_oversampled_optics_sample_the_same_image():
    blue = Optics.of_profile(KPNO, "Sg", 256)
    assert blue.oversampling == 2
    image = blue.pixel_image(blue.perfect_transfer, [(100.0, 100.0, 1.0)])
    assert image.shape == (256, 256)
    assert image.sum() == pytest.approx(1.0, rel=1e-3)
    assert np.unravel_index(image.argmax(), image.shape) == (100, 100)


def test_small_errors_follow_marechal(optics):
    radius, angle = optics.radius_and_angle
    error = np.cos(4 * angle) * radius**4
    weight = optics.aperture / optics.aperture.sum()
    error = (error - (error * weight).sum()).astype(np.float32)
    error *= 0.3 / np.sqrt((error**2 * weight).sum())
    transfer = optics.mean_transfer(error[None].astype(np.float32))
    strehl = (
        optics.patch(transfer, 0.0, 0.0).max()
        / optics.patch(optics.perfect_transfer, 0.0, 0.0).max()
    )
    assert strehl == pytest.approx(np.exp(-(0.3**2)), abs=0.003)


def test_remove_tilt_leaves_no_tilt(optics):
    rng = np.random.default_rng(1)
    phase = optics.tilt_phase(2.0, 1.0) + rng.standard_normal(optics.aperture.shape).astype("f4")
    left = optics.remove_tilt(phase)
    radius, angle = optics.radius_and_angle
    for axis in (radius * np.cos(angle), radius * np.sin(angle)):
        slope = (left * axis * optics.aperture).sum() / (axis**2 * optics.aperture).sum()
        assert abs(slope) < 1e-3


def test_find_core_finds_a_moved_core(optics):
    transfer = optics.moved(optics.perfect_transfer, 1.37, -0.81)
    x, y, second = optics.find_core(transfer, 1.0, 0.0)
    assert (x, y) == pytest.approx((0.37, -0.81), abs=0.005)
    assert second < 0.3


def test_find_core_tells_a_double_core(optics):
    # Two equal cores 4.4 px apart.
    transfer = 0.5 * (
        optics.moved(optics.perfect_transfer, -2.2, 0.0)
        + optics.moved(optics.perfect_transfer, 2.2, 0.0)
    )
    assert optics.find_core(transfer, 0.0, 0.0)[2] > 0.95


def test_peak_between_samples():
    axis = np.arange(-2.0, 2.01, 0.125)
    patch = np.exp(-((axis[:, None] - 0.06) ** 2) - (axis[None, :] + 0.05) ** 2)
    assert peak_of(patch) == pytest.approx(1.0, abs=2e-4)
