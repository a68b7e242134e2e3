"""HTML of the page of nights: a year as a calendar, and its nights as a list."""

import calendar
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from dashboards.links import night_url, nights_url
from dashboards.markup import NOTHING, dashed, number, sentence_of
from roboao_assets.storage.catalogue import NightSummary

# What the calendar's colours tell -> its name, and the first value of each step after the first.
COLOURS = {
    "observations": ("number of observations", (25, 50, 100, 200)),
    "seeing": ("median seeing", (1.0, 1.3, 1.6, 2.0)),
}
_STEPS = 5


def years_of(nights: Sequence[NightSummary]) -> dict[int, int]:
    """Return how many nights each year has, newest year first.

    A document with another id than a date is in no year.
    """
    years: dict[int, int] = {}
    for night in nights:
        if _date_of(night.night) is not None:
            year = int(night.night[:4])
            years[year] = years.get(year, 0) + 1
    return dict(sorted(years.items(), reverse=True))


def nights_of_year(nights: Sequence[NightSummary], year: int, colour: str) -> str:
    """Return a year: the way to the others, the calendar, the list.

    Parameters
    ----------
    nights : sequence of NightSummary
        All that the reader may see, newest first; at least one.
    year : int
    colour : str
        A key of `COLOURS`.
    """
    years = years_of(nights)
    own = [night for night in nights if night.night.startswith(f"{year:04d}")]
    title = (
        f'<div class="page-title"><h1>Nights of {year}</h1>{_neighbours(years, year, colour)}</div>'
    )
    if not own:
        return title + _year_links(years, year, colour) + _empty_year(year)
    return (
        f"{title}{_year_links(years, year, colour)}{_colour_key(year, colour)}"
        f"{_calendar(own, year, colour)}{nights_table(own)}"
    )


def nights_table(nights: Sequence[NightSummary]) -> str:
    """Return the list of nights as a table."""
    rows = "".join(
        f'<tr><td><a class="night-link" href="{escape(night_url(n.night))}">'
        f"{escape(dashed(n.night))}</a></td><td>{n.observations}</td>"
        f"<td>{_progress(n)}</td><td>{n.done}</td>"
        f'<td class="{"bad" if n.failed else "quiet"}">{n.failed or NOTHING}</td>'
        f'<td class="quiet">{waiting(n) or NOTHING}</td>'
        f"<td>{number(n.seeing_median, '.2f', chr(34))}</td></tr>"
        for n in nights
    )
    return (
        '<table class="nights"><thead><tr><th>night (UT)</th><th>observations</th>'
        "<th>progress</th><th>done</th><th>failed</th><th>waiting</th><th>median seeing</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>"
    )


def waiting(night: NightSummary) -> int:
    """Return how many observations are neither done nor failed."""
    return max(night.observations - night.done - night.failed, 0)


def step_of(value: float | None, bounds: Sequence[float]) -> int | None:
    """Return the step (from 1) of a value; None if there is none."""
    return None if value is None else 1 + sum(value >= bound for bound in bounds)


def empty_archive(reason: str = "") -> str:
    """Return what the list of nights says when there is none."""
    detail = f"<p class='quiet'>{escape(sentence_of(reason))}</p>" if reason else ""
    return (
        '<div class="notice"><h2>No night yet</h2><p>The archive knows no night so far. Put a '
        "folder <code>YYYYMMDD</code> of raw files below one of the folders of "
        "<code>ROBOAO_RAW_ROOTS</code> while <code>make serve</code> runs, or reduce one by hand "
        "with <code>roboao night YYYYMMDD</code>; it appears here by itself.</p>"
        f"{detail}</div>"
    )


def nothing_distributed() -> str:
    """Return what the list of nights says to somebody for whom nothing is there."""
    return (
        '<div class="notice"><h2>Nothing yet</h2><p>No observation of your programs has been '
        "distributed so far; they appear here by themselves when they are. If you miss one, ask "
        "the archive's administrator whether your programs are entered for your name.</p></div>"
    )


def _neighbours(years: dict[int, int], year: int, colour: str) -> str:
    links = (
        ("prev", max((y for y in years if y < year), default=None), "← ", ""),
        ("next", min((y for y in years if y > year), default=None), "", " →"),
    )
    shown = "".join(
        f'<a rel="{kind}" href="{escape(nights_url(other, _address(colour)))}">'
        f"{before}{other}{after}</a>"
        for kind, other, before, after in links
        if other is not None
    )
    return f'<nav class="beside" aria-label="years">{shown}</nav>'


