"""The pages: nights, a night, an observation.

What a visitor may not see is answered as what does not exist (`access`).
Each function is called by Panel for every browser that opens its address; what
is chosen on a page stands in the address, so that it can be bookmarked.
"""

from collections.abc import Callable

import panel as pn
from bokeh.plotting import figure

from dashboards import markup, plot
from dashboards.access import Access, Asked, is_night
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
from dashboards.files import files_table
from dashboards.frame_quality import plot_frame_quality, read_frame_quality
from dashboards.page_frame import (
    WIDGET_STYLE,
    address_argument,
    build_page,
    html_pane,
    page_visitor,
    write_address,
)
from dashboards.provenance import provenance_markup, read_provenance
from dashboards.source import CatalogueSource
from dashboards.viewer import Viewer, Viewers
from dashboards.visitor_parts import VisitorParts
from roboao_assets.science.errors import CatalogueError, CatalogueUnavailableError
from roboao_assets.storage.catalogue import Reader

REFRESH_MS = 20_000
_MOST_SHOWN = 200


def nights_page(source: CatalogueSource) -> pn.Template:
    """All nights of which the visitor may see something, newest first."""
    visitor = page_visitor()

    def body() -> str:
        try:
            nights = collect_nights(source.get(), visitor.reader)
        except CatalogueError as error:
            return markup.problem("The catalogue cannot be read", str(error))
        if nights:
            return markup.nights_table(nights)
        return markup.empty_archive() if visitor.is_admin else markup.nothing_distributed()

    title = html_pane('<div class="page-title"><h1>Nights</h1></div>')
    table = html_pane(body())

    def renew() -> None:
        table.object = body()

    _refresh(renew)
    return build_page("Nights", pn.Column(title, table, sizing_mode="stretch_width"))


def night_page(source: CatalogueSource, access: Access, own_parts: VisitorParts) -> pn.Template:
    """A night: numbers, plots, and its observations as cards."""
    name, visitor = address_argument("night"), page_visitor()
    if not is_night(name):
        sentence = f"A night is its UT date, YYYYMMDD; the address says {name[:_MOST_SHOWN]!r}."
        return _problem_page("Night", "No such night", sentence)
    try:
        admitted = access.may(visitor, Asked("night", name))
        night = collect_night(source.get(), name, visitor.reader) if admitted else None
    except CatalogueError as error:
        return _problem_page("Night", "The catalogue cannot be read", str(error))
    if night is None:
        sentence = f"The catalogue has no night {name} with observations that you may see."
        return _problem_page("Night", "No such night", sentence)
    body = _night_body(source, night, visitor.reader)
    body.extend(own_parts.of_night(visitor, name))
    return build_page(f"Night {markup.dashed(name)}", body)


def observation_page(
    source: CatalogueSource,
    access: Access,
    viewers: Viewers,
    dagster_url: str,
    own_parts: VisitorParts,
) -> pn.Template:
    """An observation: every picture, every number, its FITS header."""
    identifier, visitor = address_argument("id"), page_visitor()
    reader = visitor.reader
    try:
        admitted = access.may(visitor, Asked("observation", identifier))
        found = collect_observation(source.get(), identifier, reader) if admitted else None
        of_night = found[0].night if found else ""
        night = collect_night(source.get(), of_night, reader) if of_night else None
    except CatalogueError as error:
        return _problem_page("Observation", "The catalogue cannot be read", str(error))
    if found is None:
        shown = identifier if len(identifier) < _MOST_SHOWN else f"{identifier[:_MOST_SHOWN]}..."
        sentence = f"The catalogue has no observation {shown!r} that you may see."
        return _problem_page("Observation", "No such observation", sentence)
    observation, keys = found
    median = night.contrast_medians.get(observation.filter_name) if night else None
    viewer = viewers.make(observation.night, observation.id)
    parts: list[pn.viewable.Viewable] = [
        html_pane(markup.observation_head(observation)),
        html_pane('<h2 class="plot-title">Images</h2>'),
        viewer.panel(),
    ]
    for result in observation.results:
        pictures = markup.observation_pictures(observation, keys, result.pipeline)
        parts += [
            html_pane(markup.pipeline_head(result) + pictures),
            *(_frame_plots(observation, viewer) if result.pipeline == "bright_star" else []),
            html_pane(markup.candidates_table(result) + markup.references_table(result)),
        ]
        if result.curve is not None:
            made = plot.plot_contrast(result.curve, median, result.candidates)
            parts.append(_plot_panel("Contrast", made))
    parts.append(html_pane(markup.observation_pictures(observation, keys)))
    parts += own_parts.of_observation(source.get(), visitor, identifier)
    parts.append(_header_search(observation))
    told = read_provenance(viewer.files, observation.id)
    parts.append(html_pane(provenance_markup(told, observation.id, dagster_url)))
    parts.append(html_pane(files_table(viewer.files, observation.id)))
    return build_page(
        observation.name or identifier, pn.Column(*parts, sizing_mode="stretch_width")
    )


