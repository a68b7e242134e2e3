"""An observation's folder as the stages write it: images with a WCS, a residual, a spoilt file."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from plausible import NIGHT, SCALE_ARCSEC, TARGETS, observation_id

from roboao_assets.storage.fits_products import provenance_cards, write_image
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_frames import RawFileRecord

OBSERVATION = observation_id(TARGETS[0])
SIZE_PX, BOX_PX = 256, 101
STAR_XY = (140.0, 111.0)
# East is to the left of a detector that is turned by so much.
TURNED_DEG = 23.0
RAW_NAME, RAW_SHA256 = f"{OBSERVATION}.fits.bz2", "ab" * 32
# Rows of frames.txt: frame, quality, flux, x, y, bias.
FRAMES = [
    (i, 0.2 + 0.01 * (7 * i % 10), 3e5, 118 + 0.3 * i, 132 - 0.2 * i, 590.0) for i in range(10)
]
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
        write_image(path, stack, [*cards, *star, *_made_of(), *stack_wcs().to_header().cards])
    write_image(
        paths.stack_sum(NIGHT, OBSERVATION),
        stack[::2, ::2],
        [fits.Card("PIXSCALE", 2 * SCALE_ARCSEC)],
    )
    rows = "\n".join(" ".join(map(str, row)) for row in FRAMES)
    paths.frames_table(NIGHT, OBSERVATION).write_text(f"# frame quality flux x y bias\n{rows}\n")
    spoilt = paths.stack(NIGHT, OBSERVATION, 50)
    spoilt.write_bytes(b"SIMPLE  =                    T" + b" " * 50)
    residual = paths.pca(NIGHT, OBSERVATION, "bright_star", "pca.fits")
    residual.parent.mkdir(parents=True, exist_ok=True)
    write_image(residual, star_image(BOX_PX, (50.0, 50.0)), cards)
    (root / "secret.txt").write_text(SECRET)
    (paths.observation(NIGHT, OBSERVATION) / "link.txt").symlink_to(root / "secret.txt")
    paths.package(NIGHT, OBSERVATION).write_bytes(b"BZh9" + bytes(range(256)) * 8)


def _made_of() -> list[tuple[str, object, str]]:
    raw = RawFileRecord(name=RAW_NAME, size_bytes=1, mtime_ns=1, sha256=RAW_SHA256)
    masters = [Path("dark_9.fits"), Path("flat_lp600.fits")]
    return provenance_cards(
        stage="bright_star_stack",
        raw=[raw],
        calibration=masters,
        settings_fingerprint="0" * 64,
        fingerprint=f"3-{'f' * 64}",
    )
