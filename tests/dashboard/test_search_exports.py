"""What a search finds as rows of the page and as tables, read back by astropy."""

import csv
import io
import warnings

import numpy as np
import pytest
from astropy.io import votable
from astropy.table import Table
from plausible import NIGHT, SCRIPT_NAME, TARGETS, contrast_of, observation_id

from dashboards import search_exports, search_markup
from dashboards.search_collect import run_search
from dashboards.search_exports import csv_text, export_columns, read_rows, votable_bytes
from dashboards.search_form import SearchForm, SearchFormError, make_query
from roboao_assets.storage.catalogue import PIPELINES, Reader

UNITS = {"arcsec": "_arcsec", "deg": "_deg", "s": "_s", "%": "_percent", "mag": "_mag"}


def exported(catalogue, kind, **texts):
    query = make_query(SearchForm(**texts))
    rows, cut = read_rows(catalogue, query)
    columns = export_columns(query.pipeline)
    if kind == "csv":
        return csv_text(columns, rows).encode()
    return votable_bytes(columns, rows, cut=cut, pipeline=query.pipeline)


def read_votable(content):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return votable.parse(io.BytesIO(content), verify="exception").get_first_table()


def test_a_page_of_results_tells_what_the_documents_hold(catalogue):
    result = run_search(catalogue, SearchForm(text="HD_171238"))
    (row,) = result.rows
    assert (result.total, result.page, result.pages) == (1, 1, 1)
    assert row.id == observation_id(TARGETS[1])
    assert (row.strehl_percent, row.strehl_flag, row.candidates) == (12.1, "OK", 2)
    assert row.contrast_mag == pytest.approx(6.75, abs=0.02)
    assert catalogue.image(row.picture) is not None


def test_measurements_are_those_of_the_pipeline_asked_for(catalogue):
    by_faint = run_search(catalogue, SearchForm(text="KOI-1422", pipeline="faint_star")).rows[0]
    by_bright = run_search(catalogue, SearchForm(text="KOI-1422")).rows[0]
    assert by_faint.strehl_percent == pytest.approx(by_bright.strehl_percent + 0.8)
    assert "/faint_star/" in by_faint.picture


def test_distances_are_from_the_place_asked_for(catalogue):
    form = SearchForm(ra="281.5", dec="-0.5", radius="2", unit="deg", sort="separation")
    found = run_search(catalogue, form).rows
    distances = [row.separation_arcsec for row in found]
    assert distances[0] == pytest.approx(0.0, abs=1e-6)
    assert distances == sorted(distances)


def test_a_page_that_is_not_there(catalogue):
    with pytest.raises(SearchFormError, match="there is no page 2: 8 observations"):
        run_search(catalogue, SearchForm(page="2"))


def test_a_reader_finds_what_they_may_see(catalogue):
    reader = Reader(login="eve", programs=("24.1",))
    assert run_search(catalogue, SearchForm(), reader=reader).total == 0


def test_csv_is_read_back(catalogue):
    rows = list(csv.DictReader(io.StringIO(exported(catalogue, "csv").decode())))
    assert len(rows) == len(TARGETS) + 1
    by_id = {row["id"]: row for row in rows}
    row = by_id[observation_id(TARGETS[0])]
    assert row["name"] == "351_Yrsa"
    assert row["date_utc"].startswith(f"{NIGHT[:4]}-{NIGHT[4:6]}-{NIGHT[6:]}T")
    assert float(row["ra_deg"]) == pytest.approx(281.5)
    assert float(row["elevation_deg"]) == pytest.approx(61.5)
    assert float(row["strehl_percent"]) == 9.4
    assert (row["candidates"], row["distributed"]) == ("2", "False")
    assert any(row["name"] == SCRIPT_NAME for row in rows)
    failed = by_id[observation_id(TARGETS[5])]
    assert failed["strehl_percent"] == failed["candidates"] == ""


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_votable_is_valid_and_is_read_back(catalogue, tmp_path, pipeline):
    content = exported(catalogue, "votable", pipeline=pipeline, sort="id")
    path = tmp_path / "search.vot"
    path.write_bytes(content)
    report = io.StringIO()
    assert votable.validate(str(path), output=report), report.getvalue()
    table = read_votable(content)
    for field in table.fields:
        assert field.ucd
        for unit, ending in (
            ("arcsec", "_arcsec"),
            ("deg", "_deg"),
            ("s", "_s"),
            ("%", "_percent"),
        ):
            assert not field.name.endswith(ending) or str(field.unit) == unit
    read = Table.read(io.BytesIO(content), format="votable")
    assert list(read["id"]) == sorted(read["id"])
    if pipeline == "bright_star":
        row = read[list(read["id"]).index(observation_id(TARGETS[1]))]
        assert row["strehl_percent"] == 12.1
        deep = contrast_of(TARGETS[1], "bright_star")
        assert deep.min() < row["contrast_0_5_arcsec_mag"] < deep.max()
        assert np.ma.is_masked(row["contrast_2_arcsec_mag"]), "the curve ends before"
        failed = read[list(read["id"]).index(observation_id(TARGETS[5]))]
        assert read["candidates"].mask[failed.index]
        assert not failed["bright_star_made"]


def test_votable_of_nothing_has_its_columns(catalogue):
    content = exported(catalogue, "votable", text="nowhere")
    table = read_votable(content)
    assert len(table.array) == 0
    assert [f.name for f in table.fields][:3] == ["id", "name", "date_utc"]


def test_texts_that_xml_has_not_are_replaced():
    columns = export_columns("extended_object")[:2]
    content = votable_bytes(columns, [("a\x07b", "é<&>"), (None, "")], cut=False, pipeline="x")
    table = read_votable(content)
    assert list(table.array["id"]) == ["a\ufffdb", ""]
    assert table.array["name"][0] == "é<&>"


def test_a_large_selection_is_cut_and_says_so(catalogue, monkeypatch):
    monkeypatch.setattr(search_exports, "MOST_ROWS", 3)
    content = exported(catalogue, "votable")
    parsed = votable.parse(io.BytesIO(content))
    assert len(parsed.get_first_table().array) == 3
    assert {info.value for info in parsed.resources[0].infos} >= {"OVERFLOW"}


def test_markup_holds_nothing_unescaped(catalogue):
    evil = "\"'><script>alert(1)</script>"
    texts = {name: evil for name in ("text", "ra", "dec", "target", "program", "sort", "flag")}
    html = search_markup.search_form(SearchForm(**texts))
    html += search_markup.wrong_form([evil])
    form = SearchForm(text="script")
    html += search_markup.results(form, run_search(catalogue, form))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 3
