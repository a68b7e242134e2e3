"""The page of nights: a year as a calendar and as a list."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import urlencode

import panel as pn

from dashboards import nights_markup as markup
from dashboards.access import Visitor
from dashboards.collect import collect_nights
from dashboards.markup import problem
from dashboards.page_frame import address_argument, build_page, page_request, problem_page
from dashboards.parts import NIGHTS_PARTS_URL, PartsMaker, page_parts
from dashboards.source import CatalogueSource
from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue import NightSummary

_MOST_SHOWN = 40


def nights_page() -> pn.Template:
    """The nights that `nights_parts` has made; the browser renews them."""
    chosen = {name: address_argument(name) for name in ("year", "colour")}
    query = urlencode({name: value for name, value in chosen.items() if value})
    try:
        content = page_parts(page_request())["nights"]
    except CatalogueError as error:
        return problem_page("Nights", "The catalogue cannot be read", str(error))
    before = (
        f'<div data-parts="{escape(f"{NIGHTS_PARTS_URL}?{query}")}">'
        f'<div data-slot="nights">{content}</div></div>'
    )
    return build_page("Nights", pn.Spacer(height=0, margin=0), before=before)


def nights_parts(source: CatalogueSource) -> PartsMaker:
    """Return what makes the nights of `year`, coloured by `colour`, that a visitor may see."""

    def make(visitor: Visitor, arguments: Mapping[str, str]) -> dict[str, str]:
        year, colour = arguments.get("year", ""), arguments.get("colour", "")
        nights = collect_nights(source.get(), visitor.reader)
        return {"nights": nights_markup(nights, year, colour, is_admin=visitor.is_admin)}

    return make


def nights_markup(nights: Sequence[NightSummary], year: str, colour: str, *, is_admin: bool) -> str:
    """Return the page's content.

    Parameters
    ----------
    nights : sequence of NightSummary
        Newest first.
    year, colour : str
        As the address says; empty: the newest year, by the number of observations.
    is_admin : bool
        Of an empty archive administrators are told what to do.
    """
    title = '<div class="page-title"><h1>Nights</h1></div>'
    if colour and colour not in markup.COLOURS:
        sentence = (
            f"the calendar is coloured by {' or '.join(markup.COLOURS)}; the address says "
            f"{_shortened(colour)}"
        )
        return title + problem("No such colours", sentence)
    if year and not re.fullmatch(r"(?!0000)\d{4}", year, re.ASCII):
        sentence = f"a year has four digits, as 2017; the address says {_shortened(year)}"
        return title + problem("No such year", sentence)
    years = markup.years_of(nights)
    if not years:
        empty = markup.empty_archive() if is_admin else markup.nothing_distributed()
        # Nights with odd names are nights all the same.
        return title + (markup.nights_table(nights) if nights else empty)
    shown = int(year) if year else next(iter(years))
    return markup.nights_of_year(nights, shown, colour or next(iter(markup.COLOURS)))


def _shortened(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")
