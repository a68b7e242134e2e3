"""Ways to spoil a raw file: from the bytes of a good one to those of a bad one."""

import bz2
from io import BytesIO

import numpy as np
from astropy.io import fits
from spoilt_site import add_cards, pack, set_card, split_hdus

# What a bzip2 stream can unpack to, of bytes that are all alike.
_ALIKE_BYTES = 45_000_000


def truncated(good: bytes) -> bytes:
    return good[:-5000]


def garbage(good: bytes) -> bytes:
    return np.random.default_rng(7).bytes(len(good) // 4)


def empty(good: bytes) -> bytes:
    return b""


def flipped(good: bytes) -> bytes:
    return good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 4]) + good[len(good) // 2 + 1 :]


def other_naxis(good: bytes) -> bytes:
    hdus = split_hdus(good)
    hdus[5] = set_card(hdus[5], "NAXIS1", "128")
    return pack(hdus)


def _as_float(good: bytes, spoil) -> bytes:
    with fits.open(BytesIO(bz2.decompress(good))) as hdus:
        header = hdus[0].header
        frames = np.array([unit.data for unit in hdus], np.float32)
    spoil(frames)
    units = fits.HDUList(
        [(fits.ImageHDU if i else fits.PrimaryHDU)(f) for i, f in enumerate(frames)]
    )
    for card in header.cards:
        if card.keyword not in units[0].header and not card.keyword.startswith(("BZERO", "BSCALE")):
            units[0].header.append(card)
    file = BytesIO()
    units.writeto(file)
    return bz2.compress(file.getvalue(), 1)


def all_nan(good: bytes) -> bytes:
    return _as_float(good, lambda frames: frames.fill(np.nan))


def some_nan(good: bytes) -> bytes:
    """A float cube with a pixel of one frame, and another frame, that are no numbers."""

    def spoil(frames):
        frames[3, 40, 40] = np.nan
        frames[7] = np.nan

    return _as_float(good, spoil)


def dead_pixel(good: bytes) -> bytes:
    def spoil(frames):
        frames[:, 40, 40] = np.nan

    return _as_float(good, spoil)


def nan_in_header(good: bytes) -> bytes:
    hdus = split_hdus(good)
    for keyword in ("EXPOSURE", "MAGNITUD", "TELRA", "AZIMUTH"):
        hdus[0] = set_card(hdus[0], keyword, "NaN")
    return pack(hdus)


def huge_header(good: bytes) -> bytes:
    """Nine thousand cards more, a third of them of one keyword."""
    hdus = split_hdus(good)
    cards = [f"KEY{i:05d}= {i:20d}".ljust(80) for i in range(3000)]
    cards += [f"SAME    = 'value {i}'".ljust(80) for i in range(3000)]
    cards += [f"COMMENT number {i} of a writer that never stops".ljust(80) for i in range(3000)]
    hdus[0] = add_cards(hdus[0], "".join(cards).encode())
    return pack(hdus)


def endless_header(good: bytes) -> bytes:
    card = b"COMMENT and so on".ljust(80)
    first = split_hdus(good)[0][:2880].replace(b"END".ljust(80), card)
    return bz2.compress(first + card * 36 * 5000, 1)


def unknown_mode(good: bytes) -> bytes:
    hdus = split_hdus(good)
    hdus[0] = set_card(hdus[0], "MODE_NUM", "9999")
    return pack(hdus)


def announced_bomb(good: bytes) -> bytes:
    """Two terabytes, as its header says, in a few MB."""
    first = split_hdus(good)[0]
    frames = 16_000_000
    header = set_card(set_card(first, "NAXIS", "3"), "BITPIX", "16")
    header = add_cards(header, f"NAXIS3  = {frames:20d}".ljust(80).encode())
    alike = bz2.compress(bytes(_ALIKE_BYTES), 9)
    return bz2.compress(header, 9) + alike * 46_000


def hidden_bomb(good: bytes) -> bytes:
    """Hundreds of GB of extensions of which no header tells how many come."""
    first, second, *_ = split_hdus(good)
    header = second[: second.index(b"END".ljust(80)) + 80]
    header = header.ljust(-(-len(header) // 2880) * 2880)
    extension = header + bytes(len(second) - len(header))
    many = bz2.compress(extension * (_ALIKE_BYTES // len(extension)), 9)
    return bz2.compress(first, 9) + many * 5000
