"""Chains as data: read with every mistake named, judged by the logic of three values."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.decision_fields import KNOWN_FIELDS
from roboao_assets.storage.decisions import (
    OPERATORS,
    AllOf,
    AnyOf,
    Negation,
    Rule,
    Verdict,
    judge,
    parse_condition,
    plain_condition,
    reason_words,
    rules_of,
)
from roboao_assets.storage.settings import load_settings

TRUE, FALSE, UNKNOWN = Verdict.TRUE, Verdict.FALSE, Verdict.UNKNOWN
TIME = datetime(2017, 6, 7, 4, tzinfo=UTC)
DOCUMENT = {
    "_id": "24.1_Titan_VIC_Si_o_20170607_040000.000000",
    "name": "Titan",
    "science_program": {"program_id": "24.1", "program_PI": ["ed"]},
    "date_utc": TIME,
    "filter": "Si",
    "exposure": 90.0,
    "magnitude": None,
    "coordinates": {"azel": [1.0, 0.5]},
    "seeing": {"median": 1.2, "nearest": [TIME, 1.3]},
    "distributed": {"status": False},
    "pipelined": {
        "bright_star": {
            "status": {"done": True},
            "classified_as": "high_flux",
            "flags": ["near_edge", "no_core"],
            "lock_position": [100.0, 120.0],
            "strehl": {"status": {"done": False, "retries": 2, "reason": "no fit"}, "flag": "OK"},
        },
        "faint_star": {
            "status": {"done": False, "reason": "it is bright"},
            "lock_position": [1, 2],
        },
    },
}


def verdict(field, operator, value=True, document=DOCUMENT, **facts):
    data = {"field": field, "operator": operator, "value": value}
    return judge(parse_condition(data, "decisions.pca"), document, facts).verdict


# -- rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "operator", "value", "expected"),
    [
        ("program", "in", ["24"], TRUE),
        ("program", "not in", ["24"], FALSE),
        ("science_program.program_id", "in", ["24"], FALSE),
        ("science_program.program_id", "=", "24.1", TRUE),
        ("science_program.program_PI", "=", "ed", TRUE),
        ("filter", "!=", "Si", FALSE),
        ("name", "matches", "T.*n", TRUE),
        ("name", "matches", "T", FALSE),
        ("exposure", "between", [90, 120], TRUE),
        ("exposure", "between", [60, 90.0], TRUE),
        ("exposure", "<", 90, FALSE),
        ("exposure", "<=", 90, TRUE),
        ("exposure", ">", 89, TRUE),
        ("exposure", ">=", 91, FALSE),
        ("exposure", "in", [60, 90], TRUE),
        ("seeing.nearest.1", "=", 1.3, TRUE),
        ("magnitude", "<", 16, UNKNOWN),
        ("magnitude", "!=", 16, UNKNOWN),
        ("magnitude", "exists", True, FALSE),
        ("magnitude", "exists", False, TRUE),
        ("coordinates.azel", "exists", True, TRUE),
        ("coordinates.radec", "exists", True, FALSE),
        ("coordinates.azel.1", "<", 0.6, TRUE),
        ("elevation_deg", "between", [28.6, 28.7], TRUE),
        ("azimuth_deg", ">", 58, FALSE),
        ("distributed.status", "=", False, TRUE),
        ("distributed.status", "!=", False, FALSE),
        ("date_utc", ">=", "2017-06-07T04:00:00Z", TRUE),
        ("date_utc", "<", "2017-06-07", FALSE),
        ("date_utc", "between", ["2017-06-07", "2017-06-07T04:00:00+00:00"], TRUE),
        ("no_core", "=", True, TRUE),
        ("pipelined.bright_star.flags", "in", ["no_core", "saturated"], TRUE),
        ("pipelined.bright_star.flags", "not in", ["saturated"], TRUE),
        ("pipelined.bright_star.flags", "matches", "near.*", TRUE),
        ("pipelined.bright_star.classified_as", "=", "high_flux", TRUE),
        ("pipelined.bright_star.lock_position", "exists", True, TRUE),
        # What is not made, or no longer, tells nothing.
        ("pipelined.faint_star.lock_position", "exists", True, FALSE),
        ("pipelined.bright_star.strehl.flag", "=", "OK", UNKNOWN),
        ("pipelined.extended_object.deconvolved", "=", True, UNKNOWN),
        ("pipelined.faint_star.status.done", "=", False, TRUE),
        ("library.references", ">=", 1, UNKNOWN),
    ],
)
def test_rules(field, operator, value, expected):
    assert verdict(field, operator, value) is expected


def test_facts_beside_the_document():
    facts = {"library.references": 3}
    rule = parse_condition(
        {"field": "library.references", "operator": ">=", "value": 1}, "decisions.pca"
    )
    assert judge(rule, {}, facts).verdict is TRUE


@pytest.mark.parametrize(
    ("field", "operator", "value", "odd"),
    [
        ("magnitude", ">", 3, {"magnitude": "bright"}),
        ("magnitude", ">", 3, {"magnitude": float("nan")}),
        ("name", "=", "3", {"name": ["3"]}),
        ("date_utc", ">", "2017-06-07", {"date_utc": "2018-01-01"}),
        ("distributed.status", "=", True, {"distributed": {"status": "yes"}}),
        ("pipelined.bright_star.flags", "=", "x", {"pipelined": {"bright_star": 3}}),
        ("no_core", "=", False, {"pipelined": None}),
        ("program", "=", "24", {"science_program": "24"}),
    ],
)
def test_odd_documents_are_not_known(field, operator, value, odd):
    assert verdict(field, operator, value, odd) is UNKNOWN


def test_a_program_entered_as_a_number_is_text():
    document = {"science_program": {"program_id": 24}}
    assert verdict("program", "in", ["24"], document) is TRUE
    assert verdict("science_program.program_id", "=", "24", document) is TRUE


def test_words_name_what_decides():
    chain = parse_condition(
        {
            "any": [
                {"field": "program", "operator": "in", "value": ["25"]},
                {"all": [{"field": "magnitude", "operator": "<", "value": 9}]},
            ]
        },
        "decisions.pca",
    )
    judgement = judge(chain, DOCUMENT)
    assert judgement.verdict is UNKNOWN
    said = reason_words(judgement)
    assert "magnitude (magnitude of the header) is nothing (the catalogue has no value)" in said
    assert "program" not in said
    strehl = {"field": "pipelined.bright_star.strehl.flag", "operator": "=", "value": "OK"}
    said = reason_words(judge(parse_condition({"not": strehl}, "x"), DOCUMENT))
    assert "bright_star.strehl is not made: no fit" in said
    assert reason_words(judge(AnyOf(), DOCUMENT)) == "any of no rules is false"


# -- logic ----------------------------------------------------------------------------------

_RULES = st.sampled_from(["name", "camera", "filter"]).map(lambda name: Rule(name, "=", "a"))
CONDITIONS = st.recursive(
    _RULES | st.sampled_from([AllOf(), AnyOf()]),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: AllOf(tuple(parts)))
        | st.lists(inner, max_size=4).map(lambda parts: AnyOf(tuple(parts)))
        | inner.map(Negation)
    ),
    max_leaves=12,
)
DOCUMENTS = st.fixed_dictionaries(
    {name: st.sampled_from(["a", "b", None]) for name in ("name", "camera", "filter")}
)


def of(condition, document):
    return judge(condition, document).verdict


@given(st.lists(CONDITIONS, max_size=4), DOCUMENTS)
def test_de_morgan(parts, document):
    negated = tuple(Negation(part) for part in parts)
    assert of(Negation(AllOf(tuple(parts))), document) is of(AnyOf(negated), document)
    assert of(Negation(AnyOf(tuple(parts))), document) is of(AllOf(negated), document)


@given(CONDITIONS, DOCUMENTS)
def test_double_negation(condition, document):
    assert of(Negation(Negation(condition)), document) is of(condition, document)


@given(CONDITIONS, DOCUMENTS, DOCUMENTS)
def test_what_is_decided_stays_decided_when_more_is_known(condition, document, other):
    """Kleene's logic is monotone: a chain that ran did not run for want of a value."""
    filled = {name: other[name] if value is None else value for name, value in document.items()}
    before = of(condition, document)
    assert before is UNKNOWN or of(condition, filled) is before


