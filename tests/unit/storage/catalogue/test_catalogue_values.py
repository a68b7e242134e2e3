"""Values as kept, and their JSON."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue.change import Change
from roboao_assets.storage.catalogue.ferretdb import decode_nested, encode_nested
from roboao_assets.storage.catalogue.values import at_path, date_text, from_json, plain, to_json

keys = st.text(st.characters(exclude_characters=".$\0", exclude_categories=["Cs"]), min_size=1)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text()
    | st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC))  # noqa: DTZ001
)
documents = st.dictionaries(
    keys,
    st.recursive(leaves, lambda v: st.lists(v, max_size=4) | st.dictionaries(keys, v, max_size=4)),
)


@given(documents)
def test_plain_values_survive_json(document):
    kept = plain(document)
    text = to_json(kept)
    assert from_json(text) == kept
    assert plain(kept) == kept
    json.loads(text, parse_constant=pytest.fail)  # no NaN, no Infinity


@given(documents)
def test_nested_lists_survive_ferretdb(document):
    kept = plain(document)
    encoded = encode_nested(kept)
    assert decode_nested(encoded) == kept
    assert not holds_list_in_list(encoded)


def holds_list_in_list(value):
    if isinstance(value, dict):
        return any(holds_list_in_list(v) for v in value.values())
    if isinstance(value, list):
        return any(isinstance(v, list) or holds_list_in_list(v) for v in value)
    return False


def test_numpy_and_paths():
    value = {
        "scalar": np.float32(1.5),
        "flag": np.bool_(True),
        "array": np.arange(4, dtype=np.int16).reshape(2, 2),
        "nan": np.array([np.nan, 1.0]),
        "path": Path("a/b"),
        "pair": (1, 2.0),
        "minus": -0.0,
    }
    kept = plain(value)
    assert kept == {
        "scalar": 1.5,
        "flag": True,
        "array": [[0, 1], [2, 3]],
        "nan": [None, 1.0],
        "path": "a/b",
        "pair": [1, 2.0],
        "minus": 0.0,
    }
    assert math.copysign(1, kept["minus"]) == 1
    assert [type(v) for v in (kept["scalar"], kept["flag"])] == [float, bool]


def test_bytes_of_a_header_that_are_no_utf8():
    text = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert plain(text) == "caf\ufffd"
    assert plain({text: 1}) == {"caf\ufffd": 1}


@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=2, max_size=2))
def test_text_order_of_dates_is_time_order(pair):
    first, second = (plain(time) for time in pair)
    assert (date_text(first) < date_text(second)) == (first < second)
    assert len(date_text(first)) == 24


def test_at_path():
    document = {"a": {"b": [{"c": 1}, 2]}, "n": None}
    assert at_path(document, "a.b.0.c") == 1
    assert at_path(document, "a.b.1") == 2
    assert at_path(document, "a.b.2", "none") == "none"
    assert at_path(document, "n.x") is None


def test_change_in_place():
    document = {"a": {"keep": 1, "gone": 2}, "n": 1}
    Change(assign={"a.new.deep": 3}, remove=["a.gone", "x.y"], increment={"n": 2, "m.k": 1}).apply(
        document
    )
    assert document == {"a": {"keep": 1, "new": {"deep": 3}}, "n": 3, "m": {"k": 1}}
    with pytest.raises(CatalogueError, match="n holds 3"):
        Change(assign={"n.x": 1}).apply(document)
    with pytest.raises(CatalogueError, match="not a number"):
        Change(increment={"a": 1}).apply(document)
