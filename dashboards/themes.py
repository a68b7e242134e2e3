"""The colours of the pages and plots: one table a theme, and nowhere else.

Texts keep a contrast of 4.5 to what they stand on, markers one of 3 (WCAG 2.1); the filters have
the colours of Okabe and Ito (https://jfly.uni-koeln.de/color/), in the light theme deepened where
paper would swallow them, and a marker each. Tests compute both.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from bokeh.themes import Theme as PlotDefaults
from panel.theme import DarkTheme, DefaultTheme
from panel.theme.native import Native


class Shade(NamedTuple):
    """A colour, and that of a text on it."""

    fill: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Theme:
    """The colours of a theme, as `#rrggbb`.

    Attributes
    ----------
    name : str
        What the cookie holds; also CSS's `color-scheme`.
    back, panel, raised, line : str
        Of the page, of what stands on it, of what stands on that; of lines.
    text, muted, accent, good, warn, bad : str
        Of texts; each is read on the first three.
    on_accent : str
        Of texts on the accent.
    bad_line : str
        Round what failed.
    candidate : str
        Of candidates and of what else is picked out in a plot.
    no_data : str
        Of pixels without data in the viewer.
    filters : dict of str to (colour, marker)
        Of each filter in plots.
    other_filter : (colour, marker)
    steps : tuple of Shade
        Of the calendar, from little to much.
    """

    name: str
    back: str
    panel: str
    raised: str
    line: str
    text: str
    muted: str
    accent: str
    good: str
    warn: str
    bad: str
    on_accent: str
    bad_line: str
    candidate: str
    no_data: str
    filters: dict[str, tuple[str, str]]
    other_filter: tuple[str, str]
    steps: tuple[Shade, ...]

    def filter_style(self, name: str) -> tuple[str, str]:
        """Return colour and marker of a filter."""
        return self.filters.get(name, self.other_filter)


_MARKERS = {
    "Sg": "square",
    "Sr": "triangle",
    "Si": "diamond",
    "Sz": "inverted_triangle",
    "lp600": "circle",
    "c": "plus",
}


def _filters(**colours: str) -> dict[str, tuple[str, str]]:
    return {name: (colours[name], marker) for name, marker in _MARKERS.items()}


DARK = Theme(
    name="dark",
    back="#0f1216",
    panel="#171b21",
    raised="#1f252d",
    line="#2f3641",
    text="#e4e8ee",
    muted="#a3acb9",
    accent="#56b4e9",
    good="#2fbf8f",
    warn="#e69f00",
    bad="#ff8a5c",
    on_accent="#06121a",
    bad_line="#7a4632",
    candidate="#f0e442",
    no_data="#3a2230",
    # As on the previews.
    filters=_filters(
        Sg="#009E73", Sr="#F0E442", Si="#E69F00", Sz="#D55E00", lp600="#56B4E9", c="#CC79A7"
    ),
    other_filter=("#C8CDD5", "x"),
    steps=(
        Shade("#17344d", "#e4e8ee"),
        Shade("#1d4f78", "#ffffff"),
        Shade("#2a6fa8", "#ffffff"),
        Shade("#56a5dd", "#06121a"),
        Shade("#a6d5f5", "#06121a"),
    ),
)
LIGHT = Theme(
    name="light",
    back="#f4f6f8",
    panel="#ffffff",
    raised="#e9edf2",
    line="#cdd4dc",
    text="#1b2027",
    muted="#515c69",
    accent="#00609a",
    good="#00664a",
    warn="#7d5200",
    bad="#a83600",
    on_accent="#ffffff",
    bad_line="#dd9f84",
    candidate="#9a3a00",
    no_data="#d9b8c6",
    filters=_filters(
        Sg="#00966d", Sr="#1b2027", Si="#c07c00", Sz="#9a3a00", lp600="#0072B2", c="#c56a9c"
    ),
    other_filter=("#6b7684", "x"),
    steps=(
        Shade("#d9e9f6", "#1b2027"),
        Shade("#a9d0ee", "#1b2027"),
        Shade("#6db0de", "#1b2027"),
        Shade("#2272ae", "#ffffff"),
        Shade("#0b4a7d", "#ffffff"),
    ),
)
THEMES = {theme.name: theme for theme in (DARK, LIGHT)}


def theme_named(name: str) -> Theme:
    """Return a theme; the dark one, which is the house's, for any other name."""
    return THEMES.get(name, DARK)


def other_theme(theme: Theme) -> Theme:
    """Return the theme that is not this one."""
    return LIGHT if theme is DARK else DARK


@cache
def _plot_defaults(name: str) -> PlotDefaults:
    """Return what bokeh gives a plot that does not say otherwise."""
    theme = THEMES[name]
    axis = {
        "axis_label_text_color": theme.text,
        "major_label_text_color": theme.muted,
        "axis_line_color": theme.line,
        "major_tick_line_color": theme.line,
        "minor_tick_line_color": theme.line,
    }
    return PlotDefaults(
        json={
            "attrs": {
                "Plot": {
                    "background_fill_color": theme.panel,
                    "border_fill_color": theme.panel,
                    "outline_line_color": theme.line,
                },
                "Axis": axis,
                "Grid": {"grid_line_color": theme.line},
                "Legend": {
                    "background_fill_color": theme.panel,
                    "border_line_color": None,
                    "inactive_fill_color": theme.panel,
                    "label_text_color": theme.text,
                },
                "Title": {"text_color": theme.text},
            }
        }
    )


class _DarkPages(DarkTheme):
    bokeh_theme = _plot_defaults("dark")


class _LightPages(DefaultTheme):
    bokeh_theme = _plot_defaults("light")


class PageDesign(Native):
    """Panel's own design with the archive's plots."""

    _themes = {"dark": _DarkPages, "default": _LightPages}


def panel_theme(theme: Theme) -> type[DarkTheme] | type[DefaultTheme]:
    """Return Panel's theme for widgets."""
    return _DarkPages if theme is DARK else _LightPages


@cache
def theme_style(name: str) -> str:
    """Return a theme as custom properties, which all style sheets use."""
    theme = THEMES[name]
    colours = (
        "back", "panel", "raised", "line", "text", "muted", "accent", "good", "warn", "bad",
        "on_accent", "bad_line",
    )  # fmt: skip
    lines = [f"--{colour.replace('_', '-')}: {getattr(theme, colour)};" for colour in colours]
    for number, shade in enumerate(theme.steps, start=1):
        lines += [f"--step-{number}: {shade.fill};", f"--on-step-{number}: {shade.text};"]
    lines += [f"color-scheme: {theme.name};", f"background: {theme.back};"]
    return f":root {{ {' '.join(lines)} }}\n"


def contrast_ratio(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21.

    References
    ----------
    W3C, Web Content Accessibility Guidelines 2.1, relative luminance and contrast ratio.
    """
    lights = sorted((_luminance(one), _luminance(other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def linear_rgb(colour: str) -> tuple[float, float, float]:
    """Return a colour's linear red, green and blue, from 0 to 1."""
    levels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (
        level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels
    )
    return red, green, blue


def _luminance(colour: str) -> float:
    red, green, blue = linear_rgb(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
