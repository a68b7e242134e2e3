"""Searches in both homes against a plain statement of what each condition means."""

import math
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import pytest
from astropy.coordinates import angular_separation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue import (
    Cone,
    ObservationQuery,
    Reader,
    new_observation,
    open_catalogue,
    value_of,
)
from roboao_assets.storage.catalogue.values import at_path
from roboao_assets.storage.raw_names import parse_exposure_name

NAMES = ("351_Yrsa", "HD_1", "hd_100%", "a.b", "Ünö", "x\\y'z", "[a]*+?^$(b)|")
PROGRAMS = ("4", "24", "24.1")
START = datetime(2016, 9, 25, 20, 0, tzinfo=UTC)
POSITIONS = [(0.0, 0.0), (359.95, 0.05), (0.05, -0.05), (180.0, 89.9), (3.0, 89.95), (90.0, -89.9),
             (10.0, 45.0), (10.1, 45.0), (10.0, 45.08), (200.0, -30.0)]  # fmt: skip


def made_documents():
    """Documents of every kind, some with fields missing or of a type an operator left."""
    rng = np.random.default_rng(20160925)
    documents = []
    for number in range(70):
        utc = START + timedelta(minutes=13 * number, milliseconds=number)
        name = NAMES[number % len(NAMES)].replace("\\", "-")
        identifier = (
            f"{PROGRAMS[number % 3]}_{name}_VIC_{('Si', 'Sz', 'lp600')[number % 3]}_o_"
            f"{utc:%Y%m%d_%H%M%S}.{utc.microsecond:06d}"
        )
        ra, dec = POSITIONS[number % len(POSITIONS)]
        known = number % 7 != 0
        document = new_observation(
            parse_exposure_name(identifier),
            exposure_s=[30.0, 90.0, 90][number % 3] if known else None,
            magnitude=float(rng.integers(8, 16)) if known else None,
            ra_deg=ra + float(rng.normal(0, 0.02)) if known else None,
            dec_deg=float(np.clip(dec + rng.normal(0, 0.02), -90, 90)) if known else None,
            azimuth_deg=float(rng.integers(0, 360)) if number % 5 else None,
            elevation_deg=float(rng.integers(30, 90)) if number % 5 else None,
            program_pi=[("law",), ("law", "duev"), ()][number % 3],
        )
        document["name"] = NAMES[number % len(NAMES)]
        document["seeing"]["nearest"] = [utc, round(float(rng.uniform(0.8, 2)), 1)]
        document["seeing"]["median"] = [1.0, 1.5, None][number % 3]
        for pipeline in ("bright_star", "faint_star")[: number % 3]:
            document["pipelined"][pipeline] = {
                "status": {"done": number % 4 != 0, "force_redo": number % 11 == 0},
                "classified_as": ("high_flux", "faint", "zero_flux")[number % 3],
                "strehl": {
                    "ratio_percent": float(rng.integers(1, 20)),
                    "flag": ("OK", "BAD?")[number % 2],
                    "status": {"force_redo": number % 13 == 0, "done": number % 2 == 0},
                },
                "pca": {
                    "status": {"done": number % 5 != 0},
                    "candidates": [None, [], [{"snr": 6.0}], [{"snr": 7.0}, {"snr": 5.5}]][
                        number % 4
                    ],
                    "contrast_1_arcsec_mag": float(rng.integers(2, 7)) if number % 3 else None,
                    "contrast_0_2_arcsec_mag": float(rng.integers(0, 3)),
                },
            }
        if number % 4 == 0:
            document["distributed"]["status"] = True
        elif number % 4 == 1:
            del document["distributed"]
        documents.append(document)
    documents[3]["magnitude"] = "bright"
    documents[4]["science_program"]["program_id"] = 24
    documents[6]["science_program"] = {"program_id": 24.1, "program_PI": "law"}
    documents[8]["seeing"] = None
    documents[9]["coordinates"] = {}
    documents[10]["pipelined"] = None
    documents[11]["distributed"] = {"status": 1}
    documents[13]["pipelined"]["bright_star"]["pca"]["candidates"] = {"0": 1}
    documents[16]["pipelined"]["bright_star"]["pca"]["contrast_1_arcsec_mag"] = "deep"
    documents[12]["science_program"]["program_id"] = 240
    documents[15]["science_program"]["program_id"] = "24x"
    documents[18]["date_utc"] = "yesterday"
    documents.append({"_id": "bare"})
    return documents


