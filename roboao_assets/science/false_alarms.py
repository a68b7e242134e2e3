"""How many false candidates a threshold lets pass: the promise that goes with it.

A search looks at every pixel, so it finds the highest of several points within each
resolution element: the false-alarm probability of one element taken alone promises ten times
too little. The number of peaks of a smooth random field above a threshold is known (Adler
1981; Worsley 1994, doi:10.2307/1427576, for the field of Student's t that a signal-to-noise
map is). It needs the field's roughness, which the map itself shows.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

# Turns a median absolute deviation of Gaussian noise into a standard deviation.
_MAD_TO_SIGMA = 1.4826


def expected_false_alarms(
    threshold: float, snr: NDArray[np.float64], noise_apertures: NDArray[np.integer]
) -> float:
    """Peaks above a threshold that noise alone gives in a signal-to-noise map.

    Parameters
    ----------
    threshold : float
        Signal-to-noise ratio; for fewer than about 3 the peaks are no longer few, and the
        number is too large.
    snr : ndarray, float64, shape (y, x)
        Signal-to-noise map, NaN where nothing is searched.
    noise_apertures : ndarray of int, shape (y, x)
        Apertures that the noise was measured in; 0 where nothing is searched.

    Returns
    -------
    float
        Expected number; where it is small, the probability that there is any.
    """
    counts, degrees = _pixels_by_degrees(noise_apertures)
    density = _peak_density(np.full(degrees.shape, threshold), degrees)
    return float(roughness(snr) * (counts * density).sum())


def expected_as_significant(
    probability: float, snr: NDArray[np.float64], noise_apertures: NDArray[np.integer]
) -> float:
    """Peaks that noise alone gives, anywhere in the map, at least as significant as one.

    Parameters
    ----------
    probability : float
        Of Student's t at the one peak. The same probability is another ratio where the noise
        is known from another number of apertures.
    snr, noise_apertures
        As in `expected_false_alarms`.
    """
    counts, degrees = _pixels_by_degrees(noise_apertures)
    density = _peak_density(stats.t.isf(probability, degrees), degrees)
    return float(roughness(snr) * (counts * density).sum())


def roughness(snr: NDArray[np.float64]) -> float:
    """Variance of the differences between neighbours over that of the map (per px^2), robust."""
    known = snr[np.isfinite(snr)]
    spread = _spread(known)
    steps = [np.diff(snr, axis=axis) for axis in (0, 1)]
    variance = np.mean([_spread(step[np.isfinite(step)]) ** 2 for step in steps])
    return float(variance / spread**2) if spread > 0 else 0.0


def _spread(values: NDArray[np.float64]) -> float:
    return _MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))


def _pixels_by_degrees(
    noise_apertures: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixels with each number of degrees of freedom, and these."""
    counts = np.bincount(noise_apertures[noise_apertures > 1].ravel())
    apertures = np.flatnonzero(counts)
    return counts[apertures], apertures - 1.0


def _peak_density(
    thresholds: NDArray[np.float64], degrees: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Peaks a unit of area and roughness: Worsley's Euler-characteristic density of the plane."""
    log_ratio = special.gammaln((degrees + 1) / 2) - special.gammaln(degrees / 2)
    scale = np.exp(log_ratio) / np.sqrt(degrees / 2) / (2 * np.pi) ** 1.5
    # Nothing is above an infinite threshold, nor is a peak told from the field below zero.
    height = np.where(np.isfinite(thresholds), np.maximum(thresholds, 0.0), 0.0)
    return scale * height * (1 + height**2 / degrees) ** (-(degrees - 1) / 2)
