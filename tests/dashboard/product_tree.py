"""An observation's folder as the stages write it: images with a WCS, a residual, a spoilt file."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from plausible import NIGHT, SCALE_ARCSEC, TARGETS, observation_id

from roboao_assets.storage.fits_products import write_image
from roboao_assets.storage.paths import ArchivePaths

OBSERVATION = observation_id(TARGETS[0])
SIZE_PX, BOX_PX = 256, 101
STAR_XY = (140.0, 111.0)
# East is to the left of a detector that is turned by so much.
TURNED_DEG = 23.0
SECRET = "not for readers"


def stack_wcs() -> WCS:
    """Return the solution of the stacks."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [234.5, 47.25]
    wcs.wcs.crpix = [(SIZE_PX + 1) / 2] * 2
    angle, step = np.radians(TURNED_DEG), SCALE_ARCSEC / 3600
    wcs.wcs.cd = step * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return wcs


def star_image(size: int, xy: tuple[float, float], sigma_px: float = 3.0) -> np.ndarray:
    """Return a Gaussian of height 1000 on a level of 10."""
    y, x = np.indices((size, size))
    squares = (x - xy[0]) ** 2 + (y - xy[1]) ** 2
    return (10 + 1000 * np.exp(-squares / (2 * sigma_px**2))).astype(np.float32)


def write_tree(root: Path) -> None:
    """Write the files of `OBSERVATION` below the archive's root."""
    paths = ArchivePaths(root)
    cards = [
        fits.Card("PIXSCALE", SCALE_ARCSEC),
        fits.Card("BUNIT", "adu"),
    ]
    star = [fits.Card("LOCK_X", STAR_XY[0]), fits.Card("LOCK_Y", STAR_XY[1])]
    stack = star_image(SIZE_PX, STAR_XY)
    stack[:4] = np.nan
    for percent in (100, 20):
        path = paths.stack(NIGHT, OBSERVATION, percent)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, stack, [*cards, *star, *stack_wcs().to_header().cards])
    spoilt = paths.stack(NIGHT, OBSERVATION, 50)
    spoilt.write_bytes(b"SIMPLE  =                    T" + b" " * 50)
    residual = paths.pca(NIGHT, OBSERVATION, "bright_star", "pca.fits")
    residual.parent.mkdir(parents=True, exist_ok=True)
    write_image(residual, star_image(BOX_PX, (50.0, 50.0)), cards)
    (root / "secret.txt").write_text(SECRET)
    (paths.observation(NIGHT, OBSERVATION) / "link.txt").symlink_to(root / "secret.txt")
    paths.package(NIGHT, OBSERVATION).write_bytes(b"BZh9" + bytes(range(256)) * 8)
