"""The trends of the archive: which measurement speaks for an observation, and medians in bins."""

import math
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from plausible import TARGETS, observation_id

from dashboards.collect import collect_observation
from dashboards.search_form import SearchForm, SearchFormError
from dashboards.themes import LIGHT
from dashboards.trends import Trends, collect_trends, robust_trend
from dashboards.trends_page import trends_form, trends_head
from dashboards.trends_plot import MOST_POINTS, plot_trends
from roboao_assets.storage.catalogue import ObservationQuery, Reader


def test_every_measured_observation_has_its_place(catalogue):
    trends = collect_trends(catalogue, SearchForm(), None)
    every = catalogue.find_observations(ObservationQuery(summary_only=True))
    assert trends.total == len(every)
    seen = {}
    for document in every:
        observation, _ = collect_observation(catalogue, document["_id"], None)
        if observation.strehl_percent is not None:
            seen[observation.id] = observation
    assert set(trends.ids) == set(seen)
    assert len(seen) >= 3
    assert sorted(trends.time_ms) == list(trends.time_ms)
    for index, identifier in enumerate(trends.ids):
        told = seen[identifier]
        assert trends.strehl_percent[index] == told.strehl_percent
        assert trends.filters[index] == told.filter_name
        assert trends.flagged[index] == (told.strehl_flag != "OK")
        assert trends.time_ms[index] == told.utc.timestamp() * 1e3
        assert trends.elevation_deg[index] == pytest.approx(told.elevation_deg)
        nearest = told.seeing_nearest_arcsec
        seeing = told.seeing_median_arcsec if nearest is None else nearest
        wanted = math.nan if seeing is None else seeing
        assert trends.seeing_arcsec[index] == pytest.approx(wanted, nan_ok=True)


def test_the_address_chooses_and_rights_restrict(catalogue):
    every = collect_trends(catalogue, SearchForm(), None)
    some = collect_trends(catalogue, SearchForm(filter=every.filters[0], page="7"), None)
    assert set(some.filters) == {every.filters[0]}
    assert some.total <= every.total
    nobody = collect_trends(catalogue, SearchForm(), Reader(login="x", programs=()))
    assert (nobody.total, nobody.ids, nobody.strehl_percent.size) == (0, (), 0)
    with pytest.raises(SearchFormError, match="the wrong way round"):
        collect_trends(catalogue, SearchForm(magnitude_min="9", magnitude_max="8"), None)
    assert observation_id(TARGETS[0]) in every.ids


def test_the_trend_finds_the_line_among_outliers():
    rng = np.random.default_rng(1)
    x = rng.uniform(0.5, 2.5, 1200)
    y = 30 - 8 * x + rng.normal(0, 1, 1200)
    y[rng.choice(1200, 120, replace=False)] = 0.0
    trend = robust_trend(x, y)
    assert trend.x.size == 12
    assert np.abs(trend.median - (30 - 8 * trend.x)).max() < 1.0
    assert np.all((trend.lower <= trend.median) & (trend.median <= trend.upper))


def test_few_points_have_no_trend():
    assert robust_trend(np.arange(19.0), np.arange(19.0)) is None
    assert robust_trend(np.arange(20.0), np.arange(20.0)).x.size == 2


@given(arrays(float, st.integers(0, 60), elements=st.floats(-1e6, 1e6) | st.just(math.nan)))
def test_any_columns_have_a_trend_or_none(x):
    trend = robust_trend(x, x)
    if trend is None:
        assert np.isfinite(x).sum() < 20
    else:
        assert np.all(np.diff(trend.x) >= 0)
        assert np.all((trend.lower <= trend.x) & (trend.x <= trend.upper))


def made_trends(count):
    rng = np.random.default_rng(2)
    return Trends(
        ids=tuple(f"o{i}" for i in range(count)),
        filters=tuple(("Si", "lp600", "strange")[i % 3] for i in range(count)),
        time_ms=1.4e12 + 6e4 * np.arange(count, dtype=float),
        strehl_percent=rng.uniform(1, 30, count),
        seeing_arcsec=rng.uniform(0.8, 2.0, count),
        magnitude=np.full(count, np.nan),
        elevation_deg=rng.uniform(30, 90, count),
        flagged=np.arange(count) % 5 == 0,
        total=count + 7,
    )


@pytest.mark.parametrize("count", [1, 100, MOST_POINTS + 1])
def test_plots_show_the_points_of_what_is_known(count):
    trends = made_trends(count)
    plots = dict(plot_trends(trends, LIGHT))
    assert list(plots) == ["Against seeing", "Against elevation", "Over time"], "no magnitudes"
    plot = plots["Over time"]
    data = plot.renderers[0].data_source.data
    drawn = [int(name[1:]) for name in data["id"]]
    assert len(set(drawn)) == len(drawn) == min(count, MOST_POINTS)
    assert list(data["time_ms"]) == list(trends.time_ms[drawn])
    assert list(data["filled"] == 0) == list(trends.flagged[drawn])
    assert {p.renderers[0].data_source for p in plots.values()} == {plot.renderers[0].data_source}
    assert (len(plot.renderers) == 1) == (count == 1), "the median and its band"
    head = trends_head(trends, SearchForm(program="<4>"), LIGHT)
    assert ("are drawn" in head) == (count > MOST_POINTS)
    assert "<4>" not in head


def test_empty_trends_say_what_to_do():
    nothing = made_trends(0)
    assert "No Strehl ratio yet" in trends_head(nothing, SearchForm(), LIGHT)
    none = Trends(**{**vars(nothing), "total": 0})
    assert "Choose a longer span" in trends_head(none, SearchForm(filter="x"), LIGHT)


def test_what_the_form_does_not_show_is_kept():
    form = trends_form(SearchForm(name='"><script>', program='"4', strehl_min="5", page="3"))
    assert "<script>" not in form
    assert 'name="strehl_min" value="5"' in form
    assert 'name="page"' not in form
    assert 'value="&quot;4"' in form


_PLACE = """(label) => {
  const views = [];
  const walk = (view) => { views.push(view); for (const child of view.children()) walk(child); };
  for (const view of Object.values(Bokeh.index.roots ?? Bokeh.index)) walk(view);
  const view = views.find((v) => v.model.type === "Figure" &&
    v.model.below.some((axis) => axis.axis_label === label));
  if (!view?.frame) return null;
  const data = view.model.renderers[0].data_source.data;
  const box = view.canvas_view.el.getBoundingClientRect();
  return [box.x + view.frame.x_scale.compute(data.time_ms[0]),
          box.y + view.frame.y_scale.compute(data.strehl[0]), data.id[0]];
}"""


@pytest.mark.browser
def test_a_click_on_a_point_opens_its_observation(page, server):
    page.goto(f"{server}/trends?date_from=2017-06-01")
    page.get_by_text("Strehl ratios of").wait_for()
    page.wait_for_function(_PLACE, arg="date (UT)")
    folder = Path(__file__).parents[2] / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(500)
    page.screenshot(path=folder / "trends.png", full_page=True)
    page.mouse.wheel(0, 2000)
    page.wait_for_timeout(300)
    x, y, identifier = page.evaluate(_PLACE, "date (UT)")
    page.mouse.move(x, y)
    page.wait_for_timeout(200)
    page.mouse.click(x, y)
    page.wait_for_url(f"{server}/observation?id={quote(identifier, safe='')}")
    assert page.complaints == []
