"""The picture that decides whether a star enters the PSF library."""

import math

import numpy as np
from numpy.typing import NDArray

from roboao_assets.pipelines.picture_style import (
    TEXT,
    WARNING,
    measure_background,
    new_figure,
    printable,
    render_png,
    stretch_asinh,
)
from roboao_assets.pipelines.sky_picture import (
    TITLE_PX,
    Sky,
    check_image,
    cut_box,
    draw_compass,
    draw_scale_bar,
    rim_background,
    round_length,
    show_image,
    write_text,
    write_title,
)
from roboao_assets.storage.psf_library import PsfEntry

_SIDE_PX = 440
_GAP_PX = 4
_MOST_WORDS = 52


def candidate_preview(
    stack: NDArray[np.float32], x: float, y: float, entry: PsfEntry, sky: Sky
) -> bytes:
    """Draw a star as it is in the stack and, beside it, as it would stand in the library.

    Parameters
    ----------
    stack : ndarray of float, shape (y, x)
        Unfiltered; may hold NaN.
    x, y : float
        Position of the star in `stack`.
    entry : PsfEntry
        Its prepared frame and quality; figures that are NaN are left out.
    sky : Sky
        Scale and orientation of both.

    Returns
    -------
    bytes
        PNG, 884 x 476 px.

    Raises
    ------
    ScienceError
        If no pixel near the star is finite.
    """
    check_image(stack)
    width_px = 2 * _SIDE_PX + _GAP_PX
    figure = new_figure(width_px, _SIDE_PX + TITLE_PX)
    write_title(figure, f"{entry.obj_name}   {entry.filter_name}   {entry.obs_name}")
    height, width = _SIDE_PX / (_SIDE_PX + TITLE_PX), _SIDE_PX / width_px
    plain = figure.add_axes((0.0, 0.0, width, height))
    prepared = figure.add_axes((1.0 - width, 0.0, width, height))

    box = cut_box(stack, x, y, entry.frame.shape[0])
    level, spread = rim_background(box)
    show_image(plain, stretch_asinh(box, level=level, spread=spread, depth=2e-3), box.shape)
    level, spread = measure_background(entry.frame)
    shown = stretch_asinh(entry.frame, level=level, spread=spread, depth=5e-3)
    show_image(prepared, shown, entry.frame.shape)
    bar = round_length(0.2 * box.shape[1] * sky.plate_scale_arcsec)
    for axes, words in ((plain, _quality(entry)), (prepared, _preparation(entry))):
        draw_scale_bar(axes, sky, bar)
        draw_compass(axes, sky)
        write_text(axes, 0.03, 0.97, words, size=12, vertical="top")
    companion = printable(entry.companion or "no companion seen", most=_MOST_WORDS)
    colour = WARNING if entry.companion else TEXT
    # Between the scale bar, the compass and the figures: nothing else is written there.
    write_text(plain, 0.03, 0.15, companion, size=11, colour=colour)
    return render_png(figure)


def _quality(entry: PsfEntry) -> str:
    figures = (
        ("Strehl = {:.1f} %", entry.strehl_percent),
        ('FWHM = {:.3f}"', entry.fwhm_arcsec),
        ("elongation = {:.2f}", entry.elongation),
    )
    return "\n".join(form.format(value) for form, value in figures if math.isfinite(value))


def _preparation(entry: PsfEntry) -> str:
    modes = f"\n{len(entry.modes)} modes" if len(entry.modes) else ""
    return printable(entry.preparation or "prepared", most=_MOST_WORDS) + modes
