"""What one may ask of the observations, and its neutral form for both homes."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue.conditions import (
    AnyOf,
    Between,
    Condition,
    Contains,
    HasItems,
    Holds,
    IsTrue,
    OneOf,
    RedoAsked,
)
from roboao_assets.storage.catalogue.documents import PIPELINES
from roboao_assets.storage.catalogue.search_fields import (
    CONTRAST_PIPELINES,
    CONTRAST_SEPARATIONS_ARCSEC,
    SEARCHED_PRODUCTS,
    SORT_FIELDS,
    contrast_field,
    made_field,
)
from roboao_assets.storage.catalogue.sky import cone_box, separation_rad
from roboao_assets.storage.catalogue.values import to_milliseconds

Interval = tuple[float | None, float | None]


class Cone(NamedTuple):
    """A circle on the sky (degrees)."""

    ra_deg: float
    dec_deg: float
    radius_deg: float


# A text that is looked for is no longer than the longest id.
_MOST_TEXT = 300
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Somebody who may see the distributed observations of some programs, and nothing else.

    Attributes
    ----------
    login : str
        Sees the programs of which they are a principal investigator as well.
    programs : tuple of str
        Each means the program of exactly this number: 24 is not 24.1.
    """

    login: str
    programs: tuple[str, ...]

    def conditions(self) -> tuple[Condition, ...]:
        """Return the conditions that an observation meets which the reader may see."""
        # 24.10 is not the number 24.1.
        stored = (v for name in self.programs for v in _as_stored(name) if str(v) == name)
        own = OneOf("program", tuple(stored)), Holds("program_pi", self.login)
        return IsTrue("distributed", True), AnyOf(own)


