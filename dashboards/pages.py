"""The pages: nights, a night, an observation.

Each function is called by Panel for every browser that opens its address; what
is chosen on a page stands in the address, so that it can be bookmarked.
"""

import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from urllib.parse import urlencode

import panel as pn
from bokeh.plotting import figure

from dashboards import markup, plot
from dashboards.collect import (
    Night,
    Observation,
    collect_night,
    collect_nights,
    collect_observation,
)
from dashboards.compute import (
    ORDERS,
    SELECTIONS,
    select_cards,
    select_observations,
    summarise_night,
)
from dashboards.source import CatalogueSource
from roboao_assets.science.errors import CatalogueError, CatalogueUnavailableError

REFRESH_MS = 20_000
# Panel draws a black arrow into dark selects; the browser's own is seen.
_WIDGET_STYLE = """
.bk-input { background-color: #1f252d; border-color: #2f3641; color: #e4e8ee; color-scheme: dark; }
select.bk-input { appearance: auto !important; background-image: none !important; }
label { color: #a3acb9; }
"""


def nights_page(source: CatalogueSource) -> pn.Template:
    """All nights, newest first."""

    def body() -> str:
        try:
            nights = collect_nights(source.get())
        except CatalogueError as error:
            if not source.was_made():
                return markup.empty_archive(str(error))
            return markup.problem("The catalogue cannot be read", str(error))
        return markup.nights_table(nights) if nights else markup.empty_archive()

    title = _html('<div class="page-title"><h1>Nights</h1></div>')
    table = _html(body())

    def renew() -> None:
        table.object = body()

    _refresh(renew)
    return _page("Nights", pn.Column(title, table, sizing_mode="stretch_width"))


def night_page(source: CatalogueSource) -> pn.Template:
    """A night: numbers, plots, and its observations as cards."""
    name = _argument("night")
    if not re.fullmatch(r"\d{8}", name, re.ASCII):
        sentence = f"A night is its UT date, YYYYMMDD; the address says {name!r}."
        return _page("Night", _html(markup.problem("No such night", sentence)))
    try:
        night = collect_night(source.get(), name)
    except CatalogueError as error:
        return _page("Night", _html(markup.problem("The catalogue cannot be read", str(error))))
    if night is None:
        sentence = f"The catalogue has no night {name}: it was never registered."
        return _page("Night", _html(markup.problem("No such night", sentence)))
    return _page(f"Night {markup.dashed(name)}", _night_body(source, night))


def observation_page(source: CatalogueSource) -> pn.Template:
    """An observation: every picture, every number, its FITS header."""
    identifier = _argument("id")
    try:
        found = collect_observation(source.get(), identifier)
        night = collect_night(source.get(), found[0].night) if found and found[0].night else None
    except CatalogueError as error:
        sentence = str(error)
        return _page("Observation", _html(markup.problem("The catalogue cannot be read", sentence)))
    if found is None:
        sentence = f"The catalogue has no observation {identifier!r}; the id may be misspelt."
        return _page("Observation", _html(markup.problem("No such observation", sentence)))
    observation, keys = found
    median = night.contrast_medians.get(observation.filter_name) if night else None
    parts: list[pn.viewable.Viewable] = [_html(markup.observation_head(observation))]
    for result in observation.results:
        pictures = markup.observation_pictures(observation, keys, result.pipeline)
        parts += [
            _html(markup.pipeline_head(result) + pictures),
            _html(markup.candidates_table(result) + markup.references_table(result)),
        ]
        if result.curve is not None:
            made = plot.plot_contrast(result.curve, median, result.candidates)
            parts.append(_plot_panel("Contrast", made))
    parts.append(_html(markup.observation_pictures(observation, keys)))
    parts.append(_header_search(observation))
    return _page(observation.name or identifier, pn.Column(*parts, sizing_mode="stretch_width"))


def _night_body(source: CatalogueSource, night: Night) -> pn.Column:
    text, which, order = _controls()
    shown = {"night": night}

    def cards() -> str:
        current = shown["night"]
        chosen = select_observations(
            current.observations, text=text.value_input or "", which=which.value, order=order.value
        )
        return markup.gallery(chosen, current.image_keys, total=len(current.observations))

    head = _html(markup.night_head(night, summarise_night(night)))
    plots = pn.Row(*_night_plots(night), sizing_mode="stretch_width", styles={"gap": "16px"})
    gallery = _html(cards())
    strip = _html(markup.night_pictures(night))

    def choose(*_: object) -> None:
        _write_address(
            night=night.night,
            q=text.value_input or "",
            show=which.value if which.value != "all" else "",
            sort=order.value if order.value != "time" else "",
        )
        gallery.object = cards()

    text.param.watch(choose, "value_input")
    which.param.watch(choose, "value")
    order.param.watch(choose, "value")

    def refresh() -> None:
        current = collect_night(source.get(), night.night)
        if current is not None and current != shown["night"]:
            shown["night"] = current
            head.object = markup.night_head(current, summarise_night(current))
            plots[:] = _night_plots(current)
            strip.object = markup.night_pictures(current)
            gallery.object = cards()

    _refresh(refresh)
    controls = pn.Row(
        text,
        which,
        order,
        styles={"gap": "16px"},
        margin=(20, 0, 0, 0),
        sizing_mode="stretch_width",
    )
    return pn.Column(head, plots, controls, gallery, strip, sizing_mode="stretch_width")


