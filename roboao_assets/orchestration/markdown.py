"""Texts of others in the Markdown of Dagster's pages: shown as they are, and never as markup.

File names, objects' names and reasons are written by whoever fills the raw folders. An image or a
link among them would be loaded or offered in the browser of an administrator.
"""

import re

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_TICKS = re.compile(r"`+")


def markdown_text(text: object) -> str:
    """Return a text that stands for itself in one line or one cell of a table."""
    return _PUNCTUATION.sub(r"\\\1", _one_line(text))


def markdown_code(text: object) -> str:
    """Return a name in type of equal widths, for a list or a sentence (not for a table)."""
    line = _one_line(text) or " "
    longest = max((len(found) for found in _TICKS.findall(line)), default=0)
    fence = "`" * (longest + 1)
    # What begins or ends with a backtick is kept off the fence; readers take the spaces away.
    return f"{fence} {line} {fence}" if longest else f"{fence}{line}{fence}"


def _one_line(text: object) -> str:
    return "".join(c if c.isprintable() else " " for c in str(text))
