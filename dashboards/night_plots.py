"""A night in four plots: seeing, Strehl ratio and contrast over time, and its contrast curves.

The palette is the previews' own. A click on what belongs to an observation opens its page.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from bokeh.models import (
    ColumnDataSource,
    DatetimeTickFormatter,
    GlyphRenderer,
    HoverTool,
    Range1d,
)
from bokeh.plotting import figure

from dashboards.collect import Night, Observation
from dashboards.compute import (
    SUMMARY_SEPARATION_ARCSEC,
    contrast_at_one_arcsec,
    contrast_medians,
    seeing_trend,
)
from dashboards.links import image_url, observation_url
from dashboards.plot import new_plot, open_on_click, shown, style_legend
from dashboards.results import Curve, MedianCurve
from dashboards.themes import DARK, Theme

_HEIGHT_PX = 260
# So many points draw a curve; more would only make the page larger.
_MOST_CURVE_POINTS = 40
_UTC = {"@time": "datetime"}


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


def plot_seeing(
    night: Night, time_range: Range1d | None = None, theme: Theme = DARK
) -> figure | None:
    """Plot the night's AO-off exposures, its trend and median; None if there is no seeing.

    A click on a point opens the picture of the exposure.
    """
    if not night.seeing:
        return None
    plot = _time_plot("seeing FWHM (arcsec)", time_range)
    clicked = []
    for name, frames in _by_filter(night.seeing):
        keys = [f"{night.night}/seeing/{frame.id}" for frame in frames]
        columns = {
            "time": [frame.utc for frame in frames],
            "value": [frame.fwhm_arcsec for frame in frames],
            "x": [shown(frame.fwhm_x_arcsec, ".2f") for frame in frames],
            "y": [shown(frame.fwhm_y_arcsec, ".2f") for frame in frames],
            "exposure": [shown(frame.exposure_s, "g") for frame in frames],
            "name": [frame.id for frame in frames],
            # Where there is no picture, a click leads nowhere.
            "url": [
                image_url(key, version=night.version) if key in night.image_keys else "#"
                for key in keys
            ],
        }
        tips = [("FWHM", '@value{0.00}" (@x × @y)'), ("exposure", "@exposure s")]
        clicked.append(_add_points(plot, name, columns, tips, theme))
    open_on_click(plot, clicked)
    trend = seeing_trend(night.seeing)
    if trend:
        times, values = zip(*trend, strict=True)
        plot.line(times, values, color=theme.text, line_width=1.8, legend_label="trend")
    if night.seeing_median_arcsec is not None:
        ends = [night.seeing[0].utc, night.seeing[-1].utc]
        plot.line(
            ends,
            [night.seeing_median_arcsec] * 2,
            color=theme.muted,
            line_dash="dashed",
            legend_label=f'median {night.seeing_median_arcsec:.2f}"',
        )
    _start_at_zero(plot, [frame.fwhm_arcsec for frame in night.seeing])
    style_legend(plot)
    return plot


def plot_strehl(
    observations: Sequence[Observation], time_range: Range1d | None = None, theme: Theme = DARK
) -> figure | None:
    """Plot Strehl ratios with errors; flagged ones are hollow. None if there is none."""
    measured = [o for o in observations if o.strehl_percent is not None and o.utc is not None]
    if not measured:
        return None
    plot = _time_plot("Strehl ratio (%)", time_range)
    clicked = []
    for name, group in _by_filter(measured):
        errors = [o.strehl_error_percent or 0.0 for o in group]
        ratios = [o.strehl_percent or 0.0 for o in group]
        columns = {
            **_identity(group),
            "value": ratios,
            "low": [ratio - error for ratio, error in zip(ratios, errors, strict=True)],
            "high": [ratio + error for ratio, error in zip(ratios, errors, strict=True)],
            "error": errors,
            "filled": [0.9 if o.strehl_flag == "OK" else 0.0 for o in group],
            "flag": [o.strehl_flag for o in group],
        }
        tips = [("Strehl", "@value{0.0} ± @error{0.0} %  @flag")]
        points = _add_points(plot, name, columns, tips, theme, fill_alpha="filled")
        colour, _ = theme.filter_style(name)
        bars = plot.segment("time", "low", "time", "high", source=points.data_source, color=colour)
        bars.nonselection_glyph = None
        clicked.append(points)
    open_on_click(plot, clicked)
    _start_at_zero(plot, [o.strehl_percent or 0.0 for o in measured])
    style_legend(plot)
    return plot


def plot_contrast_over_time(
    observations: Sequence[Observation], time_range: Range1d | None = None, theme: Theme = DARK
) -> figure | None:
    """Plot the contrast at 1", the deepest lowest; None if there is none."""
    values = {o.id: contrast_at_one_arcsec(o) for o in observations if o.utc is not None}
    measured = [o for o in observations if values.get(o.id) is not None]
    if not measured:
        return None
    at = f'{SUMMARY_SEPARATION_ARCSEC:g}"'
    plot = _time_plot(f"contrast at {at} (mag)", time_range)
    tips, clicked = [(f"contrast at {at}", "@value{0.00} mag")], []
    for name, group in _by_filter(measured):
        columns = {**_identity(group), "value": [values[o.id] for o in group]}
        clicked.append(_add_points(plot, name, columns, tips, theme))
    open_on_click(plot, clicked)
    plot.y_range.flipped = True
    style_legend(plot)
    return plot


