"""Positions against image_registration's chi2_shift, which the original archive used."""

import warnings

import numpy as np

from roboao_assets.science.box_transforms import telescope_transfer
from roboao_assets.science.registration import measure_frames

SIDE = 64


def test_same_shifts_as_chi2_shift():
    with warnings.catch_warnings():
        # It is of another age of astropy: its import warns.
        warnings.simplefilter("ignore")
        from image_registration import chi2_shift
    rng = np.random.default_rng(8)
    rows, columns = np.indices((SIDE, SIDE))
    x, y = 32 + rng.normal(0, 2, (2, 12))
    noise = 4.0
    boxes = np.array(
        [
            400 * np.exp(-((columns - a) ** 2 + (rows - b) ** 2) / 2 / 1.3**2)
            + 80 * np.exp(-((columns - a) ** 2 + (rows - b) ** 2) / 2 / 6**2)
            for a, b in zip(x, y, strict=True)
        ]
    )
    boxes = (boxes + rng.normal(0, noise, boxes.shape)).astype(np.float32)
    transfer = telescope_transfer(
        SIDE,
        plate_scale_arcsec=0.0351594,
        wavelength_nm=765,
        primary_diameter_m=1.85,
        secondary_diameter_m=0.879,
    )
    found = measure_frames(boxes, transfer, search_half_px=20)
    for k in range(1, len(boxes)):
        dx, dy, error_x, error_y = chi2_shift(
            boxes[0], boxes[k], err=noise * np.sqrt(2), upsample_factor="auto"
        )
        # Ours follow the core alone: their error is some 0.02 px here.
        assert abs(found.x[k] - found.x[0] - dx) < 4 * np.hypot(error_x, 0.02)
        assert abs(found.y[k] - found.y[0] - dy) < 4 * np.hypot(error_y, 0.02)
