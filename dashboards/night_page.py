"""A night's page: numbers, plots, its observations by program, the seeing as an animation."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from html import escape
from urllib.parse import urlencode

import panel as pn
from bokeh.plotting import figure

from dashboards import night_markup as markup
from dashboards import night_plots
from dashboards.access import ADMINISTRATION, Access, Asked, Visitor, is_night
from dashboards.administration_markup import night_tools
from dashboards.collect import Night, collect_night, night_neighbours
from dashboards.compute import ORDERS, SELECTIONS, select_observations, summarise_night
from dashboards.links import night_search
from dashboards.markup import dashed, problem
from dashboards.page_frame import (
    address_argument,
    build_page,
    html_pane,
    page_request,
    page_theme,
    page_visitor,
    plot_panel,
    problem_page,
)
from dashboards.parts import NIGHT_PARTS_URL, PartsError, PartsMaker, page_parts
from dashboards.script_links import script_links
from dashboards.source import CatalogueSource
from dashboards.themes import Theme
from roboao_assets.science.errors import CatalogueError, CatalogueUnavailableError
from roboao_assets.storage.catalogue import Reader

REFRESH_MS = 20_000
_MOST_SHOWN = 200
_TITLE = "Night"
_PLACES = ("q", "show", "sort")


def night_page(source: CatalogueSource, access: Access, executor: Executor) -> pn.Template:
    """The parts that `night_parts` has made; the plots come when they are drawn.

    Parameters
    ----------
    source : CatalogueSource
    access : Access
    executor : Executor
        Reads the night and draws its plots.
    """
    name = address_argument("night")
    try:
        parts = page_parts(page_request())
    except PartsError as error:
        return problem_page(_TITLE, "No such night", str(error))
    except CatalogueError as error:
        return problem_page(_TITLE, "The catalogue cannot be read", str(error))
    plots = pn.Column(html_pane(f'<div class="waiting-plots">{markup.DRAWING}</div>'), margin=0)
    plots.sizing_mode = "stretch_width"
    visitor = page_visitor()
    drawing = _drawing(source, executor, name, visitor.reader, page_theme(), plots)
    pn.state.onload(drawing)
    if pn.state.curdoc is not None:
        pn.state.add_periodic_callback(drawing, period=REFRESH_MS)
    chosen = {place: address_argument(place) for place in _PLACES}
    before, after = _frame(name, chosen, parts)
    if access.may(visitor, ADMINISTRATION):
        before += night_tools(name)
    after += script_links(night_search(name))
    return build_page(f"{_TITLE} {dashed(name)}", plots, before=before, after=after)


def night_parts(source: CatalogueSource, access: Access) -> PartsMaker:
    """Return what makes the numbers, the rows and the pictures of a night that a visitor sees."""

    def make(visitor: Visitor, arguments: Mapping[str, str]) -> dict[str, str]:
        name = arguments.get("night", "")
        if not is_night(name):
            shown = repr(name if len(name) < _MOST_SHOWN else f"{name[:_MOST_SHOWN]}...")
            raise PartsError(f"A night is its UT date, YYYYMMDD; the address says {shown}.")
        text, which, order = (arguments.get(place, "") for place in _PLACES)
        if len(text) > markup.MOST_TEXT:
            raise PartsError(
                f"What is looked for has {len(text)} characters; {markup.MOST_TEXT} are the most."
            )
        catalogue = source.get()
        admitted = access.may(visitor, Asked("night", name))
        night = collect_night(catalogue, name, visitor.reader) if admitted else None
        if night is None:
            raise PartsError(
                f"The catalogue has no night {name} with observations that you may see."
            )
        chosen = select_observations(night.observations, text=text, which=which, order=order)
        total = len(night.observations)
        return {
            "links": markup.night_links(*night_neighbours(catalogue, name, visitor.reader)),
            "head": markup.night_head(night, summarise_night(night)),
            "rows": markup.observation_rows(chosen, night.image_keys, night=name, total=total),
            "pictures": markup.seeing_player(night) + markup.night_pictures(night),
        }

    return make


def _frame(name: str, chosen: Mapping[str, str], parts: Mapping[str, str]) -> tuple[str, str]:
    """Return what stands before and after the plots."""
    query = urlencode({"night": name} | {key: value for key, value in chosen.items() if value})
    form = markup.choice_form(
        name,
        chosen["q"],
        chosen["show"] if chosen["show"] in SELECTIONS else "all",
        chosen["sort"] if chosen["sort"] in ORDERS else "time",
        NIGHT_PARTS_URL,
    )
    before = (
        f'<div data-parts="{escape(f"{NIGHT_PARTS_URL}?{query}")}">'
        f'<div class="page-title"><h1>Night {escape(dashed(name))}</h1>'
        f'<nav class="beside" data-slot="links" aria-label="nights">{parts["links"]}</nav></div>'
        f'<div data-slot="head">{parts["head"]}</div>'
    )
    after = (
        f'<div data-slot="pictures">{parts["pictures"]}</div>'
        f'{form}<div data-answer role="status"></div><div data-slot="rows">{parts["rows"]}</div>'
        "</div>"
    )
    return before, after


def _drawing(
    source: CatalogueSource,
    executor: Executor,
    name: str,
    reader: Reader | None,
    theme: Theme,
    place: pn.Column,
) -> Callable[[], Awaitable[None]]:
    """Return what draws a night's plots into their place, again where the night has changed."""
    shown: list[Night] = []

    def draw() -> tuple[Night | None, list[tuple[str, figure | None, str]]]:
        night = collect_night(source.get(), name, reader)
        changed = night is not None and [night] != shown
        return night, draw_night(night, theme) if night is not None and changed else []

    async def fill() -> None:
        try:
            night, drawn = await asyncio.get_running_loop().run_in_executor(executor, draw)
        except CatalogueUnavailableError as error:
            if not shown:
                place[:] = [html_pane(problem("The catalogue cannot be read", str(error)))]
            return  # an outage is waited out
        if night is not None and drawn:
            shown[:] = [night]
            panels = [plot_panel(*one) for one in drawn]
            place[:] = [
                pn.Row(*some, sizing_mode="stretch_width", styles={"gap": "16px"}, margin=0)
                for some in (panels[:2], panels[2:])
            ]

    return fill


def draw_night(night: Night, theme: Theme) -> list[tuple[str, figure | None, str]]:
    """Return a night's plots: title, plot, and what to say where there is nothing to draw."""
    span, observations = night_plots.make_time_range(night), night.observations
    return [
        (
            "Seeing",
            night_plots.plot_seeing(night, span, theme),
            "No seeing was measured in this night: it has no AO-off exposures (seeing_*), or they "
            "wait for the calibration.",
        ),
        (
            "Strehl ratio",
            night_plots.plot_strehl(observations, span, theme),
            "No Strehl ratio yet; each observation below says what it waits for.",
        ),
        (
            "Contrast over time",
            night_plots.plot_contrast_over_time(observations, span, theme),
            "No contrast yet; it needs stars of other objects in the PSF library.",
        ),
        (
            "Contrast curves",
            night_plots.plot_contrast_curves(night, theme),
            "No contrast curve yet; it needs stars of other objects in the PSF library.",
        ),
    ]
