"""The survey image with what the archive knows of the field drawn over it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_scales
from bokeh.models import ColumnDataSource, GlyphRenderer, HoverTool, Range1d
from bokeh.plotting import figure
from numpy.typing import NDArray

from dashboards.plot import style_legend, style_plot
from dashboards.survey_field import FieldOnSky, SkyMark, pixels_of
from dashboards.survey_service import SurveyImage
from dashboards.themes import DARK
from dashboards.viewer_compute import wcs_directions
from dashboards.viewer_plot import compass, scale_bar

_SIDE_PX = 520
_MARKERS = {"marker": "circle", "fill_color": None, "line_width": 1.5}


def plot_survey(image: SurveyImage, field: FieldOnSky) -> figure:
    """Return a survey image with a field's outline and marks; its axes are arcsec.

    Parameters
    ----------
    image : SurveyImage
    field : FieldOnSky
    """
    sky = DARK  # in any theme: the sky is dark
    height, width = image.pixels.shape[:2]
    scale = float(np.mean(proj_plane_pixel_scales(image.wcs.celestial))) * 3600
    half_x, half_y = width * scale / 2, height * scale / 2
    plot = figure(
        frame_width=_SIDE_PX,
        frame_height=_SIDE_PX,
        x_range=Range1d(-half_x, half_x),
        y_range=Range1d(-half_y, half_y),
        tools="pan,wheel_zoom,reset,save",
        toolbar_location="above",
        x_axis_label="from the middle (arcsec)",
        y_axis_label="from the middle (arcsec)",
    )
    style_plot(plot)
    plot.grid.visible = False
    plot.image_rgba(image=[_rgba(image.pixels)], x=-half_x, y=-half_y, dw=2 * half_x, dh=2 * half_y)

    def places(places_deg: NDArray[np.float64]) -> NDArray[np.float64]:
        middle = ((width - 1) / 2, (height - 1) / 2)
        return (pixels_of(image.wcs, places_deg) - middle) * scale

    x, y = places(field.outline_deg).T
    plot.line(x, y, color=sky.accent, line_width=2, legend_label="our field")
    guide = (field.guide_star,) if field.guide_star else ()
    hovered = [
        _draw_marks(plot, places, marks, size=size, line_color=colour, legend_label=title)
        for title, marks, colour, size in (
            ("guide star", guide, sky.warn, 20),
            ("detected stars", field.stars, sky.good, 13),
            ("companion candidates", field.candidates, sky.candidate, 8),
        )
        if marks
    ]
    plot.add_tools(HoverTool(renderers=hovered, tooltips="@label"))
    plot.add_layout(scale_bar(plot.x_range, sky.text))
    found = wcs_directions(image.wcs, image.pixels.shape, scale)
    for part in compass(*found, sky.text) if found else ():
        plot.add_layout(part)
    style_legend(plot)
    return plot


def _draw_marks(
    plot: figure,
    places: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    marks: tuple[SkyMark, ...],
    **style: Any,
) -> GlyphRenderer:
    x, y = places(np.array([(mark.ra_deg, mark.dec_deg) for mark in marks])).T
    labels = [mark.label for mark in marks]
    source = ColumnDataSource({"x": x, "y": y, "label": labels})
    return plot.scatter("x", "y", source=source, **_MARKERS, **style)


def _rgba(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    four = np.ascontiguousarray(np.concatenate([pixels, opaque], axis=2))
    return four.view(np.uint32)[..., 0]
