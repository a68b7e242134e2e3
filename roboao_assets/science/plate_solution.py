"""Where an exposure looks, told from its stars; and what its instrument does to a field.

Both start from a prediction (pointing, geometry of the instrument, refraction), identify the
detected stars in bounds round it and fit what may differ: of an observation the pointing, a
rotation and a scale; of a dense field the whole geometry.
"""

from dataclasses import dataclass, replace

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from roboao_assets.science.distortion import Distortion, DistortionFit, fit_distortion, sip_wcs
from roboao_assets.science.errors import FitFailedError
from roboao_assets.science.sky_catalogue import SkyCatalogue, deproject, project
from roboao_assets.science.source_detection import DetectedStars
from roboao_assets.science.star_matching import (
    MatchBounds,
    NoMatchError,
    match_stars,
    pair_nearest,
)

_TUKEY = 4.685
# Stars are not thrown out for less than this: no detection is better.
_FLOOR_ARCSEC = 0.01


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """Where the telescope said it points (ICRS, deg), and what the air does there.

    Attributes
    ----------
    ra_deg, dec_deg : float
    refraction : ndarray of float64, shape (2, 2)
        From true to seen offsets (`refraction.refraction_matrix`); by default none.
    """

    ra_deg: float
    dec_deg: float
    refraction: NDArray[np.float64] | None = None

    @property
    def seen(self) -> NDArray[np.float64]:
        """From true to seen offsets."""
        return np.eye(2) if self.refraction is None else np.asarray(self.refraction)


@dataclass(frozen=True, kw_only=True)
class FieldSolution:
    """Where an image looks.

    Attributes
    ----------
    ra_deg, dec_deg : float
        ICRS, of the reference pixel of `distortion`.
    distortion : Distortion
        As this exposure has it: refraction, rotation and scale included.
    detected, catalogue : ndarray of int, shape (n,)
        Indices of the stars identified; those not `used` are outliers.
    residual_mas : ndarray of float64, shape (n, 2)
        Catalogue less solution, (east, north).
    used : ndarray of bool, shape (n,)
    rms_mas : float
        Of the used stars, an axis, for the degrees of freedom; NaN if there is none.
    pointing_error_arcsec : float
        How far from where the telescope said.
    rotation_deg, scale : float
        Against the prediction.
    accidents : float
        Matches as good that chance would have given.
    """

    ra_deg: float
    dec_deg: float
    distortion: Distortion
    detected: NDArray[np.int64]
    catalogue: NDArray[np.int64]
    residual_mas: NDArray[np.float64]
    used: NDArray[np.bool_]
    rms_mas: float
    pointing_error_arcsec: float
    rotation_deg: float
    scale: float
    accidents: float

    @property
    def stars(self) -> int:
        """Stars that made it."""
        return int(self.used.sum())

    def wcs(self) -> WCS:
        """The WCS of the image."""
        return sip_wcs(self.distortion, self.ra_deg, self.dec_deg)


def predicted_wcs(distortion: Distortion, pointing: Pointing) -> WCS:
    """Return the WCS of an image whose middle is where the telescope pointed."""
    middle = distortion.offsets(
        np.array([(distortion.shape[1] - 1) / 2]), np.array([(distortion.shape[0] - 1) / 2])
    )[0]
    as_seen = distortion.turned(np.linalg.inv(pointing.seen))
    ra, dec = deproject(-middle, pointing.ra_deg, pointing.dec_deg)
    return sip_wcs(as_seen, ra, dec)