@given(CONDITIONS)
def test_of_what_is_not_known_nothing_comes_true(condition):
    """Without a value no rule is true, nor any chain in which every part has a rule."""
    verdict = of(condition, {})
    if verdict is not UNKNOWN:
        # It is decided whatever the rules say: by `all` or `any` of no rules.
        assert verdict is of(condition, dict.fromkeys(("name", "camera", "filter"), "a"))
        assert verdict is of(condition, dict.fromkeys(("name", "camera", "filter"), "b"))


@pytest.mark.parametrize("operator", ["in", "not in", "=", "!=", "matches"])
def test_a_missing_value_is_never_true(operator):
    value = ["a"] if operator in ("in", "not in") else "a"
    rule = parse_condition({"field": "name", "operator": operator, "value": value}, "x")
    assert of(rule, {}) is of(Negation(rule), {}) is UNKNOWN


# -- reading --------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*KNOWN_FIELDS, *{o for some in OPERATORS.values() for o in some}]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["field", "operator", "value", "all", "any", "not", "x"]), inner
        )
    ),
    max_leaves=15,
)


def refusal(data):
    """The sentence by which a chain is refused, and no other exception; empty if it is read."""
    try:
        parse_condition(data, "decisions.pca")
    except SettingsError as error:
        return str(error)
    return ""