DOCUMENTS = made_documents()


@pytest.fixture
def filled(catalogue):
    """A catalogue with DOCUMENTS in it."""
    for document in DOCUMENTS:
        assert catalogue.register_observation(document)
    return catalogue


def number_at(document, path):
    value = at_path(document, path)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def within(value, interval):
    if interval is None or interval == (None, None):
        return True
    low, high = interval
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


def within_turn(value, interval):
    """As `within`; a range from a greater to a smaller azimuth goes through north."""
    if interval is None or None in interval or interval[0] <= interval[1]:
        return within(value, interval)
    return value is not None and (value >= interval[0] or value <= interval[1])


def separation_deg(document, cone):
    radec = at_path(document, "coordinates.radec")
    if radec is None:
        return None
    # Through astropy's Vincenty formula: another way than the catalogue's.
    centre = math.radians(cone[0]), math.radians(cone[1])
    return math.degrees(angular_separation(*centre, *radec))


def redo_asked(value):
    if isinstance(value, dict):
        return value.get("force_redo") is True or any(redo_asked(v) for v in value.values())
    return False


def radians(interval):
    return interval and tuple(None if v is None else math.radians(v) for v in interval)


def in_family(document, program):
    """Whether a document is of a program or, if that is a whole number, of a part of it."""
    own = at_path(document, "science_program.program_id")
    if own is None:
        return False
    return str(own) == program or (program.isdigit() and str(own).split(".")[0] == program)


def is_visible(document, reader):
    if reader is None:
        return True
    program = at_path(document, "science_program.program_id")
    pis = at_path(document, "science_program.program_PI", [])
    is_pi = reader.login == pis or (isinstance(pis, list) and reader.login in pis)
    own = program is not None and str(program) in reader.programs
    return (own or is_pi) and at_path(document, "distributed.status") is True


def is_candidate_wish_met(candidates, wanted):
    return wanted is None or (isinstance(candidates, list) and (len(candidates) > 0) == wanted)


def time_of(document):
    time = document.get("date_utc")
    return time if isinstance(time, datetime) else None


def matches(document, query):
    """State the meaning of a query without any index, box or database."""
    pipeline = f"pipelined.{query.pipeline}"
    utc = time_of(document)
    program = at_path(document, "science_program.program_id")
    pis = at_path(document, "science_program.program_PI", [])
    name = document.get("name")
    tests = [
        query.ids is None or document["_id"] in query.ids,
        query.names is None or name in query.names,
        query.id_contains.lower() in document["_id"].lower(),
        not query.name_contains
        or (isinstance(name, str) and query.name_contains.lower() in name.lower()),
        query.nights is None or (utc is not None and f"{utc:%Y%m%d}" in query.nights),
        query.date_from is None or (utc is not None and utc >= query.date_from),
        query.date_to is None or (utc is not None and utc < query.date_to),
        query.programs is None
        or (program is not None and str(program) in query.programs)
        or (query.subprograms and any(in_family(document, p) for p in query.programs)),
        is_visible(document, query.reader),
        not query.text
        or (
            query.text in (document["_id"], name)
            if query.text_exact
            else query.text.lower() in document["_id"].lower()
            or (isinstance(name, str) and query.text.lower() in name.lower())
        ),
        within(
            number_at(
                document, f"{pipeline}.pca.{CONTRAST_KEYS[query.contrast_separation_arcsec]}"
            ),
            query.contrast_mag,
        ),
        is_candidate_wish_met(
            at_path(document, f"{pipeline}.pca.candidates"), query.has_candidates
        ),
        all(at_path(document, f"pipelined.{p}.status.done") is True for p in query.products_made),
        query.filters is None or document.get("filter") in query.filters,
        within(number_at(document, "magnitude"), query.magnitude),
        within(number_at(document, "exposure"), query.exposure_s),
        within(number_at(document, "seeing.median"), query.seeing_median),
        within(number_at(document, "seeing.nearest.1"), query.seeing_nearest),
        within(number_at(document, f"{pipeline}.strehl.ratio_percent"), query.strehl),
        within_turn(number_at(document, "coordinates.azel.0"), radians(query.azimuth_deg)),
        within(number_at(document, "coordinates.azel.1"), radians(query.elevation_deg)),
        query.flags is None or at_path(document, f"{pipeline}.strehl.flag") in query.flags,
        query.classified_as is None
        or at_path(document, f"{pipeline}.classified_as") in query.classified_as,
        all(at_path(document, f"pipelined.{p}.status.done") is True for p in query.pipelines_done),
        query.distributed is None
        or (at_path(document, "distributed.status") is True) == query.distributed,
        query.program_pi is None
        or query.program_pi == pis
        or (isinstance(pis, list) and query.program_pi in pis),
        query.force_redo is None or redo_asked(document.get("pipelined")) == query.force_redo,
    ]
    if query.cone is not None:
        separation = separation_deg(document, query.cone)
        tests.append(separation is not None and separation <= query.cone[2])
    return all(tests)


