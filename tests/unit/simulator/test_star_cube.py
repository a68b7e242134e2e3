"""The star cube: its truth is that of its frames, found again by other means."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from simulator import simulate_star_cube
from simulator.targets import Companion

COMPANION = Companion(sep_arcsec=1.1, pa_deg=63.0, dmag=2.0)


@pytest.fixture(scope="module")
def cube():
    return simulate_star_cube(frames=30, size=192, companions=(COMPANION,), cosmic_ray_rate=20.0)


@pytest.fixture(scope="module")
def changing():
    return simulate_star_cube(
        frames=60, size=192, seeing_spread=0.4, companions=(COMPANION,), realisations=4
    )


@pytest.fixture(scope="module")
def open_loop():
    return simulate_star_cube(frames=40, size=256, magnitude=6.0, loop_closed=False)


def _recentred(cube, positions):
    """Mean of the noise-free frames, moved to the middle, and its transform's frequencies."""
    side = cube.noise_free.shape[1]
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :]
    total = np.zeros((side, side), dtype=complex)
    for frame, (x, y) in zip(cube.noise_free, positions, strict=True):
        ramp = np.exp(2j * np.pi * (fx * (x - side // 2) + fy * (y - side // 2)))
        total += np.fft.fft2(frame) * ramp
    return total / len(cube.noise_free), fx, fy


def test_same_seed_same_cube():
    first, again, other = (simulate_star_cube(frames=4, size=96, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(again.frames, first.frames)
    assert np.array_equal(again.positions, first.positions)
    assert not np.array_equal(other.frames, first.frames)


@pytest.mark.parametrize("sky", ["cube", "changing"])
def test_strehl_truth_is_that_of_the_noise_free_frames(sky, request):
    # Oracle: the pixel-integrated frames, their integration undone, padded to 8 times the
    # sampling; the field's own flux in the box.
    cube = request.getfixturevalue(sky)
    spectrum, fx, fy = _recentred(cube, cube.positions)
    profile, side = cube.profile, cube.noise_free.shape[1]
    spectrum = spectrum / (np.sinc(fx) * np.sinc(fy))
    image = np.fft.ifft2(spectrum).real
    middle, fine = side // 2, 8
    padded = np.zeros((side * fine, side * fine), dtype=complex)
    start = (side * fine - side) // 2
    padded[start : start + side, start : start + side] = np.fft.fftshift(spectrum)
    peak = np.fft.ifft2(np.fft.ifftshift(padded)).real.max() * fine**2
    half = round(profile.strehl_flux_box_arcsec / profile.plate_scale_arcsec / 2.0)
    box = image[middle - half : middle + half + 1, middle - half : middle + half + 1].sum()
    factor = profile.filters["Si"].strehl_factor * profile.drizzle_scale**2
    measured = 100.0 * peak / box / factor
    assert measured == pytest.approx(cube.strehl_percent_whole_field, rel=0.03)
    assert cube.strehl_percent_whole_field < cube.strehl_percent < cube.strehl_percent_best_20


def test_strehl_is_in_the_usual_range(cube):
    assert 3.0 < cube.strehl_percent < 30.0
    assert cube.frame_strehl_percent.std() > 0.1 * cube.frame_strehl_percent.mean()


def test_steady_seeing_is_steady(cube):
    assert np.all(cube.frame_seeing_arcsec == 1.3)


def test_changing_seeing_makes_good_and_bad_frames(changing):
    seeing = changing.frame_seeing_arcsec
    # The cube is shorter than two correlation times: it has not seen all of the spread.
    assert 0.1 < np.log(seeing).std() < 0.6
    assert spearmanr(seeing, changing.frame_strehl_percent).statistic < -0.6
    # It wanders: neighbours are alike.
    assert spearmanr(seeing[1:], seeing[:-1]).statistic > 0.8


def test_changing_seeing_changes_nothing_else(changing):
    steady = simulate_star_cube(frames=60, size=192, companions=(COMPANION,), realisations=4)
    assert np.array_equal(changing.bias_adu, steady.bias_adu)
    assert np.array_equal(changing.flat, steady.flat)
    # What is left to move the core is the wavefront's asymmetry, which goes with the seeing.
    apart = np.abs(changing.positions - steady.positions)
    assert np.median(apart) < 0.3


def test_the_companion_is_where_it_should_be(cube):
    spectrum, _, _ = _recentred(cube, cube.positions)
    image = np.fft.ifft2(spectrum).real
    middle = image.shape[0] // 2
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] - middle
    dx, dy = COMPANION.offset_px(cube.profile)
    # The halo of the star is symmetrical on the average: the mirror image takes most of it.
    mirrored = np.roll(image[::-1, ::-1], (1, 1), axis=(0, 1))
    near = np.hypot(x - dx, y - dy) < 8
    at = np.unravel_index(np.argmax(np.where(near, image - mirrored, -np.inf)), image.shape)
    assert at[1] - middle == pytest.approx(dx, abs=1.0)
    assert at[0] - middle == pytest.approx(dy, abs=1.0)
    pa_deg = cube.profile.position_angle_deg(at[1] - middle, at[0] - middle)
    assert pa_deg == pytest.approx(63.0, abs=3.0)


def test_raw_frames_are_the_noise_free_ones_seen_by_the_camera(cube):
    calibrated = (cube.frames - cube.bias_adu[:, None, None] - cube.dark) / cube.flat
    hit = {frame for frame, _, _ in cube.cosmic_rays}
    clean = [index for index in range(30) if index not in hit]
    assert hit
    assert clean
    difference = calibrated[clean].mean(axis=0) - cube.noise_free[clean].mean(axis=0)
    usual = cube.flat > 0.6
    assert np.median(difference[usual]) == pytest.approx(0.0, abs=1.0)
    ratio = calibrated[clean][:, usual].sum() / cube.noise_free[clean][:, usual].sum()
    assert ratio == pytest.approx(1.0, abs=0.02)


def test_cosmic_rays_are_where_the_truth_says(cube):
    calibrated = cube.frames - cube.bias_adu[:, None, None] - cube.dark
    excess = calibrated - cube.noise_free * cube.flat
    for frame, x, y in cube.cosmic_rays:
        rows = slice(max(round(y) - 3, 0), round(y) + 4)
        columns = slice(max(round(x) - 3, 0), round(x) + 4)
        assert excess[frame, rows, columns].max() > 100.0


def test_positions_are_the_peaks_of_bright_frames(cube):
    y, x = np.mgrid[:192, :192]
    for frame, position in zip(cube.noise_free, cube.positions, strict=True):
        near = np.hypot(x - position[0], y - position[1]) < 2.5
        core = np.argmax(np.where(near, frame, 0.0))
        at = np.array(np.unravel_index(core, frame.shape))[::-1]
        assert np.abs(at - position).max() < 1.6


def test_fainter_correction_gives_a_lower_strehl():
    values = [
        simulate_star_cube(frames=12, size=128, low_order_nm=nm).strehl_percent
        for nm in (40.0, 150.0)
    ]
    assert values[0] > 1.5 * values[1]


def test_seeing_truth_agrees_between_its_two_measures(open_loop):
    assert open_loop.fwhm_arcsec == pytest.approx(open_loop.fwhm_profile_arcsec, rel=0.08)
    assert 0.8 < open_loop.fwhm_arcsec < 1.4


def test_seeing_truth_is_that_of_the_noise_free_frames(open_loop):
    # Oracle: the area above half of the (smooth) maximum of the mean image.
    from scipy.ndimage import gaussian_filter

    image = gaussian_filter(open_loop.noise_free.mean(axis=0), 2.0)
    area = (image > 0.5 * image.max()).sum()
    fwhm_px = 2.0 * np.sqrt(area / np.pi)
    smoothing = 2.0 * 2.355
    fwhm = np.sqrt(fwhm_px**2 - smoothing**2 - 1.0) * open_loop.profile.plate_scale_arcsec
    assert fwhm == pytest.approx(open_loop.fwhm_arcsec, rel=0.08)


def test_unusable_size_is_refused():
    with pytest.raises(ValueError, match="size is 101"):
        simulate_star_cube(size=101)
