"""Header cards that are always valid FITS: made from any value, read from any bytes.

astropy's own reader warns of, refuses or silently alters what the standard does
not know, some of it only when a card is looked at. Here a card is settled when
it is made: what cannot be said in a header is said as nearly as it can be.
"""

import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import PurePath
from typing import Any

import numpy as np
from astropy.io import fits

CARD_BYTES = 80
_LONG_COMMENT = 60
_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}", re.ASCII)
_LONG_KEYWORD = re.compile(r"[A-Z0-9_-]+(?: [A-Z0-9_-]+)*", re.ASCII)
_STRING = re.compile(r"'((?:[^']|'')*)'\s*(?:/(.*))?")
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[ED][+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_COMMENTARY = ("COMMENT", "HISTORY")
# They mean something only where they stand: of what nobody began nothing is continued.
_NO_KEYWORDS = ("CONTINUE", "END")

Card = tuple[str, Any, str]
"""Keyword, value, comment."""


def make_card(keyword: str, value: Any, comment: str = "") -> fits.Card:
    """Make a card that is written without a warning, and read back the same.

    Parameters
    ----------
    keyword : str
        Upper-cased; longer than 8 characters: a HIERARCH card.
    value : str, bool, int, float, date, path or None
        Also NumPy scalars. None and numbers that are not finite become a card
        without a value. Other characters than printable ASCII become ``?``,
        strings too long for a card go on in CONTINUE cards.
    comment : str
        Cut to what has room.

    Raises
    ------
    ValueError
        If the keyword is none, or is too long for its value.
    """
    keyword = keyword.upper().removeprefix("HIERARCH ").strip()
    if not _LONG_KEYWORD.fullmatch(keyword) or keyword in _NO_KEYWORDS:
        raise ValueError(f"{keyword!r} cannot be the keyword of a FITS card")
    if keyword in _COMMENTARY:
        return fits.Card(keyword, _ascii(str(value))[: CARD_BYTES - 8])
    if not _KEYWORD.fullmatch(keyword):
        keyword = f"HIERARCH {keyword}"
    value, comment = _card_value(value), _ascii(comment).strip()
    bare = str(fits.Card(keyword, value)).rstrip()
    # Values are padded to column 30 where a comment follows.
    room = _LONG_COMMENT if len(bare) > CARD_BYTES else CARD_BYTES - max(len(bare), 30) - 3
    # An empty comment is none; one cut to nothing would leave its stroke behind.
    return fits.Card(keyword, value, comment[:room].rstrip() if room > 0 else "")


def read_cards(header: bytes) -> fits.Header:
    """Read the bytes of a header (whole cards of 80) up to its END.

    A value that is no FITS value is kept as a string; a card without a usable
    keyword is left out. Never raises, never warns.
    """
    parsed = fits.Header()
    for keyword, value, comment in _split_cards(_ascii_bytes(header)):
        try:
            card = make_card(keyword, value, comment)
            card.verify("silentfix")
        except (ValueError, fits.VerifyError):
            continue
        parsed.append(card, end=True)
    return parsed


def _split_cards(text: str) -> Iterator[Card]:
    going_on: Card | None = None
    for keyword, rest in _fields(text):
        if going_on:
            longer = _continue_string(going_on, keyword, rest)
            if longer:
                going_on = longer
                continue
            yield going_on
            going_on = None
        card = _split_card(keyword, rest)
        if card and isinstance(card[1], str) and card[1].endswith("&"):
            going_on = card
        elif card:
            yield card
    if going_on:
        yield going_on


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for at in range(0, len(text), CARD_BYTES):
        keyword, rest = text[at : at + 8].strip().upper(), text[at + 8 : at + CARD_BYTES]
        if keyword == "END" and not rest.strip():
            return
        yield keyword, rest


def _continue_string(card: Card, keyword: str, rest: str) -> Card | None:
    more = _STRING.fullmatch(rest.strip())
    if keyword != "CONTINUE" or more is None or not card[1].endswith("&"):
        return None
    value = card[1][:-1] + more[1].replace("''", "'")
    return card[0], value, card[2] + (more[2] or "").strip()


def _split_card(keyword: str, rest: str) -> Card | None:
    if keyword in _COMMENTARY:
        return keyword, rest.rstrip(), ""
    if keyword == "HIERARCH" and "=" in rest:
        keyword, _, rest = rest.partition("=")
    elif rest.startswith("="):
        rest = rest[1:]
    else:
        return None
    return keyword.strip(), *_split_value(rest.strip())


def _split_value(text: str) -> tuple[Any, str]:
    string = _STRING.fullmatch(text)
    if string:
        return string[1].replace("''", "'").rstrip(), (string[2] or "").strip()
    value, _, comment = text.partition("/")
    value, comment = value.strip(), comment.strip()
    if value in ("T", "F"):
        return value == "T", comment
    if _INTEGER.fullmatch(value):
        return int(value), comment
    if _FLOAT.fullmatch(value):
        return float(value.upper().replace("D", "E")), comment
    return value or None, comment


def _card_value(value: Any) -> str | bool | int | float | None:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, PurePath | str):
        return _ascii(str(value)).rstrip()
    if isinstance(value, fits.card.Undefined):
        return None
    raise ValueError(f"a {type(value).__name__} cannot be the value of a FITS card: {value!r}")


def _ascii(text: str) -> str:
    return "".join(c if 32 <= ord(c) < 127 else " " if c in "\n\r\t" else "?" for c in text)


def _ascii_bytes(raw: bytes) -> str:
    return "".join(chr(b) if 32 <= b < 127 else "?" for b in raw)