@dataclass(frozen=True, kw_only=True)
class ObservationQuery:
    """What is asked of the observations; every condition given must be met.

    An observation in which the field asked for is missing does not match. Intervals are
    ``(low, high)`` with both ends included and None for no bound.

    Attributes
    ----------
    ids, names, programs, filters, flags, classified_as : tuple of str or None
        One of these; None: any. An empty tuple matches nothing.
    subprograms : bool
        Whether a whole number among `programs` means its parts as well: 24 also 24.1.
    nights : tuple of str or None
        UT dates, YYYYMMDD.
    id_contains, name_contains : str
        Text anywhere in the id or name, whatever the case; empty: any.
    text : str
        Text anywhere in the id or in the name, or, with `text_exact`, the id or the name.
    text_exact : bool
    date_from, date_to : datetime or None
        First moment and the moment after the last (aware).
    cone : Cone or None
        Right ascension, declination, radius (degrees).
    magnitude, exposure_s, seeing_median, seeing_nearest, strehl, azimuth_deg, elevation_deg : \
(float or None, float or None) or None
        Seeing in arcsec, Strehl ratio in percent. An azimuth from 350 to 10 degrees goes
        through north; any other range the wrong way round matches nothing.
    contrast_mag : (float or None, float or None) or None
        Of the contrast curve at `contrast_separation_arcsec`, which is one of
        `CONTRAST_SEPARATIONS_ARCSEC`.
    has_candidates : bool or None
        Companion candidates were found, or were looked for in vain.
    pipeline : str
        Whose Strehl ratio, flag, class, contrast and candidates are meant.
    pipelines_done, products_made : tuple of str
        Pipelines that must all have run; products (of `SEARCHED_PRODUCTS`) that must all be made.
    pipelines_failed : tuple of str
        Pipelines of which the last attempts at a stack must all have failed.
    distributed : bool or None
        Marked distributed, or not.
    program_pi : str or None
        Login among the principal investigators of the program.
    force_redo : bool or None
        An operator asked for a product to be redone, or not.
    reader : Reader or None
        Only what this reader may see; None: everything.
    sort : (str, bool)
        A name in `SORT_FIELDS` and whether it ascends; ties are broken by id. A missing value
        comes after all others, whichever way. ``separation`` needs a cone.
    skip, limit : int
        Matches left out at the beginning, and most matches returned (0: all).
    summary_only : bool
        Without `BULK_PATHS`: the header, and the list of what is in the package.
    """

    ids: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    id_contains: str = ""
    name_contains: str = ""
    text: str = ""
    text_exact: bool = False
    nights: tuple[str, ...] | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    programs: tuple[str, ...] | None = None
    subprograms: bool = False
    filters: tuple[str, ...] | None = None
    cone: Cone | None = None
    magnitude: Interval | None = None
    exposure_s: Interval | None = None
    seeing_median: Interval | None = None
    seeing_nearest: Interval | None = None
    strehl: Interval | None = None
    azimuth_deg: Interval | None = None
    elevation_deg: Interval | None = None
    contrast_mag: Interval | None = None
    contrast_separation_arcsec: float = 1.0
    has_candidates: bool | None = None
    pipeline: str = "bright_star"
    flags: tuple[str, ...] | None = None
    classified_as: tuple[str, ...] | None = None
    pipelines_done: tuple[str, ...] = ()
    pipelines_failed: tuple[str, ...] = ()
    products_made: tuple[str, ...] = ()
    distributed: bool | None = None
    program_pi: str | None = None
    force_redo: bool | None = None
    reader: Reader | None = None
    sort: tuple[str, bool] = ("date_utc", True)
    skip: int = 0
    limit: int = 0
    summary_only: bool = False

    def __post_init__(self) -> None:
        """Refuse a query that cannot be answered, by the name of what is wrong."""
        for item in fields(self):
            _check_value(item.name, str(item.type), getattr(self, item.name))
        for pipeline in (self.pipeline, *self.pipelines_done, *self.pipelines_failed):
            _check_choice("pipeline", pipeline, PIPELINES)
        for made in self.products_made:
            _check_choice("product that can be searched", made, SEARCHED_PRODUCTS)
        self._check_contrast()
        if self.sort[0] not in SORT_FIELDS:
            raise CatalogueError(
                f"results cannot be sorted by {self.sort[0]!r}; choose one of "
                f"{', '.join(SORT_FIELDS)}"
            )
        if self.sort[0] == "separation" and self.cone is None:
            raise CatalogueError("results can be sorted by separation only with a cone")
        if self.skip < 0 or self.limit < 0:
            raise CatalogueError(
                f"skip and limit are 0 or more; they were {self.skip} and {self.limit}"
            )
        if self.cone is not None:
            _check_cone(Cone(*self.cone))

    @property
    def sort_field(self) -> str:
        """The field (a key of `FIELD_PATHS`) results are sorted by."""
        name = self.sort[0]
        if name == "contrast":
            return contrast_field(self.pipeline, self.contrast_separation_arcsec)
        return "date_utc" if name == "separation" else SORT_FIELDS[name].format(self.pipeline)

    def conditions(self) -> tuple[Condition, ...]:
        """Return the conditions that must all be met; of a cone, the box that holds it."""
        return tuple(
            [
                *(self.reader.conditions() if self.reader is not None else ()),
                *self._choice_conditions(),
                *self._interval_conditions(),
                *self._state_conditions(),
                *self._cone_box(),
                # Last, as they cost most: a home that goes by the order asks them of few.
                *self._text_conditions(),
            ]
        )

    def separations_rad(self, ra_rad: ArrayLike, dec_rad: ArrayLike) -> NDArray[np.float64]:
        """Return separations from the cone's centre (rad), NaN outside the cone.

        Parameters
        ----------
        ra_rad, dec_rad : array_like of float, shape (n,)
        """
        if self.cone is None:
            raise CatalogueError("the query has no cone to measure separations from")
        ra_deg, dec_deg, radius_deg = self.cone
        angles = separation_rad(math.radians(ra_deg), math.radians(dec_deg), ra_rad, dec_rad)
        return np.where(angles <= math.radians(radius_deg), angles, np.nan)

    def _choice_conditions(self) -> Iterable[Condition]:
        for field, values in (
            ("id", self.ids),
            ("name", self.names),
            ("filter", self.filters),
            (f"{self.pipeline}_flag", self.flags),
            (f"{self.pipeline}_class", self.classified_as),
        ):
            if values is not None:
                yield OneOf(field, tuple(values))
        if self.programs is not None and self.subprograms:
            yield AnyOf(tuple(c for name in self.programs for c in _program_conditions(name)))
        elif self.programs is not None:
            yield OneOf("program", tuple(v for name in self.programs for v in _as_stored(name)))
        if self.text and self.text_exact:
            yield AnyOf((OneOf("id", (self.text,)), OneOf("name", (self.text,))))

    def _text_conditions(self) -> Iterable[Condition]:
        if self.id_contains:
            yield Contains("id", self.id_contains)
        if self.name_contains:
            yield Contains("name", self.name_contains)
        if self.text and not self.text_exact:
            yield AnyOf((Contains("id", self.text), Contains("name", self.text)))

    def _interval_conditions(self) -> Iterable[Condition]:
        for field, interval in (
            ("magnitude", self.magnitude),
            ("exposure_s", self.exposure_s),
            ("seeing_median", self.seeing_median),
            ("seeing_nearest", self.seeing_nearest),
            (f"{self.pipeline}_strehl", self.strehl),
            ("elevation_rad", _radians(self.elevation_deg)),
        ):
            if interval is not None and interval != (None, None):
                yield Between(field, *interval)
        yield from self._azimuth_condition()
        if self.contrast_mag is not None and self.contrast_mag != (None, None):
            field = contrast_field(self.pipeline, self.contrast_separation_arcsec)
            yield Between(field, *self.contrast_mag)
        if self.date_from is not None or self.date_to is not None:
            bounds = (self.date_from, self.date_to)
            low, high = (None if time is None else to_milliseconds(time) for time in bounds)
            yield Between("date_utc", low, high, open_end=True)
        if self.nights is not None:
            yield AnyOf(tuple(_night_condition(night) for night in self.nights))

    def _state_conditions(self) -> Iterable[Condition]:
        for pipeline in self.pipelines_done:
            yield IsTrue(made_field(pipeline), True)
        for made in self.products_made:
            yield IsTrue(made_field(made), True)
        if self.has_candidates is not None:
            yield HasItems(f"{self.pipeline}_candidates", self.has_candidates)
        for pipeline in self.pipelines_failed:
            yield Between(f"{pipeline}_retries", 1, None)
        if self.distributed is not None:
            yield IsTrue("distributed", self.distributed)
        if self.program_pi is not None:
            yield Holds("program_pi", self.program_pi)
        if self.force_redo is not None:
            yield RedoAsked(self.force_redo)

    def _azimuth_condition(self) -> Iterable[Condition]:
        low, high = _radians(self.azimuth_deg) or (None, None)
        if low is not None and high is not None and low > high:
            yield AnyOf((Between("azimuth_rad", low, None), Between("azimuth_rad", None, high)))
        elif (low, high) != (None, None):
            yield Between("azimuth_rad", low, high)

    def _check_contrast(self) -> None:
        asked = self.contrast_mag is not None or self.sort[0] == "contrast"
        if (asked or self.has_candidates is not None) and self.pipeline not in CONTRAST_PIPELINES:
            raise CatalogueError(
                f"contrast and candidates are of the pipelines {', '.join(CONTRAST_PIPELINES)}; "
                f"{self.pipeline} has none"
            )
        if self.contrast_separation_arcsec not in CONTRAST_SEPARATIONS_ARCSEC:
            known = ", ".join(f"{separation:g}" for separation in CONTRAST_SEPARATIONS_ARCSEC)
            raise CatalogueError(
                f"the contrast is kept at {known} arcsec; "
                f"{self.contrast_separation_arcsec!r} is none of them"
            )

    def _cone_box(self) -> Iterable[Condition]:
        if self.cone is None:
            return
        ra, dec, radius = (math.radians(value) for value in self.cone)
        dec_band, ra_ranges = cone_box(ra % (2 * math.pi), dec, radius)
        yield Between("dec_rad", *dec_band)
        yield AnyOf(tuple(Between("ra_rad", *edges) for edges in ra_ranges))