def solve_field(
    stars: DetectedStars,
    distortion: Distortion,
    catalogue: SkyCatalogue,
    pointing: Pointing,
    bounds: MatchBounds,
) -> FieldSolution:
    """Find where an image looks from its stars; the instrument's geometry is taken as known.

    Parameters
    ----------
    stars : DetectedStars
        In the pixels of `distortion`; those that are not trusted identify, and do not fit.
    distortion : Distortion
        Of the instrument, without refraction.
    catalogue : SkyCatalogue
        At the epoch of the exposure.
    pointing : Pointing
    bounds : MatchBounds

    Raises
    ------
    NoMatchError
        If the stars cannot be identified.
    """
    as_seen = distortion.turned(np.linalg.inv(pointing.seen))
    predicted = as_seen.offsets(stars.x, stars.y)
    near, indices = _near(catalogue, distortion, pointing, bounds)
    sky = project(near.ra_deg, near.dec_deg, pointing.ra_deg, pointing.dec_deg)
    match = match_stars(predicted, sky, bounds)
    ra, dec = deproject(match.shift_arcsec, pointing.ra_deg, pointing.dec_deg)
    turn = match.scale * np.exp(1j * np.radians(match.rotation_deg))
    shift = 0j
    tolerance = bounds.tolerance_arcsec
    detected, there = match.detected, match.catalogue
    weights = np.ones(len(detected))
    base = predicted * [-1.0 if match.flipped else 1.0, 1.0]
    residual = np.empty((0, 2))
    for _ in range(5):
        sky = project(near.ra_deg, near.dec_deg, ra, dec)
        moved = _moved(base, turn, shift)
        detected, there = pair_nearest(moved, sky, tolerance)
        if stars.trusted[detected].sum() < bounds.min_stars:
            break
        turn, shift, weights = _fit_similarity(
            base[detected], sky[there], stars.trusted[detected].astype(np.float64)
        )
        residual = sky[there] - _moved(base[detected], turn, shift)
        ra, dec = deproject((shift.real, shift.imag), ra, dec)
        shift = 0j
        spread = np.sqrt((residual[weights > 0] ** 2).mean()) if (weights > 0).any() else tolerance
        tolerance = float(np.clip(6 * spread, 0.1, bounds.tolerance_arcsec))
    used = weights > 0
    if len(residual) != len(detected) or used.sum() < bounds.min_stars:
        raise NoMatchError(
            f"{len(detected)} stars were identified, of which {int(used.sum())} agree and are "
            f"neither saturated nor at the edge: {bounds.min_stars} are needed"
        )
    flip = np.diag([-1.0 if match.flipped else 1.0, 1.0])
    rotation = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    solved = as_seen.turned(rotation @ flip)
    freedom = (2 * used.sum() - 4) / (2 * used.sum())
    first = project([ra], [dec], pointing.ra_deg, pointing.dec_deg)[0]
    return FieldSolution(
        ra_deg=ra,
        dec_deg=dec,
        distortion=solved,
        detected=detected,
        catalogue=indices[there],
        residual_mas=1000 * residual,
        used=used,
        rms_mas=float(1000 * np.sqrt((residual[used] ** 2).mean() / freedom)),
        pointing_error_arcsec=float(np.hypot(*first)),
        rotation_deg=float(np.degrees(np.angle(turn))),
        scale=float(abs(turn)),
        accidents=match.accidents,
    )


@dataclass(frozen=True, kw_only=True)
class InstrumentSolution:
    """The geometry of an instrument, and the field that told it.

    Attributes
    ----------
    fit : DistortionFit
        Its arrays go with `detected` and `catalogue`.
    detected, catalogue : ndarray of int, shape (n,)
        Indices of the same stars.
    ra_deg, dec_deg : float
        ICRS, of the reference pixel.
    field : FieldSolution
        What the fit started from.
    """

    fit: DistortionFit
    detected: NDArray[np.int64]
    catalogue: NDArray[np.int64]
    ra_deg: float
    dec_deg: float
    field: FieldSolution


