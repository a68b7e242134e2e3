"""The geometry of an instrument: fitted, scaled, cut, and written as SIP."""

import json
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from star_fields import DEC, PUBLISHED, RA, camera

from roboao_assets.science.distortion import (
    fit_distortion,
    linear_distortion,
    published_distortion,
    sip_wcs,
)
from roboao_assets.science.errors import FitFailedError
from roboao_assets.science.sky_catalogue import project


def grid(shape, points=20):
    ys, xs = (np.linspace(0, n - 1, points) for n in shape)
    return tuple(v.ravel() for v in np.meshgrid(xs, ys))


@pytest.mark.parametrize("factor", [1, 2])
def test_sip_goes_round_to_a_milliarcsecond(factor):
    geometry = camera().drizzled(factor)
    header = sip_wcs(geometry, RA, DEC).to_header(relax=True)
    wcs = WCS(fits.Header.fromstring(header.tostring()))
    assert wcs.wcs.radesys == "ICRS"
    x, y = grid(geometry.shape)
    ra, dec = wcs.all_pix2world(x, y, 0)
    back_x, back_y = wcs.all_world2pix(ra, dec, 0, tolerance=1e-6)
    scale_mas = 1000 * geometry.plate_scale_arcsec
    assert np.abs([back_x - x, back_y - y]).max() * scale_mas < 0.1
    # AP and BP, which a reader without iteration uses.
    flat_x, flat_y = wcs.wcs_world2pix(ra, dec, 0)
    foc = np.stack([flat_x, flat_y], axis=1) + 1
    inverse = wcs.sip_foc2pix(foc - wcs.wcs.crpix, 1) - 1
    assert np.abs(inverse - np.stack([x, y], axis=1)).max() * scale_mas < 1
    # The header's WCS is the geometry itself.
    east_north = geometry.offsets(x, y)
    assert np.abs(project(ra, dec, RA, DEC) - east_north).max() < 1e-6


def test_drizzled_and_cut_pixels_look_at_the_same_sky():
    geometry = camera()
    x, y = grid(geometry.shape)
    fine = geometry.drizzled(2)
    assert np.allclose(
        fine.offsets((x + 0.5) * 2 - 0.5, (y + 0.5) * 2 - 0.5), geometry.offsets(x, y), atol=1e-9
    )
    quarter = geometry.cut((256, 256))
    assert np.allclose(
        quarter.offsets(np.array([3.0]), np.array([7.0])),
        geometry.offsets(np.array([387.0]), np.array([391.0])),
    )


