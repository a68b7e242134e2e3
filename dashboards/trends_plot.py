"""The plots of the trends: points of all observations, and what the middle of them does."""

import numpy as np
from bokeh.models import BoxSelectTool, ColumnDataSource, HoverTool
from bokeh.plotting import figure

from dashboards.plot import new_plot, open_on_click
from dashboards.themes import DARK, Theme
from dashboards.trends import Trends, robust_trend

_AXES = {
    "seeing_arcsec": ("Against seeing", "seeing nearest in time (arcsec)"),
    "magnitude": ("Against magnitude", "magnitude"),
    "elevation_deg": ("Against elevation", "elevation (deg)"),
    "time_ms": ("Over time", "date (UT)"),
}
# More points hide one another, and keep a browser busy for seconds.
MOST_POINTS = 6_000
_MANY = 1_500
_HEIGHT_PX = 360
_STREHL_LABEL = "Strehl ratio (%)"


def plot_trends(trends: Trends, theme: Theme = DARK) -> list[tuple[str, figure]]:
    """Plot Strehl ratios against all they may depend on; a click opens the observation.

    What is chosen with a box in one plot stands out in the others. Medians are those of all
    points; drawn are `MOST_POINTS` of them at most.

    Parameters
    ----------
    trends : Trends
    theme : Theme

    Returns
    -------
    list of (str, figure)
        Title and plot, of those quantities that are known of any observation.
    """
    source = ColumnDataSource(_columns(trends, theme))
    return [
        (title, _plot(trends, source, name, label, theme))
        for name, (title, label) in _AXES.items()
        if np.isfinite(getattr(trends, name)).any()
    ]


def _columns(trends: Trends, theme: Theme) -> dict[str, object]:
    count = len(trends.ids)
    # The same ones every time, whatever their order in time.
    drawn = np.random.default_rng(0).permutation(count)[:MOST_POINTS]
    drawn.sort()
    filters = [trends.filters[i] for i in drawn]
    styles = {name: theme.filter_style(name) for name in set(filters)}
    return {
        "id": [trends.ids[i] for i in drawn],
        "filter": filters,
        "strehl": trends.strehl_percent[drawn].astype(np.float32),
        # Single precision would move a time by minutes.
        "time_ms": trends.time_ms[drawn],
        "seeing_arcsec": trends.seeing_arcsec[drawn].astype(np.float32),
        "magnitude": trends.magnitude[drawn].astype(np.float32),
        "elevation_deg": trends.elevation_deg[drawn].astype(np.float32),
        "colour": [styles[name][0] for name in filters],
        "marker": [styles[name][1] for name in filters],
        "filled": np.where(trends.flagged[drawn], 0.0, 0.6).astype(np.float32),
    }


def _plot(trends: Trends, source: ColumnDataSource, name: str, label: str, theme: Theme) -> figure:
    many = len(trends.ids) >= _MANY
    options = {"x_axis_type": "datetime"} if name == "time_ms" else {}
    plot = new_plot(
        _STREHL_LABEL,
        height_px=_HEIGHT_PX,
        x_axis_label=label,
        **options,
    )
    points = plot.scatter(
        name,
        "strehl",
        source=source,
        marker="circle" if many else "marker",
        size=4 if many else 8,
        line_color="colour",
        fill_color="colour",
        fill_alpha="filled",
        line_alpha=0.5 if many else 0.9,
        nonselection_fill_alpha=0.04,
        nonselection_line_alpha=0.06,
    )
    values = getattr(trends, name)
    trend = robust_trend(values[~trends.flagged], trends.strehl_percent[~trends.flagged])
    if trend is not None:
        plot.varea(trend.x, trend.lower, trend.upper, color=theme.text, alpha=0.16)
        plot.line(trend.x, trend.median, color=theme.text, line_width=2)
    plot.add_tools(
        HoverTool(
            renderers=[points],
            tooltips=[
                ("", "@id"),
                ("Strehl", "@strehl{0.0} %"),
                ("filter", "@filter"),
                ("seeing", '@seeing_arcsec{0.00}"'),
                ("magnitude", "@magnitude{0.0}"),
                ("elevation", "@elevation_deg{0}°"),
            ],
            # Under the pointer may be hundreds.
            limit=3,
        ),
        BoxSelectTool(renderers=[points]),
    )
    open_on_click(plot, [points])
    plot.y_range.start = 0.0
    return plot
