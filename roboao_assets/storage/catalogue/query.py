"""What one may ask of the observations, and its neutral form for both homes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue.documents import PIPELINES, REDO_PATHS
from roboao_assets.storage.catalogue.sky import cone_box, separation_rad
from roboao_assets.storage.catalogue.values import to_milliseconds

Interval = tuple[float | None, float | None]


class Cone(NamedTuple):
    """A circle on the sky (degrees)."""

    ra_deg: float
    dec_deg: float
    radius_deg: float


# Every searched field: its name here (a column of the SQLite home) and its place in a document.
TEXT_FIELDS = {"id": "_id", "name": "name", "filter": "filter"}
NUMBER_FIELDS = {
    "exposure_s": "exposure",
    "magnitude": "magnitude",
    "seeing_median": "seeing.median",
    "seeing_nearest": "seeing.nearest.1",
    "azimuth_rad": "coordinates.azel.0",
    "elevation_rad": "coordinates.azel.1",
    "ra_rad": "coordinates.radec.0",
    "dec_rad": "coordinates.radec.1",
}
FLAG_FIELDS = {"distributed": "distributed.status"}
for _pipeline in PIPELINES:
    TEXT_FIELDS[f"{_pipeline}_class"] = f"pipelined.{_pipeline}.classified_as"
    TEXT_FIELDS[f"{_pipeline}_flag"] = f"pipelined.{_pipeline}.strehl.flag"
    NUMBER_FIELDS[f"{_pipeline}_strehl"] = f"pipelined.{_pipeline}.strehl.ratio_percent"
    NUMBER_FIELDS[f"{_pipeline}_retries"] = f"pipelined.{_pipeline}.status.retries"
    FLAG_FIELDS[f"{_pipeline}_done"] = f"pipelined.{_pipeline}.status.done"
FIELD_PATHS = {
    **TEXT_FIELDS,
    **NUMBER_FIELDS,
    **FLAG_FIELDS,
    "date_utc": "date_utc",
    "program": "science_program.program_id",
    "program_pi": "science_program.program_PI",
}

# Names by which results are sorted, and the field each means ({} is the query's pipeline).
SORT_FIELDS = {
    "date_utc": "date_utc",
    "id": "id",
    "name": "name",
    "program": "program",
    "filter": "filter",
    "exposure_s": "exposure_s",
    "magnitude": "magnitude",
    "seeing_median": "seeing_median",
    "seeing_nearest": "seeing_nearest",
    "azimuth_deg": "azimuth_rad",
    "elevation_deg": "elevation_rad",
    "strehl": "{}_strehl",
    "separation": "",
}


# The neutral conditions: what a home must be able to compile. A missing field meets none of
# them but `IsTrue(..., False)`.
class OneOf(NamedTuple):
    """The field equals one of the values."""

    field: str
    values: tuple[Any, ...]


class Holds(NamedTuple):
    """The field is a list that holds the value, or is the value."""

    field: str
    value: Any


class Contains(NamedTuple):
    """The field is a text that contains `text`, whatever the case."""

    field: str
    text: str


class Between(NamedTuple):
    """The field is of the bounds' type (number or time) and between them.

    None is no bound; both ends belong to the range unless `open_end`.
    """

    field: str
    low: Any
    high: Any
    open_end: bool = False


class IsTrue(NamedTuple):
    """The field is true; with `wanted` False: is anything but true, or missing."""

    field: str
    wanted: bool


class RedoAsked(NamedTuple):
    """Some product's `force_redo` is true; with `wanted` False: none is."""

    wanted: bool
    paths: tuple[str, ...] = REDO_PATHS


class AnyOf(NamedTuple):
    """At least one of the conditions is met."""

    conditions: tuple[Any, ...]


Condition = OneOf | Holds | Contains | Between | IsTrue | RedoAsked | AnyOf


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
    nights : tuple of str or None
        UT dates, YYYYMMDD.
    id_contains, name_contains : str
        Text anywhere in the id or name, whatever the case; empty: any.
    date_from, date_to : datetime or None
        First moment and the moment after the last (aware).
    cone : Cone or None
        Right ascension, declination, radius (degrees).
    magnitude, exposure_s, seeing_median, seeing_nearest, strehl, azimuth_deg, elevation_deg : \
