"""Interactive plots: what all of them share, and the contrast of an observation.

Colours are those of a theme (`themes`); what bokeh draws round the data takes them from the
document.
"""

from collections.abc import Sequence
from typing import Any

from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    DataRange1d,
    GlyphRenderer,
    HoverTool,
    TapTool,
)
from bokeh.plotting import figure

from dashboards.results import Candidate, Curve, MedianCurve
from dashboards.themes import DARK, Theme

_HEIGHT_PX = 320
# Of several under the pointer the first.
_OPEN = """
const { selected, data } = cb_data.source;
const index = selected.indices[0];
if (index !== undefined) {
    const url = data.url?.[index] ?? '/observation?id=' + encodeURIComponent(data.id[index]);
    if (url) window.location.assign(url);
}
"""


def plot_contrast(
    curve: Curve,
    night_median: MedianCurve | None = None,
    candidates: Sequence[Candidate] = (),
    theme: Theme = DARK,
) -> figure:
    """Plot a contrast curve, fainter companions further down, and the candidates as points."""
    plot = new_plot("5 σ contrast (mag)", x_axis_label="separation (arcsec)")
    if night_median is not None:
        plot.varea(
            night_median.separation_arcsec,
            night_median.lower_mag,
            night_median.upper_mag,
            color=theme.muted,
            alpha=0.18,
            legend_label="night's quartiles",
        )
        plot.line(
            night_median.separation_arcsec,
            night_median.median_mag,
            color=theme.muted,
            line_dash="dashed",
            line_width=1.5,
            legend_label=f"night's median of {night_median.total}",
        )
    source = ColumnDataSource(
        {"separation": list(curve.separation_arcsec), "contrast": list(curve.contrast_mag)}
    )
    renderer = plot.line(
        "separation",
        "contrast",
        source=source,
        color=theme.accent,
        line_width=2.5,
        legend_label="this observation",
    )
    plot.add_tools(
        HoverTool(
            renderers=[renderer],
            mode="vline",
            tooltips=[("separation", '@separation{0.00}"'), ("contrast", "@contrast{0.00} mag")],
        )
    )
    _add_candidates(plot, candidates, theme)
    plot.y_range = DataRange1d(flipped=True)
    style_legend(plot)
    return plot


def _add_candidates(plot: figure, candidates: Sequence[Candidate], theme: Theme) -> None:
    rows = [
        (number, c)
        for number, c in enumerate(candidates, start=1)
        if c.separation_arcsec is not None and c.contrast_mag is not None
    ]
    if not rows:
        return
    source = ColumnDataSource(
        {
            "separation": [c.separation_arcsec for _, c in rows],
            "contrast": [c.contrast_mag for _, c in rows],
            "number": [str(number) for number, _ in rows],
            "pa": [shown(c.pa_deg, ".1f") for _, c in rows],
            "snr": [shown(c.snr, ".1f") for _, c in rows],
        }
    )
    points = plot.scatter(
        "separation",
        "contrast",
        source=source,
        marker="star",
        size=15,
        color=theme.candidate,
        line_color=theme.back,
        legend_label="candidate" if len(rows) == 1 else "candidates",
    )
    tooltips = [
        ("candidate", "@number"),
        ("separation", '@separation{0.000}", PA @pa°'),
        ("contrast", "@contrast{0.00} mag"),
        ("S/N", "@snr"),
    ]
    plot.add_tools(HoverTool(renderers=[points], tooltips=tooltips))


def open_on_click(plot: figure, renderers: Sequence[GlyphRenderer]) -> None:
    """Let a click on a point or line open its `url`, or the observation that its `id` names.

    The `url` was encoded when it was made.
    """
    # One tool for all of a plot: of several, bokeh makes only the first active. Not OpenURL, which
    # encodes an address once more.
    plot.add_tools(TapTool(renderers=list(renderers), callback=CustomJS(code=_OPEN)))


def new_plot(y_axis_label: str, *, height_px: int = _HEIGHT_PX, **options: Any) -> figure:
    """Return an empty plot as wide as its place; the wheel scrolls the page until a tool is chosen.

    `options` are bokeh's own.
    """
    plot = figure(
        height=height_px,
        sizing_mode="stretch_width",
        tools="xpan,xwheel_zoom,box_zoom,reset",
        toolbar_location="above",
        y_axis_label=y_axis_label,
        **options,
    )
    style_plot(plot)
    plot.toolbar.active_scroll = None
    return plot


def style_plot(plot: figure) -> None:
    """Give a plot the pages' sizes; the colours round the data are the document's theme's."""
    plot.update(min_border_right=14, min_border_top=14)
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    for axis in plot.axis:
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "13px"
        axis.major_label_text_font_size = "12px"


def style_legend(plot: figure) -> None:
    """Put a plot's legend beside it; a click on an entry hides what it stands for."""
    for legend in plot.legend:
        plot.add_layout(legend, "right")
        legend.label_text_font_size = "12px"
        legend.click_policy = "hide"
        legend.update(margin=4, padding=4)


def shown(value: float | None, form: str) -> str:
    """Spell a value of a hover, `?` if there is none."""
    return "?" if value is None else format(value, form)
