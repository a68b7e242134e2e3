"""The look that previews and night plots share: colours, stretch, and the step from figure to PNG.

Figures are made without pyplot, so pictures can be drawn in any thread of any
worker. The palette is that of Okabe & Ito (2008, "Color Universal Design"): it
is told apart with any common colour vision, and every colour also has its own
marker.
"""

import io
from functools import cache
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font
from numpy.typing import NDArray
from PIL import Image

from roboao_assets.science.errors import ScienceError

DOTS_PER_INCH = 100

BACKGROUND = "#0f1216"
PANEL = "#171b21"
GRID = "#2f3641"
TEXT = "#e4e8ee"
MUTED = "#a3acb9"
ACCENT = "#56B4E9"
WARNING = "#E69F00"

# Filter -> colour, marker. Okabe-Ito without black and dark blue, which drown in a dark page.
FILTER_STYLES = {
    "Sg": ("#009E73", "s"),
    "Sr": ("#F0E442", "^"),
    "Si": ("#E69F00", "D"),
    "Sz": ("#D55E00", "v"),
    "lp600": ("#56B4E9", "o"),
    "c": ("#CC79A7", "P"),
}
OTHER_FILTER_STYLE = ("#C8CDD5", "X")


def filter_style(filter_name: str) -> tuple[str, str]:
    """Return the colour and marker of a filter."""
    return FILTER_STYLES.get(filter_name, OTHER_FILTER_STYLE)


def new_figure(width_px: int, height_px: int) -> Figure:
    """Return an empty dark figure of that size."""
    return Figure(
        figsize=(width_px / DOTS_PER_INCH, height_px / DOTS_PER_INCH),
        dpi=DOTS_PER_INCH,
        facecolor=BACKGROUND,
    )


def render_png(figure: Figure) -> bytes:
    """Draw `figure` and return it as PNG."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    height, width = np.asarray(canvas.buffer_rgba()).shape[:2]
    # Without the alpha plane, which is opaque everywhere, the file is a fifth smaller.
    picture = Image.frombuffer("RGBA", (width, height), canvas.buffer_rgba()).convert("RGB")
    buffer = io.BytesIO()
    # Noise does not compress: higher levels take thrice the time for a seventh of the size.
    picture.save(buffer, format="png", compress_level=2)
    return buffer.getvalue()


def style_axes(axes: Axes, *, x_label: str, y_label: str, title: str = "") -> None:
    """Give `axes` the dark look, labels, and a title that is never read as mathematics."""
    axes.set_facecolor(PANEL)
    for spine in axes.spines.values():
        spine.set_color(GRID)
    axes.tick_params(colors=MUTED, which="both", labelsize=11)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label, color=TEXT, fontsize=12)
    axes.set_ylabel(y_label, color=TEXT, fontsize=12)
    if title:
        axes.set_title(
            printable(title), color=TEXT, fontsize=13, loc="left", pad=10, parse_math=False
        )


def style_legend(
    axes: Axes, *, location: Literal["best", "upper right"] = "best", beside: bool = False
) -> None:
    """Draw the legend, if there is anything to tell; `beside` puts it right of the axes."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            loc="upper left" if beside else location,
            bbox_to_anchor=(1.01, 1.0) if beside else None,
            borderaxespad=0.0 if beside else 0.5,
            facecolor=PANEL,
            edgecolor=GRID,
            labelcolor=TEXT,
            fontsize=11,
            framealpha=0.85,
        )


@cache
def _text_font() -> object:
    # The font comes with matplotlib, so pictures look the same on every machine.
    return get_font(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf")


def printable(text: str, *, most: int = 90) -> str:
    """Return `text` on one line, with `?` for what the font cannot draw, at most `most` long.

    Object names are free text: a character without a glyph would otherwise be a
    warning at every drawing.
    """
    font = _text_font()
    shown = "".join(
        c if c.isprintable() and font.get_char_index(ord(c)) else "?"  # type: ignore[attr-defined]
        for c in text
    )
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def measure_background(image: NDArray[np.float32]) -> tuple[float, float]:
    """Return the median and the robust standard deviation (1.4826 MAD) of the finite pixels.

    Parameters
    ----------
    image : ndarray of float, any shape
        May hold NaN.

    Raises
    ------
    ScienceError
        If no pixel is finite.
    """
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        raise ScienceError(
            f"a preview was asked for of an image of shape {image.shape} without one finite "
            f"pixel; look at the stack and at the frames it was made from"
        )
    # 200,000 pixels give the median to a few thousandths of a sigma, in a millisecond.
    sample = finite[:: max(1, finite.size // 200_000)]
    level = float(np.median(sample))
    spread = 1.4826 * float(np.median(np.abs(sample - level)))
    if spread <= 0.0:
        spread = float(np.std(sample)) or max(abs(level), 1.0) * 1e-3
    return level, spread


def stretch_asinh(
    image: NDArray[np.float32], *, level: float, spread: float, depth: float
) -> NDArray[np.float32]:
    """Map an image to 0..1: linear in the noise, logarithmic above it (Lupton et al. 2004).

    Parameters
    ----------
    image : ndarray of float, shape (y, x)
        May hold NaN, which stays NaN.
    level, spread : float
        Background and its standard deviation.
    depth : float
        Softening: at least this fraction of the peak, and 5 `spread`, is shown linearly.

    Returns
    -------
    ndarray of float32, shape (y, x)

    References
    ----------
    Lupton et al. 2004, PASP 116, 133, doi:10.1086/382245.
    """
    peak = float(np.nanmax(image))
    # Five sigma: the noise of the sky takes a few per cent of the range, not a third of it.
    softening = max(5.0 * spread, depth * (peak - level), float(np.finfo(np.float32).tiny))
    top = max(float(np.arcsinh((peak - level) / softening)), float(np.arcsinh(3.0)))
    # Below the level all is black; cut first, as a deep negative may overflow the division.
    above = np.maximum(image.astype(np.float64) - level, 0.0)
    return np.minimum(np.arcsinh(above / softening) / top, 1.0).astype(np.float32)


def shrink(image: NDArray[np.float32], most_px: int) -> tuple[NDArray[np.float32], int]:
    """Average blocks of pixels until the longer side is at most about `most_px`.

    Returns
    -------
    image : ndarray of float32, shape (y, x)
        Mean of the finite pixels of each block, NaN where there is none. The last row
        and column hold what is left over.
    step : int
        Side of a block (px).
    """
    step = max(1, int(np.ceil(max(image.shape) / most_px)))
    if step == 1:
        return image.astype(np.float32, copy=False), 1
    good = np.isfinite(image)
    total = _sum_blocks(np.where(good, image, np.float32(0.0)), step)
    count = _sum_blocks(good.astype(np.float32), step)
    with np.errstate(invalid="ignore"):
        return total / count, step


def _sum_blocks(image: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Sum of each block of `step` x `step` pixels; rows first, which lie together in memory."""
    rows, columns = (-(-size // step) for size in image.shape)
    of_rows = np.zeros((rows, image.shape[1]), np.float32)
    for first in range(step):
        part = image[first::step]
        of_rows[: len(part)] += part
    total = np.zeros((rows, columns), np.float32)
    for first in range(step):
        part = of_rows[:, first::step]
        total[:, : part.shape[1]] += part
    return total
