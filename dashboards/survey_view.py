"""The part of an observation's page that shows the same field in a sky survey."""

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from functools import partial
from html import escape

import panel as pn
from bokeh.plotting import figure

from dashboards.collect import Observation
from dashboards.later import hand_over
from dashboards.page_frame import html_pane
from dashboards.survey_field import FieldOnSky, read_field
from dashboards.survey_images import SurveyDesk
from dashboards.survey_plot import plot_survey
from dashboards.survey_service import SurveyError, SurveyImage
from roboao_assets.storage.served_files import ServedFile

_TITLES = {
    "CDS/P/PanSTARRS/DR1/color-z-zg-g": "Pan-STARRS DR1, colour (z, g)",
    "CDS/P/DSS2/color": "Digitized Sky Survey 2, colour",
}
_NO_FIELD = (
    "No image of this observation has world coordinates yet (the stage astrometric_solution gives "
    "them), so that it is not known which piece of the sky to ask for."
)
_FROM_POINTING = (
    "The outline lies where the telescope was pointed, which can be wrong by many arcsec: the "
    "stars of the field were not identified."
)


class SurveyView:
    """A survey image round an observation's field, asked for when its page is open.

    Parameters
    ----------
    desk : SurveyDesk
    executor : Executor
        Reads what is known of the field: the pages must not wait for it.
    observation : Observation
    files : mapping of str to ServedFile
        Of the observation.
    """

    def __init__(
        self,
        desk: SurveyDesk,
        executor: Executor,
        observation: Observation,
        files: Mapping[str, ServedFile],
    ) -> None:
        self._desk, self._executor = desk, executor
        self._observation, self._files = observation, files
        self.told = html_pane(_quiet("Asking for the survey image …"))
        self.told.margin = (8, 0)
        self.content = pn.Column(self.told, sizing_mode="stretch_width", margin=0)

    def panel(self) -> pn.viewable.Viewable:
        """Return the view as a part of a page."""
        pn.state.onload(self.start)
        heading = html_pane('<h2 class="plot-title">The field in a sky survey</h2>')
        return pn.Column(heading, self.content, sizing_mode="stretch_width", margin=0)

    def start(self) -> None:
        """Look at the field, then ask for its image; the page goes on meanwhile."""
        o = self._observation
        hand_over(self._executor.submit(read_field, self._files, o.id, o.results), self._take_field)

    def _take_field(self, read: "Future[FieldOnSky | None]") -> None:
        field = read.result()
        if field is None:
            self.told.object = f'<div class="notice"><p>{escape(_NO_FIELD)}</p></div>'
            return
        asked = self._desk.ask(self._observation.id, self._observation.night, field)
        hand_over(asked, partial(self._take_image, field))

    def _take_image(self, field: FieldOnSky, asked: "Future[SurveyImage]") -> None:
        try:
            image = asked.result()
        except SurveyError as error:
            self.told.object = problem_of(error)
            return
        # Some 0.1 s: in a thread, too.
        drawn = self._executor.submit(plot_survey, image, field)
        hand_over(drawn, partial(self._show, caption(image, field)))

    def _show(self, told: str, drawn: "Future[figure]") -> None:
        self.told.object = told
        self.content[:] = [pn.pane.Bokeh(drawn.result(), margin=0), self.told]


def survey_parts(
    desk: SurveyDesk,
    executor: Executor,
    observation: Observation,
    files: Mapping[str, ServedFile],
) -> list[pn.viewable.Viewable]:
    """Return the parts of an observation's page about the survey; none if it is switched off."""
    if not desk.enabled:
        return []
    return [SurveyView(desk, executor, observation, files).panel()]


def caption(image: SurveyImage, field: FieldOnSky) -> str:
    """Return what stands below a survey image."""
    title = _TITLES.get(image.hips, image.hips)
    told = f"{title} ({image.hips}), made by {image.service} on {image.fetched:%Y-%m-%d}."
    return _quiet(told if field.by_stars else f"{told} {_FROM_POINTING}")


def problem_of(error: SurveyError) -> str:
    """Return a notice that there is no survey image, and why."""
    sentence = f"The survey image cannot be shown: {error}."
    return f'<div class="notice survey-problem"><p>{escape(sentence)}</p></div>'


def _quiet(text: str) -> str:
    return f'<p class="quiet survey-told">{escape(text)}</p>'
