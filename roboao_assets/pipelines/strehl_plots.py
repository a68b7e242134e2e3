"""The Strehl ratios of a night: against time, seeing and magnitude."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from matplotlib.axes import Axes
from matplotlib.dates import date2num

from roboao_assets.pipelines.night_plots import fit_time_axis
from roboao_assets.pipelines.picture_style import (
    MUTED,
    filter_style,
    new_figure,
    printable,
    render_png,
    style_axes,
    style_legend,
)
from roboao_assets.science.errors import ScienceError

_SIZE_PX = (900, 900)


@dataclass(frozen=True, kw_only=True)
class StrehlPoint:
    """The Strehl ratio of one observation; `flag` is `OK` or `BAD?`.

    `seeing_arcsec` is the nearest in time, `magnitude` that of the header; None: not known.
    """

    utc: datetime
    ratio_percent: float
    filter_name: str
    flag: str = "OK"
    ratio_error_percent: float | None = None
    seeing_arcsec: float | None = None
    magnitude: float | None = None


def strehl_plot(points: Sequence[StrehlPoint], *, title: str) -> bytes:
    """Plot the Strehl ratios of a night by filter; measurements flagged `BAD?` are hollow.

    Parameters
    ----------
    points : sequence of StrehlPoint
        Against seeing and magnitude only those stand of which it is known.
    title : str

    Returns
    -------
    bytes
        PNG, 900 x 900 px.

    Raises
    ------
    ScienceError
        If there is no point.
    """
    if not points:
        raise ScienceError("a Strehl plot was asked for of a night without any Strehl ratio")
    figure = new_figure(*_SIZE_PX)
    over_time = figure.add_axes((0.088, 0.57, 0.702, 0.36))
    over_seeing = figure.add_axes((0.088, 0.075, 0.40, 0.38))
    over_magnitude = figure.add_axes((0.58, 0.075, 0.40, 0.38))
    style_axes(over_time, x_label="time (UTC)", y_label="Strehl ratio (%)", title=title)
    style_axes(over_seeing, x_label="nearest seeing (arcsec)", y_label="Strehl ratio (%)")
    style_axes(over_magnitude, x_label="magnitude", y_label="")
    _draw(over_time, points, lambda p: date2num(p.utc))
    _draw(over_seeing, points, lambda p: p.seeing_arcsec)
    _draw(over_magnitude, points, lambda p: p.magnitude)
    if any(p.flag != "OK" for p in points):
        over_time.plot([], [], "o", markerfacecolor="none", color=MUTED, label="hollow: flagged")
    top = over_time.get_ylim()[1]
    for axes in (over_time, over_seeing, over_magnitude):
        axes.set_ylim(0.0, top)
    fit_time_axis(over_time, [p.utc for p in points])
    style_legend(over_time, beside=True)
    return render_png(figure)


def _draw(
    axes: Axes, points: Sequence[StrehlPoint], place: Callable[[StrehlPoint], float | None]
) -> None:
    """Draw the points that have a place; say so if there is none."""
    known = [(place(p), p) for p in points if place(p) is not None]
    if not known:
        axes.text(0.5, 0.5, "not known", color=MUTED, ha="center", transform=axes.transAxes)
    named: set[str] = set()
    for name in sorted({p.filter_name for _, p in known}):
        colour, marker = filter_style(name)
        for good in (True, False):
            mine = [(x, p) for x, p in known if p.filter_name == name and (p.flag == "OK") is good]
            if not mine:
                continue
            errors = [p.ratio_error_percent or 0.0 for _, p in mine]
            axes.errorbar(
                [x for x, _ in mine],
                [p.ratio_percent for _, p in mine],
                yerr=errors if any(errors) else None,
                linestyle="none",
                marker=marker,
                markersize=8,
                color=colour,
                markerfacecolor=colour if good else "none",
                ecolor=colour,
                elinewidth=1.2,
                label=None if name in named else printable(name, most=12),
            )
            named.add(name)
