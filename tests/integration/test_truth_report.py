"""Recovered against true, of the small night; and of a truth that is not its own."""

import json

import pytest

from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.settings import Settings
from roboao_assets.truth_report import compare_with_truth, write_report

NIGHT = "20170607"


@pytest.fixture(scope="module")
def settings(small_night, small_observations, tmp_path_factory):
    settings = Settings(
        raw_roots=(small_night,),
        archive_root=tmp_path_factory.mktemp("truth") / "archive",
        threads=2,
    )
    for stage in (
        stages.register_night,
        stages.make_master_darks,
        stages.make_master_flats,
        stages.make_bad_pixel_mask,
        stages.measure_night_seeing,
    ):
        assert stage(settings, NIGHT).succeeded
    for name in small_observations:
        reduce_observation(
            settings.model_dump_json(), NIGHT, name, ("bright_star_stack", "strehl_ratio")
        )
    return settings


def test_every_goal_is_kept(settings, small_night, small_observations, tmp_path):
    rows = compare_with_truth(settings, small_night / NIGHT / "truth.json")
    assert [row for row in rows if not row.passed] == []
    quantities = {(row.subject, row.quantity) for row in rows}
    for name in small_observations:
        assert (name, "Strehl ratio (%)") in quantities
        assert (name, "class") in quantities
    truth = json.loads((small_night / NIGHT / "truth.json").read_text())
    assert sum("seeing" in row.quantity for row in rows) == len(truth["seeing"])
    path = tmp_path / "build" / "truth.json"
    write_report(rows, path)
    report = json.loads(path.read_text())
    assert report["passed"] is True
    assert len(report["rows"]) == len(rows)


def test_another_truth_is_missed(settings, small_night, small_observations, tmp_path):
    truth = json.loads((small_night / NIGHT / "truth.json").read_text())
    truth["observations"][0]["strehl_percent_whole_field"] *= 1.1
    truth["observations"][1]["class"] = "faint"
    truth["observations"][1]["frames"]["x"] = [
        x + 0.3 for x in truth["observations"][1]["frames"]["x"]
    ]
    truth["seeing"][0]["fwhm_arcsec"] *= 1.1
    truth["seeing"].append({"id": "seeing_never_taken", "fwhm_arcsec": 1.0, "airmass": 1.0})
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(truth))
    missed = {
        (row.subject, row.quantity) for row in compare_with_truth(settings, file) if not row.passed
    }
    first, second = small_observations
    assert missed == {
        (first, "Strehl ratio (%)"),
        (second, "class"),
        (truth["seeing"][0]["id"], "seeing FWHM (arcsec)"),
        ("seeing_never_taken", "seeing FWHM (arcsec)"),
        ("seeing_never_taken", "airmass"),
    }  # fmt: skip
    report = tmp_path / "report.json"
    write_report(compare_with_truth(settings, file), report)
    assert json.loads(report.read_text())["passed"] is False


def test_night_without_truth_is_told(settings, tmp_path):
    with pytest.raises(RawDataError, match="only a night that `roboao simulate` made"):
        compare_with_truth(settings, tmp_path / "truth.json")