def solve_instrument(
    stars: DetectedStars,
    prior: Distortion,
    catalogue: SkyCatalogue,
    pointing: Pointing,
    bounds: MatchBounds,
    *,
    order: int = 2,
    bootstrap: int = 200,
    source: str = "",
) -> InstrumentSolution:
    """Find the geometry of an instrument from a dense field.

    Parameters
    ----------
    stars : DetectedStars
    prior : Distortion
        What is known: the profile's scale, or an earlier solution.
    catalogue : SkyCatalogue
        At the epoch of the exposure.
    pointing : Pointing
    bounds : MatchBounds
        The tolerance is what the prior may be off within the field.
    order, bootstrap, source
        See `distortion.fit_distortion`.

    Raises
    ------
    NoMatchError
        If the stars cannot be identified.
    FitFailedError
        If they are too few for the order.
    """
    stars_used = stars.select(stars.trusted)
    kept = np.flatnonzero(stars.trusted)
    field = solve_field(stars_used, prior, catalogue, pointing, bounds)
    ra, dec, known = field.ra_deg, field.dec_deg, field.distortion
    near, indices = _near(catalogue, prior, replace(pointing, ra_deg=ra, dec_deg=dec), bounds)
    tolerance = bounds.tolerance_arcsec
    fit: DistortionFit | None = None
    detected = there = np.empty(0, dtype=np.int64)
    # A quadratic fit of few stars near the middle must not decide on those in the corners.
    for order_now in (1, min(order, 2), order, order, order):
        sky = project(near.ra_deg, near.dec_deg, ra, dec)
        detected, there = pair_nearest(known.offsets(stars_used.x, stars_used.y), sky, tolerance)
        fit = fit_distortion(
            stars_used.x[detected],
            stars_used.y[detected],
            sky[there] @ pointing.seen.T,
            shape=prior.shape,
            order=order_now,
            bootstrap=0,
        )
        ra, dec = deproject(np.linalg.inv(pointing.seen) @ fit.offset_arcsec, ra, dec)
        known = fit.distortion.turned(np.linalg.inv(pointing.seen))
        if order_now == order:
            tolerance = float(np.clip(8e-3 * fit.distortion.rms_mas, 0.1, bounds.tolerance_arcsec))
    assert fit is not None
    sky = project(near.ra_deg, near.dec_deg, ra, dec)
    fit = fit_distortion(
        stars_used.x[detected],
        stars_used.y[detected],
        sky[there] @ pointing.seen.T,
        shape=prior.shape,
        order=order,
        bootstrap=bootstrap,
        source=source,
    )
    if fit.used.sum() < 0.5 * len(fit.used):
        raise FitFailedError(
            f"only {int(fit.used.sum())} of {len(fit.used)} identified stars agree with a "
            f"distortion of order {order}: the match or the catalogue is not to be trusted"
        )
    return InstrumentSolution(
        fit=fit,
        detected=kept[detected],
        catalogue=indices[there],
        ra_deg=ra,
        dec_deg=dec,
        field=field,
    )


def sky_offset(wcs: WCS, x: float, y: float, dx: float, dy: float) -> tuple[float, float]:
    """Return separation (arcsec) and position angle (deg, 0..360) of (x + dx, y + dy) from (x, y).

    Parameters
    ----------
    wcs : WCS
    x, y : float
        0-based px.
    dx, dy : float
        Offset, px.
    """
    (ra, other_ra), (dec, other_dec) = wcs.all_pix2world([x, x + dx], [y, y + dy], 0)
    east, north = project([other_ra], [other_dec], ra, dec)[0]
    return float(np.hypot(east, north)), float(np.degrees(np.arctan2(east, north)) % 360.0)


def _near(
    catalogue: SkyCatalogue, distortion: Distortion, pointing: Pointing, bounds: MatchBounds
) -> tuple[SkyCatalogue, NDArray[np.int64]]:
    """The stars that can be in the field, and their indices."""
    half_diagonal = 0.5 * np.hypot(*distortion.shape) * distortion.plate_scale_arcsec
    radius = 1.05 * half_diagonal + bounds.max_shift_arcsec + bounds.tolerance_arcsec
    numbered = replace(catalogue, magnitude=np.arange(len(catalogue), dtype=np.float64))
    indices = numbered.near(pointing.ra_deg, pointing.dec_deg, radius).magnitude.astype(np.int64)
    return catalogue.select(indices), indices


def _moved(points: NDArray[np.float64], turn: complex, shift: complex) -> NDArray[np.float64]:
    moved = turn * (points[:, 0] + 1j * points[:, 1]) + shift
    return np.stack([moved.real, moved.imag], axis=-1)


def _fit_similarity(
    points: NDArray[np.float64], sky: NDArray[np.float64], trust: NDArray[np.float64]
) -> tuple[complex, complex, NDArray[np.float64]]:
    """Turn, shift and weights that bring `points` on `sky`; Tukey's biweight."""
    z, target = points @ np.array([1, 1j]), sky @ np.array([1, 1j])
    design = np.stack([z, np.ones(len(z))], axis=1)
    weights = trust.copy()
    turn, shift = 1 + 0j, 0j
    for _ in range(20):
        root = np.sqrt(weights)
        (turn, shift), *_ = np.linalg.lstsq(design * root[:, None], target * root, rcond=None)
        distance = np.abs(target - design @ [turn, shift])
        number = max(int((trust > 0).sum()), 3)
        sigma = np.median(distance[trust > 0]) / 1.177 / np.sqrt((number - 2) / number)
        sigma = max(float(sigma), _FLOOR_ARCSEC / _TUKEY)
        new = trust * np.clip(1 - (distance / (_TUKEY * sigma)) ** 2, 0, None) ** 2
        if np.abs(new - weights).max() < 1e-4:
            break
        weights = new
    return complex(turn), complex(shift), weights
