"""A simulated night, read as the archive reads a raw night."""

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from roboao_assets.storage.instruments import load_instruments
from roboao_assets.storage.raw_frames import read_frames
from roboao_assets.storage.raw_header import parse_facts, read_header
from roboao_assets.storage.raw_night import read_night
from simulator import simulate_night
from simulator.detector import Camera
from simulator.exposure import Exposure
from simulator.schedule import plan_night
from simulator.truth import CHANGING_SEEING_DEFINITIONS, observation_truth

NIGHT = "20170607"
FRAMES = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    reports = []
    folder = simulate_night(
        root,
        NIGHT,
        targets=3,
        frames=FRAMES,
        dark_frames=4,
        seeing_exposures=3,
        workers=2,
        on_progress=lambda part, text: reports.append((part, text)),
    )
    assert folder == root / NIGHT
    parts = [part for part, _ in reports]
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1.0)
    return root


@pytest.fixture(scope="module")
def truth(root):
    return json.loads((root / NIGHT / "truth.json").read_text())


@pytest.fixture(scope="module")
def raw(root):
    return read_night((root,), NIGHT)


def test_every_file_has_its_family(raw, truth):
    assert [e.id for e in raw.observations] == [o["id"] for o in truth["observations"]]
    assert [e.id for e in raw.seeing] == [s["id"] for s in truth["seeing"]]
    assert len(raw.seeing) >= 3
    assert set(raw.darks) == {"0", "64", "74", "84", "94", "104"}
    assert len(raw.darks["0"]) >= 10
    assert set(raw.flats) == {"Si", "lp600"}
    assert all(len(files) >= 5 for files in raw.flats.values())
    assert len(raw.unprocessed) == 2
    assert raw.unreadable == ()
    assert not any(exposure.problem for exposure in raw.observations)


def test_files_are_those_that_the_truth_lists(root, truth):
    on_disk = {path.name for path in (root / NIGHT).iterdir()}
    assert on_disk == {*truth["files"], "truth.json"}


def test_frames_and_headers_are_what_the_truth_says(raw, truth):
    for exposure, told in zip(raw.observations, truth["observations"], strict=True):
        cube = read_frames(exposure.files)
        assert cube.frames.shape == (FRAMES, 256, 256)
        facts = parse_facts(cube.header)
        assert facts.mode == str(told["mode"])
        assert facts.exposure_s == pytest.approx(FRAMES * 0.116)
        assert facts.filter == told["filter"]
        for key in ("x", "y", "strehl_percent", "second_peak", "bias_adu", "transparency"):
            assert len(told["frames"][key]) == FRAMES
        x, y = round(told["frames"]["x"][0]), round(told["frames"]["y"][0])
        assert cube.frames[0, y - 2 : y + 3, x - 2 : x + 3].mean() > told["frames"]["bias_adu"][0]


def test_the_split_observation_is_in_three_files(raw, truth):
    split = raw.observations[1]
    assert split.name.object_name == "351_Yrsa"
    assert [len(read_frames([path]).frames) for path in split.files] == [1, 3, 4]


def test_a_declination_just_south_of_the_equator(raw):
    facts = parse_facts(read_header(raw.observations[2].files[0]))
    assert facts.dec_deg == pytest.approx(-(30.0 / 60.0 + 14.2 / 3600.0))


def test_flats_and_quarter_frames_share_their_pixels(raw, truth):
    def mean(files):
        return np.mean([read_frames([path]).frames[0] for path in files], axis=0)

    flat = mean(raw.flats["Si"][:2]) - mean(raw.darks["0"][:2])
    assert flat.shape == (1024, 1024)
    for x, y in truth["dead_pixels"]:
        near = np.median(flat[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3])
        assert flat[y, x] < 0.5 * near
    dark = np.mean(read_frames(raw.darks["64"]).frames, axis=0)
    assert dark.shape == (256, 256)


def test_strehls_and_seeing_are_in_the_usual_range(truth):
    for told in truth["observations"]:
        assert 3.0 < told["strehl_percent"] < 30.0
        assert told["strehl_percent_best_20"] > told["strehl_percent"]
        assert 0.9 < told["seeing_500nm_arcsec"] < 2.2
    for told in truth["seeing"]:
        assert 0.5 < told["fwhm_arcsec"] < 2.0
        assert told["fwhm_arcsec"] == pytest.approx(told["fwhm_model_arcsec"], rel=0.4)


def test_every_number_of_the_truth_is_defined(truth):
    text = " ".join(truth["definitions"])
    for key in ("strehl_percent_best_20", "seeing_model_fwhm_arcsec", "fwhm_arcsec", "frames.x"):
        assert key in text


def _plan(seeing_spread):
    return plan_night(
        NIGHT,
        load_instruments()["KPNO_2.1m"],
        targets=2,
        seeing_exposures=1,
        frames=3,
        size=256,
        seed=1,
        seeing_spread=seeing_spread,
    )


def test_changing_seeing_is_all_that_differs_in_the_plan():
    steady, changing = _plan(0.0), _plan(0.25)
    for one, other in zip(
        [*steady.observations, *steady.seeing],
        [*changing.observations, *changing.seeing],
        strict=True,
    ):
        assert other.plan.turbulence.seeing_spread == 0.25
        sky = replace(other.plan.turbulence, seeing_spread=0.0)
        same = replace(other.plan, turbulence=sky, seed=one.plan.seed)
        assert replace(same, night_seed=one.plan.night_seed) == one.plan
        assert other.id == one.id


@pytest.mark.parametrize("seeing_spread", [0.0, 0.25])
def test_the_truth_tells_of_a_changing_seeing_and_of_no_other(seeing_spread):
    scheduled = _plan(seeing_spread).observations[0]
    camera = Camera(np.random.SeedSequence(1), 6.5)
    truths = [Exposure(scheduled.plan, camera).frame(index).truth for index in range(3)]
    told = observation_truth(scheduled, [SimpleNamespace(truths=truths)])
    assert ("seeing_500nm_arcsec" in told["frames"]) == (seeing_spread > 0)
    assert told.get("seeing_spread", 0.0) == seeing_spread
    if seeing_spread:
        seeing = np.array(told["frames"]["seeing_500nm_arcsec"])
        assert np.ptp(seeing) > 0
        assert seeing == pytest.approx(told["seeing_500nm_arcsec"], rel=1.5)
        assert "frames.seeing_500nm_arcsec" in CHANGING_SEEING_DEFINITIONS


@pytest.mark.slow
def test_same_seed_same_bytes_whatever_the_workers(root, truth, tmp_path):
    again = simulate_night(
        tmp_path, NIGHT, targets=3, frames=FRAMES, dark_frames=4, seeing_exposures=3, workers=1
    )
    for name in [*truth["files"], "truth.json"]:
        ours = hashlib.sha256((again / name).read_bytes()).hexdigest()
        assert ours == hashlib.sha256((root / NIGHT / name).read_bytes()).hexdigest(), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"night": "2017-06-07"}, "YYYYMMDD"),
        ({"size": 512}, "size is 512"),
        ({"targets": 0}, "targets is 0"),
        ({"seeing_spread": -0.1}, "seeing_spread is -0.1"),
        ({"seeing_spread": 3}, "seeing_spread is 3"),
    ],
)
def test_arguments_that_cannot_be_used(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_night(tmp_path, **{"night": NIGHT, **arguments})
    assert not any(tmp_path.iterdir())
