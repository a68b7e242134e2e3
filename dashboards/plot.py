"""Interactive plots: seeing, Strehl ratio and contrast. The palette is the previews' own."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from bokeh.models import (
    ColumnDataSource,
    DataRange1d,
    DatetimeTickFormatter,
    HoverTool,
    OpenURL,
    Range1d,
    TapTool,
)
from bokeh.plotting import figure

from dashboards.collect import Night, Observation
from dashboards.compute import seeing_trend
from dashboards.links import observation_url
from dashboards.results import Candidate, Curve, MedianCurve

BACKGROUND, PANEL, GRID = "#0f1216", "#171b21", "#2f3641"
TEXT, MUTED, ACCENT = "#e4e8ee", "#a3acb9", "#56B4E9"
CANDIDATE = "#F0E442"

# Okabe-Ito: colour and bokeh marker of each filter, as on the previews.
FILTER_STYLES = {
    "Sg": ("#009E73", "square"),
    "Sr": ("#F0E442", "triangle"),
    "Si": ("#E69F00", "diamond"),
    "Sz": ("#D55E00", "inverted_triangle"),
    "lp600": ("#56B4E9", "circle"),
    "c": ("#CC79A7", "plus"),
}
OTHER_FILTER_STYLE = ("#C8CDD5", "x")
_HEIGHT_PX = 320


def make_time_range(night: Night) -> Range1d | None:
    """Return the span of a night's exposures, for plots that pan and zoom together.

    None if nothing has a time.
    """
    times = [frame.utc for frame in night.seeing]
    times += [o.utc for o in night.observations if o.utc is not None]
    if not times:
        return None
    margin = max((max(times) - min(times)) * 0.03, timedelta(minutes=8))
    return Range1d(start=min(times) - margin, end=max(times) + margin)


def plot_seeing(night: Night, time_range: Range1d | None = None) -> figure | None:
    """Plot the night's AO-off exposures, its trend and median; None if there is no seeing."""
    if not night.seeing:
        return None
    plot = _time_plot("seeing FWHM (arcsec)", time_range)
    for name, frames in _by_filter(night.seeing):
        colour, marker = FILTER_STYLES.get(name, OTHER_FILTER_STYLE)
        source = ColumnDataSource(
            {
                "time": [frame.utc for frame in frames],
                "fwhm": [frame.fwhm_arcsec for frame in frames],
                "x": [_shown(frame.fwhm_x_arcsec, ".2f") for frame in frames],
                "y": [_shown(frame.fwhm_y_arcsec, ".2f") for frame in frames],
                "exposure": [_shown(frame.exposure_s, "g") for frame in frames],
                "name": [frame.id for frame in frames],
            }
        )
        renderer = plot.scatter(
            "time",
            "fwhm",
            source=source,
            marker=marker,
            size=_size(marker),
            color=colour,
            legend_label=name,
        )
        plot.add_tools(
            HoverTool(
                renderers=[renderer],
                tooltips=[
                    ("", "@name"),
                    ("UTC", "@time{%H:%M:%S}"),
                    ("FWHM", '@fwhm{0.00}" (@x × @y)'),
                    ("exposure", "@exposure s"),
                ],
                formatters={"@time": "datetime"},
            )
        )
    trend = seeing_trend(night.seeing)
    if trend:
        times, values = zip(*trend, strict=True)
        plot.line(times, values, color=TEXT, line_width=1.8, legend_label="trend")
    if night.seeing_median_arcsec is not None:
        ends = [night.seeing[0].utc, night.seeing[-1].utc]
        plot.line(
            ends,
            [night.seeing_median_arcsec] * 2,
            color=MUTED,
            line_dash="dashed",
            legend_label=f'median {night.seeing_median_arcsec:.2f}"',
        )
    _start_at_zero(plot, [frame.fwhm_arcsec for frame in night.seeing])
    _style_legend(plot)
    return plot


def plot_strehl(
    observations: Sequence[Observation], time_range: Range1d | None = None
) -> figure | None:
    """Plot Strehl ratios with errors; flagged ones are hollow. None if there is none.

    A click on a point opens its observation.
    """
    shown = [o for o in observations if o.strehl_percent is not None and o.utc is not None]
    if not shown:
        return None
    plot = _time_plot("Strehl ratio (%)", time_range)
    for name, group in _by_filter(shown):
        colour, marker = FILTER_STYLES.get(name, OTHER_FILTER_STYLE)
        errors = [o.strehl_error_percent or 0.0 for o in group]
        ratios = [o.strehl_percent or 0.0 for o in group]
        source = ColumnDataSource(
            {
                "time": [o.utc for o in group],
                "ratio": ratios,
                "low": [ratio - error for ratio, error in zip(ratios, errors, strict=True)],
                "high": [ratio + error for ratio, error in zip(ratios, errors, strict=True)],
                "error": errors,
                "filled": [0.9 if o.strehl_flag == "OK" else 0.0 for o in group],
                "flag": [o.strehl_flag for o in group],
                "name": [o.name for o in group],
                "url": [observation_url(o.id) for o in group],
            }
        )
        plot.segment("time", "low", "time", "high", source=source, color=colour, line_alpha=0.8)
        renderer = plot.scatter(
            "time",
            "ratio",
            source=source,
            marker=marker,
            size=_size(marker),
            line_color=colour,
            line_width=1.5,
            fill_color=colour,
            fill_alpha="filled",
            legend_label=name,
        )
        tap = TapTool(renderers=[renderer], callback=OpenURL(url="@url{safe}", same_tab=True))
        plot.add_tools(
            HoverTool(
                renderers=[renderer],
                tooltips=[
                    ("", "@name"),
                    ("UTC", "@time{%H:%M:%S}"),
                    ("Strehl", "@ratio{0.0} ± @error{0.0} %  @flag"),
                ],
                formatters={"@time": "datetime"},
            ),
            tap,
        )
    _start_at_zero(plot, [o.strehl_percent or 0.0 for o in shown])
    _style_legend(plot)
    return plot


