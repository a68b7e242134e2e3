"""Cosmic rays in single frames: spikes sharper than any star can be."""

import numpy as np
from numpy.typing import NDArray

from roboao_assets.science.registration import border_levels, transfer_psf

# A spike stands this many standard deviations above its neighbours ...
_SIGNIFICANCE = 8.0
# ... whose median is less than this part of what it is beside the peak of a perfect star.
_SHARPNESS = 0.3
# An electron comes out of the multiplication register with an exponential number of ADU, of
# mean half the variance per ADU: this many times the latter is rarer than one in 100,000.
_PHOTON_TAIL = 6.0
# Lower than this part of the star's own peak a hit is left alone.
_LEAST_HEIGHT = 0.25
# A track is wider than a pixel: what its removal lays bare is looked at again.
_ROUNDS = 8
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def remove_spikes(
    boxes: NDArray[np.float32], transfer: NDArray[np.float32], variance_per_adu: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Replace cosmic-ray hits that could be taken for the star by their neighbours' median.

    No light that came through the telescope is sharper than its diffraction-limited PSF: a
    pixel brighter than its eight neighbours, which are much darker than those beside the peak
    of that PSF, was hit, if it stands out of the photon noise. (The idea of L.A.Cosmic, van
    Dokkum 2001, doi:10.1086/323894, with the known PSF in place of the fine structure.)

    Parameters
    ----------
    boxes : ndarray of float32, shape (n, side, side)
        Calibrated cut-outs round a star.
    transfer : ndarray of float32, shape (side, side // 2 + 1)
        Transfer function of the telescope.
    variance_per_adu : float
        Photon noise: variance of a pixel over its light (ADU).

    Returns
    -------
    cleaned : ndarray of float32, shape (n, side, side)
    hits : ndarray of int64, shape (n,)
        Pixels replaced in each frame.
    """
    cleaned = boxes.copy()
    hits = np.zeros(len(boxes), np.int64)
    if len(boxes) == 0:
        return cleaned, hits
    psf = transfer_psf(transfer)
    beside = np.median([psf[y, x] for y, x in _NEIGHBOURS]) / psf[0, 0]
    level = border_levels(boxes)[:, None, None]
    scatter = 1.4826 * border_levels(np.abs(boxes - level))[:, None, None]
    # The rings of a sharp star are broken up by the pixels. What is far below the star's own
    # peak does no harm: it cannot be taken for the star.
    height = np.median((boxes - level).max(axis=(1, 2)))
    floor = level + np.maximum(_SIGNIFICANCE * scatter, _LEAST_HEIGHT * height)
    for _ in range(_ROUNDS):
        inner = cleaned[:, 1:-1, 1:-1]
        cross = (
            cleaned[:, :-2, 1:-1]
            + cleaned[:, 2:, 1:-1]
            + cleaned[:, 1:-1, :-2]
            + cleaned[:, 1:-1, 2:]
        ) / 4
        # Few pixels are left for the median.
        found = np.argwhere((inner > floor) & (inner - level > 1.5 * (cross - level)))
        if not len(found):
            break
        frame, y, x = found.T
        around = np.stack([cleaned[frame, y + 1 + dy, x + 1 + dx] for dy, dx in _NEIGHBOURS])
        middle = np.median(around, axis=0)
        value, base = cleaned[frame, y + 1, x + 1], level[frame, 0, 0]
        noise = np.sqrt(scatter[frame, 0, 0] ** 2 + variance_per_adu * np.maximum(middle - base, 0))
        spike = (
            (value - middle > _SIGNIFICANCE * noise + _PHOTON_TAIL * variance_per_adu)
            & (value >= around.max(axis=0))
            & (middle - base < _SHARPNESS * beside * (value - base))
        )
        if not spike.any():
            break
        cleaned[frame[spike], y[spike] + 1, x[spike] + 1] = middle[spike]
        np.add.at(hits, frame[spike], 1)
    return cleaned, hits
