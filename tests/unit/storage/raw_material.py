"""Raw material for the tests of the reader, made by the reference FITS writer."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from astropy.io import fits


def fits_bytes(arrays: Sequence[np.ndarray], cards: dict | None = None) -> bytes:
    """Return the bytes of a FITS file: the first array in the primary HDU, the others behind."""
    units = fits.HDUList(
        [(fits.ImageHDU if i else fits.PrimaryHDU)(array) for i, array in enumerate(arrays)]
    )
    units[0].header.update(cards or {})
    file = BytesIO()
    units.writeto(file)
    return file.getvalue()


def noise_frames(n: int, shape: tuple[int, int] = (48, 64), seed: int = 0) -> np.ndarray:
    """Return frames with all of the range of 16 bits in them, and noise as a camera's."""
    rng = np.random.default_rng(seed)
    frames = rng.normal(300, 7, (n, *shape)).clip(0, 65535).astype(np.uint16)
    frames[:, 0, :4] = (0, 32767, 32768, 65535)
    return frames