@st.composite
def rule_like(draw):
    """Rules that are nearly right: known fields, known operators, any value."""
    field = draw(st.sampled_from(list(KNOWN_FIELDS)))
    operator = draw(st.sampled_from(OPERATORS[KNOWN_FIELDS[field].type]))
    numbers = st.floats() | st.integers() | st.just(10**400)
    times = st.datetimes() | st.dates() | st.just("2017-06-07T04:00:00+23:59")
    value = st.text(alphabet="ab(*[\\", max_size=6) | numbers | times | st.booleans() | _JSON
    return {
        "field": field,
        "operator": operator,
        "value": draw(value | st.lists(value, max_size=3)),
    }


@given(_JSON | rule_like() | st.lists(rule_like(), max_size=3).map(lambda rules: {"all": rules}))
def test_reading_ends_in_a_condition_or_a_sentence(data):
    said = refusal(data)
    if said:
        assert said.startswith("decisions.pca")
        return
    condition = parse_condition(data, "decisions.pca")
    # It travels to the workers as JSON.
    again = parse_condition(json.loads(json.dumps(plain_condition(condition))), "decisions.pca")
    assert again == condition
    assert judge(condition, DOCUMENT).verdict in Verdict
    assert judge(condition, {}).verdict in Verdict


@given(st.text(max_size=60))
def test_a_string_is_json(text):
    assert refusal(text).startswith("decisions.pca")


