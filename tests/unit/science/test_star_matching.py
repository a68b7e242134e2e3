"""Matching finds who is who within its bounds, and says so when nothing is sure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboao_assets.science.star_matching import MatchBounds, NoMatchError, match_stars

ANY = MatchBounds(
    max_shift_arcsec=150.0, max_rotation_deg=180.0, max_scale_error=0.1, allow_flip=True
)


def similar(points, *, rotation_deg, scale, flip, shift):
    z = (-points[:, 0] if flip else points[:, 0]) + 1j * points[:, 1]
    moved = scale * np.exp(1j * np.radians(rotation_deg)) * z + complex(*shift)
    return np.stack([moved.real, moved.imag], axis=1)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rotation_deg=st.floats(-179, 179),
    scale=st.floats(0.92, 1.08),
    flip=st.booleans(),
    shift=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
    stars=st.integers(15, 35),
    missing=st.integers(0, 4),
    spurious=st.integers(0, 4),
    extra=st.integers(0, 150),
)
def test_any_turn_scale_parity_and_shift(
    seed, rotation_deg, scale, flip, shift, stars, missing, spurious, extra
):
    rng = np.random.default_rng(seed)
    field = rng.uniform(-18, 18, (stars, 2))
    true = similar(field, rotation_deg=rotation_deg, scale=scale, flip=flip, shift=shift)
    seen = field + rng.normal(0, 0.03, field.shape)
    predicted = np.insert(
        seen, rng.integers(0, stars, spurious), rng.uniform(-18, 18, (spurious, 2)), axis=0
    )
    catalogue = np.concatenate([true[missing:], rng.uniform(-180, 180, (extra, 2))])
    match = match_stars(predicted, catalogue, ANY)
    assert match.flipped == flip
    assert match.scale == pytest.approx(scale, abs=0.01)
    turn = (match.rotation_deg - rotation_deg + 180) % 360 - 180
    assert abs(turn) < 0.3
    assert len(match.detected) >= 0.9 * (stars - missing)
    moved = match.apply(predicted)[match.detected]
    assert np.abs(moved - catalogue[match.catalogue]).max() < ANY.tolerance_arcsec
    assert match.accidents < 1e-3


def test_few_stars_need_narrow_bounds():
    rng = np.random.default_rng(4)
    field = rng.uniform(-18, 18, (5, 2))
    catalogue = np.concatenate([field + 2.0, rng.uniform(-60, 60, (60, 2))])
    narrow = MatchBounds(max_shift_arcsec=10, max_rotation_deg=1, max_scale_error=0.01)
    assert len(match_stars(field, catalogue, narrow).detected) == 5
    wide = MatchBounds(
        max_shift_arcsec=80, max_rotation_deg=180, max_scale_error=0.3, tolerance_arcsec=2
    )
    with pytest.raises(NoMatchError, match="chance would have given"):
        match_stars(field, catalogue, wide)


def test_another_field_is_no_match():
    rng = np.random.default_rng(5)
    with pytest.raises(NoMatchError, match="chance would have given"):
        match_stars(rng.uniform(-18, 18, (30, 2)), rng.uniform(-90, 90, (250, 2)), ANY)


def test_a_wrong_scale_is_told():
    rng = np.random.default_rng(6)
    field = rng.uniform(-18, 18, (5, 2))
    with pytest.raises(NoMatchError, match="the pointing, the scale or the catalogue"):
        match_stars(field, field * 40, MatchBounds())


def test_too_few_stars():
    field = np.zeros((2, 2))
    with pytest.raises(NoMatchError, match="2 stars were detected and the catalogue has 9"):
        match_stars(field, np.zeros((9, 2)), MatchBounds())
