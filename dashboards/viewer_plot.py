"""The viewer's figures: an image in arcsec round the guide star, and the radial profile."""

import numpy as np
from bokeh.events import MouseMove, Tap
from bokeh.models import (
    Arrow,
    ColumnDataSource,
    CrosshairTool,
    CustomJS,
    HoverTool,
    Label,
    LinearColorMapper,
    NormalHead,
    Range1d,
    ScaleBar,
)
from bokeh.models.annotations.dimensional import Angular
from bokeh.palettes import Cividis256, Greys256, Inferno256, Viridis256
from bokeh.plotting import figure

from dashboards.plot import style_plot
from dashboards.themes import DARK, Theme
from dashboards.viewer_compute import NO_DATA, RadialProfile, directions
from dashboards.viewer_images import ViewerImage

PALETTES: dict[str, tuple[str, ...]] = {
    "grey": tuple(Greys256),
    "grey, inverted": tuple(reversed(Greys256)),
    "inferno": tuple(Inferno256),
    "viridis": tuple(Viridis256),
    "cividis": tuple(Cividis256),
}
_SIDE_PX, _COMPASS_PX = 680, 40
# The browser tells where the pointer is at most so often.
_MOVE_MS = 80
_ONLY_NOW_AND_THEN = """
const now = Date.now();
if (now - (pointer.tags[0] ?? 0) < wait) return;
pointer.tags = [now];
pointer.data = {x: [cb_obj.x], y: [cb_obj.y]};
"""
_ANGLES = {"mas": (0.001, "mas"), '"': (1.0, "^{\\prime\\prime}")}
_ROUND = [1, 2, 5, 10, 20, 50, 100, 200, 500]
_CHOOSE = "chosen.data = {x: [cb_obj.x], y: [cb_obj.y]};"


def scale_bar(x_range: Range1d, colour: str) -> ScaleBar:
    """Return a bar of a round number of arcsec."""
    return ScaleBar(
        range=x_range,
        unit='"',
        dimensional=Angular(basis=_ANGLES, ticks=_ROUND),
        orientation="horizontal",
        location="bottom_right",
        background_fill_alpha=0.0,
        border_line_color=None,
        bar_line_color=colour,
        bar_line_width=2,
        label_text_color=colour,
    )


def compass(
    north: tuple[float, float], east: tuple[float, float], colour: str
) -> list[Arrow | Label]:
    """Return arrows to north and east, in a corner of the plot."""
    middle = _COMPASS_PX + 24
    parts: list[Arrow | Label] = []
    for name, (dx, dy) in zip("NE", (north, east), strict=True):
        parts += [
            Arrow(
                end=NormalHead(size=9, fill_color=colour, line_color=colour),
                line_color=colour,
                line_width=2,
                x_start=middle,
                y_start=middle,
                x_end=middle + _COMPASS_PX * dx,
                y_end=middle + _COMPASS_PX * dy,
                start_units="screen",
                end_units="screen",
            ),
            Label(
                x=middle + 1.28 * _COMPASS_PX * dx,
                y=middle + 1.28 * _COMPASS_PX * dy,
                x_units="screen",
                y_units="screen",
                text=name,
                text_color=colour,
                text_align="center",
                text_baseline="middle",
                text_font_style="bold",
            ),
        ]
    return parts


