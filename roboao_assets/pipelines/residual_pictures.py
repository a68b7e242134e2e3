"""Pictures of what the PSF subtraction leaves: the residual and its signal-to-noise map.

Images are (y, x) with y up; positions are (x, y), 0-based, in pixels of the image. Scale, compass
and colour bar stand below the image, and below them a table of the candidates, where there are
any: nothing but circles and numbers covers a pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from roboao_assets.pipelines.picture_style import (
    GRID,
    MUTED,
    PANEL,
    TEXT,
    measure_background,
    new_figure,
    printable,
    render_png,
)
from roboao_assets.pipelines.sky_picture import (
    OUTLINE,
    TITLE_PX,
    Sky,
    check_image,
    round_length,
    show_image,
    write_title,
)

MARK = "#F0E442"
# A table longer than this tells of a bad subtraction, not of companions.
MOST_ROWS = 12
_FOOTER_PX = 92
_ROW_PX = 24
_COLOURS = "berlin"


@dataclass(frozen=True, kw_only=True)
class CandidateMark:
    """A companion candidate to be circled, and numbered as it comes in the sequence.

    Attributes
    ----------
    x, y : float
        Position in pixels of the image.
    label : str
        Written beside the circle in place of its number.
    separation_arcsec, pa_deg : float or None
        From the star; position angle east of north.
    contrast_mag : float or None
        Magnitude difference to the star.
    snr, false_alarm_probability : float or None
        Signal-to-noise ratio; the probability of a peak as significant anywhere in the frame.
    """

    x: float
    y: float
    label: str = ""
    separation_arcsec: float | None = None
    pa_deg: float | None = None
    contrast_mag: float | None = None
    snr: float | None = None
    false_alarm_probability: float | None = None


# Head, right edge as a fraction of the width, attribute and form of each column.
_TABLE = (
    ("sep. (″)", 0.25, "separation_arcsec", ".3f"),
    ("PA (°)", 0.41, "pa_deg", ".1f"),
    ("Δ (mag)", 0.58, "contrast_mag", ".2f"),
    ("S/N", 0.72, "snr", ".1f"),
    ("false alarm", 0.96, "false_alarm_probability", ".1e"),
)


def residual_preview(
    residual: NDArray[np.float32],
    *,
    plate_scale_arcsec: float,
    title: str,
    candidates: Sequence[CandidateMark] = (),
    east_is_left: bool = True,
    y_axis_pa_deg: float = 0.0,
    fwhm_px: float | None = None,
    width_px: int = 600,
) -> bytes:
    """Draw a PSF-subtracted residual around its centre: blue below zero, red above.

    Parameters
    ----------
    residual : ndarray of float, shape (y, x)
        May hold NaN, shown grey; the star is at ((x size - 1) / 2, (y size - 1) / 2).
    plate_scale_arcsec : float
    title : str
    candidates : sequence of CandidateMark
        Circled, numbered from 1, and listed below the image.
    east_is_left, y_axis_pa_deg
        See `roboao_assets.science.instrument.InstrumentProfile`.
    fwhm_px : float or None
        Resolution element: the diameter of the circles; None: 7 % of the image.
    width_px : int
        Width of the picture.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ScienceError
        If `residual` is not two-dimensional or has no finite pixel.
    """
    check_image(residual)
    _, spread = measure_background(residual)
    limit = max(float(np.nanpercentile(np.abs(residual), 99.8)), 4.0 * spread)
    # asinh on both sides of zero: the noise stays visible beside the star's leftover speckles.
    top = np.arcsinh(limit / spread)
    shown = np.clip(np.arcsinh(residual / spread) / top, -1.0, 1.0)
    middle = round_length(limit / spread / 4.0)
    ticks = [
        (float(np.arcsinh(level) / top), _signed(level))
        for level in (-limit / spread, -middle, 0.0, middle, limit / spread)
    ]
    picture = _Picture(
        residual.shape,
        width_px,
        title,
        candidates,
        Sky(
            plate_scale_arcsec=plate_scale_arcsec,
            east_is_left=east_is_left,
            y_axis_pa_deg=y_axis_pa_deg,
        ),
    )
    picture.show(shown, ticks, "residual / σ of its pixels (asinh)")
    picture.mark(0.07 * residual.shape[1] if fwhm_px is None else fwhm_px)
    return render_png(picture.figure)


def snr_map_preview(
    snr: NDArray[np.floating],
    *,
    plate_scale_arcsec: float,
    title: str,
    threshold: float = 5.0,
    candidates: Sequence[CandidateMark] = (),
    east_is_left: bool = True,
    y_axis_pa_deg: float = 0.0,
    fwhm_px: float | None = None,
    width_px: int = 600,
) -> bytes:
    """Draw a signal-to-noise map from -`threshold` to its maximum, with a contour at `threshold`.

    Parameters
    ----------
    snr : ndarray of float, shape (y, x)
        NaN where it is not defined, shown grey.
    plate_scale_arcsec : float
    title : str
    threshold : float
        Signal-to-noise ratio of a candidate, > 0.
    candidates, east_is_left, y_axis_pa_deg, fwhm_px, width_px
        As in `residual_preview`.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    ScienceError
        If `snr` is not two-dimensional or has no finite pixel.
    """
    check_image(snr)
    measure_background(snr)
    top = max(float(np.nanmax(snr)), threshold)
    # Zero in the middle of the colours; asinh, or a bright companion would leave the noise black.
    span = np.where(snr < 0, np.arcsinh(threshold), np.arcsinh(top))
    shown = np.clip(np.arcsinh(snr) / span, -1.0, 1.0)
    ticks = [(-1.0, _signed(-threshold)), (0.0, "0")]
    if top > 1.5 * threshold:
        ticks.append((float(np.arcsinh(threshold) / np.arcsinh(top)), f"{threshold:g}"))
    ticks.append((1.0, f"{top:.1f}"))
    picture = _Picture(
        snr.shape,
        width_px,
        title,
        candidates,
        Sky(
            plate_scale_arcsec=plate_scale_arcsec,
            east_is_left=east_is_left,
            y_axis_pa_deg=y_axis_pa_deg,
        ),
    )
    picture.show(shown, ticks, f"signal-to-noise ratio (asinh), contour at {threshold:g}")
    if top > threshold:
        picture.axes.contour(
            np.ma.masked_invalid(snr), levels=[threshold], colors=[TEXT], linewidths=1.0
        )
    picture.mark(0.07 * snr.shape[1] if fwhm_px is None else fwhm_px)
    return render_png(picture.figure)


class _Picture:
    """A figure of an image round a star: title, image, footer and table, from the top."""

    def __init__(
        self,
        shape: tuple[int, ...],
        width_px: int,
        title: str,
        candidates: Sequence[CandidateMark],
        sky: Sky,
    ) -> None:
        self.shape, self.width_px, self.candidates, self.sky = shape, width_px, candidates, sky
        rows = min(len(candidates), MOST_ROWS)
        more = len(candidates) > MOST_ROWS
        self.table_px = _ROW_PX * (1 + rows + more) + 14 if rows else 0
        self.image_px = max(round(width_px * shape[0] / shape[1]), width_px // 4)
        self.height_px = TITLE_PX + self.image_px + _FOOTER_PX + self.table_px
        self.figure: Figure = new_figure(width_px, self.height_px)
        write_title(self.figure, title)
        self.axes = self._add_axes(self.table_px + _FOOTER_PX, self.image_px)

    def _add_axes(self, bottom_px: int, height_px: int) -> Axes:
        """Axes over the whole width, whose coordinates are pixels of the picture."""
        axes = self.figure.add_axes(
            (0.0, bottom_px / self.height_px, 1.0, height_px / self.height_px)
        )
        axes.set_xlim(0, self.width_px)
        axes.set_ylim(0, height_px)
        axes.set_axis_off()
        return axes

    def show(
        self, shown: NDArray[np.floating], ticks: Sequence[tuple[float, str]], quantity: str
    ) -> None:
        """Draw the image, scaled to -1..1, and the footer that explains it."""
        show_image(self.axes, shown.astype(np.float32), self.shape, colours=_COLOURS, lowest=-1.0)
        rows, columns = self.shape
        centre = (columns - 1) / 2, (rows - 1) / 2
        self.axes.plot(*centre, "+", color=TEXT, markersize=14, markeredgewidth=1.4)
        footer = self._add_axes(self.table_px, _FOOTER_PX)
        self._draw_scale_bar(footer)
        self._draw_compass(footer)
        left, right = 0.31 * self.width_px, 0.8 * self.width_px
        gradient = np.linspace(-1.0, 1.0, 256)[np.newaxis]
        footer.imshow(gradient, cmap=_COLOURS, extent=(left, right, 40, 54), aspect="auto")
        footer.set_xlim(0, self.width_px)
        footer.set_ylim(0, _FOOTER_PX)
        _write(footer, (left + right) / 2, 70, quantity, size=10, horizontal="center")
        for place, label in ticks:
            x = left + (right - left) * (place + 1) / 2
            footer.plot([x, x], [35, 40], color=MUTED, linewidth=1.0)
            _write(footer, x, 23, label, size=10, horizontal="center")

    def _draw_scale_bar(self, footer: Axes) -> None:
        columns, scale = self.shape[1], self.sky.plate_scale_arcsec
        length_arcsec = round_length(0.2 * columns * scale)
        length_px = length_arcsec / scale / columns * self.width_px
        footer.plot(
            [20, 20 + length_px], [40, 40], color=TEXT, linewidth=3.0, solid_capstyle="butt"
        )
        label = f"{length_arcsec:g}″"
        _write(footer, 20 + length_px / 2, 58, label, size=13, horizontal="center")

    def _draw_compass(self, footer: Axes) -> None:
        directions = {"N": self.sky.direction(0.0), "E": self.sky.direction(90.0)}
        ends = np.array([(0.0, 0.0), *directions.values()]) * 50.0
        x = self.width_px - 14 - ends[:, 0].max()
        y = (_FOOTER_PX - ends[:, 1].min() - ends[:, 1].max()) / 2
        for letter, (dx, dy) in directions.items():
            footer.annotate(
                "",
                xy=(x + 36 * dx, y + 36 * dy),
                xytext=(x, y),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": TEXT,
                    "linewidth": 1.6,
                    "shrinkA": 0,
                    "shrinkB": 0,
                    "mutation_scale": 12,
                },
            )
            _write(footer, x + 45 * dx, y + 45 * dy, letter, size=11, horizontal="center")

    def mark(self, diameter_px: float) -> None:
        """Circle and number the candidates, and list them."""
        rows, columns = self.shape
        magnified = self.width_px / columns
        radius = diameter_px / 2
        for number, candidate in enumerate(self.candidates, start=1):
            self.axes.add_patch(
                Circle(
                    (candidate.x, candidate.y), radius, fill=False, edgecolor=MARK, linewidth=1.6
                )
            )
            # Beside the circle, on the side that is farther from the edge.
            to_right = candidate.x < 0.9 * columns
            self.axes.text(
                candidate.x + (1 if to_right else -1) * (radius + 5 / magnified),
                candidate.y,
                printable(candidate.label or str(number), most=24),
                color=MARK,
                fontsize=12,
                horizontalalignment="left" if to_right else "right",
                verticalalignment="center",
                path_effects=OUTLINE,
                parse_math=False,
            )
        if self.candidates:
            self._list_candidates()

    def _list_candidates(self) -> None:
        table = self._add_axes(0, self.table_px)
        table.add_patch(
            Rectangle((0, 0), self.width_px, self.table_px, facecolor=PANEL, edgecolor=GRID)
        )
        y = self.table_px - 7 - _ROW_PX / 2
        _write(table, 0.045 * self.width_px, y, "no.", size=10, horizontal="left", colour=MUTED)
        for head, edge, _, _ in _TABLE:
            _write(table, edge * self.width_px, y, head, size=10, colour=MUTED)
        for number, candidate in enumerate(self.candidates[:MOST_ROWS], start=1):
            y -= _ROW_PX
            _write(
                table, 0.045 * self.width_px, y, str(number), size=11, horizontal="left",
                colour=MARK,
            )  # fmt: skip
            for _, edge, name, form in _TABLE:
                value = getattr(candidate, name)
                shown = "–" if value is None else format(value, form)
                _write(table, edge * self.width_px, y, shown, size=11)
        rest = len(self.candidates) - MOST_ROWS
        if rest > 0:
            words = f"and {rest} more in the table of candidates"
            _write(
                table, 0.045 * self.width_px, y - _ROW_PX, words, size=10, horizontal="left",
                colour=MUTED,
            )  # fmt: skip


def _signed(level: float) -> str:
    shown = f"{level:.0f}" if abs(level) >= 10 else f"{level:.2g}"
    return shown.replace("-", "−")


def _write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    horizontal: Literal["left", "center", "right"] = "right",
    colour: str = TEXT,
) -> None:
    axes.text(
        x,
        y,
        text,
        color=colour,
        fontsize=size,
        horizontalalignment=horizontal,
        verticalalignment="center",
        parse_math=False,
    )
