"""Night summaries and the plots of observations, in a real archive with a real catalogue."""

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from astropy import units
from astropy.table import QTable
from PIL import Image

from roboao_assets.pipelines import contrast_pictures, summaries
from roboao_assets.pipelines.contrast_pictures import contrast_curve_plot
from roboao_assets.pipelines.night_table import night_rows
from roboao_assets.pipelines.workspace import open_workspace
from roboao_assets.science.errors import ScienceError
from roboao_assets.storage.catalogue import leading_pipeline, new_observation, product
from roboao_assets.storage.raw_names import parse_exposure_name
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
SEPARATION = np.linspace(0.1, 1.7, 40)
BLUE = (0x56, 0xB4, 0xE9)
CANDIDATE = {"separation_arcsec": 0.9, "pa_deg": 12.0, "contrast_mag": 3.0, "snr": 8.0}


def decode(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def curve(level):
    return level + 4.0 * (1 - np.exp(-SEPARATION / 0.4))


def add(ws, minute, filter_name, levels, *, classified_as="high_flux"):
    """Enter an observation with a Strehl ratio and a curve of each pipeline in `levels`."""
    time = datetime(2017, 6, 7, 4, tzinfo=UTC) + timedelta(minutes=minute)
    identifier = f"24_HD_{minute}_VIC_{filter_name}_o_{time:%Y%m%d_%H%M%S.%f}"
    ws.catalogue.register_observation(new_observation(parse_exposure_name(identifier)))
    value = {"classified_as": classified_as, "frames": 700}
    ws.catalogue.publish(identifier, "bright_star", value)
    for pipeline, level in levels.items():
        strehl = {"ratio_percent": 10.0 * level, "flag": "OK", "fingerprint": f"s{level}"}
        ws.catalogue.publish(identifier, f"{pipeline}.strehl", strehl)
        value = {
            "contrast_curve": [SEPARATION, curve(level)],
            "contrast_1_arcsec_mag": level,
            "contrast": {"fingerprint": f"{level}"},
            "candidates": [CANDIDATE],
        }
        ws.catalogue.publish(identifier, f"{pipeline}.pca", value)
    return identifier


@pytest.fixture
def ws(tmp_path):
    with open_workspace(Settings(archive_root=tmp_path)) as opened:
        yield opened


@pytest.fixture
def filled(ws):
    """Five curves in Si, that of a faint star among them, and one in Sr."""
    names = [add(ws, n, "Si", {"bright_star": float(n)}) for n in range(1, 5)]
    both = {"bright_star": 30.0, "faint_star": 2.5}
    names.append(add(ws, 10, "Si", both, classified_as="faint"))
    names.append(add(ws, 20, "Sr", {"bright_star": 2.0}))
    return names


def test_faint_star_stack_speaks_for_faint_stars_it_was_measured_of(ws):
    both = {"bright_star": 1.0, "faint_star": 2.0}
    cases = (
        ("faint", both, "faint_star"),
        ("zero_flux", both, "faint_star"),
        ("high_flux", both, "bright_star"),
        ("faint", {"bright_star": 1.0}, "bright_star"),
    )
    for minute, (classified_as, levels, expected) in enumerate(cases):
        name = add(ws, minute, "Si", levels, classified_as=classified_as)
        document = ws.catalogue.observation(name)
        assert {leading_pipeline(document, part) for part in ("strehl", "pca")} == {expected}
    assert leading_pipeline({"_id": "x", "pipelined": 3}) == "bright_star"


def test_tables_are_the_quartiles_and_the_curves(ws, filled):
    assert summaries.summarise_contrast(ws, NIGHT).status == "done"
    table = QTable.read(ws.paths.summary_table(NIGHT, "contrast_curve"), format="ascii.ecsv")
    assert set(table["filter"]) == {"Si", "Sr"}
    mine = table[table["filter"] == "Si"]
    assert mine["separation_arcsec"].unit == units.arcsec
    assert set(mine["curves"]) == {5}
    levels = np.array([curve(level) for level in (1.0, 2.0, 2.5, 3.0, 4.0)])
    for name, percent in (("lower_mag", 25), ("median_mag", 50), ("upper_mag", 75)):
        oracle = np.percentile(levels, percent, axis=0)
        at = np.interp(mine["separation_arcsec"].value, SEPARATION, oracle)
        np.testing.assert_allclose(mine[name].to_value("mag"), at, atol=2e-3)
    every = QTable.read(ws.paths.summary_table(NIGHT, "contrast_curves"), format="ascii.ecsv")
    assert len(every) == 6 * SEPARATION.size
    faint = every[every["observation"] == filled[4]]
    assert set(faint["pipeline"]) == {"faint_star"}
    np.testing.assert_allclose(faint["contrast_mag"].to_value("mag"), curve(2.5), atol=1e-4)
    np.testing.assert_allclose(faint["separation_arcsec"].to_value("arcsec"), SEPARATION, atol=1e-5)


def test_summary_is_current_until_a_curve_changes_or_a_file_vanishes(ws, filled):
    assert summaries.summarise_contrast(ws, NIGHT).status == "done"
    assert summaries.summarise_contrast(ws, NIGHT).status == "unchanged"
    kept = [file[0] for file in ws.catalogue.night(NIGHT)["contrast_curve"]["products"]]
    assert len(kept) == 3
    for name in kept:
        (ws.paths.root / name).unlink()
        assert summaries.summarise_contrast(ws, NIGHT).status == "done"
        assert (ws.paths.root / name).stat().st_size > 0
    value = {"contrast_curve": [SEPARATION, curve(3.9)]}
    ws.catalogue.publish(filled[0], "bright_star.pca", value)
    assert summaries.summarise_contrast(ws, NIGHT).status == "done"
    assert ws.catalogue.image(f"{NIGHT}/contrast_curve").startswith(b"\x89PNG")


def test_observations_are_drawn_again_when_their_median_changed(ws, filled):
    paths = {
        (name, pipeline): ws.paths.pca(NIGHT, name, pipeline, "contrast_curve.png")
        for name in filled
        for pipeline in (("bright_star", "faint_star") if name == filled[4] else ("bright_star",))
    }
    summaries.summarise_contrast(ws, NIGHT)
    before = {key: path.read_bytes() for key, path in paths.items()}
    for (name, pipeline), png in before.items():
        assert ws.catalogue.image(f"{name}/{pipeline}/contrast_curve") == png
    times = {key: path.stat().st_mtime_ns for key, path in paths.items()}
    summaries.summarise_contrast(ws, NIGHT)
    assert {key: path.stat().st_mtime_ns for key, path in paths.items()} == times
    paths[filled[1], "bright_star"].unlink()
    summaries.summarise_contrast(ws, NIGHT)
    assert paths[filled[1], "bright_star"].read_bytes() == before[filled[1], "bright_star"]
    add(ws, 30, "Si", {"bright_star": 4.0})
    summaries.summarise_contrast(ws, NIGHT)
    changed = {key for key, path in paths.items() if path.read_bytes() != before[key]}
    assert changed == {key for key in paths if key[0] != filled[5]}, "Sr has no other median"


def test_redrawing_leaves_an_operators_wish_alone(ws, filled):
    ws.catalogue.request_redo(filled[0], "bright_star.pca")
    summaries.summarise_contrast(ws, NIGHT)
    record = product(ws.catalogue.observation(filled[0]), "bright_star.pca")
    assert record["status"]["force_redo"] is True
    assert record["contrast_picture"]["products"]


def test_night_median_is_what_the_summary_found(ws, filled):
    assert contrast_pictures.night_median(ws, NIGHT, "Si") is None
    summaries.summarise_contrast(ws, NIGHT)
    median = contrast_pictures.night_median(ws, NIGHT, "Si")
    assert median.total == 5
    np.testing.assert_allclose(
        median.median_mag, np.interp(median.separation_arcsec, SEPARATION, curve(2.5)), atol=2e-3
    )
    assert contrast_pictures.night_median(ws, NIGHT, "Sr") is None, "of one curve"
    # What the stage draws with it is what the summary drew.
    document = ws.catalogue.observation(filled[0])
    drawn = contrast_pictures.publish_contrast_picture(
        ws, NIGHT, filled[0], "bright_star", document, median
    )
    assert drawn is None


def test_night_without_a_curve_is_skipped(ws):
    add(ws, 1, "Si", {})
    outcome = summaries.summarise_contrast(ws, NIGHT)
    assert outcome.status == "skipped"
    assert "no observation of 20170607" in outcome.reason


def test_strehl_summary_and_table_take_the_leading_pipeline(ws, filled):
    assert summaries.summarise_strehl(ws, NIGHT).status == "done"
    row = night_rows(ws.catalogue, NIGHT)[4]
    assert (row.strehl_percent, row.contrast_1_arcsec_mag, row.status) == (25.0, 2.5, "done")
    # The bright-star value of the faint star is no part of the summary.
    ws.catalogue.publish(filled[4], "bright_star.strehl", {"fingerprint": "other"})
    assert summaries.summarise_strehl(ws, NIGHT).status == "unchanged"
    ws.catalogue.publish(filled[4], "faint_star.strehl", {"fingerprint": "other"})
    assert summaries.summarise_strehl(ws, NIGHT).status == "done"


@pytest.mark.parametrize("part", ["", ".strehl", ".pca", ".preview"])
def test_what_fails_of_a_faint_star_stack_is_told_in_the_table(ws, filled, part):
    ws.catalogue.record_skip(filled[4], f"faint_star{part}", "there is no star")
    ws.catalogue.record_skip(filled[0], f"faint_star{part}", "its class is high_flux")
    rows = night_rows(ws.catalogue, NIGHT)
    assert rows[4].reasons == ("there is no star",)
    assert rows[0].reasons == ()
    ws.catalogue.record_failure(filled[0], f"faint_star{part}", "the disk is full")
    row = night_rows(ws.catalogue, NIGHT)[0]
    assert (row.status, row.reasons) == ("failed", ("the disk is full",))


def test_fainter_companions_are_further_down():
    png = contrast_curve_plot(SEPARATION, 2 + 4 * SEPARATION, title="HD 1")
    blue = np.argwhere(np.abs(decode(png) - BLUE).sum(axis=2) < 20)
    left, right = blue[blue[:, 1].argmin()], blue[blue[:, 1].argmax()]
    assert left[0] < right[0] - 200


def test_candidates_are_points_in_their_place():
    png = contrast_curve_plot(
        SEPARATION, np.full(40, 5.0), title="", candidates=[(0.5, 3.0), (1.2, float("nan"))]
    )
    picture = decode(png)
    star = np.argwhere(np.abs(picture - [0xF0, 0xE4, 0x42]).sum(axis=2) < 30)
    star = star[star[:, 1] < 500]  # without the legend
    line = np.argwhere(np.abs(picture - BLUE).sum(axis=2) < 20)
    assert np.ptp(star, axis=0).max() < 30
    assert star[:, 0].mean() < line[:, 0].max() - 100, "brighter: above the curve"
    left, right = line[line[:, 1] < 780][:, 1].min(), line[:, 1].max()
    assert left < star[:, 1].mean() < right


def test_contrast_curve_leaves_out_what_is_not_finite():
    one_point = contrast_curve_plot([0.1, 0.2, 0.3], [np.nan, 3.0, np.inf], title="one point")
    assert decode(one_point).shape[:2] == (500, 800)
    with pytest.raises(ScienceError, match="3 points"):
        contrast_curve_plot([0.1, 0.2, 0.3], [None] * 3, title="")
