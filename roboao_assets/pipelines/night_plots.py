"""Plots of a night: seeing and Strehl ratio against time, contrast curves of all observations.

Every plot takes plain sequences and returns PNG. Filters have a colour and a
marker of their own, the same in every plot and on the web pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure
from numpy.typing import NDArray

from roboao_assets.pipelines.picture_style import (
    MUTED,
    TEXT,
    filter_style,
    new_figure,
    printable,
    render_png,
    style_axes,
    style_legend,
)
from roboao_assets.science.contrast_quartiles import (
    ContrastQuartiles,
    NightCurve,
    quartiles_by_filter,
)
from roboao_assets.science.errors import ScienceError

_SIZE_PX = (900, 540)


@dataclass(frozen=True, kw_only=True)
class SeeingPoint:
    """One AO-off exposure: when (UTC), FWHM and its error, filter, exposure time."""

    utc: datetime
    fwhm_arcsec: float
    filter_name: str
    exposure_s: float | None = None
    fwhm_error_arcsec: float | None = None


def seeing_plot(
    points: Sequence[SeeingPoint],
    *,
    title: str,
    trend: Sequence[tuple[datetime, float]] = (),
    median_arcsec: float | None = None,
) -> bytes:
    """Plot the seeing of a night against time, by filter; marker size grows with exposure time.

    Parameters
    ----------
    points : sequence of SeeingPoint
    title : str
    trend : sequence of (datetime, float)
        Robust polynomial, sampled: time and FWHM (arcsec).
    median_arcsec : float or None
        Median of the night.

    Returns
    -------
    bytes
        PNG, 900 x 540 px.

    Raises
    ------
    ScienceError
        If there is no point.
    """
    if not points:
        raise ScienceError("a seeing plot was asked for of a night without any measured seeing")
    figure, axes = _time_figure(title, "seeing FWHM (arcsec)")
    longest = max((p.exposure_s or 0.0 for p in points), default=0.0)
    for name in sorted({p.filter_name for p in points}):
        colour, marker = filter_style(name)
        mine = [p for p in points if p.filter_name == name]
        size = [40.0 + 50.0 * (p.exposure_s or 0.0) / longest if longest else 55.0 for p in mine]
        axes.scatter(
            date2num([p.utc for p in mine]),
            [p.fwhm_arcsec for p in mine],
            s=size,
            color=colour,
            marker=marker,
            label=f"{printable(name, most=12)}{_exposures(mine)}",
            zorder=3,
            edgecolors="none",
        )
        axes.errorbar(
            date2num([p.utc for p in mine]),
            [p.fwhm_arcsec for p in mine],
            yerr=[p.fwhm_error_arcsec or 0.0 for p in mine],
            fmt="none",
            ecolor=colour,
            elinewidth=1.2,
        )
    if trend:
        axes.plot(
            date2num([t for t, _ in trend]),
            [value for _, value in trend],
            color=TEXT,
            linewidth=1.8,
            label="trend",
            zorder=2,
        )
    if median_arcsec is not None:
        axes.axhline(
            median_arcsec,
            color=MUTED,
            linestyle="--",
            linewidth=1.3,
            label=f'median {median_arcsec:.2f}"',
            zorder=1,
        )
    axes.set_ylim(0.0, 1.1 * max(p.fwhm_arcsec for p in points))
    fit_time_axis(axes, [p.utc for p in points])
    style_legend(axes, beside=True)
    return render_png(figure)


def contrast_plot(curves: Sequence[NightCurve], *, title: str, sigma: float = 5.0) -> bytes:
    """Plot all contrast curves of a night thin, and by filter their median and quartiles thick.

    Parameters
    ----------
    curves : sequence of NightCurve
    title : str
    sigma : float
        Significance of the curves.

    Returns
    -------
    bytes
        PNG, 900 x 540 px.

    Raises
    ------
    ScienceError
        If no curve has two finite points.
    """
    quartiles = quartiles_by_filter(curves)
    if not quartiles:
        raise ScienceError(
            f"a contrast plot was asked for of a night with {len(curves)} contrast curves, none "
            f"of which has two finite points"
        )
    figure = new_figure(*_SIZE_PX)
    axes = figure.add_axes((0.09, 0.12, 0.88, 0.78))
    style_axes(
        axes, x_label="separation (arcsec)", y_label=f"{sigma:g} σ contrast (mag)", title=title
    )
    for curve in curves:
        separation, contrast = curve.finite_points()
        colour, _ = filter_style(curve.filter_name)
        axes.plot(separation, contrast, color=colour, linewidth=0.8, alpha=0.45, zorder=2)
    for name, found in quartiles.items():
        colour, _ = filter_style(name)
        label = "one curve" if found.total == 1 else f"median of {found.total} curves"
        axes.plot(
            found.separation_arcsec,
            found.median_mag,
            color=colour,
            linewidth=3.0,
            zorder=4,
            label=f"{printable(name, most=12)}: {label}",
        )
        if found.total > 1:
            draw_quartile_band(axes, found, colour=colour)
    if any(found.total > 1 for found in quartiles.values()):
        axes.plot([], [], color=MUTED, linewidth=1.6, linestyle="--", label="quartiles")
    axes.set_xlim(left=0.0)
    low, high = contrast_limits([curve.finite_points() for curve in curves])
    axes.set_ylim(high, low)
    style_legend(axes, location="upper right")
    return render_png(figure)


def draw_quartile_band(axes: Axes, quartiles: ContrastQuartiles, *, colour: str) -> None:
    """Shade what lies between the quartiles, with dashed edges."""
    grid = quartiles.separation_arcsec
    lower, upper = quartiles.lower_mag, quartiles.upper_mag
    axes.fill_between(grid, lower, upper, color=colour, alpha=0.14, linewidth=0, zorder=1)
    for edge in (lower, upper):
        axes.plot(grid, edge, color=colour, linewidth=1.6, linestyle="--", alpha=0.8, zorder=3)


def contrast_limits(
    curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[float, float]:
    """Least and greatest magnitude that a plot of contrast curves should show.

    The outermost tenth of a curve is measured on few pixels and may jump by magnitudes: it
    widens the axis by at most one magnitude.

    Parameters
    ----------
    curves : sequence of (separation arcsec, contrast mag), each of shape (n,)
        Finite; separations increase. One at least has a point.
    """
    limits = []
    for _, contrast in curves:
        if contrast.size:
            outer = -(-contrast.size // 10) if contrast.size >= 5 else 0
            inner = contrast[: contrast.size - outer]
            low, high = float(inner.min()), float(inner.max())
            shown = np.clip(contrast, low - 1.0, high + 1.0)
            limits.append((float(shown.min()), float(shown.max())))
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    margin = max(0.06 * (high - low), 0.25)
    return low - margin, high + margin


def _time_figure(title: str, y_label: str) -> tuple[Figure, Axes]:
    figure = new_figure(*_SIZE_PX)
    axes = figure.add_axes((0.088, 0.12, 0.702, 0.78))
    style_axes(axes, x_label="time (UTC)", y_label=y_label, title=title)
    return figure, axes


def fit_time_axis(axes: Axes, times: Sequence[datetime]) -> None:
    """Show whole minutes between the first and last time, at least a quarter of an hour."""
    first, last = date2num(min(times)), date2num(max(times))
    margin = max(0.04 * (last - first), 7.5 / 1440)
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(AutoDateLocator(tz=UTC, minticks=4, maxticks=9))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M", tz=UTC))


def _exposures(points: Sequence[SeeingPoint]) -> str:
    """Exposure times of these points, for the legend."""
    times = sorted({p.exposure_s for p in points if p.exposure_s is not None})
    if not times:
        return ""
    shown = f"{times[0]:g} s" if len(times) == 1 else f"{times[0]:g}–{times[-1]:g} s"
    return f", {shown}"
