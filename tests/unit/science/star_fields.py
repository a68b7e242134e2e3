"""Small fields of stars with a known geometry, as a camera would see them."""

from dataclasses import dataclass

import numpy as np

from roboao_assets.science.distortion import Distortion, published_distortion
from roboao_assets.science.sky_catalogue import SkyCatalogue, deproject
from roboao_assets.science.source_detection import DetectedStars

RA, DEC = 250.42, 36.46
PUBLISHED = {
    "x_tan": -1.7097340244173049,
    "y_tan": -2.9573349942689418,
    "M_11": -9.9243124794318175e-06,
    "M_12": 9.1942882975760912e-08,
    "M_21": -1.9338413987785716e-08,
    "M_22": 9.7191812668049799e-06,
    "a_02": -7.3628182254640821e-07,
    "a_11": -2.9041549472251136e-07,
    "a_20": 2.6488080053108772e-07,
    "b_02": -5.5062280886481794e-05,
    "b_11": 2.732133207085635e-07,
    "b_20": -5.3791223995525186e-05,
}


def camera() -> Distortion:
    return published_distortion(PUBLISHED)


@dataclass(frozen=True, kw_only=True)
class StarField:
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    catalogue: SkyCatalogue
    camera: Distortion


def make_field(
    stars=35, *, seed=1, ra=RA, dec=DEC, true=None, outside=0, missing=0, surveyed_arcsec=60.0
) -> StarField:
    """`stars` on the detector; `outside` more in the catalogue, `missing` of its own not in it."""
    rng = np.random.default_rng(seed)
    true = true or camera()
    height, width = true.shape
    margin = 0.03 * width
    x = rng.uniform(margin, width - margin, stars)
    y = rng.uniform(margin, height - margin, stars)
    flux = 10 ** (-0.4 * np.sort(rng.uniform(0, 4, stars)))
    sky = [deproject(offset, ra, dec) for offset in true.offsets(x, y)]
    extra = rng.uniform(-surveyed_arcsec, surveyed_arcsec, (outside, 2))
    sky += [deproject(offset, ra, dec) for offset in extra]
    magnitude = np.concatenate([-2.5 * np.log10(flux) + 13, rng.uniform(13, 17, outside)])
    kept = np.ones(len(sky), bool)
    kept[rng.choice(stars, missing, replace=False)] = False
    order = rng.permutation(np.flatnonzero(kept))
    return StarField(
        x=x,
        y=y,
        flux=flux,
        catalogue=make_catalogue(np.array(sky)[order], magnitude[order]),
        camera=true,
    )


def make_catalogue(sky, magnitude, year=2017.5) -> SkyCatalogue:
    zero = np.zeros(len(sky))
    return SkyCatalogue(
        ra_deg=sky[:, 0],
        dec_deg=sky[:, 1],
        pm_ra_mas_yr=zero,
        pm_dec_mas_yr=zero,
        magnitude=magnitude,
        epoch_year=zero + year,
        source="made up",
    )


def as_detected(x, y, flux=None) -> DetectedStars:
    n = len(x)
    return DetectedStars(
        x=np.asarray(x, float),
        y=np.asarray(y, float),
        error_px=np.full(n, 0.05),
        flux=np.arange(n, 0, -1.0) if flux is None else flux,
        snr=np.full(n, 50.0),
        saturated=np.zeros(n, bool),
        near_edge=np.zeros(n, bool),
    )


def draw(field: StarField, *, peak=2000.0, noise=5.0, seed=2, fwhm_px=4.0, halo_px=20.0):
    """The field's image: a core and a halo for each star, noise, a slope of the background."""
    rng = np.random.default_rng(seed)
    height, width = field.camera.shape
    image = rng.normal(0, noise, (height, width)) + 100 + 0.02 * np.arange(width)
    for x, y, flux in zip(field.x, field.y, field.flux, strict=True):
        top, left = max(0, int(y) - 60), max(0, int(x) - 60)
        ys, xs = np.mgrid[top : min(height, top + 121), left : min(width, left + 121)]
        q = (xs - x) ** 2 + (ys - y) ** 2
        core = np.exp(-q / (2 * (fwhm_px / 2.3548) ** 2))
        halo = 0.02 * np.exp(-q / (2 * (halo_px / 2.3548) ** 2))
        image[ys[:, 0][0] : ys[:, 0][-1] + 1, xs[0][0] : xs[0][-1] + 1] += (
            peak * flux * (core + halo)
        )
    return image.astype(np.float32)
