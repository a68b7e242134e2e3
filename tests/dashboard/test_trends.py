"""The trends of the archive: which measurement speaks for an observation, and medians in bins."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from plausible import TARGETS, observation_id

from dashboards.collect import collect_observation
from dashboards.search_form import SearchForm, SearchFormError
from dashboards.trends import collect_trends, robust_trend
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