def _night_body(source: CatalogueSource, night: Night, reader: Reader | None) -> pn.Column:
    text, which, order = _controls()
    shown = {"night": night}

    def cards() -> str:
        current = shown["night"]
        chosen = select_observations(
            current.observations, text=text.value_input or "", which=which.value, order=order.value
        )
        return markup.gallery(chosen, current.image_keys, total=len(current.observations))

    head = html_pane(markup.night_head(night, summarise_night(night)))
    plots = pn.Row(*_night_plots(night), sizing_mode="stretch_width", styles={"gap": "16px"})
    gallery = html_pane(cards())
    strip = html_pane(markup.night_pictures(night))

    def choose(*_: object) -> None:
        write_address(
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
        current = collect_night(source.get(), night.night, reader)
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
    chosen, sort, text = address_argument("show"), address_argument("sort"), address_argument("q")
    return (
        pn.widgets.TextInput(
            label="find",
            placeholder="name, id, program, filter or class",
            value=text,
            value_input=text,
            width=330,
            margin=0,
            stylesheets=[WIDGET_STYLE],
        ),
        pn.widgets.Select(
            label="show",
            options={label: key for key, label in SELECTIONS.items()},
            value=chosen if chosen in SELECTIONS else "all",
            width=200,
            margin=0,
            stylesheets=[WIDGET_STYLE],
        ),
        pn.widgets.Select(
            label="order by",
            options={label: key for key, label in ORDERS.items()},
            value=sort if sort in ORDERS else "time",
            width=220,
            margin=0,
            stylesheets=[WIDGET_STYLE],
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
    heading = html_pane(f'<h2 class="plot-title">{title}</h2>')
    content: pn.viewable.Viewable
    if made is None:
        content = html_pane(f'<div class="notice"><p>{missing}</p></div>')
    else:
        content = pn.pane.Bokeh(made, sizing_mode="stretch_width", margin=0)
    return pn.Column(heading, content, sizing_mode="stretch_width", margin=0)


def _frame_plots(observation: Observation, viewer: Viewer) -> list[pn.viewable.Viewable]:
    frames = read_frame_quality(viewer.files, observation.exposure_s)
    if frames is None:
        return []
    titles = ("Quality of the frames", "Place of the guide star")
    panels = [
        _plot_panel(title, made)
        for title, made in zip(titles, plot_frame_quality(frames), strict=True)
    ]
    return [pn.Row(*panels, sizing_mode="stretch_width", styles={"gap": "16px"})]


def _header_search(observation: Observation) -> pn.Column:
    search = pn.widgets.TextInput(
        label="find in the FITS header",
        placeholder="keyword, value or comment",
        width=330,
        margin=0,
        stylesheets=[WIDGET_STYLE],
    )
    total = len(observation.header)
    table = html_pane(markup.header_table(select_cards(observation.header, ""), total))

    def choose(*_: object) -> None:
        cards = select_cards(observation.header, search.value_input or "")
        table.object = markup.header_table(cards, total)

    search.param.watch(choose, "value_input")
    heading = html_pane('<h2 class="plot-title">FITS header</h2>')
    return pn.Column(heading, *([search] if total else []), table, sizing_mode="stretch_width")


def _problem_page(title: str, heading: str, sentence: str) -> pn.Template:
    return build_page(title, html_pane(markup.problem(heading, sentence)))


def _refresh(work: Callable[[], None]) -> None:
    """Do `work` now and then while the page is open; an outage of the catalogue is waited out."""

    def patiently() -> None:
        try:
            work()
        except CatalogueUnavailableError:
            return

    if pn.state.curdoc is not None:
        pn.state.add_periodic_callback(patiently, period=REFRESH_MS)