def nested(depth):
    data = {"field": "name", "operator": "=", "value": "x"}
    for _ in range(depth):
        data = {"not": data}
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"decisions.pca: a rule .* was expected, not \[\]"),
        (nested(100), "nested at most 10 deep"),
        ({}, "possible are field, operator and value together"),
        ({"all": [], "any": []}, "one of all, any and not alone"),
        ({"all": {}}, "decisions.pca.all: a list of at most 200 rules"),
        (
            {"all": [{"field": "magnitud", "operator": "<", "value": 3}]},
            r"decisions.pca.all\[0\]: 'magnitud' is no field .* magnitude,",
        ),
        (
            {"field": "magnitude", "operator": "matches", "value": "3"},
            r"magnitude \(number\) cannot be asked with the operator 'matches'; possible are in",
        ),
        ({"field": "name", "operator": "=="}, "'=='"),
        ({"field": "name", "operator": "="}, "name =: the value to compare with is missing"),
        ({"field": "program", "operator": "in", "value": [24]}, "text in quotes, .*not 24"),
        ({"field": "program", "operator": "in", "value": "24"}, "a list of 1 to 200 .*not '24'"),
        ({"field": "program", "operator": "in", "value": []}, "a list of 1 to 200"),
        ({"field": "exposure", "operator": "<", "value": "90"}, "a finite number .*not '90'"),
        ({"field": "exposure", "operator": "<", "value": True}, "a finite number .*not True"),
        ({"field": "exposure", "operator": "<", "value": float("nan")}, "not nan"),
        ({"field": "exposure", "operator": "between", "value": [3, 1]}, r"\[low, high\]"),
        ({"field": "exposure", "operator": "between", "value": [1, 2, 3]}, r"\[low, high\]"),
        ({"field": "no_core", "operator": "=", "value": 1}, "true or false was expected, not 1"),
        ({"field": "date_utc", "operator": "<", "value": "soon"}, "a time like .*not 'soon'"),
        ({"field": "name", "operator": "exists", "value": "yes"}, "true or false"),
        ({"field": "name", "operator": "matches", "value": "(a+)+b"}, "could take for ever"),
    ],
)
def test_a_mistake_names_the_setting_and_what_is_possible(data, message):
    with pytest.raises(SettingsError, match=message):
        parse_condition(data, "decisions.pca")


def test_every_field_has_a_type_with_operators():
    for name, known in KNOWN_FIELDS.items():
        assert OPERATORS[known.type], name
        assert known.meaning


# -- settings -------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_chain_of_the_file_replaces_the_default(here):
    Path("roboao.toml").write_text(
        "[decisions.bright_star]\n"
        'all = [{field = "date_utc", operator = ">", value = 2015-10-01}]\n'
        '[decisions.pca]\nnot = {field = "filter", operator = "in", value = ["c"]}\n'
    )
    made = load_settings()
    moved = datetime.combine(date(2015, 10, 1), datetime.min.time(), UTC)
    assert made.decisions.bright_star == AllOf((Rule("date_utc", ">", moved),))
    assert made.decisions.pca == Negation(Rule("filter", "in", ("c",)))
    assert made.decisions.faint_star == load_settings(decisions={}).decisions.faint_star
    again = type(made).model_validate_json(made.model_dump_json())
    assert again == made


def test_a_chain_of_the_environment_is_json(here, monkeypatch):
    monkeypatch.setenv("ROBOAO_DECISIONS__PCA", '{"all": []}')
    rule = '[{"field": "magnitude", "operator": "<", "value": 15}]'
    monkeypatch.setenv("ROBOAO_DECISIONS__FAINT_STAR__ANY", rule)
    made = load_settings().decisions
    assert made.pca == AllOf()
    assert list(rules_of(made.faint_star)) == [Rule("magnitude", "<", 15)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[decisions]\nbright = {all = []}", "decisions.bright: Extra inputs"),
        ("[decisions.pca]\nall = 3", "decisions.pca.all: a list of at most 200 rules .* not 3"),
        (
            '[decisions.pca]\nall = [{field = "x", operator = "=", value = 1}]',
            r"decisions.pca.all\[0\]: 'x' is no field",
        ),
        ("[faint_star]\nclasses = ['faint']", "faint_star.classes"),
        ("[extended_object]\nenabled = false", "extended_object.enabled"),
    ],
)
def test_a_mistake_in_the_file_is_named(here, text, message):
    Path("roboao.toml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings()


def test_the_page_of_the_documentation_has_the_defaults(here):
    import tomllib

    page = (Path(__file__).parents[3] / "docs" / "decisions.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```toml\n")[1:]]
    made = [load_settings(**tomllib.loads(block)).decisions for block in blocks]
    assert made[0] == load_settings().decisions
    # Each of the examples changes one chain.
    assert [len(set(dict(one).items()) - set(dict(made[0]).items())) for one in made] == [
        0,
        1,
        1,
        1,
    ]
    for name in KNOWN_FIELDS:
        short = name.replace("pipelined.bright_star", "").replace("pipelined.faint_star", "")
        assert f"`{short.removeprefix('pipelined.extended_object')}`" in page, name
