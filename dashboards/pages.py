"""The page of an observation.

What a visitor may not see is answered as what does not exist (`access`).
Panel calls a page's function for every browser that opens its address.
"""

import panel as pn

from dashboards import markup, plot
from dashboards.access import Access, Asked
from dashboards.collect import (
    Observation,
    collect_contrast_medians,
    collect_observation,
    observation_neighbours,
)
from dashboards.compute import select_cards
from dashboards.files import files_table
from dashboards.frame_quality import plot_frame_quality, read_frame_quality
from dashboards.links import night_url, observation_url
from dashboards.page_frame import (
    WIDGET_STYLE,
    Step,
    address_argument,
    build_page,
    html_pane,
    page_theme,
    page_visitor,
    plot_panel,
    problem_page,
)
from dashboards.provenance import provenance_markup, read_provenance
from dashboards.script_links import script_links
from dashboards.source import CatalogueSource
from dashboards.survey_images import SurveyDesk, without_survey
from dashboards.survey_view import survey_parts
from dashboards.themes import Theme
from dashboards.viewer import Viewer, Viewers
from dashboards.visitor_parts import VisitorParts
from roboao_assets.science.errors import CatalogueError

_MOST_SHOWN = 200


def observation_page(
    source: CatalogueSource,
    access: Access,
    viewers: Viewers,
    surveys: SurveyDesk,
    dagster_url: str,
    own_parts: VisitorParts,
) -> pn.Template:
    """An observation: every picture, every number, its FITS header."""
    identifier, visitor, theme = address_argument("id"), page_visitor(), page_theme()
    reader = visitor.reader
    earlier = later = None
    try:
        admitted = access.may(visitor, Asked("observation", identifier))
        found = collect_observation(source.get(), identifier, reader) if admitted else None
        if found is not None:
            medians = collect_contrast_medians(source.get(), found[0].night, reader)
            earlier, later = observation_neighbours(source.get(), found[0], reader)
    except CatalogueError as error:
        return problem_page("Observation", "The catalogue cannot be read", str(error))
    if found is None:
        shown = identifier if len(identifier) < _MOST_SHOWN else f"{identifier[:_MOST_SHOWN]}..."
        sentence = f"The catalogue has no observation {shown!r} that you may see."
        return problem_page("Observation", "No such observation", sentence)
    observation, keys = found[0], without_survey(found[1])
    median = medians.get(observation.filter_name)
    viewer = viewers.make(observation.night, observation.id, theme)
    parts: list[pn.viewable.Viewable] = [
        html_pane(markup.observation_head(observation)),
        html_pane('<h2 class="plot-title">Images</h2>'),
        viewer.panel(),
        *survey_parts(surveys, viewers.executor, observation, viewer.files),
    ]
    for result in observation.results:
        pictures = markup.observation_pictures(observation, keys, result.pipeline)
        parts += [
            html_pane(markup.pipeline_head(result) + pictures),
            *(_frame_plots(observation, viewer, theme) if result.pipeline == "bright_star" else []),
            html_pane(markup.candidates_table(result) + markup.references_table(result)),
        ]
        if result.curve is not None:
            made = plot.plot_contrast(result.curve, median, result.candidates, theme)
            parts.append(plot_panel("Contrast", made))
    parts.append(html_pane(markup.observation_pictures(observation, keys)))
    parts += own_parts.of_observation(source.get(), visitor, identifier)
    parts.append(_header_search(observation))
    told = read_provenance(viewer.files, observation.id)
    parts.append(html_pane(provenance_markup(told, observation.id, dagster_url)))
    scripts = script_links({"text": observation.id, "match": "exact"})
    parts.append(html_pane(files_table(viewer.files, observation.id) + scripts))
    return build_page(
        observation.name or identifier,
        pn.Column(*parts, sizing_mode="stretch_width"),
        earlier=_step("previous", earlier),
        later=_step("next", later),
        up=night_url(observation.night) if observation.night else "/",
    )


def _frame_plots(
    observation: Observation, viewer: Viewer, theme: Theme
) -> list[pn.viewable.Viewable]:
    frames = read_frame_quality(viewer.files, observation.exposure_s)
    if frames is None:
        return []
    titles = ("Quality of the frames", "Place of the guide star")
    panels = [
        plot_panel(title, made)
        for title, made in zip(titles, plot_frame_quality(frames, theme), strict=True)
    ]
    return [pn.Row(*panels, sizing_mode="stretch_width", styles={"gap": "16px"})]


def _step(name: str, identifier: str | None) -> Step | None:
    return None if identifier is None else Step(name, observation_url(identifier))


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
