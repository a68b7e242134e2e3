"""The pages' style sheet, without its colours: those are custom properties of a theme."""

from functools import cache
from importlib import resources


@cache
def page_style() -> str:
    """Return the pages' style sheet."""
    return resources.files("dashboards").joinpath("style.css").read_text(encoding="utf-8")