def night_bounds(night: str) -> tuple[datetime, datetime]:
    """Return a night's first moment and the moment after its last (UTC).

    Raises
    ------
    CatalogueError
        If `night` is no date YYYYMMDD.
    """
    try:
        if len(night) != 8 or not night.isascii() or not night.isdigit():
            raise ValueError
        start = datetime.strptime(night, "%Y%m%d").replace(tzinfo=UTC)
        return start, start + timedelta(days=1)
    except (ValueError, OverflowError):
        raise CatalogueError(f"a night is its UT date, YYYYMMDD; it was {night!r}") from None


def _night_condition(night: str) -> Between:
    return Between("date_utc", *night_bounds(night), open_end=True)


def _as_stored(program: str) -> tuple[Any, ...]:
    """Return the ways in which a program's number may be kept: text, or a number by hand."""
    try:
        number = float(program)
    except ValueError:
        return (program,)
    if not math.isfinite(number):
        return (program,)
    return (program, int(number)) if number.is_integer() else (program, number)


def _program_conditions(program: str) -> tuple[Condition, ...]:
    """Return what a program matches: itself, and the parts of a whole number."""
    itself = OneOf("program", _as_stored(program))
    if not (program.isascii() and program.isdigit() and len(program) < 10):
        return (itself,)
    # "24/" is the first text after all that begin with "24."; numbers are left by hand.
    parts = Between("program", f"{program}.", f"{program}/", open_end=True)
    number = float(program)
    return itself, parts, Between("program", number, number + 1.0, open_end=True)


