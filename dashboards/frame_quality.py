"""How good each frame was and where its star stood: `frames.txt` of an observation, as plots."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.plotting import figure
from numpy.typing import NDArray

from dashboards.plot import style_plot
from dashboards.themes import DARK, Theme
from roboao_assets.storage.fits_products import read_product_header
from roboao_assets.storage.served_files import ServedFile

_TABLE = "bright_star/frames.txt"
# In raw pixels, as the table is: its header tells their scale.
_RAW_PIXELS = "bright_star/sum.fits"
# The selection that is shown beside the stack of all frames.
BEST_PERCENT = 20
_HEIGHT_PX = 240


@dataclass(frozen=True, kw_only=True)
class FrameQuality:
    """The frames of an observation in the order of time; arrays of shape (n,).

    Attributes
    ----------
    number : ndarray of int64
    quality : ndarray of float64
        Greater is better.
    dx_arcsec, dy_arcsec : ndarray of float64
        Where the guide star stood, from its median place.
    is_best : ndarray of bool
        Of the best `BEST_PERCENT` of the frames.
    seconds : ndarray of float64
        Since the first frame; numbers of frames if the exposure is unknown.
    """

    number: NDArray[np.int64]
    quality: NDArray[np.float64]
    dx_arcsec: NDArray[np.float64]
    dy_arcsec: NDArray[np.float64]
    is_best: NDArray[np.bool_]
    seconds: NDArray[np.float64]


def read_frame_quality(
    files: Mapping[str, ServedFile], exposure_s: float | None
) -> FrameQuality | None:
    """Read an observation's table of frames; None if it has none that can be read.

    Parameters
    ----------
    files : mapping of str to ServedFile
        Of the observation.
    exposure_s : float or None
        Of the whole observation.
    """
    if _TABLE not in files or _RAW_PIXELS not in files:
        return None
    header = read_product_header(files[_RAW_PIXELS].path)
    scale_arcsec = None if header is None else header.get("PIXSCALE")
    if not isinstance(scale_arcsec, float):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of a table without rows
            rows = np.loadtxt(files[_TABLE].path, ndmin=2)
    except (OSError, ValueError, UserWarning):
        return None
    if rows.shape[0] < 2 or rows.shape[1] < 5:
        return None
    number, quality = rows[:, 0].astype(np.int64), rows[:, 1]
    best = np.argsort(-quality, kind="stable")[: max(1, len(quality) * BEST_PERCENT // 100)]
    frame_s = 1.0 if not exposure_s else exposure_s / (number.max() + 1)
    x, y = rows[:, 3] * scale_arcsec, rows[:, 4] * scale_arcsec
    return FrameQuality(
        number=number,
        quality=quality,
        dx_arcsec=x - np.median(x),
        dy_arcsec=y - np.median(y),
        is_best=np.isin(np.arange(len(quality)), best),
        seconds=number * frame_s,
    )


def plot_frame_quality(frames: FrameQuality, theme: Theme = DARK) -> tuple[figure, figure]:
    """Return the quality of the frames, and where their star stood, over time."""
    source = ColumnDataSource(
        {
            "time": frames.seconds,
            "number": frames.number,
            "quality": frames.quality,
            "dx": frames.dx_arcsec * 1000,
            "dy": frames.dy_arcsec * 1000,
            "colour": np.where(frames.is_best, theme.candidate, theme.muted),
            "which": np.where(frames.is_best, f"of the best {BEST_PERCENT} %", ""),
        }
    )
    last = float(frames.seconds[-1])
    span = Range1d(start=-0.02 * last, end=1.02 * last)
    quality = _over_time(span, "quality of the frame")
    points = quality.scatter("time", "quality", source=source, color="colour", size=6)
    tips = [("frame", "@number"), ("quality", "@quality{0.0000}"), ("", "@which")]
    quality.add_tools(HoverTool(renderers=[points], tooltips=tips))
    place = _over_time(span, "from the median (mas)")
    lines = [
        place.line("time", "dx", source=source, color=theme.accent, legend_label="x"),
        place.line("time", "dy", source=source, color=theme.candidate, legend_label="y"),
    ]
    tips = [("frame", "@number"), ("x, y", "@dx{0.0}, @dy{0.0} mas")]
    place.add_tools(HoverTool(renderers=lines[:1], tooltips=tips, mode="vline"))
    place.legend.update(background_fill_alpha=0.6, padding=4)
    return quality, place


def _over_time(span: Range1d, label: str) -> figure:
    plot = figure(
        height=_HEIGHT_PX,
        sizing_mode="stretch_width",
        tools="xpan,xwheel_zoom,box_zoom,reset",
        toolbar_location="above",
        x_range=span,
        x_axis_label="time since the first frame (s)",
        y_axis_label=label,
    )
    style_plot(plot)
    plot.toolbar.active_scroll = None
    return plot