def _controls() -> tuple[pn.widgets.TextInput, pn.widgets.Select, pn.widgets.Select]:
    """Return the widgets of a night's page, set as the address says."""
    chosen, sort, text = _argument("show"), _argument("sort"), _argument("q")
    return (
        pn.widgets.TextInput(
            name="find",
            placeholder="name, id, program, filter or class",
            value=text,
            value_input=text,
            width=330,
            margin=0,
            stylesheets=[_WIDGET_STYLE],
        ),
        pn.widgets.Select(
            name="show",
            options={label: key for key, label in SELECTIONS.items()},
            value=chosen if chosen in SELECTIONS else "all",
            width=200,
            margin=0,
            stylesheets=[_WIDGET_STYLE],
        ),
        pn.widgets.Select(
            name="order by",
            options={label: key for key, label in ORDERS.items()},
            value=sort if sort in ORDERS else "time",
            width=220,
            margin=0,
            stylesheets=[_WIDGET_STYLE],
        ),
    )


def _night_plots(night: Night) -> list[pn.Column]:
    span = plot.make_time_range(night)
    return [
        _plot_panel(title, made, missing)
        for title, made, missing in (
            ("Seeing", plot.plot_seeing(night, span), "No seeing was measured in this night."),
            ("Strehl ratio", plot.plot_strehl(night.observations, span), "No Strehl ratio yet."),
        )
    ]


def _plot_panel(title: str, made: figure | None, missing: str = "") -> pn.Column:
    heading = _html(f'<h2 class="plot-title">{title}</h2>')
    content: pn.viewable.Viewable
    if made is None:
        content = _html(f'<div class="notice"><p>{missing}</p></div>')
    else:
        content = pn.pane.Bokeh(made, sizing_mode="stretch_width", margin=0)
    return pn.Column(heading, content, sizing_mode="stretch_width", margin=0)


def _header_search(observation: Observation) -> pn.Column:
    search = pn.widgets.TextInput(
        name="find in the FITS header",
        placeholder="keyword, value or comment",
        width=330,
        margin=0,
        stylesheets=[_WIDGET_STYLE],
    )
    total = len(observation.header)
    table = _html(markup.header_table(select_cards(observation.header, ""), total))

    def choose(*_: object) -> None:
        cards = select_cards(observation.header, search.value_input or "")
        table.object = markup.header_table(cards, total)

    search.param.watch(choose, "value_input")
    heading = _html('<h2 class="plot-title">FITS header</h2>')
    return pn.Column(heading, *([search] if total else []), table, sizing_mode="stretch_width")


def _page(title: str, body: pn.viewable.Viewable) -> pn.Template:
    page = pn.Template(_template(), theme=pn.theme.DarkTheme, location=True)
    page.add_variable("page_title", f"{title} · Robo-AO archive")
    page.add_variable("style", _style())
    page.add_panel("main", body)
    return page


def _html(text: str) -> pn.pane.HTML:
    return pn.pane.HTML(text, stylesheets=[_style()], sizing_mode="stretch_width", margin=0)


def _refresh(work: Callable[[], None]) -> None:
    """Do `work` now and then while the page is open; an outage of the catalogue is waited out."""

    def patiently() -> None:
        try:
            work()
        except CatalogueUnavailableError:
            return

    if pn.state.curdoc is not None:
        pn.state.add_periodic_callback(patiently, period=REFRESH_MS)


def _argument(name: str) -> str:
    """Return what the address gives `name`; not `location.query_params`, which makes numbers."""
    values = pn.state.session_args.get(name, [b""])
    return values[0].decode("utf-8", "replace")


def _write_address(**values: str) -> None:
    if pn.state.location is not None:
        chosen = {key: value for key, value in values.items() if value}
        pn.state.location.search = f"?{urlencode(chosen)}"


@cache
def _style() -> str:
    return resources.files("dashboards").joinpath("style.css").read_text(encoding="utf-8")


@cache
def _template() -> str:
    return resources.files("dashboards").joinpath("page.html").read_text(encoding="utf-8")
