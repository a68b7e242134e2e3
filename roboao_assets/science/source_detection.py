"""Stars in a stack: found, centred, and flagged where their positions are not to be trusted.

Background, detection and windowed positions are SExtractor's, by way of ``sep`` [1]_ [2]_: a
windowed centre has nearly the precision of a fitted profile and needs no model of it, which a core
in a halo would be hard to give. A star that adaptive optics sharpened is a spike on a halo; the
spike is what is measured.

References
----------
.. [1] Bertin & Arnouts 1996, A&AS 117, 393 (doi:10.1051/aas:1996164)
.. [2] Barbary 2016, JOSS 1, 58 (doi:10.21105/joss.00058)
"""

from dataclasses import dataclass, fields

import numpy as np
import sep
from numpy.typing import NDArray

from roboao_assets.science.errors import NoStarError

_MAX_TRIED = 400
# Of the windowed moments: SExtractor's choice for isolated stars.
_WINDOW_SIGMA = 2 / 2.3548


@dataclass(frozen=True, kw_only=True)
class DetectedStars:
    """Stars of an image, the brightest first. All arrays have shape (n,).

    Attributes
    ----------
    x, y : ndarray of float64
        0-based px.
    error_px : ndarray of float64
        Standard error of a position (one axis), from the noise.
    flux : ndarray of float64
        In the window, image units.
    snr : ndarray of float64
        Of the peak of the image smoothed as for detection.
    saturated : ndarray of bool
        Its peak reaches the level asked for.
    near_edge : ndarray of bool
        Its window reaches over the edge, or pixels without data.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    error_px: NDArray[np.float64]
    flux: NDArray[np.float64]
    snr: NDArray[np.float64]
    saturated: NDArray[np.bool_]
    near_edge: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of stars."""
        return len(self.x)

    @property
    def trusted(self) -> NDArray[np.bool_]:
        """True where a position may be used."""
        return ~(self.saturated | self.near_edge)

    def select(self, chosen: NDArray) -> "DetectedStars":
        """Return the stars `chosen` (indices, or bool for each)."""
        return DetectedStars(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})