def test_the_published_solution():
    geometry = camera()
    assert geometry.plate_scale_arcsec == pytest.approx(0.035356, abs=1e-6)
    columns = np.linalg.norm(geometry.matrix, axis=0)
    assert columns == pytest.approx([0.035728, 0.034991], abs=1e-6)
    # The formula, written out for one pixel.
    x, y = 900.0, 100.0
    dx, dy = x - (511.5 + PUBLISHED["x_tan"]), y - (511.5 + PUBLISHED["y_tan"])
    p = PUBLISHED
    u = dx + p["a_02"] * dy**2 + p["a_11"] * dx * dy + p["a_20"] * dx**2
    v = dy + p["b_02"] * dy**2 + p["b_11"] * dx * dy + p["b_20"] * dx**2
    expected = 3600 * np.array([p["M_11"] * u + p["M_12"] * v, p["M_21"] * u + p["M_22"] * v])
    assert geometry.offsets(np.array([x]), np.array([y]))[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.real_data
def test_the_published_numbers_are_those_of_the_observed_data(real_data):
    text = (real_data / "astrometry" / "roboao_kp_solution_20170620.json").read_text()
    published = json.loads(text)
    assert dict(zip(published["order"], published["values"], strict=True)) == PUBLISHED


def test_a_published_solution_that_lacks_a_number():
    with pytest.raises(FitFailedError, match="lacks a usable 'M_12'"):
        published_distortion({k: v for k, v in PUBLISHED.items() if k != "M_12"})
    with pytest.raises(FitFailedError, match="cannot be inverted"):
        published_distortion({**PUBLISHED, "M_11": 0.0, "M_12": 0.0})


def test_a_fit_finds_the_geometry_with_its_errors_in_spite_of_outliers():
    rng = np.random.default_rng(3)
    geometry = camera()
    x, y = rng.uniform(0, 1023, (2, 60))
    off = []
    for _ in range(12):
        sky = geometry.offsets(x, y) + rng.normal(0, 0.010, (60, 2))
        sky[:6] += rng.uniform(0.3, 2.0, (6, 2))
        fit = fit_distortion(x, y, sky, shape=(1024, 1024), order=2, bootstrap=100)
        assert not fit.used[:6].any()
        assert fit.used[6:].sum() >= 50
        assert fit.distortion.rms_mas == pytest.approx(10, rel=0.3)
        # Of the same point: the fit's reference is the middle, the published one is not.
        local = [geometry.offsets(np.array([511.5 + h]), np.array([511.5])) for h in (1, -1)]
        true = (local[0] - local[1])[0, 0] / 2
        off.append((fit.distortion.matrix[0, 0] - true) / fit.distortion.matrix_error[0, 0])
    assert 0.5 < np.std(off) < 1.6


def test_too_few_stars_or_all_on_a_line():
    x = np.linspace(0, 1000, 30)
    with pytest.raises(FitFailedError, match="7 stars are matched; a distortion of order 2 needs"):
        fit_distortion(x[:7], x[:7], np.zeros((7, 2)), shape=(1024, 1024))
    with pytest.raises(FitFailedError, match="too few, or all on a line"):
        fit_distortion(x, x, np.stack([x, x], axis=1), shape=(1024, 1024))


@pytest.mark.real_data
def test_sip_of_another_observatory_is_read(real_data):
    header = fits.getheader(real_data / "astrometry" / "ccdproc_sip-wcs.fit")
    wcs = WCS(header)
    assert wcs.sip is not None
    x, y = grid((header["NAXIS2"], header["NAXIS1"]))
    ra, dec = wcs.all_pix2world(x, y, 0)
    # By the definition, without astropy's polynomials.
    u, v = x + 1 - header["CRPIX1"], y + 1 - header["CRPIX2"]
    fu, fv = (
        sum(
            header.get(f"{name}_{p}_{q}", 0.0) * u**p * v**q
            for p in range(header[f"{name}_ORDER"] + 1)
            for q in range(header[f"{name}_ORDER"] + 1)
        )
        for name in "AB"
    )
    cd = np.array([[header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)])
    plane = 3600 * np.stack([u + fu, v + fv], axis=1) @ cd.T
    assert np.abs(project(ra, dec, header["CRVAL1"], header["CRVAL2"]) - plane).max() < 1e-6
    back = wcs.all_world2pix(ra, dec, 0, tolerance=1e-6)
    assert np.abs(np.array(back) - [x, y]).max() < 1e-4


def dss_header(folder, number):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fits.getheader(folder / "astrometry" / f"dss_test{number}.fits")


def dss_wcs(header):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(header)


@pytest.mark.real_data
def test_the_plate_solution_of_two_cuts_of_one_dss_field(real_data):
    headers = [dss_header(real_data, n) for n in (1, 2)]
    one, two = (dss_wcs(header) for header in headers)
    x, y = grid((177, 177), 5)
    shift = [headers[0][key] - headers[1][key] for key in ("CNPIX1", "CNPIX2")]
    there = project(*one.all_pix2world(x, y, 0), RA, DEC)
    same = project(*two.all_pix2world(x + shift[0], y + shift[1], 0), RA, DEC)
    assert np.abs(there - same).max() < 1e-3
    # The stars are where the two solutions say that they are.
    images = [fits.getdata(real_data / "astrometry" / f"dss_test{n}.fits") for n in (1, 2)]
    left, up = shift
    first = images[0][max(0, -up) : 177 - max(0, up), max(0, -left) : 177 - max(0, left)]
    second = images[1][max(0, up) : 177 - max(0, -up), max(0, left) : 177 - max(0, -left)]
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.99


@pytest.mark.real_data
def test_both_solutions_of_one_dss_image_agree(real_data):
    header = dss_header(real_data, 1)
    plate = dss_wcs(header)
    of_plain_wcs = ("CRPIX", "CRVAL", "CDELT", "CROTA", "CTYPE", "NAXIS")
    plain = dss_wcs(fits.Header([c for c in header.cards if c.keyword.startswith(of_plain_wcs)]))
    assert list(plain.wcs.ctype) == ["RA---TAN", "DEC--TAN"]
    scale = np.sqrt(abs(np.linalg.det(plain.pixel_scale_matrix))) * 3600
    assert scale == pytest.approx(1.7015, abs=1e-3)
    x, y = grid((177, 177), 5)
    centre = header["CRVAL1"], header["CRVAL2"]
    of_plain, of_plate = (project(*w.all_pix2world(x, y, 0), *centre) for w in (plain, plate))
    # The plain one leaves the plate's skew out, as its header says.
    assert np.abs(of_plain - of_plate).max() < 1.0


def test_a_profile_alone_is_a_plain_projection():
    geometry = linear_distortion(shape=(256, 256), plate_scale_arcsec=0.035, y_axis_pa_deg=30)
    header = sip_wcs(geometry, RA, DEC).to_header(relax=True)
    assert header["CTYPE1"] == "RA---TAN"
    assert geometry.y_axis_pa_deg == pytest.approx(30)
