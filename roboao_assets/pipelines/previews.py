"""Previews of one observation: images with a scale and a compass, as PNG.

Images are (y, x) with y up; positions are (x, y), 0-based, in pixels of the
image that is drawn. Nothing is written here: the caller stores the bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse, Rectangle
from numpy.typing import NDArray

from roboao_assets.pipelines.picture_style import (
    ACCENT,
    MUTED,
    TEXT,
    WARNING,
    measure_background,
    new_figure,
    printable,
    render_png,
    shrink,
    stretch_asinh,
    style_axes,
    style_legend,
)
from roboao_assets.science.errors import ScienceError

_TITLE_PX = 36
_OUTLINE = (patheffects.withStroke(linewidth=2.5, foreground="#000000b0"),)
_NO_DATA = "#2b2f36"


@dataclass(frozen=True, kw_only=True)
class CandidateMark:
    """A companion candidate to be circled.

    Attributes
    ----------
    x, y : float
        Position in pixels of the residual.
    label : str
        Short text beside the circle, e.g. its significance.
    """

    x: float
    y: float
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Sky:
    """How an image lies on the sky.

    Attributes
    ----------
    plate_scale_arcsec : float
        Pixel of the image.
    east_is_left : bool
        True: with y up, east is towards smaller x.
    y_axis_pa_deg : float
        Position angle of the +y axis, east of north.
    """

    plate_scale_arcsec: float
    east_is_left: bool = True
    y_axis_pa_deg: float = 0.0

    def direction(self, position_angle_deg: float) -> tuple[float, float]:
        """Unit vector (dx, dy) of a position angle."""
        angle = radians(position_angle_deg - self.y_axis_pa_deg)
        towards_east = -1.0 if self.east_is_left else 1.0
        return towards_east * sin(angle), cos(angle)


def full_preview(
    image: NDArray[np.float32],
    *,
    plate_scale_arcsec: float,
    title: str,
    east_is_left: bool = True,
    y_axis_pa_deg: float = 0.0,
    lock_xy: tuple[float, float] | None = None,
    lock_side_arcsec: float = 3.0,
    width_px: int = 800,
) -> bytes:
    """Draw the whole field.

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        May hold NaN (no data), shown grey.
    plate_scale_arcsec : float
        Pixel of `image`.
    title : str
    east_is_left, y_axis_pa_deg
        See `roboao_assets.science.instrument.InstrumentProfile`.
    lock_xy : tuple of float or None
        Position of the lock star, boxed.
    lock_side_arcsec : float
        Side of that box.
    width_px : int
        Width of the picture.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ScienceError
        If the image is not two-dimensional or has no finite pixel.
    """
    _check_image(image)
    sky = Sky(
        plate_scale_arcsec=plate_scale_arcsec,
        east_is_left=east_is_left,
        y_axis_pa_deg=y_axis_pa_deg,
    )
    small, _ = shrink(image, width_px)
    level, spread = measure_background(small)
    shown = stretch_asinh(small, level=level, spread=spread, depth=3e-4)
    figure, axes = _new_picture(image.shape, width_px, title)
    _show(axes, shown, image.shape)
    if lock_xy is not None:
        _draw_box(axes, lock_xy, lock_side_arcsec / plate_scale_arcsec)
    _draw_scale_bar(axes, sky, _round_length(0.2 * image.shape[1] * plate_scale_arcsec))
    _draw_compass(axes, sky)
    return render_png(figure)


def cropped_preview(
    image: NDArray[np.float32],
    x: float,
    y: float,
    side_arcsec: float,
    *,
    plate_scale_arcsec: float,
    title: str,
    strehl_percent: float | None = None,
    strehl_error_percent: float | None = None,
    fwhm_arcsec: float | None = None,
    flag: str = "",
    east_is_left: bool = True,
    y_axis_pa_deg: float = 0.0,
    width_px: int = 600,
) -> bytes:
    """Draw the surroundings of the lock star, with its Strehl ratio.

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        The whole field; may hold NaN.
    x, y : float
        Position of the star.
    side_arcsec : float
        Side of the part shown; what lies outside `image` is grey.
    plate_scale_arcsec : float
    title : str
    strehl_percent, strehl_error_percent, fwhm_arcsec : float or None
        Written where given.
    flag : str
        `OK`, `BAD?` or empty.
    east_is_left, y_axis_pa_deg, width_px
        As in `full_preview`.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ScienceError
        If no finite pixel lies in the part shown.
    """
    _check_image(image)
    sky = Sky(
        plate_scale_arcsec=plate_scale_arcsec,
        east_is_left=east_is_left,
        y_axis_pa_deg=y_axis_pa_deg,
    )
    box = _cut(image, x, y, side_arcsec / plate_scale_arcsec)
    level, spread = _rim_background(box)
    shown = stretch_asinh(box, level=level, spread=spread, depth=2e-3)
    figure, axes = _new_picture(box.shape, width_px, title)
    _show(axes, shown, box.shape)
    bar = 0.5 if side_arcsec >= 1.5 else _round_length(0.2 * side_arcsec)
    _draw_scale_bar(axes, sky, bar)
    _draw_compass(axes, sky)
    lines = []
    if strehl_percent is not None:
        error = f" ± {strehl_error_percent:.1f}" if strehl_error_percent is not None else ""
        lines.append(f"Strehl = {strehl_percent:.1f} %{error}")
    if fwhm_arcsec is not None:
        lines.append(f'FWHM = {fwhm_arcsec:.3f}"')
    _write(axes, 0.03, 0.97, "\n".join(lines), size=15, vertical="top")
    if flag:
        colour = TEXT if flag == "OK" else WARNING
        _write(
            axes,
            0.97,
            0.97,
            printable(flag, most=16),
            size=15,
            vertical="top",
            horizontal="right",
            colour=colour,
        )
    return render_png(figure)


def residual_preview(
    residual: NDArray[np.float32],
    *,
    plate_scale_arcsec: float,
    title: str,
    candidates: Sequence[CandidateMark] = (),
    east_is_left: bool = True,
    y_axis_pa_deg: float = 0.0,
    width_px: int = 600,
) -> bytes:
    """Draw a PSF-subtracted residual around its centre: blue below zero, red above.

    Parameters
    ----------
    residual : ndarray of float, shape (y, x)
        May hold NaN; the star is at ((x size - 1) / 2, (y size - 1) / 2).
    plate_scale_arcsec : float
    title : str
    candidates : sequence of CandidateMark
        Circled.
    east_is_left, y_axis_pa_deg, width_px
        As in `full_preview`.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ScienceError
        If no pixel is finite.
    """
    _check_image(residual)
    sky = Sky(
        plate_scale_arcsec=plate_scale_arcsec,
        east_is_left=east_is_left,
        y_axis_pa_deg=y_axis_pa_deg,
    )
    _, spread = measure_background(residual)
    limit = max(float(np.nanpercentile(np.abs(residual), 99.8)), 4.0 * spread)
    # asinh on both sides of zero: the noise stays visible beside the star's leftover speckles.
    shown = np.arcsinh(residual / spread) / np.arcsinh(limit / spread)
    figure, axes = _new_picture(residual.shape, width_px, title)
    _show(axes, np.clip(shown, -1.0, 1.0), residual.shape, colours="berlin", lowest=-1.0)
    rows, columns = residual.shape
    axes.plot(
        (columns - 1) / 2, (rows - 1) / 2, "+", color=TEXT, markersize=14, markeredgewidth=1.4
    )
    radius = 0.035 * columns
    for candidate in candidates:
        circle = Circle((candidate.x, candidate.y), radius, fill=False, edgecolor="#F0E442", lw=1.8)
        axes.add_patch(circle)
        if candidate.label:
            _write_at(axes, candidate.x, candidate.y + 1.15 * radius, candidate.label)
    _draw_scale_bar(axes, sky, _round_length(0.2 * columns * plate_scale_arcsec))
    _draw_compass(axes, sky)
    _write(axes, 0.03, 0.97, f"± {limit / spread:.0f} σ, asinh", size=13, vertical="top")
    return render_png(figure)


def contrast_curve_plot(
    separation_arcsec: Sequence[float] | NDArray[np.floating],
    contrast_mag: Sequence[float] | NDArray[np.floating],
    *,
    title: str,
    night_median: tuple[Sequence[float], Sequence[float]] | None = None,
    sigma: float = 5.0,
) -> bytes:
    """Plot a contrast curve; fainter companions are further down.

    Parameters
    ----------
    separation_arcsec, contrast_mag : sequence of float, shape (n,)
        Values that are not finite are left out.
    title : str
    night_median : tuple of two sequences or None
        Separation and contrast of the median of the night, drawn for comparison.
    sigma : float
        Significance of the curve.

    Returns
    -------
    bytes
        PNG, 800 x 500 px.

    Raises
    ------
    ScienceError
        If no point is finite.
    """
    separation = np.asarray(separation_arcsec, dtype=float)
    contrast = np.asarray(contrast_mag, dtype=float)
    good = np.isfinite(separation) & np.isfinite(contrast)
    if not good.any():
        raise ScienceError(
            f"a plot was asked for of a contrast curve of {separation.size} points of which none "
            f"is finite; look at the residual it was measured on"
        )
    figure = new_figure(800, 500)
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.76))
    style_axes(
        axes,
        x_label="separation (arcsec)",
        y_label=f"{sigma:g} σ contrast (mag)",
        title=title,
    )
    if night_median is not None:
        axes.plot(*night_median, color=MUTED, linestyle="--", linewidth=1.5, label="night median")
    axes.plot(
        separation[good],
        contrast[good],
        color=ACCENT,
        linewidth=2.4,
        label="this observation",
        marker="o" if good.sum() == 1 else "",
    )
    axes.set_xlim(left=0.0)
    axes.invert_yaxis()
    if night_median is not None:
        style_legend(axes, location="upper right")
    return render_png(figure)


def seeing_exposure_preview(
    image: NDArray[np.float32],
    *,
    x: float,
    y: float,
    fwhm_x_arcsec: float,
    fwhm_y_arcsec: float,
    fwhm_arcsec: float,
    plate_scale_arcsec: float,
    title: str,
    residual: NDArray[np.float32] | None = None,
) -> bytes:
    """Draw an AO-off exposure: the field and, beside it, the fitted star with its FWHM ellipse.

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        Mean of the exposure, calibrated; may hold NaN.
    x, y : float
        Fitted position of the star.
    fwhm_x_arcsec, fwhm_y_arcsec, fwhm_arcsec : float
        Widths along x and y, and their mean.
    plate_scale_arcsec : float
    title : str
    residual : ndarray of float, shape (y, x), optional
        Data minus model in the fitted box, or in the whole field; its rms is written.

    Returns
    -------
    bytes
        PNG, 1000 x 536 px.

    Raises
    ------
    ScienceError
        If no pixel is finite.
    """
    _check_image(image)
    sky = Sky(plate_scale_arcsec=plate_scale_arcsec)
    side_px = 6.0 * max(fwhm_arcsec, fwhm_x_arcsec, fwhm_y_arcsec) / plate_scale_arcsec
    figure = new_figure(1000, 500 + _TITLE_PX)
    _write_title(figure, title)
    height = 500 / (500 + _TITLE_PX)
    field = figure.add_axes((0.0, 0.0, 0.497, height))
    zoom = figure.add_axes((0.503, 0.0, 0.497, height))
    small, _ = shrink(image, 500)
    level, spread = measure_background(small)
    _show(field, stretch_asinh(small, level=level, spread=spread, depth=3e-3), image.shape)
    _draw_box(field, (x, y), side_px)
    _draw_scale_bar(field, sky, _round_length(0.2 * image.shape[1] * plate_scale_arcsec))
    box = _cut(image, x, y, side_px)
    _show(zoom, stretch_asinh(box, level=level, spread=spread, depth=0.1), box.shape)
    corner_x, corner_y = _corner(x, y, box.shape[0])
    zoom.add_patch(
        Ellipse(
            (x - corner_x, y - corner_y),
            fwhm_x_arcsec / plate_scale_arcsec,
            fwhm_y_arcsec / plate_scale_arcsec,
            fill=False,
            edgecolor=ACCENT,
            linewidth=1.8,
        )
    )
    _draw_scale_bar(zoom, sky, _round_length(0.2 * box.shape[1] * plate_scale_arcsec))
    text = f'FWHM = {fwhm_arcsec:.2f}"  ({fwhm_x_arcsec:.2f} × {fwhm_y_arcsec:.2f})'
    if residual is not None and np.isfinite(residual).any():
        text += f"\nresidual rms = {float(np.nanstd(residual)):.3g} ADU"
    _write(zoom, 0.03, 0.97, text, size=13, vertical="top")
    return render_png(figure)


def _check_image(image: NDArray[np.float32]) -> None:
    if image.ndim != 2 or image.size == 0:
        raise ScienceError(
            f"a preview was asked for of an array of shape {image.shape}; an image (y, x) is needed"
        )


def _new_picture(shape: tuple[int, ...], width_px: int, title: str) -> tuple[Figure, Axes]:
    """Return a figure whose axes fill it below a title strip, in the aspect of the image."""
    height_px = max(round(width_px * shape[0] / shape[1]), width_px // 4)
    figure = new_figure(width_px, height_px + _TITLE_PX)
    _write_title(figure, title)
    axes = figure.add_axes((0.0, 0.0, 1.0, height_px / (height_px + _TITLE_PX)))
    return figure, axes


def _write_title(figure: Figure, title: str) -> None:
    height_px = figure.get_figheight() * figure.dpi
    width_px = figure.get_figwidth() * figure.dpi
    # A sans character is about 0.62 of the size wide; ids are long and must stay on the picture.
    size = min(12.0, max(7.0, 72.0 * (width_px - 24) / (figure.dpi * 0.62 * max(len(title), 1))))
    figure.text(
        12 / width_px,
        1.0 - 0.5 * _TITLE_PX / height_px,
        printable(title),
        color=TEXT,
        fontsize=size,
        verticalalignment="center",
        parse_math=False,
    )


def _show(
    axes: Axes,
    shown: NDArray[np.float32],
    shape: tuple[int, ...],
    *,
    colours: str = "inferno",
    lowest: float = 0.0,
) -> None:
    """Show values between `lowest` and 1 in the pixel coordinates of an image of `shape`."""
    axes.set_facecolor(_NO_DATA)
    step = -(-max(shape) // max(shown.shape))
    rows, columns = shown.shape
    magnified = axes.get_window_extent().width > 2.0 * columns and not np.isnan(shown).any()
    axes.imshow(
        shown,
        origin="lower",
        cmap=colours,
        vmin=lowest,
        vmax=1.0,
        interpolation="bicubic" if magnified else "nearest",
        interpolation_stage="data",
        extent=(-0.5, columns * step - 0.5, -0.5, rows * step - 0.5),
        aspect="equal",
    )
    axes.set_xlim(-0.5, shape[1] - 0.5)
    axes.set_ylim(-0.5, shape[0] - 0.5)
    axes.set_axis_off()
    axes.add_patch(
        Rectangle((0, 0), 1, 1, transform=axes.transAxes, facecolor=_NO_DATA, zorder=-10)
    )


def _corner(x: float, y: float, side: int) -> tuple[int, int]:
    """Pixel (x, y) of the image that is the first of a box of `side` px centred on (x, y)."""
    return round(x) - side // 2, round(y) - side // 2


def _cut(image: NDArray[np.float32], x: float, y: float, side_px: float) -> NDArray[np.float32]:
    """Return the square of odd side round (x, y), NaN outside the image."""
    side = max(2 * round((side_px - 1) / 2) + 1, 5)
    corner_x, corner_y = _corner(x, y, side)
    rows, columns = image.shape
    box = np.full((side, side), np.nan, dtype=np.float32)
    y_low, y_high = max(corner_y, 0), min(corner_y + side, rows)
    x_low, x_high = max(corner_x, 0), min(corner_x + side, columns)
    if y_low < y_high and x_low < x_high:
        box[y_low - corner_y : y_high - corner_y, x_low - corner_x : x_high - corner_x] = image[
            y_low:y_high, x_low:x_high
        ]
    return box


def _rim_background(box: NDArray[np.float32]) -> tuple[float, float]:
    """Background of a box that is centred on a star: from its outer fifth, if it holds data."""
    rim = box.copy()
    border = max(1, box.shape[0] // 10)
    rim[border:-border, border:-border] = np.nan
    return measure_background(rim if np.isfinite(rim).sum() > 20 else box)


def _round_length(length_arcsec: float) -> float:
    """Return the 1-2-5 number nearest to `length_arcsec` from below."""
    power = 10.0 ** np.floor(np.log10(length_arcsec))
    return float(max(step for step in (1.0, 2.0, 5.0) if step * power <= length_arcsec) * power)


def _draw_box(axes: Axes, xy: tuple[float, float], side_px: float) -> None:
    axes.add_patch(
        Rectangle(
            (xy[0] - side_px / 2, xy[1] - side_px / 2),
            side_px,
            side_px,
            fill=False,
            edgecolor=ACCENT,
            linewidth=1.5,
        )
    )


def _draw_scale_bar(axes: Axes, sky: Sky, length_arcsec: float) -> None:
    """Draw a bar of that length at the lower left."""
    columns = axes.get_xlim()[1] - axes.get_xlim()[0]
    width = length_arcsec / sky.plate_scale_arcsec / columns
    axes.plot(
        (0.035, 0.035 + width),
        (0.04, 0.04),
        transform=axes.transAxes,
        color=TEXT,
        linewidth=3.0,
        solid_capstyle="butt",
        path_effects=_OUTLINE,
        scalex=False,
        scaley=False,
    )
    _write(axes, 0.035 + width / 2, 0.052, f'{length_arcsec:g}"', size=13, horizontal="center")


def _draw_compass(axes: Axes, sky: Sky) -> None:
    """Draw arrows to north and east at the lower right."""
    box = axes.get_window_extent()
    shape = np.array([1.0, box.width / box.height])
    north, east = np.array(sky.direction(0.0)), np.array(sky.direction(90.0))
    length = 0.075
    # The corner is chosen such that neither arrow nor letter leaves the picture.
    reach = 1.5 * length
    tips = np.array([[0.0, 0.0], north, east]) * reach
    origin = np.array([0.97 - tips[:, 0].max(), 0.03 - (tips[:, 1] * shape[1]).min()])
    for letter, direction in (("N", north), ("E", east)):
        tip = origin + direction * length * shape
        axes.annotate(
            "",
            xy=tuple(tip),
            xytext=tuple(origin),
            xycoords="axes fraction",
            textcoords="axes fraction",
            arrowprops={
                "arrowstyle": "-|>",
                "color": TEXT,
                "linewidth": 1.6,
                "shrinkA": 0,
                "shrinkB": 0,
                "mutation_scale": 12,
                "path_effects": _OUTLINE,
            },
        )
        x, y = origin + direction * 1.32 * length * shape
        _write(axes, x, y, letter, size=12, horizontal="center", vertical="center")


def _write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    horizontal: str = "left",
    vertical: str = "bottom",
    colour: str = TEXT,
) -> None:
    """Write at a place given as a fraction of the axes."""
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        color=colour,
        fontsize=size,
        horizontalalignment=horizontal,
        verticalalignment=vertical,
        path_effects=_OUTLINE,
        parse_math=False,
        linespacing=1.35,
    )


def _write_at(axes: Axes, x: float, y: float, text: str) -> None:
    """Write above a place given in pixels of the image."""
    axes.text(
        x,
        y,
        printable(text, most=24),
        color="#F0E442",
        fontsize=12,
        horizontalalignment="center",
        verticalalignment="bottom",
        path_effects=_OUTLINE,
        parse_math=False,
    )
