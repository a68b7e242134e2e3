"""Previews of one observation: images with a scale and a compass, as PNG.

Images are (y, x) with y up; positions are (x, y), 0-based, in pixels of the
image that is drawn. Nothing is written here: the caller stores the bytes.
"""

import numpy as np
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from roboao_assets.pipelines.picture_style import (
    ACCENT,
    TEXT,
    WARNING,
    measure_background,
    new_figure,
    printable,
    render_png,
    shrink,
    stretch_asinh,
)
from roboao_assets.pipelines.sky_picture import (
    TITLE_PX,
    Sky,
    check_image,
    corner_of,
    cut_box,
    draw_box,
    draw_compass,
    draw_scale_bar,
    new_picture,
    rim_background,
    round_length,
    show_image,
    write_text,
    write_title,
)


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
    check_image(image)
    sky = Sky(
        plate_scale_arcsec=plate_scale_arcsec,
        east_is_left=east_is_left,
        y_axis_pa_deg=y_axis_pa_deg,
    )
    small, _ = shrink(image, width_px)
    level, spread = measure_background(small)
    shown = stretch_asinh(small, level=level, spread=spread, depth=3e-4)
    figure, axes = new_picture(image.shape, width_px, title)
    show_image(axes, shown, image.shape)
    if lock_xy is not None:
        draw_box(axes, lock_xy, lock_side_arcsec / plate_scale_arcsec)
    draw_scale_bar(axes, sky, round_length(0.2 * image.shape[1] * plate_scale_arcsec))
    draw_compass(axes, sky)
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
    check_image(image)
    sky = Sky(
        plate_scale_arcsec=plate_scale_arcsec,
        east_is_left=east_is_left,
        y_axis_pa_deg=y_axis_pa_deg,
    )
    box = cut_box(image, x, y, side_arcsec / plate_scale_arcsec)
    level, spread = rim_background(box)
    shown = stretch_asinh(box, level=level, spread=spread, depth=2e-3)
    figure, axes = new_picture(box.shape, width_px, title)
    show_image(axes, shown, box.shape)
    bar = 0.5 if side_arcsec >= 1.5 else round_length(0.2 * side_arcsec)
    draw_scale_bar(axes, sky, bar)
    draw_compass(axes, sky)
    lines = []
    if strehl_percent is not None:
        error = f" ± {strehl_error_percent:.1f}" if strehl_error_percent is not None else ""
        lines.append(f"Strehl = {strehl_percent:.1f} %{error}")
    if fwhm_arcsec is not None:
        lines.append(f'FWHM = {fwhm_arcsec:.3f}"')
    write_text(axes, 0.03, 0.97, "\n".join(lines), size=15, vertical="top")
    if flag:
        colour = TEXT if flag == "OK" else WARNING
        write_text(
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
    check_image(image)
    sky = Sky(plate_scale_arcsec=plate_scale_arcsec)
    side_px = 6.0 * max(fwhm_arcsec, fwhm_x_arcsec, fwhm_y_arcsec) / plate_scale_arcsec
    figure = new_figure(1000, 500 + TITLE_PX)
    write_title(figure, title)
    height = 500 / (500 + TITLE_PX)
    field = figure.add_axes((0.0, 0.0, 0.497, height))
    zoom = figure.add_axes((0.503, 0.0, 0.497, height))
    small, _ = shrink(image, 500)
    level, spread = measure_background(small)
    show_image(field, stretch_asinh(small, level=level, spread=spread, depth=3e-3), image.shape)
    draw_box(field, (x, y), side_px)
    draw_scale_bar(field, sky, round_length(0.2 * image.shape[1] * plate_scale_arcsec))
    box = cut_box(image, x, y, side_px)
    show_image(zoom, stretch_asinh(box, level=level, spread=spread, depth=0.1), box.shape)
    corner_x, corner_y = corner_of(x, y, box.shape[0])
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
    draw_scale_bar(zoom, sky, round_length(0.2 * box.shape[1] * plate_scale_arcsec))
    text = f'FWHM = {fwhm_arcsec:.2f}"  ({fwhm_x_arcsec:.2f} × {fwhm_y_arcsec:.2f})'
    if residual is not None and np.isfinite(residual).any():
        text += f"\nresidual rms = {float(np.nanstd(residual)):.3g} ADU"
    write_text(zoom, 0.03, 0.97, text, size=13, vertical="top")
    return render_png(figure)