CONTRAST_KEYS = {0.2: "contrast_0_2_arcsec_mag", 1.0: "contrast_1_arcsec_mag"}
SORT_PATHS = {
    "date_utc": ("date_utc", datetime),
    "id": ("_id", str),
    "name": ("name", str),
    "filter": ("filter", str),
    "exposure_s": ("exposure", (int, float)),
    "magnitude": ("magnitude", (int, float)),
    "seeing_median": ("seeing.median", (int, float)),
    "seeing_nearest": ("seeing.nearest.1", (int, float)),
    "azimuth_deg": ("coordinates.azel.0", (int, float)),
    "elevation_deg": ("coordinates.azel.1", (int, float)),
    "strehl": ("pipelined.{}.strehl.ratio_percent", (int, float)),
    "flag": ("pipelined.{}.strehl.flag", str),
    "contrast": ("pipelined.{}.pca.{}", (int, float)),
}


def sort_value(document, query):
    path, kind = SORT_PATHS[query.sort[0]]
    key = CONTRAST_KEYS[query.contrast_separation_arcsec]
    value = at_path(document, path.format(query.pipeline, key))
    return value if isinstance(value, kind) else None


def expected_documents(query):
    """In the order asked for, whichever way it goes what has no value comes last."""
    found = sorted((d for d in DOCUMENTS if matches(d, query)), key=lambda d: d["_id"])
    field, ascending = query.sort
    if field == "separation":
        found.sort(key=lambda d: separation_deg(d, query.cone), reverse=not ascending)
    else:
        keyed = [(sort_value(d, query), d) for d in found]
        known = [item for item in keyed if item[0] is not None]
        known.sort(key=lambda item: item[0], reverse=not ascending)
        found = [d for _, d in (*known, *(item for item in keyed if item[0] is None))]
    end = query.skip + query.limit if query.limit else None
    return found[query.skip : end]


def expected(query):
    return [d["_id"] for d in expected_documents(query)]


def interval_of(low, high):
    bound = (
        st.none() | st.sampled_from(sorted({low, high, (low + high) / 2})) | st.floats(low, high)
    )
    return st.none() | st.tuples(bound, bound)


def maybe(strategy):
    # Mostly absent: a query with every condition matches nothing.
    return st.none() | st.none() | st.none() | strategy


def some_of(*values):
    return maybe(st.lists(st.sampled_from(values), max_size=2).map(tuple))


text_part = st.sampled_from(
    [*[""] * 9, *"%_.ü\\'Z", "yrsa", "HD", "$(", "]*+", "hd_100%", "Ün", "n_", "ö", "(a+)+$"]
)
moments = st.integers(-60, 1000).map(lambda minutes: START + timedelta(minutes=minutes))
cones = st.builds(
    Cone,
    st.sampled_from([p[0] for p in POSITIONS]) | st.floats(0, 359.99),
    st.sampled_from([p[1] for p in POSITIONS]) | st.floats(-90, 90),
    st.sampled_from([0.001, 0.01, 0.1, 0.2, 5.0, 90.0, 180.0]),
)


