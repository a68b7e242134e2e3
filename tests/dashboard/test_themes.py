"""The two themes: contrasts and colours are computed from their tables."""

import re
from itertools import combinations, product

import numpy as np
import pytest

from dashboards.page_style import page_style
from dashboards.themes import DARK, LIGHT, THEMES, contrast_ratio, linear_rgb, theme_style

# Machado, Oliveira & Fernandes 2009, doi:10.1109/TVCG.2009.113: no long, middle, short cones.
VISIONS = {
    "common": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
LEAST_TEXT, LEAST_MARKER = 4.5, 3.0
# CIE 1976; about 2 can just be told apart side by side.
LEAST_DIFFERENCE = 12.0


def lab(colour, vision):
    """CIELAB (D65) of a colour as a vision has it."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    seen = np.clip(vision @ np.array(linear_rgb(colour)), 0, 1)
    ratio = to_xyz @ seen / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [("#000000", "#ffffff", 21.0), ("#777777", "#ffffff", 4.48), ("#ff0000", "#ffffff", 4.0)],
)
def test_contrasts_are_those_of_the_guidelines(one, other, ratio):
    assert contrast_ratio(one, other) == pytest.approx(ratio, abs=0.01)
    assert contrast_ratio(other, one) == contrast_ratio(one, other)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_texts_are_read_on_whatever_they_stand(theme):
    texts = ("text", "muted", "accent", "good", "warn", "bad")
    grounds = ("back", "panel", "raised")
    found = {
        (text, ground): contrast_ratio(getattr(theme, text), getattr(theme, ground))
        for text, ground in product(texts, grounds)
    }
    found["on_accent", "accent"] = contrast_ratio(theme.on_accent, theme.accent)
    found |= {("step", s.fill): contrast_ratio(s.text, s.fill) for s in theme.steps}
    assert {pair: ratio for pair, ratio in found.items() if ratio < LEAST_TEXT} == {}


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_markers_are_seen_and_told_apart(theme):
    colours = {name: colour for name, (colour, _) in theme.filters.items()}
    shown = {**colours, "other": theme.other_filter[0], "candidate": theme.candidate}
    faint = {n: contrast_ratio(c, theme.panel) for n, c in shown.items()}
    assert {n: ratio for n, ratio in faint.items() if ratio < LEAST_MARKER} == {}
    near = {}
    for (vision, matrix), (one, other) in product(VISIONS.items(), combinations(colours, 2)):
        difference = np.linalg.norm(lab(colours[one], matrix) - lab(colours[other], matrix))
        if difference < LEAST_DIFFERENCE:
            near[vision, one, other] = round(float(difference), 1)
    assert near == {}
    assert len({marker for _, marker in theme.filters.values()}) == len(theme.filters)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
@pytest.mark.parametrize("vision", VISIONS)
def test_steps_of_the_calendar_go_one_way_for_every_vision(theme, vision):
    lightness = [lab(shade.fill, VISIONS[vision])[0] for shade in theme.steps]
    steps = np.diff(lightness if theme is DARK else lightness[::-1])
    assert min(steps) > 6


def test_every_colour_of_the_style_sheet_is_a_property_of_both_themes():
    style = page_style()
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", style)) - {"--spinner"}
    assert {"--back", "--step-5", "--on-step-1"} <= used
    for theme in THEMES:
        given = set(re.findall(r"(--[a-z0-9-]+):", theme_style(theme)))
        assert used <= given
    assert theme_style("dark") != theme_style("light")
    assert LIGHT.filters.keys() == DARK.filters.keys()
    literal = set(re.findall(r"#[0-9a-fA-F]{3,8}\b", style))
    assert literal == {"#000", "#0008"}, "pictures are black, and what lies behind a dialog is dim"
