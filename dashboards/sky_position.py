"""Positions and radii as astronomers write them, as degrees."""

import math
import re
import warnings

from roboao_assets.science.errors import ArchiveError

RADIUS_UNITS = {"arcsec": 1 / 3600, "arcmin": 1 / 60, "deg": 1.0}
_MOST_CHARACTERS = 40
_NUMBER = re.compile(r"[+-]?(?:\d{1,12}\.?\d{0,20}|\.\d{1,20})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_SEXAGESIMAL = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<first>\d{1,3})\s*(?P<one>[:hd°\s])\s*(?P<second>\d{1,2})"
    r"(?:\s*(?P<two>[:m'′\s])\s*(?P<third>\d{1,2}(?:\.\d{0,12})?)\s*(?P<three>[s\"″]?)|\s*[m'′]?)",
    re.ASCII | re.IGNORECASE,
)


class PositionError(ArchiveError):
    """A text is no position; the message says how one is written."""


def number_in(text: str, name: str) -> float:
    """Return a finite number.

    Raises
    ------
    PositionError
        If the text is anything else.
    """
    if not _NUMBER.fullmatch(text.strip()) or not math.isfinite(float(text)):
        raise PositionError(f"{name} is a number such as 1.5; it was {shown(text)}")
    return float(text)


def right_ascension_deg(text: str) -> float:
    """Return a right ascension in degrees, from 0 up to 360.

    Parameters
    ----------
    text : str
        Hours as ``18:46:00.5``, ``18h46m00.5s`` or ``18 46 00.5``; degrees as ``281.5``,
        ``281.5d`` or ``281d30m``.

    Raises
    ------
    PositionError
        If it is none of these, or not between 0 and 24 h.
    """
    value = _angle_deg(text, "the right ascension", "18:46:00.5, 18h46m00.5s or 281.502")
    if not 0.0 <= value <= 360.0:
        raise PositionError(
            f"the right ascension is from 0 to 24 hours (360 degrees); it was {shown(text)}"
        )
    return value % 360.0


def declination_deg(text: str) -> float:
    """Return a declination in degrees.

    Parameters
    ----------
    text : str
        ``-00:30:00``, ``-0d30m00s``, ``-0 30 00`` or ``-0.5``.

    Raises
    ------
    PositionError
        If it is none of these, or not from -90 to 90.
    """
    if "h" in text.lower():
        raise PositionError(f"the declination is written in degrees; it was {shown(text)}")
    value = _angle_deg(text, "the declination", "-00:30:00, -0d30m00s or -0.5", of_hours=False)
    if not -90.0 <= value <= 90.0:
        raise PositionError(f"the declination is from -90 to 90 degrees; it was {shown(text)}")
    return value


def radius_deg(text: str, unit: str) -> float:
    """Return a radius in degrees; `unit` is a key of `RADIUS_UNITS`."""
    if unit not in RADIUS_UNITS:
        raise PositionError(
            f"the radius is in {', '.join(RADIUS_UNITS)}; the unit was {shown(unit)}"
        )
    value = number_in(text, "the radius") * RADIUS_UNITS[unit]
    if not 0.0 < value <= 180.0:
        raise PositionError(
            f"the radius is more than 0 and at most 180 degrees; it was {shown(text)} {unit}"
        )
    return value


def shown(text: str) -> str:
    """Return a text that somebody typed as it can be quoted in a sentence: short, printable."""
    # A character that is not printable is quoted by up to ten others.
    plain = text if text.isprintable() else ascii(text[: _MOST_CHARACTERS + 1])[1:-1]
    return f"'{plain}'" if len(plain) <= _MOST_CHARACTERS else f"'{plain[:_MOST_CHARACTERS]}…'"


def _angle_deg(text: str, name: str, examples: str, *, of_hours: bool = True) -> float:
    """Read an angle: plain numbers are degrees, colons and blanks mean hours if `of_hours`."""
    from astropy.coordinates import Angle

    text = text.strip()
    if len(text) > _MOST_CHARACTERS:
        raise PositionError(f"{name} is written like {examples}; it was {shown(text)}")
    if _NUMBER.fullmatch(text.removesuffix("d").removesuffix("°")):
        return float(text.removesuffix("d").removesuffix("°"))
    parts = _SEXAGESIMAL.fullmatch(text)
    if parts is None:
        raise PositionError(f"{name} is written like {examples}; it was {shown(text)}")
    mark = parts["one"].lower()
    hours = mark == "h" or (of_hours and mark not in "d°")
    second, third = float(parts["second"]), float(parts["third"] or 0.0)
    if second >= 60.0 or third >= 60.0:
        raise PositionError(f"minutes and seconds are less than 60; {name} was {shown(text)}")
    spelled = f"{parts['sign']}{parts['first']}:{parts['second']}:{parts['third'] or 0}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(Angle(spelled, unit="hourangle" if hours else "deg").deg)
        except ValueError as error:
            raise PositionError(f"{name} is written like {examples}; it was {shown(text)}") from (
                error
            )