def detect_stars(
    image: NDArray[np.floating],
    *,
    fwhm_px: float,
    background_px: int = 64,
    min_snr: float = 7.0,
    edge_px: float | None = None,
    saturation: float = np.inf,
    max_stars: int = 200,
) -> DetectedStars:
    """Find the stars of an image.

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        Pixels that are not finite are no data.
    fwhm_px : float
        Width of a star's core: of the filter and of the window. A factor of two does not matter.
    background_px : int
        Scale on which the background is measured and taken off.
    min_snr : float
        Of the peak of the smoothed image.
    edge_px : float, optional
        Stars within this of the edge are flagged; by default 1.5 times the width.
    saturation : float
        Peak level (image units, with the background) at which a star is flagged.
    max_stars : int
        The brightest are kept.

    Raises
    ------
    NoStarError
        If there is none.
    """
    finite = np.isfinite(image)
    data = np.ascontiguousarray(np.where(finite, image, 0.0), dtype=np.float32)
    mask = ~finite
    size = int(max(8, min(background_px, min(data.shape) // 4)))
    background = sep.Background(data, mask=mask, bw=size, bh=size)
    flat = data - background.back()
    noise = background.rms()
    noise[noise <= 0] = max(float(background.globalrms), 1e-12)
    found = _extract(flat, noise, mask, fwhm_px, min_snr)
    if len(found) == 0:
        raise NoStarError(
            f"no star in the {data.shape[1]} x {data.shape[0]} px image stands "
            f"{min_snr:g} standard deviations above the noise"
        )
    edge = 1.5 * fwhm_px if edge_px is None else edge_px
    stars = _measure(flat, noise, mask, found, fwhm_px, edge)
    peaks = _peak_levels(data, stars[:, 0], stars[:, 1])
    order = np.argsort(-stars[:, 3], kind="stable")[:max_stars]
    columns = stars[order].T
    return DetectedStars(
        x=columns[0],
        y=columns[1],
        error_px=columns[2],
        flux=columns[3],
        snr=columns[4],
        saturated=peaks[order] >= saturation,
        near_edge=columns[5] > 0,
    )


def without_halo_peaks(
    stars: DetectedStars, *, radius_px: float, flux_ratio: float = 8.0
) -> DetectedStars:
    """Return the stars without what lies in the halo of one that is much brighter.

    The speckles and diffraction rings of a bright star outshine the field; a companion that is
    lost with them does not help to find where the image looks.

    Parameters
    ----------
    stars : DetectedStars
    radius_px : float
        Reach of a halo.
    flux_ratio : float
        Stars fainter by more are left out.
    """
    kept = np.ones(len(stars), dtype=bool)
    for i in range(len(stars)):
        if kept[i]:
            near = np.hypot(stars.x - stars.x[i], stars.y - stars.y[i]) <= radius_px
            kept &= ~(near & (stars.flux * flux_ratio < stars.flux[i]))
    return stars.select(kept)


def _extract(
    flat: NDArray[np.float32],
    noise: NDArray[np.float32],
    mask: NDArray[np.bool_],
    fwhm_px: float,
    min_snr: float,
) -> NDArray[np.float64]:
    """Rough positions (x, y) of peaks, (n, 2), the brightest first."""
    # A star of seven pixels is as well found on half as many: a sixteenth of the work.
    block = max(1, int(fwhm_px / 3.0))
    sigma = max(fwhm_px / block, 1.5) / 2.3548
    half = int(np.ceil(2.5 * sigma))
    axis = np.arange(-half, half + 1)
    kernel = np.exp(-0.5 * (axis[:, None] ** 2 + axis[None, :] ** 2) / sigma**2)
    small, covered = _block_mean(flat, block), _block_mean(mask.astype(np.float32), block)
    sep.set_extract_pixstack(max(300_000, small.size))
    # A matched filter: the threshold is in units of the noise of the smoothed image.
    found = sep.extract(
        small,
        min_snr,
        err=_block_mean(noise, block) / block,
        mask=covered > 0.5,
        minarea=max(3, int(sigma**2)),
        filter_kernel=kernel.astype(np.float32),
        filter_type="matched",
        deblend_cont=0.005,
        clean=True,
    )
    # A cosmic ray or a hot pixel that is left is narrower than the telescope can make a star.
    found = found[np.sqrt(found["a"] * found["b"]) >= 0.45 * sigma]
    found = found[np.argsort(-found["flux"], kind="stable")[:_MAX_TRIED]]
    peaks = np.stack([found["xcpeak"], found["ycpeak"]], axis=1).astype(np.float64)
    return (peaks + 0.5) * block - 0.5


def _block_mean(image: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    if block == 1:
        return np.ascontiguousarray(image)
    height, width = (n // block * block for n in image.shape)
    cut = image[:height, :width].reshape(height // block, block, width // block, block)
    return np.ascontiguousarray(cut.mean(axis=(1, 3), dtype=np.float32))


def _measure(
    flat: NDArray[np.float32],
    noise: NDArray[np.float32],
    mask: NDArray[np.bool_],
    peaks: NDArray[np.float64],
    fwhm_px: float,
    edge_px: float,
) -> NDArray[np.float64]:
    """Columns x, y, error, flux, signal-to-noise, near the edge (0 or 1); a row a star."""
    window = max(fwhm_px, 1.5) * _WINDOW_SIGMA / 2
    start_x, start_y = np.ascontiguousarray(peaks.T)
    x, y, flag = sep.winpos(flat, start_x, start_y, window, mask=mask)
    # A window that wandered off has another star's centre, or none.
    lost = (np.hypot(x - start_x, y - start_y) > fwhm_px) | ~np.isfinite(x + y)
    x, y = np.where(lost, start_x, x), np.where(lost, start_y, y)
    flux, flux_error, flag_sum = sep.sum_circle(flat, x, y, fwhm_px, err=noise, mask=mask)
    snr = flux / np.maximum(flux_error, 1e-12)
    error = 0.6 * fwhm_px / np.maximum(snr, 1e-3)
    height, width = flat.shape
    margin = np.minimum.reduce([x, y, width - 1 - x, height - 1 - y])
    bad = sep.APER_TRUNC | sep.APER_HASMASKED
    edge = (margin < edge_px) | ((flag | flag_sum) & bad != 0) | lost
    rows = np.stack([x, y, error, flux, snr, edge.astype(np.float64)], axis=1)
    rows = rows[flux > 0]
    return _without_twins(rows, fwhm_px)


def _without_twins(rows: NDArray[np.float64], fwhm_px: float) -> NDArray[np.float64]:
    """One row of those whose windows ended on the same star."""
    order = np.argsort(-rows[:, 3], kind="stable")
    kept: list[int] = []
    for i in order:
        near = rows[kept, :2] - rows[i, :2]
        if not (np.hypot(near[:, 0], near[:, 1]) < fwhm_px).any():
            kept.append(int(i))
    return rows[kept]


def _peak_levels(
    data: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    height, width = data.shape
    columns = np.clip(np.rint(x).astype(int), 1, width - 2)
    rows = np.clip(np.rint(y).astype(int), 1, height - 2)
    around = [data[rows + dy, columns + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return np.max(around, axis=0).astype(np.float64)