@st.composite
def queries(draw):
    cone = draw(maybe(cones))
    sort_names = [*SORT_PATHS, *(["separation"] * 3 if cone else [])]
    readers = st.builds(
        Reader,
        programs=st.lists(st.sampled_from([*PROGRAMS, "x"]), max_size=2).map(tuple),
        login=st.sampled_from(["eve", "law", "duev"]),
    )
    return ObservationQuery(
        ids=draw(some_of("bare", "none", *(d["_id"] for d in DOCUMENTS[:5]))),
        names=draw(some_of(*NAMES)),
        id_contains=draw(text_part),
        name_contains=draw(text_part),
        nights=draw(some_of("20160924", "20160925", "20160926")),
        date_from=draw(maybe(moments)),
        date_to=draw(maybe(moments)),
        text=draw(text_part | st.sampled_from(["HD_1", DOCUMENTS[0]["_id"]])),
        text_exact=draw(st.booleans()),
        programs=draw(some_of(*PROGRAMS, "5", "x")),
        subprograms=draw(st.booleans()),
        filters=draw(some_of("Si", "Sz", "lp600", "c")),
        cone=cone,
        magnitude=draw(maybe(interval_of(8.0, 16.0))),
        exposure_s=draw(maybe(interval_of(30.0, 90.0))),
        seeing_median=draw(maybe(interval_of(1.0, 1.5))),
        seeing_nearest=draw(maybe(interval_of(0.8, 2.0))),
        strehl=draw(maybe(interval_of(1.0, 20.0))),
        azimuth_deg=draw(maybe(interval_of(0.0, 360.0))),
        elevation_deg=draw(maybe(interval_of(30.0, 90.0))),
        contrast_mag=draw(maybe(interval_of(0.0, 7.0))),
        contrast_separation_arcsec=draw(st.sampled_from(list(CONTRAST_KEYS))),
        has_candidates=draw(maybe(st.booleans())),
        pipeline=draw(st.sampled_from(["bright_star", "bright_star", "faint_star"])),
        flags=draw(some_of("OK", "BAD?")),
        classified_as=draw(some_of("high_flux", "faint", "failed")),
        pipelines_done=draw(st.sampled_from([(), (), (), ("bright_star",), ("faint_star",)])),
        products_made=draw(
            st.sampled_from(
                [(), (), (), ("bright_star.pca",), ("faint_star", "bright_star.strehl")]
            )
        ),
        reader=draw(maybe(readers)),
        distributed=draw(maybe(st.booleans())),
        program_pi=draw(maybe(st.sampled_from(["law", "duev", "la"]))),
        force_redo=draw(maybe(st.booleans())),
        sort=(draw(st.sampled_from(sort_names)), draw(st.booleans())),
        skip=draw(st.integers(0, 3)),
        limit=draw(st.integers(0, 8)),
        summary_only=draw(st.booleans()),
    )


def check(catalogue, query):
    found = catalogue.find_observations(query)
    assert [d["_id"] for d in found] == expected(query)
    total = sum(matches(d, query) for d in DOCUMENTS)
    assert catalogue.count_observations(query) == total
    page, counted = catalogue.find_page(query)
    assert ([d["_id"] for d in page], counted) == (expected(query), total)


FIELDS = (
    "id", "date_utc", "program", "magnitude", "seeing_nearest", "bright_star_flag", "ra_rad",
    "bright_star_candidates", "faint_star_pca_done", "distributed",
)  # fmt: skip