def plot_contrast(
    curve: Curve, night_median: MedianCurve | None = None, candidates: Sequence[Candidate] = ()
) -> figure:
    """Plot a contrast curve, fainter companions further down, and the candidates as points."""
    plot = _new_plot("5 σ contrast (mag)", x_axis_label="separation (arcsec)")
    if night_median is not None:
        plot.varea(
            night_median.separation_arcsec,
            night_median.lower_mag,
            night_median.upper_mag,
            color=MUTED,
            alpha=0.18,
            legend_label="night's quartiles",
        )
        plot.line(
            night_median.separation_arcsec,
            night_median.median_mag,
            color=MUTED,
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
        color=ACCENT,
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
    _add_candidates(plot, candidates)
    plot.y_range = DataRange1d(flipped=True)
    _style_legend(plot)
    return plot


def _add_candidates(plot: figure, candidates: Sequence[Candidate]) -> None:
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
            "pa": [_shown(c.pa_deg, ".1f") for _, c in rows],
            "snr": [_shown(c.snr, ".1f") for _, c in rows],
        }
    )
    points = plot.scatter(
        "separation",
        "contrast",
        source=source,
        marker="star",
        size=15,
        color=CANDIDATE,
        line_color="#000000",
        legend_label="candidate" if len(rows) == 1 else "candidates",
    )
    tooltips = [
        ("candidate", "@number"),
        ("separation", '@separation{0.000}", PA @pa°'),
        ("contrast", "@contrast{0.00} mag"),
        ("S/N", "@snr"),
    ]
    plot.add_tools(HoverTool(renderers=[points], tooltips=tooltips))


def _new_plot(y_axis_label: str, **options: Any) -> figure:
    plot = figure(
        height=_HEIGHT_PX,
        sizing_mode="stretch_width",
        tools="xpan,xwheel_zoom,box_zoom,reset",
        toolbar_location="above",
        y_axis_label=y_axis_label,
        **options,
    )
    style_plot(plot)
    # The wheel scrolls the page until a tool is chosen.
    plot.toolbar.active_scroll = None
    return plot


def style_plot(plot: figure) -> None:
    """Give a plot the pages' colours."""
    plot.update(
        background_fill_color=PANEL,
        border_fill_color=PANEL,
        outline_line_color=GRID,
        min_border_right=14,
        min_border_top=14,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    for axis in plot.axis:
        axis.axis_label_text_color = TEXT
        axis.axis_label_text_font_style = "normal"
        axis.major_label_text_color = MUTED
        axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = GRID
        axis.axis_label_text_font_size = "13px"
        axis.major_label_text_font_size = "12px"
    plot.grid.grid_line_color = GRID


def _time_plot(y_axis_label: str, time_range: Range1d | None) -> figure:
    options = {} if time_range is None else {"x_range": time_range}
    plot = _new_plot(y_axis_label, x_axis_label="time (UTC)", x_axis_type="datetime", **options)
    plot.xaxis.formatter = DatetimeTickFormatter(minutes="%H:%M", hourmin="%H:%M", hours="%H:%M")
    return plot


def _start_at_zero(plot: figure, values: Iterable[float]) -> None:
    plot.y_range = Range1d(start=0.0, end=1.15 * max(*values, 0.1), bounds="auto")


def _style_legend(plot: figure) -> None:
    for legend in plot.legend:
        plot.add_layout(legend, "right")
        legend.background_fill_color = PANEL
        legend.border_line_color = None
        legend.label_text_color = TEXT
        legend.label_text_font_size = "12px"
        legend.click_policy = "hide"
        legend.update(margin=4, padding=4)


def _by_filter(items: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    names = sorted({item.filter_name for item in items})
    return [(name, [item for item in items if item.filter_name == name]) for name in names]


def _size(marker: str) -> int:
    """Size of a marker (px); bokeh's diamond is narrow and looks smaller than the others."""
    return 14 if marker == "diamond" else 10


def _shown(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)
