"""Any cube of short exposures as a raw night: how other cameras' data enter the archive."""

import bz2
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from roboao_assets.science.errors import RawDataError
from roboao_assets.science.instrument import InstrumentProfile
from roboao_assets.storage.files import write_whole
from roboao_assets.storage.raw_names import RAW_SUFFIX, ExposureName, parse_exposure_name

_BLOCK_BYTES = 2880


@dataclass(frozen=True, kw_only=True)
class CubeTarget:
    """What a cube does not say of itself.

    Attributes
    ----------
    program, object_name, filter_name, marker : str
    utc : datetime
        Start of the first frame (aware).
    exposure_s : float
        Of the whole cube.
    mode : str
        Camera mode, for cameras whose frames need masters; else empty.
    ra_deg, dec_deg, magnitude : float or None
    """

    program: str
    object_name: str
    filter_name: str
    utc: datetime
    marker: str = "o"
    exposure_s: float = 0.0
    mode: str = ""
    ra_deg: float | None = None
    dec_deg: float | None = None
    magnitude: float | None = None


def import_cube(cube: Path, raw_root: Path, profile: InstrumentProfile, target: CubeTarget) -> Path:
    """Write the cube as an observation of the raw night of `target.utc`.

    Frames keep their values: 16-bit integers stay so, all else becomes float32.

    Parameters
    ----------
    cube : Path
        FITS file whose first image is (frame, y, x) or (y, x), or that holds one frame an HDU.
    raw_root : Path
        The night's folder is made below it.
    profile : InstrumentProfile
    target : CubeTarget

    Returns
    -------
    Path
        The raw file.

    Raises
    ------
    RawDataError
        The file is no cube of images, or the observation is there already.
    UnknownInstrumentError
        The profile has no such filter.
    """
    profile.filter(target.filter_name)
    name = _name(profile, target)
    path = raw_root / f"{target.utc:%Y%m%d}" / f"{name.id}{RAW_SUFFIX}"
    if path.exists():
        raise RawDataError(f"{path} is there already; it was left as it is")
    frames = _read_cube(cube)
    with write_whole(path) as partial, bz2.open(partial, "wb") as out:
        for hdu in _frame_hdus(frames, profile, target, cube):
            out.write(_hdu_bytes(hdu))
    return path


def _name(profile: InstrumentProfile, target: CubeTarget) -> ExposureName:
    text = (
        f"{target.program}_{target.object_name}_{profile.camera}_{target.filter_name}_"
        f"{target.marker}_{target.utc:%Y%m%d}_{target.utc:%H%M%S}.{target.utc.microsecond:06d}"
    )
    if any(c in "/\0" or c.isspace() for c in text):
        raise RawDataError(f"the id {text!r} would hold a blank or a slash: choose other names")
    return parse_exposure_name(text)


def _read_cube(path: Path) -> NDArray:
    try:
        with fits.open(path, memmap=False) as hdus:
            images = [h.data for h in hdus if h.is_image and h.data is not None]
    except (OSError, ValueError, TypeError) as error:
        raise RawDataError(f"{path} cannot be read as FITS: {error}") from error
    if not images or images[0].ndim not in (2, 3):
        raise RawDataError(f"{path} holds no image and no cube of images (frame, y, x)")
    if images[0].ndim == 3:
        return images[0]
    if any(image.shape != images[0].shape for image in images):
        shapes = sorted({image.shape for image in images})
        raise RawDataError(f"{path} holds images of different shapes: {shapes}")
    return np.stack(images)


def _frame_hdus(
    frames: NDArray, profile: InstrumentProfile, target: CubeTarget, source: Path
) -> Iterator[fits.PrimaryHDU | fits.ImageHDU]:
    kind = np.uint16 if frames.dtype.kind == "u" and frames.dtype.itemsize <= 2 else np.float32
    for number, frame in enumerate(frames):
        data = np.ascontiguousarray(frame, dtype=kind)
        if number:
            yield fits.ImageHDU(data)
            continue
        hdu = fits.PrimaryHDU(data)
        hdu.header.extend(_cards(frames.shape, profile, target, source))
        yield hdu


def _cards(
    shape: tuple[int, ...], profile: InstrumentProfile, target: CubeTarget, source: Path
) -> list[tuple[str, object, str]]:
    cards: list[tuple[str, object, str]] = [
        ("OBJECT", target.object_name, "target"),
        ("TELESCOP", profile.telescope, "telescope"),
        ("INSTRUME", profile.camera, "camera"),
        ("FILTER", target.filter_name, "filter"),
        ("DATE-OBS", target.utc.strftime("%Y-%m-%dT%H:%M:%S.%f"), "UTC of the start"),
        ("EXPOSURE", target.exposure_s, "seconds, all frames"),
        ("DETSIZE", f"[1:{shape[2]},1:{shape[1]}]", "frame on the detector"),
        ("NFRAMES", shape[0], "frames imported"),
        ("ORIGFILE", source.name, "cube it was imported from"),
    ]
    optional = (
        ("MODE_NUM", target.mode or None, "camera mode"),
        ("MAGNITUD", target.magnitude, "magnitude"),
    )
    cards += [card for card in optional if card[1] is not None]
    if target.ra_deg is not None and target.dec_deg is not None:
        cards.append(("TELRA", _sexagesimal(target.ra_deg / 15), "right ascension [h:m:s]"))
        cards.append(("TELDEC", _sexagesimal(target.dec_deg), "declination [d:m:s]"))
        cards.append(("EQUINOX", 2000.0, "of the coordinates"))
    return cards


def _sexagesimal(value: float) -> str:
    hundredths = round(abs(value) * 360_000)
    whole, fraction = divmod(hundredths, 100)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{fraction:02d}"


def _hdu_bytes(hdu: fits.PrimaryHDU | fits.ImageHDU) -> bytes:
    # Not hdu.writeto: of an extension it makes a file of its own, with an empty primary before it.
    header = hdu.header.tostring(sep="", endcard=True, padding=True).encode("ascii")
    data = hdu.data
    if data.dtype == np.uint16:
        stored = (data ^ np.uint16(0x8000)).astype(">u2").tobytes()
    else:
        stored = data.astype(">f4").tobytes()
    return header + stored + bytes(-len(stored) % _BLOCK_BYTES)
