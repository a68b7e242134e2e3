"""From documents to plain values, and what is derived of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from plausible import (
    CANDIDATES,
    EARLIER_NIGHT,
    FAILURE,
    NIGHT,
    SCRIPT_NAME,
    SEPARATION,
    SKIPPED,
    TARGETS,
    contrast_of,
    observation_id,
)

from dashboards.collect import (
    Remark,
    SeeingFrame,
    collect_contrast_medians,
    collect_night,
    collect_nights,
    collect_observation,
    night_neighbours,
    observation_neighbours,
    read_observation,
)
from dashboards.compute import (
    contrast_at,
    contrast_medians,
    seeing_trend,
    select_cards,
    select_observations,
    summarise_night,
)
from dashboards.results import Curve, read_contrast_medians
from roboao_assets.science.contrast_quartiles import NightCurve, quartiles_by_filter
from roboao_assets.storage.catalogue import Reader, open_catalogue

BAD_VALUES = (None, "text", 3, True, [], [1], {}, {"status": []}, float("nan"), [[1], "x"])


@pytest.fixture(scope="module")
def night(catalogue):
    return collect_night(catalogue, NIGHT, None)


def test_nights_are_newest_first(catalogue):
    nights = collect_nights(catalogue, None)
    assert [n.night for n in nights] == [NIGHT, EARLIER_NIGHT]
    assert (nights[0].observations, nights[0].done, nights[0].failed) == (7, 6, 1)


def test_night_holds_its_observations_in_time_order(night):
    assert [o.id for o in night.observations] == [observation_id(t) for t in TARGETS]
    assert night.version
    assert len(night.seeing) == 13
    assert night.seeing_median_arcsec == 1.29
    assert [remark.reason for remark in night.seeing_discarded] == [
        "no star was found in the exposure"
    ]
    assert f"{observation_id(TARGETS[0])}/bright_star/full" in night.image_keys


def test_neighbours_are_those_that_a_reader_may_see(catalogue_url, tmp_path):
    copy = tmp_path / "catalogue.sqlite"
    copy.write_bytes(Path(urlsplit(catalogue_url).path).read_bytes())
    ids = [observation_id(target) for target in TARGETS]
    reader = Reader(login="law", programs=("24.1",))
    with open_catalogue(f"sqlite:///{copy}") as catalogue:
        assert night_neighbours(catalogue, NIGHT, None) == (EARLIER_NIGHT, None)
        assert night_neighbours(catalogue, EARLIER_NIGHT, None) == (None, NIGHT)
        assert night_neighbours(catalogue, NIGHT, reader) == (None, None)
        for place in (1, 4, 6):
            catalogue.set_distributed(ids[place], True)
        catalogue.set_distributed(observation_id(TARGETS[0], EARLIER_NIGHT), True)
        assert night_neighbours(catalogue, NIGHT, reader) == (EARLIER_NIGHT, None)
        seen = {
            None: [(None, ids[1]), (ids[3], ids[5]), (ids[5], None)],
            reader: [(None, None), (ids[1], ids[6]), (ids[4], None)],
        }
        for asking, expected in seen.items():
            found = [
                observation_neighbours(
                    catalogue, collect_observation(catalogue, i, None)[0], asking
                )
                for i in (ids[0], ids[4], ids[6])
            ]
            assert found == expected
        lost = replace(collect_observation(catalogue, ids[1], None)[0], night="")
        assert observation_neighbours(catalogue, lost, None) == (None, None)
        assert collect_contrast_medians(catalogue, NIGHT, None).keys() == {"lp600"}
        assert collect_contrast_medians(catalogue, NIGHT, reader) == {}


def test_medians_of_what_is_seen_are_those_of_the_nights_summary(night):
    """The pipelines make the summary; the pages make it of what a reader sees."""
    made = contrast_medians(night.observations)
    curves = [
        NightCurve(
            filter_name=o.filter_name,
            separation_arcsec=np.array(o.curve.separation_arcsec),
            contrast_mag=np.array(o.curve.contrast_mag),
        )
        for o in night.observations
        if o.curve is not None
    ]
    expected = {n: q for n, q in quartiles_by_filter(curves).items() if q.total > 1}
    assert made.keys() == expected.keys() == {"lp600"}
    for name in ("separation_arcsec", "lower_mag", "median_mag", "upper_mag"):
        np.testing.assert_allclose(
            getattr(made["lp600"], name), getattr(expected["lp600"], name), rtol=1e-12
        )
    short = [replace(night.observations[0], curve=Curve(separation_arcsec=(x, x + 0.1),
             contrast_mag=(1.0, 2.0))) for x in (0.0, 1.0, 2.0)]  # fmt: skip
    assert contrast_medians(short) == {}, "nowhere do half of these curves reach"


def test_night_tells_what_failed_of_itself(catalogue):
    earlier = collect_night(catalogue, EARLIER_NIGHT, None)
    reason = "4 dark files of mode 9 were found and 10 are needed"
    assert earlier.failures == (Remark(product="calibration", reason=reason, failures=1),)


def test_unknown_night_and_observation_are_none(catalogue):
    assert collect_night(catalogue, "19990101", None) is None
    assert collect_observation(catalogue, "nothing", None) is None


def test_observation_tells_its_measurements(catalogue):
    observation, keys = collect_observation(catalogue, observation_id(TARGETS[1]), None)
    assert observation.state == "done"
    assert observation.classification == "high_flux"
    result = observation.results[0]
    assert (result.pipeline, result.frames, result.frames_used) == ("bright_star", 770, 755)
    assert (observation.strehl_percent, observation.strehl_flag) == (12.1, "OK")
    assert observation.elevation_deg == pytest.approx(61.5)
    assert observation.seeing_nearest_arcsec == pytest.approx(1.2 + 14 / 300)
    assert observation.header["MODE_NUM"] == ("9", "camera mode")
    kinds = {"full", "cropped", "pca", "snr_map", "contrast_curve"}
    assert {key.rsplit("/", 1)[1] for key in keys} == kinds


def test_candidates_and_references_are_those_of_the_catalogue(night):
    result = night.observations[1].results[0]
    for found, stored in zip(result.candidates, CANDIDATES, strict=True):
        assert vars(found) == {key: stored[key] for key in vars(found)}
    assert (result.searched, result.snr_threshold, result.false_alarms_expected) == (
        True, 5.0, 0.012,
    )  # fmt: skip
    assert [correlation for _, correlation in result.references] == pytest.approx(
        [0.99, 0.98, 0.97, 0.96, 0.95]
    )
    nothing = read_observation({"_id": "x", "pipelined": {"bright_star": {"frames": 3}}}).results[0]
    assert (nothing.searched, nothing.candidates, nothing.references) == (False, (), ())


def test_faint_star_numbers_lead_where_there_are_any(night):
    observation = night.observations[3]
    assert observation.classification == "faint"
    assert [result.pipeline for result in observation.results] == ["faint_star", "bright_star"]
    assert observation.strehl_percent == pytest.approx(2.1)
    assert [r.strehl_percent for r in observation.results] == pytest.approx([2.1, 1.3])
    assert observation.curve == observation.results[0].curve


def test_median_of_the_night_is_by_filter(night):
    assert list(night.contrast_medians) == ["lp600"], "the other filters have one curve each"
    median = night.contrast_medians["lp600"]
    curves = [contrast_of(t, "bright_star") for t in TARGETS if t.filter_name == "lp600"]
    assert median.total == len(curves) == 3
    expected = np.interp(median.separation_arcsec, SEPARATION, np.median(curves, axis=0))
    np.testing.assert_allclose(median.median_mag, expected, atol=2e-3)


def test_failures_of_a_faint_star_stack_are_told_and_skips_of_bright_stars_are_not():
    def read(classified_as, status):
        bright = {"classified_as": classified_as, "status": {"done": True}}
        bright["strehl"] = {"ratio_percent": 3.0}
        faint = {"status": {"done": False, **status}}
        document = {"_id": "x", "pipelined": {"bright_star": bright, "faint_star": faint}}
        return read_observation(document)

    skip = {"retries": 0, "reason": "its class is high_flux"}
    bright = read("high_flux", skip)
    assert (bright.state, bright.skipped) == ("done", ())
    told = Remark(product="faint-star stack", reason="its class is high_flux")
    assert read("faint", skip).skipped == (told,)
    failed = read("high_flux", {"retries": 2, "reason": "the disk is full"})
    assert failed.state == "failed"
    assert failed.failures[0].product == "faint-star stack"


def test_failure_and_skip_are_told_once_and_apart(night):
    failed = next(o for o in night.observations if o.state == "failed")
    assert failed.failures == (Remark(product="stack", reason=FAILURE, failures=2),)
    skipped = next(o for o in night.observations if o.name == SCRIPT_NAME)
    assert skipped.failures == ()
    assert [remark.reason for remark in skipped.skipped] == [SKIPPED]
    assert skipped.state == "done"


def test_observation_that_was_never_reduced_waits():
    assert read_observation({"_id": "x"}).state == "waiting"


def test_unusable_frames_are_a_failure_with_the_class_reason():
    stack = {"classified_as": "failed", "reason": "NaN in the sum", "status": {"done": True}}
    skip = {"status": {"done": False, "retries": 0, "reason": "NaN in the sum"}}
    observation = read_observation(
        {"_id": "x", "pipelined": {"bright_star": {**stack, "pca": skip}}}
    )
    assert observation.state == "failed"
    assert observation.failures == (Remark(product="stack", reason="NaN in the sum"),)
    assert observation.skipped == ()


@pytest.mark.parametrize("bad", BAD_VALUES, ids=repr)
def test_documents_edited_by_hand_are_read_as_far_as_they_go(bad):
    keys = (
        "name", "science_program", "date_utc", "filter", "exposure", "magnitude", "coordinates",
        "fits_header", "pipelined", "seeing", "distributed", "comment",
    )  # fmt: skip
    assert read_observation({"_id": "x", **dict.fromkeys(keys, bad)}).id == "x"
    parts = ("status", "strehl", "pca", "preview", "classified_as", "frames", "lock_position")
    of_pca = ("contrast_curve", "candidates", "library_psf_id_corr", "components", "snr_threshold")
    pca = {"pca": dict.fromkeys(of_pca, bad)}
    in_lists = {"pca": dict.fromkeys(of_pca[1:3], [bad, {"snr": bad}, [bad, bad]])}
    for stack in (bad, dict.fromkeys(parts, bad), pca, in_lists):
        document = {"_id": "x", "pipelined": {"bright_star": stack}, "seeing": {"nearest": bad}}
        document["pipelined"]["faint_star"] = stack
        document["coordinates"] = {"azel": bad, "radec_str": bad}
        assert read_observation(document).strehl_percent is None


@pytest.mark.parametrize("bad", BAD_VALUES, ids=repr)
def test_medians_edited_by_hand_are_left_out(bad):
    whole = {
        "filter": "Si", "total": 3, "separation_arcsec": [0.1], "lower_mag": [1],
        "median_mag": [2], "upper_mag": [3],
    }  # fmt: skip
    assert read_contrast_medians({"quartiles": [whole]})["Si"].median_mag == (2.0,)
    assert read_contrast_medians({"quartiles": bad}) == {}
    for key in ("median_mag", "separation_arcsec"):
        found = read_contrast_medians({"quartiles": [bad, {**whole, key: bad}]})
        assert all(isinstance(v, float) for m in found.values() for v in m.median_mag)


def test_contrast_is_interpolated_inside_the_curve_only():
    curve = Curve(separation_arcsec=(0.5, 1.5), contrast_mag=(4.0, 6.0))
    assert contrast_at(curve, 1.0) == pytest.approx(5.0)
    assert contrast_at(curve, 0.4) is None
    assert contrast_at(curve, 1.6) is None
    assert contrast_at(None, 1.0) is None


def test_night_numbers_are_medians_of_what_was_measured(night):
    numbers = summarise_night(night)
    assert (numbers.observations, numbers.done, numbers.failed, numbers.waiting) == (7, 6, 1, 0)
    # The faint star by its own stack.
    strehls = [2.1 if t.strehl == 1.3 else t.strehl for t in TARGETS if t.strehl is not None]
    assert numbers.median_strehl_percent == pytest.approx(np.median(strehls))
    assert numbers.median_seeing_arcsec == 1.29


def test_seeing_trend_follows_the_measurements():
    start = datetime(2017, 6, 7, 4, tzinfo=UTC)

    def frame(minute, fwhm):
        return SeeingFrame(
            id="s", utc=start + timedelta(minutes=minute), filter_name="Si", fwhm_arcsec=fwhm,
            fwhm_x_arcsec=None, fwhm_y_arcsec=None, exposure_s=None,
        )  # fmt: skip

    frames = [frame(n * 10, 1.0 + 0.05 * n) for n in range(20)]
    trend = seeing_trend(frames)
    assert [time for time, _ in trend][:: len(trend) - 1] == [frames[0].utc, frames[-1].utc]
    assert [value for _, value in trend][:: len(trend) - 1] == pytest.approx([1.0, 1.95], abs=0.02)
    assert seeing_trend(frames[:1]) == ()
    assert seeing_trend([frames[0], frames[0]]) == ()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"which": "failed"}, ["TYC_2134-1"]),
        ({"which": "flagged"}, ["KOI-1422"]),
        ({"which": "waiting"}, []),
        ({"text": "GJ lp600"}, ["GJ_1214"]),
        ({"text": "faint"}, ["KOI-1422"]),
        ({"text": "hd sr"}, []),
        ({"order": "strehl", "text": "lp600"}, ["351_Yrsa", "GJ_1214", "KOI-1422"]),
        ({"order": "name", "text": "lp600"}, ["351_Yrsa", "GJ_1214", "KOI-1422"]),
        ({"which": "nonsense", "order": "nonsense", "text": "yrsa"}, ["351_Yrsa"]),
    ],
)
def test_selection(night, options, names):
    assert [o.name for o in select_observations(night.observations, **options)] == names


def test_what_has_no_value_comes_last(night):
    for order in ("strehl", "contrast"):
        assert select_observations(night.observations, order=order)[-1].name == "TYC_2134-1"


def test_header_cards_are_found_by_keyword_value_and_comment():
    header = {"MODE_NUM": ("9", "camera mode"), "FILTER": ("Si", "filter")}
    assert select_cards(header, "mode")[0][0] == "MODE_NUM"
    assert select_cards(header, " SI ") == [("FILTER", "Si", "filter")]
    assert len(select_cards(header, "")) == 2
    assert select_cards(header, "zzz") == []