def plot_contrast_curves(night: Night, theme: Theme = DARK) -> figure | None:
    """Plot every contrast curve of a night, and median and quartiles by filter; None without any.

    The medians are the night's summary for who may see that, which is made of all programs;
    for others they are of the curves that they see.
    """
    curves = [(o, o.curve) for o in night.observations if o.curve is not None]
    if not curves:
        return None
    plot = new_plot("5 σ contrast (mag)", height_px=_HEIGHT_PX, x_axis_label="separation (arcsec)")
    lines = []
    for name in sorted({o.filter_name for o, _ in curves}):
        group = [(o, curve) for o, curve in curves if o.filter_name == name]
        lines.append(_add_curves(plot, name, group, theme))
    medians = night.contrast_medians or contrast_medians(night.observations)
    for name, median in medians.items():
        _add_median(plot, name, median, theme)
    tips = [("", "@name"), ("separation", '$x{0.00}"'), ("contrast", "$y{0.00} mag")]
    plot.add_tools(HoverTool(renderers=lines, tooltips=tips, line_policy="nearest"))
    open_on_click(plot, lines)
    plot.y_range.flipped = True
    style_legend(plot)
    return plot


def _add_curves(
    plot: figure, name: str, curves: Sequence[tuple[Observation, Curve]], theme: Theme
) -> GlyphRenderer:
    points = [_thinned(curve) for _, curve in curves]
    source = ColumnDataSource(
        {
            "separation": [separation for separation, _ in points],
            "contrast": [contrast for _, contrast in points],
            "name": [o.name or o.id for o, _ in curves],
            "url": [observation_url(o.id) for o, _ in curves],
        }
    )
    colour, _ = theme.filter_style(name)
    lines = plot.multi_line(
        "separation",
        "contrast",
        source=source,
        color=colour,
        alpha=0.35,
        hover_line_alpha=1.0,
        hover_line_color=colour,
        legend_label=f"{name or '?'} ({len(curves)})",
    )
    lines.nonselection_glyph = None
    return lines


def _add_median(plot: figure, name: str, median: MedianCurve, theme: Theme) -> None:
    colour, _ = theme.filter_style(name)
    label = f"{name or '?'} median"
    x = median.separation_arcsec
    plot.varea(x, median.lower_mag, median.upper_mag, color=colour, alpha=0.2, legend_label=label)
    plot.line(x, median.median_mag, color=colour, line_width=3, legend_label=label)


def _thinned(curve: Curve) -> tuple[list[float], list[float]]:
    """Return a curve's points, some left out of a long one, to three decimals."""
    step = -(-len(curve.separation_arcsec) // _MOST_CURVE_POINTS)
    return (
        [round(value, 3) for value in curve.separation_arcsec[::step]],
        [round(value, 3) for value in curve.contrast_mag[::step]],
    )


def _identity(observations: Sequence[Observation]) -> dict[str, list[Any]]:
    return {
        "time": [o.utc for o in observations],
        "name": [o.name or o.id for o in observations],
        "url": [observation_url(o.id) for o in observations],
    }


def _add_points(
    plot: figure,
    filter_name: str,
    columns: Mapping[str, Sequence[Any]],
    tips: Sequence[tuple[str, str]],
    theme: Theme,
    fill_alpha: str | float = 0.9,
) -> GlyphRenderer:
    """Add a filter's points at `time` and `value`; hovered they tell, clicked they open `url`."""
    colour, marker = theme.filter_style(filter_name)
    points: GlyphRenderer = plot.scatter(
        "time",
        "value",
        source=ColumnDataSource(dict(columns)),
        marker=marker,
        # Bokeh's diamond is narrow and looks smaller than the others.
        size=14 if marker == "diamond" else 10,
        line_color=colour,
        line_width=1.5,
        fill_color=colour,
        fill_alpha=fill_alpha,
        legend_label=filter_name or "?",
    )
    # What was clicked is opened, not picked out: the others stay as they are.
    points.nonselection_glyph = None
    head = [("", "@name"), ("UTC", "@time{%H:%M:%S}")]
    plot.add_tools(HoverTool(renderers=[points], tooltips=[*head, *tips], formatters=_UTC))
    return points


def _time_plot(y_axis_label: str, time_range: Range1d | None) -> figure:
    options = {} if time_range is None else {"x_range": time_range}
    plot = new_plot(
        y_axis_label,
        height_px=_HEIGHT_PX,
        x_axis_label="time (UTC)",
        x_axis_type="datetime",
        **options,
    )
    plot.xaxis.formatter = DatetimeTickFormatter(minutes="%H:%M", hourmin="%H:%M", hours="%H:%M")
    return plot


def _start_at_zero(plot: figure, values: Iterable[float]) -> None:
    plot.y_range = Range1d(start=0.0, end=1.15 * max(*values, 0.1), bounds="auto")


def _by_filter(items: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    names = sorted({item.filter_name for item in items})
    return [(name, [item for item in items if item.filter_name == name]) for name in names]
