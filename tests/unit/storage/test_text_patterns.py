"""Regular expressions of a settings file: they mean what Python's do, and none hangs."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.text_patterns import (
    LONGEST_PATTERN,
    LONGEST_TEXT,
    compile_pattern,
    matches_whole,
)

# Texts on which backtracking is at its worst.
TEXTS = ("a" * LONGEST_TEXT, "a" * (LONGEST_TEXT - 1) + "!", "ab" * (LONGEST_TEXT // 2), "")
NASTY = (
    "(a+)+b",
    "(a*)*b",
    "(a|a)*b",
    "(a|aa)+b",
    "(.*)(.*)(.*)(.*)(.*)b",
    ".*.*.*.*b",
    "a*a*a*a*b",
    "(a?){60}a{60}b",
    "a?" * 60 + "a" * 60,
    "(a|b|ab)" * 24 + "!",
    "((a{0,50}){0,50}){0,50}b",
    "((){60000}){60000}",
    "(((a{999}){999}){999})?b",
    "(?:a+a+)+b",
    "(?>a+)(?>a+)*b",
    "(x+x+)+y",
    r"(\w+\s?)+!",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
)


def refusal(pattern):
    """The sentence by which a pattern is refused, and no other exception; empty if it is not."""
    try:
        compile_pattern(pattern)
    except SettingsError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("pattern", NASTY)
def test_nothing_hangs(pattern):
    """It is refused, or it answers soon."""
    start = time.perf_counter()
    said = refusal(pattern)
    for text in TEXTS if not said else ():
        matches_whole(pattern, text)
    assert time.perf_counter() - start < 5
    assert not said or "could take for ever" in said


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)+b", ".*.*.*.*b", "a?" * 60 + "a" * 60])
def test_what_explodes_is_refused_when_it_is_read(pattern):
    with pytest.raises(SettingsError, match="could take for ever"):
        compile_pattern(pattern)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab.*+?(){}|[]^$\\1,0259", max_size=30))
def test_any_pattern_is_refused_in_a_sentence_or_answers_soon(pattern):
    start = time.perf_counter()
    said = refusal(pattern)
    if said:
        assert repr(pattern) in said
        return
    for text in TEXTS:
        assert matches_whole(pattern, text) is (re.fullmatch(pattern, text) is not None)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"24(\.\d+)?", "24.1", True),
        (r"24(\.\d+)?", "240", False),
        ("HD.*", "HD_141569", True),
        ("HD.*", "KOI_HD", False),
        ("Mars|Titan", "Titan", True),
        ("(?i)titan", "TITAN", True),
        ("(HD|HIP)_?[0-9]{3,6}", "HIP_79123", True),
        (".*Kepler.*", "a_Kepler_b", True),
    ],
)
def test_the_whole_text_is_meant(pattern, text, expected):
    assert matches_whole(pattern, text) is expected


def test_a_text_is_cut():
    assert matches_whole(f"a{{{LONGEST_TEXT}}}", "a" * (LONGEST_TEXT + 7))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a" * (LONGEST_PATTERN + 1), "201 characters; at most 200"),
        ("(", "no regular expression"),
        ("[[a]]", "no regular expression"),
        ("a{9999999999999}", "no regular expression"),
        (r"(a)\1", "a backreference"),
        ("(?=a)a", "a look-around"),
        ("(?<!a)b", "a look-around"),
        ("(a)?(?(1)b|c)", "a conditional group"),
    ],
)
def test_a_mistake_is_a_sentence(pattern, message):
    with pytest.raises(SettingsError, match=message):
        compile_pattern(pattern)