def check_fields(catalogue, query):
    rows = catalogue.find_fields(query, FIELDS)
    wanted = [tuple(value_of(d, field) for field in FIELDS) for d in expected_documents(query)]
    assert rows == [
        tuple(
            value.replace(microsecond=value.microsecond // 1000 * 1000)
            if isinstance(value, datetime)
            else value
            for value in row
        )
        for row in wanted
    ]


def test_any_query(filled):
    # Over the wire a query takes a hundred times as long.
    examples = 120 if type(filled).__name__.startswith("Sqlite") else 40

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(queries())
    def run(query):
        check(filled, query)
        check_fields(filled, query)

    run()


def test_a_search_never_leaves_what_may_be_seen(filled):
    """Every query finds, for a user, just what it finds for all and the user may see."""

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(queries(), st.sampled_from(["24", "24.1", "4"]), st.sampled_from(["eve", "law"]))
    def run(query, program, login):
        mine = Reader(programs=(program,), login=login)
        found = filled.find_observations(
            replace(query, reader=mine, skip=0, limit=0, summary_only=False)
        )
        everything = replace(query, reader=None, skip=0, limit=0)
        wanted = {d["_id"] for d in expected_documents(everything) if is_visible(d, mine)}
        assert {d["_id"] for d in found} == wanted
        assert all(at_path(d, "distributed.status") is True for d in found)

    run()


def test_nobody_sees_nothing(filled):
    nobody = Reader(login="eve", programs=())
    assert filled.find_page(ObservationQuery(reader=nobody)) == ([], 0)
    assert filled.find_fields(ObservationQuery(reader=nobody), ("id",)) == []


def test_cones_over_the_meridian_and_the_poles(filled):
    for position, radius_deg in product(POSITIONS, [0.0, 0.01, 0.06, 60.0, 180.0]):
        check(filled, ObservationQuery(cone=Cone(*position, radius_deg), sort=("separation", True)))
    query = ObservationQuery(cone=Cone(0.0, 0.0, 0.2), sort=("strehl", False), skip=1, limit=2)
    check(filled, query)


def test_each_condition_alone_finds_something_but_not_all(filled):
    for query in (
        ObservationQuery(ids=(DOCUMENTS[2]["_id"], DOCUMENTS[0]["_id"], "none")),
        ObservationQuery(names=("HD_1",)),
        ObservationQuery(id_contains="YRSA"),
        ObservationQuery(name_contains="hd_"),
        ObservationQuery(name_contains="[a]*+?^$(b)|"),
        ObservationQuery(name_contains="Ü"),
        ObservationQuery(nights=("20160925",)),
        ObservationQuery(date_from=START + timedelta(hours=5)),
        ObservationQuery(date_to=START + timedelta(hours=5)),
        ObservationQuery(programs=("24",)),
        ObservationQuery(programs=("24.1",)),
        ObservationQuery(filters=("Si", "c")),
        ObservationQuery(magnitude=(12.0, None)),
        ObservationQuery(exposure_s=(None, 30.0)),
        ObservationQuery(seeing_median=(1.5, 1.5)),
        ObservationQuery(seeing_nearest=(1.0, 1.5)),
        ObservationQuery(strehl=(10.0, 20.0)),
        ObservationQuery(azimuth_deg=(90.0, 180.0)),
        ObservationQuery(azimuth_deg=(300.0, 60.0)),
        ObservationQuery(elevation_deg=(None, 60.0)),
        ObservationQuery(flags=("OK",)),
        ObservationQuery(classified_as=("faint",)),
        ObservationQuery(pipelines_done=("bright_star", "faint_star")),
        ObservationQuery(distributed=True),
        ObservationQuery(distributed=False),
        ObservationQuery(program_pi="duev"),
        ObservationQuery(force_redo=True),
        ObservationQuery(text="yrsa"),
        ObservationQuery(text="HD_1", text_exact=True),
        ObservationQuery(text=DOCUMENTS[1]["_id"], text_exact=True),
        ObservationQuery(programs=("24",), subprograms=True),
        ObservationQuery(contrast_mag=(4.0, None)),
        ObservationQuery(contrast_mag=(None, 1.0), contrast_separation_arcsec=0.2),
        ObservationQuery(has_candidates=True),
        ObservationQuery(has_candidates=False),
        ObservationQuery(products_made=("bright_star.pca", "faint_star")),
        ObservationQuery(reader=Reader(login="eve", programs=("24",))),
        ObservationQuery(reader=Reader(login="duev", programs=())),
    ):
        assert 0 < len(expected(query)) < len(DOCUMENTS), query
        check(filled, query)


def test_nights_agree_with_the_documents(filled):
    rows = {row.night: row for row in filled.nights()}
    times = [time for time in map(time_of, DOCUMENTS) if time]
    assert set(rows) == {f"{time:%Y%m%d}" for time in times}
    assert sum(row.observations for row in rows.values()) == len(times)
    assert sum(row.done for row in rows.values()) == sum(
        at_path(d, "pipelined.bright_star.status.done") is True for d in DOCUMENTS
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": "a text"},
        {"strehl": (1.0,)},
        {"strehl": (math.nan, None)},
        {"strehl": 5.0},
        {"pipeline": "dim_star"},
        {"pipelines_done": ("dim_star",)},
        {"sort": ("colour", True)},
        {"sort": ("separation", True)},
        {"skip": -1},
        {"cone": (0.0, 91.0, 1.0)},
        {"cone": (math.nan, 0.0, 1.0)},
        {"date_from": datetime(2016, 9, 25)},  # noqa: DTZ001
        {"name_contains": "\0"},
        {"text": "\ud800"},
        {"names": ("a\udfff",)},
        {"text": "a" * 1_000_000},
        {"programs": ({"$gt": ""},)},
        {"magnitude": ({"$gt": ""}, None)},
        {"contrast_mag": (1.0, None), "contrast_separation_arcsec": 0.3},
        {"contrast_mag": (1.0, None), "pipeline": "extended_object"},
        {"has_candidates": True, "pipeline": "extended_object"},
        {"products_made": ("bright_star.colour",)},
    ],
)
def test_a_query_that_cannot_be_answered_is_refused(wrong):
    with pytest.raises(CatalogueError):
        ObservationQuery(**wrong)


