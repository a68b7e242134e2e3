"""The trends page: Strehl ratios of all observations that a search means."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from html import escape

import panel as pn
from bokeh.plotting import figure

from dashboards.links import TRENDS_URL
from dashboards.markup import problem
from dashboards.page_frame import build_page, html_pane, page_theme, page_visitor, plot_panel
from dashboards.search_form import FILTERS, SearchForm, SearchFormError, read_form
from dashboards.search_markup import wrong_form
from dashboards.source import CatalogueSource
from dashboards.themes import Theme
from dashboards.trends import Trends, collect_trends
from dashboards.trends_plot import MOST_POINTS, plot_trends
from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue import Reader

_TITLE = "Trends"
_WAITING = '<p class="loading" role="status">Reading the archive…</p>'
# What can be chosen on the page itself; an address of the search page may hold more.
_FIELDS = {
    "program": 'placeholder="24, 24.1"',
    "filter": f'placeholder="{", ".join(FILTERS[:2])}"',
    "date_from": 'type="date"',
    "date_to": 'type="date"',
}


def trends_page(source: CatalogueSource, executor: Executor) -> pn.Template:
    """The plots, of what the address says in the words of the search page.

    Parameters
    ----------
    source : CatalogueSource
    executor : Executor
        Reads the columns and makes the plots.
    """
    form, wrong = read_form(pn.state.session_args)
    place = pn.Column(html_pane(wrong_form(wrong) if wrong else _WAITING), margin=0)
    place.sizing_mode = "stretch_width"
    if not wrong:
        reader, theme = page_visitor().reader, page_theme()
        pn.state.onload(_filling(source, executor, form, reader, theme, place))
    return build_page(_TITLE, place, before=trends_form(form))


def _filling(
    source: CatalogueSource,
    executor: Executor,
    form: SearchForm,
    reader: Reader | None,
    theme: Theme,
    place: pn.Column,
) -> Callable[[], Awaitable[None]]:
    def read() -> tuple[str, list[tuple[str, figure]]]:
        try:
            trends = collect_trends(source.get(), form, reader)
        except SearchFormError as error:
            return wrong_form(error.sentences), []
        except CatalogueError as error:
            return problem("The catalogue cannot be read", str(error)), []
        return trends_head(trends, form, theme), plot_trends(trends, theme) if trends.ids else []

    async def fill() -> None:
        head, plots = await asyncio.get_running_loop().run_in_executor(executor, read)
        panels = [plot_panel(*one) for one in plots]
        rows = [
            pn.Row(
                *panels[i : i + 2], sizing_mode="stretch_width", styles={"gap": "16px"}, margin=0
            )
            for i in range(0, len(panels), 2)
        ]
        place[:] = [html_pane(head), *rows]

    return fill


def trends_form(form: SearchForm) -> str:
    """Return the title and the fields, filled in; what else the address chose is kept."""
    labels = {name: form.param[name].label for name in _FIELDS}
    shown = "".join(
        f'<label>{escape(labels[name])} <input name="{name}" {extra} '
        f'value="{escape(getattr(form, name))}"></label>'
        for name, extra in _FIELDS.items()
    )
    others = "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">'
        for name, value in form.chosen().items()
        if name not in (*_FIELDS, "page", "sort")
    )
    return (
        f'<div class="page-title"><h1>{_TITLE}</h1></div>'
        f'<form class="choice narrow" method="get" action="{TRENDS_URL}">{shown}{others}'
        f'<button type="submit">Show</button> <a href="{TRENDS_URL}">everything</a></form>'
    )


def trends_head(trends: Trends, form: SearchForm, theme: Theme) -> str:
    """Return what is shown in words, and the key of the colours; what to do if that is nothing."""
    listed = f'<a href="{escape(form.address(page="", sort=""))}">list them</a>'
    if not trends.total:
        return (
            '<div class="notice"><h2>No such observations</h2><p>Choose a longer span of dates, '
            f'another program or filter, or <a href="{TRENDS_URL}">everything</a>.</p></div>'
        )
    if not trends.ids:
        return (
            f'<div class="notice"><h2>No Strehl ratio yet</h2><p>{trends.total:,} observations '
            f"were found ({listed}), and none of them is measured.</p></div>"
        )
    noun = "observation" if trends.total == 1 else "observations"
    return (
        f'<p class="found">{len(trends.ids):,} Strehl ratios of {trends.total:,} {noun} '
        f"({listed}). {_thinned(trends)}Hollow: flagged BAD?, left out of median (line) and "
        f"quartiles (band). A click opens the observation; a box in one plot picks it out in all."
        f'</p><p class="colour-key">{_colour_key(trends.filters, theme)}</p>'
    )


def _thinned(trends: Trends) -> str:
    if len(trends.ids) <= MOST_POINTS:
        return ""
    return f"{MOST_POINTS:,} of them are drawn, medians are of all; choose fewer to see each. "


def _colour_key(filters: Sequence[str], theme: Theme) -> str:
    counts = {name: filters.count(name) for name in sorted(set(filters))}
    return " ".join(
        f'<span><i style="background:{theme.filter_style(name)[0]}"></i>'
        f"{escape(name or 'no filter')} <b>{count:,}</b></span>"
        for name, count in counts.items()
    )