def _year_links(years: dict[int, int], year: int, colour: str) -> str:
    if len(years) < 2 and year in years:
        return ""
    links = "".join(
        f'<a href="{escape(nights_url(other, _address(colour)))}"'
        f"{' aria-current=page' if other == year else ''}>{other} "
        f'<span class="quiet">({count})</span></a>'
        for other, count in years.items()
    )
    return f'<p class="years"><span class="quiet">years, with their nights:</span>{links}</p>'


def _empty_year(year: int) -> str:
    return (
        f'<div class="notice"><p>There is no night of {year} that you may see. Choose one of the '
        'years above, or <a href="/search">search</a> for an observation.</p></div>'
    )


def _address(colour: str) -> str:
    """Return what of a colour stands in the address: nothing of that which is there anyway."""
    return "" if colour == next(iter(COLOURS)) else colour


def _colour_key(year: int, colour: str) -> str:
    """Return what the colours mean, and the way to the other meaning."""
    name, bounds = COLOURS[colour]
    unit = '"' if colour == "seeing" else ""
    words = [f"under {bounds[0]}{unit}"]
    words += [f"{low} to {high}{unit}" for low, high in pairwise(bounds)]
    words += [f"{bounds[-1]}{unit} and more"]
    steps = "".join(
        f'<span class="key {_step_class(n, colour)}">{escape(word)}</span>'
        for n, word in enumerate(words, start=1)
    )
    none = '<span class="key unknown">not measured</span>' if colour == "seeing" else ""
    others = "".join(
        f'<a href="{escape(nights_url(year, _address(key)))}"'
        f"{' aria-current=true' if key == colour else ''}>{escape(words[0])}</a>"
        for key, words in COLOURS.items()
    )
    return (
        f'<p class="keys-line"><span class="quiet">coloured by</span>{others}'
        f'<span class="quiet">{escape(name)}:</span>{steps}{none}</p>'
    )


def _step_class(step: int, colour: str) -> str:
    """Return the class of a step: what is much, or good, stands out."""
    return f"step-{_STEPS + 1 - step if colour == 'seeing' else step}"


def _calendar(nights: Sequence[NightSummary], year: int, colour: str) -> str:
    by_date = {_date_of(night.night): night for night in nights}
    months = "".join(
        _month(year, month, {day: by_date.get((month, day)) for day in range(1, days + 1)}, colour)
        for month in range(1, 13)
        for days in [calendar.monthrange(year, month)[1]]
    )
    return f'<div class="calendar">{months}</div>'


def _month(year: int, month: int, days: dict[int, NightSummary | None], colour: str) -> str:
    names = "".join(
        f'<i aria-hidden="true">{day}</i>' for day in ("M", "T", "W", "T", "F", "S", "S")
    )
    first = 1 + calendar.weekday(year, month, 1)
    cells = "".join(
        _day(day, night, f' style="grid-column-start:{first}"' if day == 1 else "", colour)
        for day, night in days.items()
    )
    return (
        f'<section class="month"><h3>{calendar.month_name[month]}</h3>'
        f'<div class="days">{names}{cells}</div></section>'
    )


def _day(day: int, night: NightSummary | None, place: str, colour: str) -> str:
    if night is None:
        return f'<span class="day"{place}>{day}</span>'
    value = night.seeing_median if colour == "seeing" else night.observations
    step = step_of(value, COLOURS[colour][1])
    kind = "unknown" if step is None else _step_class(step, colour)
    told = escape(_counts(night))
    return (
        f'<a class="day {kind}"{place} href="{escape(night_url(night.night))}" title="{told}" '
        f'aria-label="{told}">{day}</a>'
    )


def _counts(night: NightSummary) -> str:
    noun = "observation" if night.observations == 1 else "observations"
    return (
        f"{dashed(night.night)}: {night.observations} {noun}, {night.done} done, "
        f"{night.failed} failed, {waiting(night)} waiting; "
        f"median seeing {number(night.seeing_median, '.2f', chr(34))}"
    )


def _date_of(night: str) -> tuple[int, int] | None:
    """Return month and day of a night; None if its name is no date."""
    if len(night) != 8 or not (night.isascii() and night.isdigit()):
        return None
    year, month, day = int(night[:4]), int(night[4:6]), int(night[6:])
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]):
        return None
    return month, day


def _progress(night: NightSummary) -> str:
    total = max(night.observations, 1)
    done, failed = (100.0 * min(n, total) / total for n in (night.done, night.failed))
    return (
        f'<span class="bar" title="{night.done} done, {night.failed} failed of '
        f'{night.observations}"><i class="done" style="width:{done:.1f}%"></i>'
        f'<i class="failed" style="width:{failed:.1f}%"></i></span>'
    )