def test_fields_that_are_none_are_refused(catalogue):
    for fields in (("document",), ("id; DROP TABLE objects",), ()):
        with pytest.raises(CatalogueError, match="no fields"):
            catalogue.find_fields(ObservationQuery(), fields)


def test_a_night_that_is_no_date_is_refused(catalogue):
    with pytest.raises(CatalogueError, match="YYYYMMDD"):
        catalogue.find_observations(ObservationQuery(nights=("2016",)))


def test_sqlite_uses_its_indexes(tmp_path):
    """The searches of the web pages do not read the whole table."""
    from roboao_assets.storage.catalogue.sqlite_conditions import compile_all, order

    with open_catalogue(f"sqlite:///{tmp_path}/c.sqlite") as catalogue:
        for query, word in (
            (ObservationQuery(nights=("20160925",)), "date_utc>? AND date_utc<?"),
            (ObservationQuery(cone=(10.0, 5.0, 0.1)), "dec_rad>? AND dec_rad<?"),
            (ObservationQuery(names=("HD_1",), sort=("id", True)), "name=?"),
            (
                ObservationQuery(programs=("24",), subprograms=True, sort=("id", True)),
                "program>? AND program<?",
            ),
            (ObservationQuery(force_redo=True, sort=("id", True)), "objects_redo"),
        ):
            where, values = compile_all(query.conditions())
            plan = catalogue._connected().execute(
                f"EXPLAIN QUERY PLAN SELECT id FROM objects WHERE {where} "
                f"{order((query.sort_field, True))}",
                values,
            )
            assert word in " ".join(row[3] for row in plan)


def _stages(plan):
    """The names of a plan's stages, from the outermost inwards."""
    inner = [plan.get("inputStage"), *plan.get("inputStages", [])]
    return [plan.get("stage"), *(name for stage in inner if stage for name in _stages(stage))]


@pytest.mark.mongodb
def test_mongodb_uses_its_indexes(mongodb_url):
    """No search of the search page reads every document, says the server's own `explain`."""
    if not os.environ.get("ROBOAO_TEST_MONGODB"):
        pytest.skip(
            "ROBOAO_TEST_MONGODB names no MongoDB server: FerretDB's SQLite backend filters in "
            "memory, so whether MongoDB's indexes are used is NOT TESTED"
        )
    from roboao_assets.storage.catalogue.mongodb_conditions import compile_all, has_value, order

    newest = ("date_utc", False)
    with open_catalogue(mongodb_url) as catalogue:
        for document in DOCUMENTS:
            catalogue.register_observation(document)
        for query in (
            ObservationQuery(sort=newest),
            ObservationQuery(text="yrsa", sort=newest),
            ObservationQuery(names=("HD_1",), sort=newest),
            ObservationQuery(programs=("24",), subprograms=True, sort=newest),
            ObservationQuery(nights=("20160925",), sort=newest),
            ObservationQuery(filters=("Si",), sort=newest),
            ObservationQuery(cone=Cone(10.0, 45.0, 0.1), sort=newest),
            ObservationQuery(magnitude=(12.0, None), sort=("magnitude", True)),
            ObservationQuery(exposure_s=(60.0, None), sort=("exposure_s", True)),
            ObservationQuery(seeing_median=(1.2, None), sort=("seeing_median", True)),
            ObservationQuery(seeing_nearest=(1.2, None), sort=("seeing_nearest", True)),
            ObservationQuery(azimuth_deg=(90.0, 180.0), sort=("azimuth_deg", True)),
            ObservationQuery(elevation_deg=(60.0, None), sort=("elevation_deg", True)),
            ObservationQuery(strehl=(10.0, None), sort=("strehl", False)),
            ObservationQuery(contrast_mag=(4.0, None), sort=("contrast", False)),
            ObservationQuery(has_candidates=True, sort=newest),
            ObservationQuery(reader=Reader(login="law", programs=("24",)), sort=newest),
        ):
            sort = (query.sort_field, query.sort[1])
            wanted = {"$and": [compile_all(query.conditions()), has_value(sort[0], True)]}
            cursor = catalogue._collection("objects").find(wanted, sort=order(sort), limit=50)
            stages = _stages(cursor.explain()["queryPlanner"]["winningPlan"])
            assert "IXSCAN" in stages, (query, stages)
            assert "COLLSCAN" not in stages, (query, stages)
