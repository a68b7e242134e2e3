"""How an image of the sky is drawn: stretch, title, scale bar, compass, text.

What the previews of `previews` have in common. Images are (y, x) with y up; positions are
(x, y), 0-based.
"""

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from roboao_assets.pipelines.picture_style import (
    ACCENT,
    TEXT,
    measure_background,
    new_figure,
    printable,
)
from roboao_assets.science.errors import ScienceError

TITLE_PX = 36
OUTLINE = (patheffects.withStroke(linewidth=2.5, foreground="#000000b0"),)
NO_DATA = "#2b2f36"


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


def check_image(image: NDArray[np.float32]) -> None:
    """Raise ScienceError if `image` is no image."""
    if image.ndim != 2 or image.size == 0:
        raise ScienceError(
            f"a preview was asked for of an array of shape {image.shape}; an image (y, x) is needed"
        )


def new_picture(shape: tuple[int, ...], width_px: int, title: str) -> tuple[Figure, Axes]:
    """Return a figure whose axes fill it below a title strip, in the aspect of the image."""
    height_px = max(round(width_px * shape[0] / shape[1]), width_px // 4)
    figure = new_figure(width_px, height_px + TITLE_PX)
    write_title(figure, title)
    axes = figure.add_axes((0.0, 0.0, 1.0, height_px / (height_px + TITLE_PX)))
    return figure, axes


def write_title(figure: Figure, title: str) -> None:
    """Write the title into the strip above the axes, as small as it must be."""
    height_px = figure.get_figheight() * figure.dpi
    width_px = figure.get_figwidth() * figure.dpi
    # A sans character is about 0.62 of the size wide; ids are long and must stay on the picture.
    size = min(12.0, max(7.0, 72.0 * (width_px - 24) / (figure.dpi * 0.62 * max(len(title), 1))))
    figure.text(
        12 / width_px,
        1.0 - 0.5 * TITLE_PX / height_px,
        printable(title),
        color=TEXT,
        fontsize=size,
        verticalalignment="center",
        parse_math=False,
    )


def show_image(
    axes: Axes,
    shown: NDArray[np.float32],
    shape: tuple[int, ...],
    *,
    colours: str = "inferno",
    lowest: float = 0.0,
) -> None:
    """Show values between `lowest` and 1 in the pixel coordinates of an image of `shape`."""
    axes.set_facecolor(NO_DATA)
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
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, facecolor=NO_DATA, zorder=-10))


def corner_of(x: float, y: float, side: int) -> tuple[int, int]:
    """Pixel (x, y) of the image that is the first of a box of `side` px centred on (x, y)."""
    return round(x) - side // 2, round(y) - side // 2


def cut_box(image: NDArray[np.float32], x: float, y: float, side_px: float) -> NDArray[np.float32]:
    """Return the square of odd side round (x, y), NaN outside the image."""
    side = max(2 * round((side_px - 1) / 2) + 1, 5)
    corner_x, corner_y = corner_of(x, y, side)
    rows, columns = image.shape
    box = np.full((side, side), np.nan, dtype=np.float32)
    y_low, y_high = max(corner_y, 0), min(corner_y + side, rows)
    x_low, x_high = max(corner_x, 0), min(corner_x + side, columns)
    if y_low < y_high and x_low < x_high:
        box[y_low - corner_y : y_high - corner_y, x_low - corner_x : x_high - corner_x] = image[
            y_low:y_high, x_low:x_high
        ]
    return box


def rim_background(box: NDArray[np.float32]) -> tuple[float, float]:
    """Background of a box that is centred on a star: from its outer fifth, if it holds data."""
    rim = box.copy()
    border = max(1, box.shape[0] // 10)
    rim[border:-border, border:-border] = np.nan
    return measure_background(rim if np.isfinite(rim).sum() > 20 else box)


def round_length(length_arcsec: float) -> float:
    """Return the 1-2-5 number nearest to `length_arcsec` from below."""
    power = 10.0 ** np.floor(np.log10(length_arcsec))
    return float(max(step for step in (1.0, 2.0, 5.0) if step * power <= length_arcsec) * power)


def draw_box(axes: Axes, xy: tuple[float, float], side_px: float) -> None:
    """Draw a square of `side_px` round (x, y)."""
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


def draw_scale_bar(axes: Axes, sky: Sky, length_arcsec: float) -> None:
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
        path_effects=OUTLINE,
        scalex=False,
        scaley=False,
    )
    write_text(axes, 0.035 + width / 2, 0.052, f'{length_arcsec:g}"', size=13, horizontal="center")


def draw_compass(axes: Axes, sky: Sky) -> None:
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
                "path_effects": OUTLINE,
            },
        )
        x, y = origin + direction * 1.32 * length * shape
        write_text(axes, x, y, letter, size=12, horizontal="center", vertical="center")


def write_text(
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
        path_effects=OUTLINE,
        parse_math=False,
        linespacing=1.35,
    )
