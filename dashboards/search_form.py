"""The search form: what stands in the address, as texts, and the query that it means.

Each parameter of `SearchForm` is one of the address as well. Nothing here needs a browser.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import param

from dashboards.sky_position import (
    PositionError,
    declination_deg,
    number_in,
    radius_deg,
    right_ascension_deg,
    shown,
)
from roboao_assets.science.errors import ArchiveError, CatalogueError
from roboao_assets.storage.catalogue import (
    PIPELINES,
    SEARCHED_PRODUCTS,
    Cone,
    ObservationQuery,
    Reader,
)

PAGE_ROWS = 50
FILTERS = ("Sg", "Sr", "Si", "Sz", "lp600", "c")
FLAGS = ("OK", "BAD?")
# Range -> what it is called, its unit.
RANGES = {
    "magnitude": ("magnitude", "mag"),
    "exposure": ("exposure", "s"),
    "seeing_nearest": ("nearest seeing", "arcsec"),
    "seeing_median": ("median seeing", "arcsec"),
    "azimuth": ("azimuth", "deg"),
    "elevation": ("elevation", "deg"),
    "strehl": ("Strehl ratio", "%"),
    "contrast": ("contrast", "mag"),
}
_QUERY_RANGES = {
    "exposure": "exposure_s",
    "azimuth": "azimuth_deg",
    "elevation": "elevation_deg",
    "contrast": "contrast_mag",
}
_MOST_CHARACTERS = 300
_MOST_CHOICES = 50
_MOST_PAGES = 1_000_000
_DEFAULT_RADIUS = "30"
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?", re.ASCII)
_YES_NO = {"yes": True, "no": False}
_DEFAULT_SORT = "-date_utc"


class SearchFormError(ArchiveError):
    """What was filled in cannot be searched for; `sentences` say what is wrong with it."""

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = tuple(sentences)


class SearchForm(param.Parameterized):
    """The fields of the form, each as it was typed; empty: not asked for."""

    text = param.String(label="name or id", doc="text in the name or the id")
    match = param.String(label="match", doc="exact: the whole name or id; else: contains it")
    program = param.String(label="program", doc="numbers, by commas; 24 means 24.1 as well")
    filter = param.String(label="filter", doc="names, by commas")
    date_from = param.String(label="from (UT)", doc="YYYY-MM-DD, with hh:mm if need be")
    date_to = param.String(label="to (UT)", doc="last date, or the moment before which it was")
    target = param.String(label="object", doc="whose place Sesame is asked for")
    ra = param.String(label="RA", doc="18:46:00.5, 18h46m00.5s or degrees")
    dec = param.String(label="Dec", doc="-00:30:00, -0d30m00s or degrees")
    radius = param.String(label="radius", doc="of the circle on the sky; 30 if empty")
    unit = param.String(label="unit", doc="of the radius: arcsec, arcmin or deg")
    magnitude_min = param.String()
    magnitude_max = param.String()
    exposure_min = param.String()
    exposure_max = param.String()
    seeing_nearest_min = param.String()
    seeing_nearest_max = param.String()
    seeing_median_min = param.String()
    seeing_median_max = param.String()
    azimuth_min = param.String()
    azimuth_max = param.String()
    elevation_min = param.String()
    elevation_max = param.String()
    pipeline = param.String(label="measured by", doc="whose Strehl ratio, flag and contrast")
    strehl_min = param.String()
    strehl_max = param.String()
    flag = param.String(label="Strehl flag", doc="OK or BAD?")
    contrast_min = param.String()
    contrast_max = param.String()
    contrast_at = param.String(label="at", doc="separation: 0.2, 0.5, 1 or 2 arcsec")
    candidates = param.String(label="companion candidates", doc="yes or no")
    made = param.String(label="products", doc="that exist, by commas")
    distributed = param.String(label="distributed", doc="yes or no")
    sort = param.String(doc="what it is sorted by; a minus: greatest first")
    page = param.String(doc="from 1")

    def chosen(self, **changes: str) -> dict[str, str]:
        """Return the fields that are filled in, with some of them changed."""
        values = {name: changes.get(name, getattr(self, name)) for name in FIELDS}
        return {name: value for name, value in values.items() if value}

    def address(self, path: str = "/search", **changes: str) -> str:
        """Return the address of this search, with some fields changed."""
        # A lone surrogate has no place in an address.
        text = urlencode(self.chosen(**changes), errors="replace")
        return f"{path}?{text}" if text else path

    def is_empty(self) -> bool:
        """Whether nothing is asked for: sort and page alone choose nothing."""
        return not any(getattr(self, name) for name in FIELDS if name not in ("sort", "page"))

    def page_number(self) -> int:
        """Return the page asked for, 1 if that is none."""
        good = re.fullmatch(r"\d{1,7}", self.page, re.ASCII)
        return max(1, int(self.page)) if good else 1

    def sorting(self) -> tuple[str, bool]:
        """Return by what results are sorted, and whether it ascends."""
        text = self.sort or _DEFAULT_SORT
        return text.removeprefix("-"), not text.startswith("-")


FIELDS = tuple(name for name in SearchForm.param if name != "name")


def read_form(arguments: Mapping[str, Sequence[bytes]]) -> tuple[SearchForm, tuple[str, ...]]:
    """Return the form that an address fills in, and what is wrong with the address.

    Parameters
    ----------
    arguments : mapping of str to sequence of bytes
        Of the address. A choice of several may be given as several arguments.

    Returns
    -------
    form : SearchForm
    wrong : tuple of str
        Sentences, of fields that the form has not or that are too long; they are left empty.
    """
    values: dict[str, str] = {}
    wrong: list[str] = []
    for name, given in arguments.items():
        if name not in FIELDS:
            wrong.append(f"the search has no field {shown(name)}; docs/search.md lists them")
            continue
        text = ",".join(filter(None, (item.decode("utf-8", "replace").strip() for item in given)))
        if len(text) > _MOST_CHARACTERS:
            wrong.append(
                f"{_called(name)} has {len(text)} characters; at most {_MOST_CHARACTERS} are read"
            )
            continue
        values[name] = text
    return SearchForm(**values), tuple(wrong[:10])


def make_query(
    form: SearchForm,
    *,
    reader: Reader | None = None,
    resolve: Callable[[str], tuple[float, float]] | None = None,
) -> ObservationQuery:
    """Return the query that a form means.

    Parameters
    ----------
    form : SearchForm
    reader : Reader or None
        Who asks, if they may not see everything.
    resolve : callable or None
        Gives the place of an object by its name (degrees), and may take seconds.

    Raises
    ------
    SearchFormError
        Fields that mean nothing, each with a sentence.
    """
    wrong: list[str] = []

    def read(function: Callable[[], Any]) -> Any:
        try:
            return function()
        except ArchiveError as error:
            wrong.append(str(error))
        return None

    page = form.page_number()
    if form.page and str(page) != form.page.lstrip("0"):
        wrong.append(f"a page is a number from 1; it was {shown(form.page)}")
    conditions: dict[str, Any] = {
        "text": form.text,
        "text_exact": read(lambda: _choice(form, "match", ("exact", "contains"))) == "exact",
        "programs": read(lambda: _choices(form, "program")),
        "subprograms": True,
        "filters": read(lambda: _choices(form, "filter")),
        "date_from": read(lambda: _moment(form.date_from, "from")),
        "date_to": read(lambda: _moment(form.date_to, "to", end=True)),
        "cone": read(lambda: _cone(form, resolve)),
        "pipeline": read(lambda: _choice(form, "pipeline", PIPELINES)) or "bright_star",
        "flags": read(lambda: _choices(form, "flag", FLAGS)),
        "contrast_separation_arcsec": read(lambda: _separation(form)) or 1.0,
        "has_candidates": _YES_NO.get(read(lambda: _choice(form, "candidates", _YES_NO)) or ""),
        "products_made": read(lambda: _choices(form, "made", SEARCHED_PRODUCTS)) or (),
        "distributed": _YES_NO.get(read(lambda: _choice(form, "distributed", _YES_NO)) or ""),
    }
    for name in RANGES:
        conditions[_QUERY_RANGES.get(name, name)] = read(lambda name=name: _range(form, name))
    first, last = conditions["date_from"], conditions["date_to"]
    if first is not None and last is not None and first >= last:
        wrong.append("the date from which on is searched is after the last one: swap them")
    query = None
    if not wrong:
        query = read(
            lambda: ObservationQuery(
                **conditions,
                reader=reader,
                sort=form.sorting(),
                skip=(min(page, _MOST_PAGES) - 1) * PAGE_ROWS,
                limit=PAGE_ROWS,
                summary_only=True,
            )
        )
    if query is None:
        raise SearchFormError(wrong)
    return query


def _called(name: str) -> str:
    return SearchForm.param[name].label if name in SearchForm.param else name


def _choice(form: SearchForm, name: str, known: Iterable[str]) -> str:
    value = getattr(form, name)
    if value and value not in known:
        raise CatalogueError(f"{_called(name)} is one of {', '.join(known)}; it was {shown(value)}")
    return value


def _choices(form: SearchForm, name: str, known: Sequence[str] = ()) -> tuple[str, ...] | None:
    values = tuple(dict.fromkeys(re.split(r"[,\s]+", getattr(form, name).strip(", \t\n"))))
    if values == ("",):
        return None
    strange = [value for value in values if known and value not in known]
    if strange:
        raise CatalogueError(
            f"{_called(name)} is among {', '.join(known)}; it was {shown(strange[0])}"
        )
    if len(values) > _MOST_CHOICES:
        raise CatalogueError(f"{_called(name)} has {len(values)} values; at most {_MOST_CHOICES}")
    return values


def _range(form: SearchForm, name: str) -> tuple[float | None, float | None] | None:
    called, unit = RANGES[name]
    low, high = (
        number_in(text, f"{called} ({unit})") if text else None
        for text in (getattr(form, f"{name}_min"), getattr(form, f"{name}_max"))
    )
    # From 350 to 10 degrees one goes through north.
    if low is not None and high is not None and low > high and name != "azimuth":
        raise CatalogueError(
            f"{called} is searched from {low:g} to {high:g} {unit}, the wrong way round: swap them"
        )
    return None if low is None and high is None else (low, high)


def _moment(text: str, name: str, *, end: bool = False) -> datetime | None:
    """Return a moment; of a date alone its first or, with `end`, the moment after its last."""
    if not text:
        return None
    parts = _DATE.fullmatch(text)
    try:
        if parts is None:
            raise ValueError
        moment = datetime(*(int(part) for part in parts.groups(default="0")), tzinfo=UTC)
        return moment + timedelta(days=1) if end and parts[4] is None else moment
    except (ValueError, OverflowError):
        raise CatalogueError(
            f"the date {name} is written YYYY-MM-DD, or YYYY-MM-DD hh:mm (UT); it was {shown(text)}"
        ) from None


def _separation(form: SearchForm) -> float | None:
    return (
        number_in(form.contrast_at, "the separation of the contrast")
        if (form.contrast_at)
        else None
    )


def _cone(form: SearchForm, resolve: Callable[[str], tuple[float, float]] | None) -> Cone | None:
    if not (form.ra or form.dec or form.target):
        if form.radius:
            raise PositionError("a radius needs a place: give RA and Dec, or the name of an object")
        return None
    radius = radius_deg(form.radius or _DEFAULT_RADIUS, form.unit or "arcsec")
    if form.ra or form.dec:
        if form.target:
            raise PositionError("give either RA and Dec or the name of an object, not both")
        if not (form.ra and form.dec):
            raise PositionError("a place on the sky needs both RA and Dec")
        return Cone(right_ascension_deg(form.ra), declination_deg(form.dec), radius)
    if resolve is None:
        raise PositionError("names of objects are not looked up here: give RA and Dec")
    return Cone(*resolve(form.target), radius)
