"""Texts in Markdown come out of a real Markdown reader as they went in."""

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from roboao_assets.orchestration.markdown import markdown_code, markdown_text

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "![x](https://evil.example/track.png)",
    "[click](javascript:alert(1))",
    "<https://evil.example>",
    "`</code><script>alert(1)</script>`",
    "``` `` `",
    "a|b\\|c",
    "*bold* _it_ ~~no~~ # head",
    "&lt;b&gt; &#106;avascript:",
    "two\nlines\n\n- item",
    "\\`\\",
    "1. first",
    "trailing\\",
)
READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.sampled_from("a1 `*_[]()!<>&#|\\~-+.:/\"'\n\té🔭\u202e"), max_size=30),
)


def seen(html):
    """What a reader sees, and the names of the elements that it stands in."""
    names = set(re.findall(r"<([a-z0-9]+)", html))
    return unescape(re.sub(r"<[^>]*>", "", html)), names


def squeezed(text):
    return "".join(c for c in text if c.isprintable() and not c.isspace())


@given(texts)
def test_a_text_stands_for_itself_in_a_sentence(text):
    shown, names = seen(READER.render(f"before {markdown_text(text)} after"))
    assert squeezed(shown) == squeezed(f"before {text} after")
    assert names == {"p"}


@given(texts)
def test_a_text_stays_in_its_cell(text):
    rows = ["| a | b |", "|---|---|", f"| {markdown_text(text)} | last |"]
    html = READER.render("\n".join(rows))
    cells = [seen(cell)[0] for cell in re.findall(r"<td>(.*?)</td>", html)]
    assert [squeezed(cell) for cell in cells] == [squeezed(text), "last"]
    assert seen(html)[1] == {"table", "thead", "tbody", "tr", "th", "td"}


@given(texts)
def test_a_name_stands_for_itself_in_a_list(text):
    html = READER.render(f"- {markdown_code(text)}: last\n- second")
    shown, names = seen(html)
    assert squeezed(shown) == squeezed(f"{text}: last second")
    assert names == {"ul", "li", "code"}


@pytest.mark.parametrize("text", HOSTILE[:2])
def test_without_this_they_were_markup(text):
    assert "img" in seen(READER.render(f"x {text}"))[1]
