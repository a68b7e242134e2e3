"""Targets of a night."""

import numpy as np
import pytest

from roboao_assets.storage.instruments import load_instruments
from simulator.targets import Companion, electrons_per_frame, plan_targets

PROFILES = load_instruments()


@pytest.mark.parametrize("name", ["KPNO_2.1m", "PHARO"])
@pytest.mark.parametrize("pa_deg", [0.0, 63.0, 172.0, 291.0])
def test_offset_is_the_inverse_of_the_position_angle(name, pa_deg):
    profile = PROFILES[name]
    dx, dy = Companion(sep_arcsec=0.8, pa_deg=pa_deg, dmag=1.0).offset_px(profile)
    assert profile.position_angle_deg(dx, dy) == pytest.approx(pa_deg, abs=1e-9)
    assert np.hypot(dx, dy) * profile.plate_scale_arcsec == pytest.approx(0.8)


def test_east_is_left():
    dx, dy = Companion(sep_arcsec=1.0, pa_deg=90.0, dmag=1.0).offset_px(PROFILES["KPNO_2.1m"])
    assert dx < 0
    assert dy == pytest.approx(0.0, abs=1e-9)


def test_the_first_targets_hold_what_the_archive_must_cope_with():
    targets = plan_targets(np.random.default_rng(1), 8)
    assert {t.expected_class for t in targets} == {"high_flux", "faint", "zero_flux"}
    assert any(t.declination.startswith("-00:") for t in targets)
    assert any("_" in t.object_name for t in targets)
    assert any("." in t.program for t in targets)
    assert any(t.header_magnitude == 9999.0 for t in targets)
    assert any(t.split for t in targets)
    assert any(t.magnitude is None for t in targets)


def test_field_and_planet_come_after_the_first_eight():
    targets = plan_targets(np.random.default_rng(1), 10)
    assert not any(t.field_size or t.disc for t in targets[:8])
    assert (targets[8].field_size, targets[8].disc) == (35, None)
    assert targets[9].disc is not None
    assert targets[9].expected_class is None


def test_program_24_is_of_the_solar_system():
    for target in plan_targets(np.random.default_rng(2), 60):
        assert (target.program.split(".")[0] == "24") == (target.disc is not None)


def test_drawn_targets_have_names_of_their_own():
    targets = plan_targets(np.random.default_rng(1), 30)
    assert len({t.object_name for t in targets}) == 30


def test_five_magnitudes_are_a_hundred():
    profile = PROFILES["KPNO_2.1m"]
    bright = electrons_per_frame(profile, "Si", 5.0)
    assert bright / electrons_per_frame(profile, "Si", 10.0) == pytest.approx(100.0)
