"""FITS products of the archive: written whole or not at all, with checksums and provenance."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from astropy.io import fits
from numpy.typing import ArrayLike, NDArray

from roboao_assets import __version__
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.files import write_whole
from roboao_assets.storage.fits_cards import Card, make_card
from roboao_assets.storage.mirror import head_of
from roboao_assets.storage.raw_frames import RawFileRecord

# Of a product's header with all its provenance, and some more.
_HEAD_BYTES = 1 << 15
# Keywords that say how the file is made; they follow from the data.
_STRUCTURAL = frozenset(
    ("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "GROUPS")
    + ("BSCALE", "BZERO", "BLANK", "EXTNAME", "CHECKSUM", "DATASUM", "END")
)


class ProductError(ArchiveError):
    """A FITS product of the archive is missing, damaged or not what it should be."""


def write_image(
    path: Path,
    data: ArrayLike,
    cards: Sequence[Card] = (),
    extensions: Sequence[tuple[str, ArrayLike]] = (),
) -> None:
    """Write an image, whole or not at all.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    data : array_like, (..., y, x)
        Written as float32; bool and uint8 (masks) as uint8.
    cards : sequence of (keyword, value, comment)
        Added to the primary header, the last of a keyword holds; a keyword of the
        file's structure (BITPIX, NAXISn, ...) is left out. What no card can say is
        said as nearly as can be (`fits_cards.make_card`).
    extensions : sequence of (name, array)
        Image extensions.

    Notes
    -----
    CHECKSUM and DATASUM are written, the date of writing is not: the same inputs
    give the same bytes.
    """
    units = fits.HDUList([fits.PrimaryHDU(_storable(data))])
    for keyword, value, comment in cards:
        card = make_card(keyword, value, comment)
        if not _is_structural(card.keyword):
            _set_card(units[0].header, card)
    units += [fits.ImageHDU(_storable(array), name=name) for name, array in extensions]
    units.update_extend()
    for unit in units:
        # With comments of our own: astropy's hold the time of writing.
        unit.add_datasum("data unit checksum")
        unit.add_checksum("HDU checksum", override_datasum=True)
    with write_whole(Path(path)) as partial:
        units.writeto(partial, overwrite=True, output_verify="exception")


def read_image(path: Path, *, verify: bool = True) -> tuple[NDArray[np.float32], fits.Header]:
    """Read the primary image of a product.

    Parameters
    ----------
    path : Path
    verify : bool
        Compare the data with DATASUM, where the header has it.

    Returns
    -------
    image : ndarray of float32, (..., y, x)
        In native byte order, contiguous.
    header : astropy.io.fits.Header

    Raises
    ------
    ProductError
        If the file is missing, is no FITS image, is truncated, or its data are
        not those it was written with.
    """
    path = Path(path)
    advice = "remove it and run its stage again"
    try:
        # From memory: astropy leaves a file that it could not make sense of open.
        with fits.open(BytesIO(path.read_bytes()), lazy_load_hdus=True) as units:
            unit = units[0]
            data = unit.data
            if data is None:
                raise ProductError(f"{str(path)!r} has no image in its primary HDU; {advice}")
            if verify and unit.verify_datasum() == 0:
                raise ProductError(
                    f"the data of {str(path)!r} are not those its DATASUM was made of: "
                    f"it is damaged; {advice}"
                )
            return np.ascontiguousarray(data, dtype=np.float32), unit.header.copy()
    except FileNotFoundError:
        raise ProductError(f"{str(path)!r} was looked for and is not there") from None
    except (OSError, ValueError, TypeError, KeyError, fits.VerifyError, Warning) as error:
        raise ProductError(f"{str(path)!r} cannot be read as FITS: {error}; {advice}") from None


def replace_cards(
    path: Path, cards: Sequence[Card], remove: Callable[[str], bool] = lambda keyword: False
) -> None:
    """Change cards of a product's primary header; its data stay bit for bit.

    Parameters
    ----------
    path : Path
        Rewritten whole or not at all; its size may change.
    cards : sequence of (keyword, value, comment)
        Set, in the place of those of the same keyword.
    remove : callable
        Told a keyword, True if its card goes.

    Raises
    ------
    ProductError
        If the file is missing or is no FITS image.
    """
    path = Path(path)
    try:
        content = BytesIO(path.read_bytes())
        with fits.open(content, do_not_scale_image_data=True) as units:
            header = units[0].header
            if units[0].data is None:
                raise ProductError(f"{str(path)!r} has no image in its primary HDU")
            for keyword in [k for k in header if not _is_structural(k) and remove(k)]:
                del header[keyword]
            for keyword, value, comment in cards:
                card = make_card(keyword, value, comment)
                if not _is_structural(card.keyword):
                    _set_card(header, card)
            units[0].add_datasum("data unit checksum")
            units[0].add_checksum("HDU checksum", override_datasum=True)
            with write_whole(path) as partial:
                units.writeto(partial, overwrite=True, output_verify="exception")
    except FileNotFoundError:
        raise ProductError(f"{str(path)!r} was looked for and is not there") from None
    except (ValueError, TypeError, KeyError, fits.VerifyError) as error:
        raise ProductError(f"{str(path)!r} cannot be read as FITS: {error}") from None


def read_product_header(path: Path) -> fits.Header | None:
    """Return the primary header of a product, None if there is no such file or it is no FITS."""
    try:
        head = head_of(path, _HEAD_BYTES)
        if head is not None:
            # One that goes on is read from the file.
            with suppress(OSError, EOFError):
                return _product_header(BytesIO(head))
        # astropy's getheader leaves a damaged file open.
        with path.open("rb") as file:
            return _product_header(file)
    except (OSError, EOFError, ValueError, fits.VerifyError):
        return None


def _product_header(file: BinaryIO) -> fits.Header | None:
    header = fits.Header.fromfile(file)
    return header if "SIMPLE" in header else None


def provenance_cards(
    *,
    stage: str,
    raw: Sequence[RawFileRecord],
    calibration: Sequence[Path],
    settings_fingerprint: str,
    fingerprint: str,
) -> list[Card]:
    """Return the cards that say what a product was made from.

    Parameters
    ----------
    stage : str
        Name of the asset.
    raw : sequence of RawFileRecord
        Raw files: RAWnnnn (name) and RSHAnnnn (SHA-256), NRAW of them.
    calibration : sequence of Path
        Master files: CALnnnn, their name.
    settings_fingerprint : str
        SETPRINT; of the settings used.
    fingerprint : str
        FPRINT; of everything: the product's data version.
    """
    cards: list[Card] = [
        ("CREATOR", f"roboao-archive {__version__}", "software that made this file"),
        ("STAGE", stage, "asset that this file belongs to"),
        ("FPRINT", fingerprint, "data version"),
        ("SETPRINT", settings_fingerprint, "fingerprint of the settings"),
        ("NRAW", len(raw), "number of raw files"),
    ]
    for number, record in enumerate(raw, 1):
        cards.append((f"RAW{number:04d}", record.name, ""))
        cards.append((f"RSHA{number:04d}", record.sha256, "SHA-256"))
    cards += [(f"CAL{number:04d}", path.name, "") for number, path in enumerate(calibration, 1)]
    return cards


def _is_structural(keyword: str) -> bool:
    stem = keyword[5:] if keyword.startswith("NAXIS") else None
    return keyword in _STRUCTURAL or (stem is not None and (not stem or stem.isdigit()))


def _set_card(header: fits.Header, card: fits.Card) -> None:
    if card.keyword in ("COMMENT", "HISTORY"):
        header.append(card, end=True)
        return
    if card.keyword in header:
        header.remove(card.keyword)
    header.append(card, end=True)


def _storable(data: ArrayLike) -> NDArray:
    array = np.asarray(data)
    if array.dtype in (np.bool_, np.uint8):
        return array.astype(np.uint8)
    # In the byte order of the file: else it is swapped for each checksum and back again.
    return array.astype(">f4")