class ImageFigure:
    """An image that can be panned and zoomed; its axes are arcsec from `origin_xy`.

    Attributes
    ----------
    plot : bokeh.plotting.figure
    pixels : ColumnDataSource
        The shades, and where they lie.
    pointer, chosen : ColumnDataSource
        Where the pointer is, and where was clicked (arcsec).
    """

    def __init__(self, theme: Theme = DARK) -> None:
        self._theme = theme
        self.x_range, self.y_range = Range1d(), Range1d()
        self.plot = figure(
            width=_SIDE_PX,
            height=_SIDE_PX,
            x_range=self.x_range,
            y_range=self.y_range,
            match_aspect=True,
            tools="pan,wheel_zoom,box_zoom,reset,save",
            active_scroll="wheel_zoom",
            toolbar_location="above",
            x_axis_label="from the guide star (arcsec)",
            y_axis_label="from the guide star (arcsec)",
        )
        style_plot(self.plot)
        self.plot.grid.visible = False
        self.mapper = LinearColorMapper(low=0, high=255, palette=list(PALETTES["grey"]))
        self.pixels = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []})
        self.plot.image(
            "image",
            x="x",
            y="y",
            dw="dw",
            dh="dh",
            source=self.pixels,
            color_mapper=self.mapper,
        )
        self.pointer = ColumnDataSource({"x": [], "y": []})
        self.chosen = ColumnDataSource({"x": [], "y": []})
        self.plot.scatter(
            "x",
            "y",
            source=self.chosen,
            marker="cross",
            size=22,
            line_color=theme.accent,
            line_width=1.5,
        )
        self.plot.add_tools(CrosshairTool(line_color=theme.muted, line_alpha=0.35))
        code = {"code": _ONLY_NOW_AND_THEN, "args": {"pointer": self.pointer, "wait": _MOVE_MS}}
        self.plot.js_on_event(MouseMove, CustomJS(**code))
        self.plot.js_on_event(Tap, CustomJS(args={"chosen": self.chosen}, code=_CHOOSE))
        self.plot.add_layout(scale_bar(self.x_range, theme.text))
        self._compass: list[Arrow | Label] = []

    def frame(self, image: ViewerImage, origin_xy: tuple[float, float]) -> None:
        """Show the whole of an image's field, and where its north and east are."""
        height, width = image.pixels.shape
        scale = image.scale_arcsec
        left, bottom = (-(origin_xy[i] + 0.5) * scale for i in (0, 1))
        self.x_range.update(start=left, end=left + width * scale)
        self.y_range.update(start=bottom, end=bottom + height * scale)
        self.x_range.update(reset_start=left, reset_end=left + width * scale)
        self.y_range.update(reset_start=bottom, reset_end=bottom + height * scale)
        self._draw_compass(image)

    def paint(self, colours: str) -> None:
        """Take the colours of that name."""
        palette = list(PALETTES[colours])
        palette[NO_DATA] = self._theme.no_data
        self.mapper.palette = palette

    def _draw_compass(self, image: ViewerImage) -> None:
        for part in self._compass:
            part.visible = False
        found = directions(image)
        if found is None:
            return
        self._compass = compass(*found, self._theme.text)
        for part in self._compass:
            self.plot.add_layout(part)


class ProfileFigure:
    """The radial profile round a position."""

    def __init__(self, theme: Theme = DARK) -> None:
        self.plot = figure(
            height=340,
            width=480,
            tools="xpan,xwheel_zoom,box_zoom,reset,save",
            toolbar_location="above",
            x_axis_label="radius (arcsec)",
            y_axis_label="rings: median, quartiles",
            x_range=Range1d(),
            y_range=Range1d(),
        )
        style_plot(self.plot)
        self.plot.toolbar.active_scroll = None
        self.rings = ColumnDataSource({"radius": [], "median": [], "lower": [], "upper": []})
        self.plot.varea(
            "radius", "lower", "upper", source=self.rings, fill_color=theme.accent, fill_alpha=0.25
        )
        line = self.plot.line(
            "radius", "median", source=self.rings, color=theme.accent, line_width=2
        )
        tips = [("radius", '@radius{0.000}"'), ("median", "@median{0.000a}")]
        self.plot.add_tools(HoverTool(renderers=[line], tooltips=tips, mode="vline"))

    def show(self, profile: RadialProfile, unit: str) -> None:
        """Draw a profile."""
        self.rings.data = {
            "radius": profile.radius_arcsec,
            "median": profile.median,
            "lower": profile.lower,
            "upper": profile.upper,
        }
        low, high = float(np.min(profile.lower)), float(np.max(profile.upper))
        margin = 0.05 * (high - low) or 1.0
        self.plot.x_range.update(start=0.0, end=float(profile.radius_arcsec[-1]))
        self.plot.y_range.update(start=low - margin, end=high + margin)
        self.plot.yaxis.axis_label = f"rings: median, quartiles ({unit or 'no unit'})"
