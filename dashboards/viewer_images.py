"""Images for the viewer: which there are of an observation, and where they lie on the sky."""

import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from numpy.typing import NDArray

from roboao_assets.storage.fits_products import ProductError, read_image
from roboao_assets.storage.served_files import ServedFile

_CACHE_BYTES = 256_000_000
_REFERENCE = "bright_star/100p.fits"
# Pattern of the file's name -> title, in the order of the selection.
_KINDS = (
    (r"bright_star/100p\.fits", "stack of all frames"),
    (r"bright_star/(?P<percent>\d+)p\.fits", "stack of the best {percent} %"),
    (r"bright_star/sum\.fits", "sum (raw pixels)"),
    (r"faint_star/.+_summed\.fits", "faint-star stack"),
    (r"faint_star/.+_simple_sum\.fits", "faint star, plain sum"),
    (r"extended_object/.+_deconvolved\.fits", "deconvolved"),
    (r"extended_object/.+_stack\.fits", "resolved object, stack"),
    (r"bright_star/pca/.+_pca\.fits", "PSF-subtracted"),
    (r"bright_star/pca/.+_snr\.fits", "signal-to-noise map"),
    (r"faint_star/pca/.+_pca\.fits", "faint star, PSF-subtracted"),
    (r"faint_star/pca/.+_snr\.fits", "faint star, signal-to-noise map"),
)


@dataclass(frozen=True, kw_only=True)
class ViewerImage:
    """An image as the viewer shows it.

    Attributes
    ----------
    name : str
        Of the file.
    pixels : ndarray of float32, shape (y, x)
        Not to be changed: it is shared between readers.
    scale_arcsec : float
        Of a pixel; 1 if the file does not say.
    unit : str
    wcs : astropy.wcs.WCS or None
        Of the image's own solution, or, of a box round the star, of the stack it was cut from.
    star_xy : tuple of float or None
        Where the guide star is (0-based px).
    """

    name: str
    pixels: NDArray[np.float32]
    scale_arcsec: float
    unit: str
    wcs: WCS | None
    star_xy: tuple[float, float] | None


def image_titles(files: Mapping[str, ServedFile]) -> dict[str, str]:
    """Return what of `files` can be viewed: name by title, in the order of the selection."""
    titles: dict[str, str] = {}
    for pattern, title in _KINDS:
        matches = filter(None, (re.fullmatch(pattern, name) for name in files))
        for match in sorted(matches, key=lambda m: -int(m.groupdict().get("percent") or 0)):
            if match.string not in titles.values():
                titles.setdefault(title.format(**match.groupdict()), match.string)
    return titles


class ImageStore:
    """Images that were looked at last, shared by all who look."""

    def __init__(self, most_bytes: int = _CACHE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._images: OrderedDict[tuple[object, ...], ViewerImage] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, files: Mapping[str, ServedFile], name: str) -> ViewerImage:
        """Return an image.

        Parameters
        ----------
        files : mapping of str to ServedFile
            Of the observation.
        name : str
            One of them.

        Raises
        ------
        ProductError
            If it is not there, or cannot be read.
        """
        if name not in files:
            raise ProductError(f"{name!r} was looked for and is not there any more")
        reference = files.get(_REFERENCE)
        key = tuple(
            (file.path, file.mtime_ns, file.size_bytes) for file in (files[name], reference) if file
        )
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        image = _read(files[name], reference)
        with self._lock:
            self._images[key] = image
            while sum(i.pixels.nbytes for i in self._images.values()) > self._most_bytes:
                self._images.popitem(last=False)
        return image


def _read(file: ServedFile, reference: ServedFile | None) -> ViewerImage:
    pixels, header = read_image(file.path, verify=False)
    if pixels.ndim != 2:
        raise ProductError(f"{file.name!r} holds an array of shape {pixels.shape}, not an image")
    pixels.flags.writeable = False
    star = lock_position(header)
    wcs = celestial_wcs(header)
    if wcs is None and star is None:
        # A box round the star: its middle pixel.
        star = ((pixels.shape[1] - 1) / 2, (pixels.shape[0] - 1) / 2)
        if reference is not None:
            wcs = _box_wcs(reference, star, _number(header, "PIXSCALE"))
    return ViewerImage(
        name=file.name,
        pixels=pixels,
        scale_arcsec=_number(header, "PIXSCALE") or 1.0,
        unit=str(header.get("BUNIT") or ""),
        wcs=wcs,
        star_xy=star,
    )


def celestial_wcs(header: fits.Header) -> WCS | None:
    """Return the sky coordinates of a header; None if it has none."""
    if not str(header.get("CTYPE1", "")).startswith("RA"):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(header)
    return wcs if wcs.has_celestial else None


def _box_wcs(
    reference: ServedFile, star: tuple[float, float], scale_arcsec: float | None
) -> WCS | None:
    """Coordinates of the stack that a box was cut from, its star put on `star`."""
    try:
        header = fits.getheader(reference.path)
    except OSError:
        return None
    place, wcs = lock_position(header), celestial_wcs(header)
    if wcs is None or place is None or scale_arcsec != _number(header, "PIXSCALE"):
        return None
    shift = np.subtract(star, place)
    wcs.wcs.crpix = np.add(wcs.wcs.crpix, shift)
    if wcs.sip is not None:
        wcs.sip = None  # of the whole field; a box is small
    return wcs


def lock_position(header: fits.Header) -> tuple[float, float] | None:
    """Return where a header has its guide star (0-based px); None if it does not say."""
    x, y = _number(header, "LOCK_X"), _number(header, "LOCK_Y")
    return None if x is None or y is None else (x, y)


def _number(header: fits.Header, key: str) -> float | None:
    value = header.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    return None