(float or None, float or None) or None
        Seeing in arcsec, Strehl ratio in percent.
    pipeline : str
        Whose Strehl ratio, flag and class are meant.
    pipelines_done : tuple of str
        Pipelines that must all have run.
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
        comes before all others in ascending order. ``separation`` needs a cone.
    skip, limit : int
        Matches left out at the beginning, and most matches returned (0: all).
    summary_only : bool
        Without `BULK_PATHS`: the header, and the list of what is in the package.
    """

    ids: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    id_contains: str = ""
    name_contains: str = ""
    nights: tuple[str, ...] | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    programs: tuple[str, ...] | None = None
    filters: tuple[str, ...] | None = None
    cone: Cone | None = None
    magnitude: Interval | None = None
    exposure_s: Interval | None = None
    seeing_median: Interval | None = None
    seeing_nearest: Interval | None = None
    strehl: Interval | None = None
    azimuth_deg: Interval | None = None
    elevation_deg: Interval | None = None
    pipeline: str = "bright_star"
    flags: tuple[str, ...] | None = None
    classified_as: tuple[str, ...] | None = None
    pipelines_done: tuple[str, ...] = ()
    pipelines_failed: tuple[str, ...] = ()
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
            value = getattr(self, item.name)
            if str(item.type).startswith("tuple[str, ...]") and isinstance(value, str):
                raise CatalogueError(
                    f"{item.name} of a query is a tuple of texts; it was the text {value!r}"
                )
            if item.type == Interval | None and value is not None:
                _check_interval(item.name, value)
            if isinstance(value, datetime):
                to_milliseconds(value)  # refuses a time without a time zone
        for pipeline in (self.pipeline, *self.pipelines_done, *self.pipelines_failed):
            if pipeline not in PIPELINES:
                raise CatalogueError(
                    f"there is no pipeline {pipeline!r}; they are {', '.join(PIPELINES)}"
                )
        if "\0" in self.id_contains + self.name_contains:
            raise CatalogueError("a text that is looked for holds no NUL character")
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
        return "date_utc" if name == "separation" else SORT_FIELDS[name].format(self.pipeline)

    def conditions(self) -> tuple[Condition, ...]:
        """Return the conditions that must all be met; of a cone, the box that holds it."""
        return tuple(
            [
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
        if self.programs is not None:
            yield OneOf("program", tuple(v for name in self.programs for v in _as_stored(name)))

    def _text_conditions(self) -> Iterable[Condition]:
        if self.id_contains:
            yield Contains("id", self.id_contains)
        if self.name_contains:
            yield Contains("name", self.name_contains)

    def _interval_conditions(self) -> Iterable[Condition]:
        for field, interval in (
            ("magnitude", self.magnitude),
            ("exposure_s", self.exposure_s),
            ("seeing_median", self.seeing_median),
            ("seeing_nearest", self.seeing_nearest),
            (f"{self.pipeline}_strehl", self.strehl),
            ("azimuth_rad", _radians(self.azimuth_deg)),
            ("elevation_rad", _radians(self.elevation_deg)),
        ):
            if interval is not None and interval != (None, None):
                yield Between(field, *interval)
        if self.date_from is not None or self.date_to is not None:
            bounds = (self.date_from, self.date_to)
            low, high = (None if time is None else to_milliseconds(time) for time in bounds)
            yield Between("date_utc", low, high, open_end=True)
        if self.nights is not None:
            yield AnyOf(tuple(_night_condition(night) for night in self.nights))

    def _state_conditions(self) -> Iterable[Condition]:
        for pipeline in self.pipelines_done:
            yield IsTrue(f"{pipeline}_done", True)
        for pipeline in self.pipelines_failed:
            yield Between(f"{pipeline}_retries", 1, None)
        if self.distributed is not None:
            yield IsTrue("distributed", self.distributed)
        if self.program_pi is not None:
            yield Holds("program_pi", self.program_pi)
        if self.force_redo is not None:
            yield RedoAsked(self.force_redo)
        if self.reader is not None:
            yield from self.reader.conditions()

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