def _check_value(name: str, kind: str, value: Any) -> None:
    """Refuse a condition's value by its declared type."""
    if kind.startswith("tuple[str, ...]"):
        if isinstance(value, str):
            raise CatalogueError(
                f"{name} of a query is a tuple of texts; it was the text {value!r}"
            )
        for item in value or ():
            _check_text(name, item)
    elif isinstance(value, str):
        _check_text(name, value)
    elif kind == str(Interval | None) and value is not None:
        _check_interval(name, value)
    elif isinstance(value, datetime):
        to_milliseconds(value)  # refuses a time without a time zone


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise CatalogueError(f"{name} of a query is text; it was {text!r:.100}")
    if "\0" in text:
        raise CatalogueError(f"{name} of a query holds a NUL character; take it out")
    if len(text) > _MOST_TEXT:
        raise CatalogueError(
            f"{name} of a query has {len(text)} characters; at most {_MOST_TEXT} are looked for"
        )
    if _LONE_SURROGATE.search(text):
        raise CatalogueError(f"{name} of a query is no proper text: {text!r:.100}")


def _check_choice(kind: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise CatalogueError(f"there is no {kind} {value!r}; they are {', '.join(known)}")


def _radians(interval: Interval | None) -> Interval | None:
    if interval is None:
        return None
    low, high = (None if value is None else math.radians(value) for value in interval)
    return low, high


def _check_interval(name: str, interval: Any) -> None:
    good = isinstance(interval, tuple | list) and len(interval) == 2
    if not good or any(
        value is not None and (not isinstance(value, int | float) or not math.isfinite(value))
        for value in interval
    ):
        raise CatalogueError(
            f"{name} of a query is a pair (low, high) of finite numbers or None; "
            f"it was {interval!r}"
        )


def _check_cone(cone: Cone) -> None:
    good = all(math.isfinite(value) for value in cone)
    if not good or not -90 <= cone.dec_deg <= 90 or not 0 <= cone.radius_deg <= 180:
        raise CatalogueError(
            f"a cone needs a declination from -90 to 90 and a radius from 0 to 180 degrees; "
            f"it was RA {cone.ra_deg}, Dec {cone.dec_deg}, radius {cone.radius_deg}"
        )
