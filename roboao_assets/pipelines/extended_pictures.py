"""The picture of a deconvolution: a resolved object before and after."""

import numpy as np
from numpy.typing import NDArray

from roboao_assets.pipelines.picture_style import new_figure, render_png
from roboao_assets.pipelines.sky_picture import (
    TITLE_PX,
    Sky,
    check_image,
    draw_compass,
    draw_scale_bar,
    round_length,
    show_image,
    write_text,
    write_title,
)

_PANEL_PX = 500
_GAP_PX = 6
# The sky and faint parts gain, the disc keeps its contrast.
_GAMMA = 0.7


def before_after_preview(
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    *,
    sky: Sky | None,
    title: str,
    text: str,
    labels: tuple[str, str] = ("stack", "deconvolved"),
) -> bytes:
    """Draw an object before and after its deconvolution, on one scale of brightness.

    Parameters
    ----------
    before, after : ndarray of float, shape (y, x)
        The same pixels, less the background; may hold NaN, shown grey.
    sky : Sky or None
        None: neither scale nor compass is drawn.
    title : str
    text : str
        Written into the right panel.
    labels : tuple of str
        Of the panels.

    Returns
    -------
    bytes
        PNG, 1006 px wide for square images.

    Raises
    ------
    ScienceError
        If an image is not two-dimensional.
    """
    check_image(before)
    check_image(after)
    rows, columns = before.shape
    height_px = round(_PANEL_PX * rows / columns)
    width_px = 2 * _PANEL_PX + _GAP_PX
    figure = new_figure(width_px, height_px + TITLE_PX)
    write_title(figure, title)
    # A cloud that outshines its planet by far may be cut off, the planet is to be seen.
    top = max(float(np.nanpercentile(after, 99.8)), 1e-30)
    for number, (image, label) in enumerate(zip((before, after), labels, strict=True)):
        left = number * (_PANEL_PX + _GAP_PX) / width_px
        height = height_px / (height_px + TITLE_PX)
        axes = figure.add_axes((left, 0.0, _PANEL_PX / width_px, height))
        shown = np.clip(image / top, 0.0, 1.0) ** _GAMMA
        show_image(axes, shown.astype(np.float32), image.shape)
        write_text(axes, 0.03, 0.97, label, size=14, vertical="top")
        if sky is not None:
            draw_scale_bar(axes, sky, round_length(0.25 * columns * sky.plate_scale_arcsec))
        if number:
            write_text(axes, 0.97, 0.97, text, size=11, vertical="top", horizontal="right")
            if sky is not None:
                draw_compass(axes, sky)
    return render_png(figure)
