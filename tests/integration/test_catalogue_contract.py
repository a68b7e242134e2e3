"""What the catalogue promises, in each of its homes."""

import math
import os
import pickle
import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from roboao_assets.science.errors import CatalogueError, CatalogueUnavailableError
from roboao_assets.storage.catalogue import (
    Catalogue,
    NightSummary,
    ObservationQuery,
    mongodb,
    new_observation,
    night_of,
    open_catalogue,
    product,
    program_of,
    psf_candidate_key,
    wanted_again,
)
from roboao_assets.storage.raw_names import parse_exposure_name

ID = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
NIGHT = "20160925"
OTHER = "24.1_HD_1_VIC_Si_o_20160926_030000.000000"


def document_of(identifier=ID, **facts):
    return new_observation(parse_exposure_name(identifier), **facts)


@pytest.fixture
def registered(catalogue: Catalogue) -> Catalogue:
    catalogue.register_observation(
        document_of(
            telescope="KPNO_2.1m",
            exposure_s=90.0,
            magnitude=12.5,
            ra_deg=350.0,
            dec_deg=-0.5,
            equinox=2000.0,
            azimuth_deg=120.0,
            elevation_deg=60.0,
            header_cards=[("EXPOSURE", 90.0, "[s]"), ("A.B", True, ""), ("HISTORY", "one", "")],
            raw_location="raw/20160925",
            raw_files=["a.fits.bz2"],
        )
    )
    return catalogue


def test_new_document_is_returned_as_it_was_given(catalogue):
    document = document_of(
        ra_deg=10.0, dec_deg=-0.5, header_cards=[("X", 1, "one"), ("Y", 1.0, "")]
    )
    assert catalogue.register_observation(document) is True
    stored = catalogue.observation(ID)
    # To the millisecond, which is what MongoDB keeps.
    assert stored["date_utc"] == datetime(2016, 9, 25, 11, 4, 27, 40000, tzinfo=UTC)
    document["date_utc"] = stored["date_utc"]
    assert stored == document
    assert isinstance(stored["fits_header"]["X"][0], int)
    assert isinstance(stored["fits_header"]["Y"][0], float)


def test_facts_page_layout(registered):
    stored = registered.observation(ID)
    assert stored["_id"] == ID
    assert stored["name"] == "351_Yrsa"
    assert stored["science_program"] == {"program_id": "4", "program_PI": []}
    assert stored["coordinates"]["radec"] == [math.radians(350.0), math.radians(-0.5)]
    assert stored["coordinates"]["radec_str"] == ["23:20:00.000", "-00:30:00.00"]
    assert stored["coordinates"]["radec_geojson"] == {"type": "Point", "coordinates": [170.0, -0.5]}
    assert stored["coordinates"]["azel"] == [math.radians(120.0), math.radians(60.0)]
    assert stored["fits_header"] == {
        "EXPOSURE": [90.0, "[s]"],
        "A_B": [True, ""],
        "HISTORY": ["one", ""],
    }
    assert stored["distributed"]["status"] is False
    assert stored["raw_data"]["data"] == ["a.fits.bz2"]
    assert (night_of(stored), program_of(stored)) == ("20160925", "4")


def test_registering_again_renews_raw_facts_and_nothing_else(registered):
    registered.publish(ID, "bright_star", {"classified_as": "high_flux"})
    registered.set_distributed(ID, True, ["packages"])
    registered.set_raw_records(ID, [{"name": "a.fits.bz2", "size_bytes": 5}])
    before = registered.observation(ID)
    again = document_of(
        exposure_s=60.0, ra_deg=350.0, dec_deg=-0.5, raw_files=["a.fits.bz2", "b.fits.bz2"]
    )
    assert registered.register_observation(again) is False
    after = registered.observation(ID)
    assert after["exposure"] == 60.0
    assert after["raw_data"]["data"] == ["a.fits.bz2", "b.fits.bz2"]
    for kept in ("pipelined", "distributed", "seeing", "date_added", "science_program", "comment"):
        assert after[kept] == before[kept]
    assert registered.raw_records(ID) == [{"name": "a.fits.bz2", "size_bytes": 5}]


def test_registering_the_same_again_changes_nothing(registered):
    before = registered.observation(ID)
    unchanged = {key: value for key, value in before.items() if key != "date_added"}
    assert registered.register_observation(unchanged) is False
    assert registered.observation(ID) == before


def test_products_stand_beside_each_other(registered):
    registered.publish(ID, "bright_star", {"classified_as": "faint", "location": ["here"]})
    registered.publish(ID, "bright_star.strehl", {"ratio_percent": np.float32(12.5), "flag": "OK"})
    registered.publish(ID, "bright_star.pca", {"contrast_curve": np.array([[0.1, 0.2], [3, 5.5]])})
    registered.publish(ID, "bright_star.pca.preview", {})
    registered.publish(ID, "bright_star.preview", {})
    registered.publish(ID, "faint_star", {"shifts": [[1, 2.5], [2, 3.5]]})
    registered.publish(ID, "bright_star", {"classified_as": "high_flux"})
    bright = product(registered.observation(ID), "bright_star")
    assert bright["classified_as"] == "high_flux"
    assert bright["location"] == ["here"]
    assert bright["strehl"]["ratio_percent"] == 12.5
    assert bright["pca"]["contrast_curve"] == [[0.1, 0.2], [3.0, 5.5]]
    done = {"done": True, "enqueued": False, "retries": 0}
    assert bright["status"] == done
    assert bright["strehl"]["status"] == done
    for preview in (bright["preview"], bright["pca"]["preview"]):
        assert {key: preview[key] for key in done} == done
        assert isinstance(preview["last_modified"], datetime)
    assert product(registered.observation(ID), "faint_star")["shifts"] == [[1, 2.5], [2, 3.5]]
    assert product(registered.observation(ID), "extended_object") == {}


def test_failures_are_counted_until_it_works(registered):
    assert registered.record_failure(ID, "bright_star.strehl", "the star is saturated") == 1
    assert registered.record_failure(ID, "bright_star.strehl", "again") == 2
    status = product(registered.observation(ID), "bright_star.strehl")["status"]
    assert (status["done"], status["retries"], status["reason"]) == (False, 2, "again")
    registered.publish(ID, "bright_star.strehl", {"flag": "OK"})
    status = product(registered.observation(ID), "bright_star.strehl")["status"]
    assert (status["done"], status["retries"], "reason" in status) == (True, 0, False)


def test_skip_is_no_failure(registered):
    registered.record_skip(ID, "bright_star.pca", "the PSF library is empty")
    status = product(registered.observation(ID), "bright_star.pca")["status"]
    assert status["reason"] == "the PSF library is empty"
    assert (status["done"], status["retries"]) == (False, 0)


@pytest.mark.parametrize("name", ["bright_star", "faint_star.strehl", "bright_star.pca.preview"])
def test_redo_is_asked_found_and_cleared(registered, name):
    asked = ObservationQuery(force_redo=True)
    assert registered.count_observations(asked) == 0
    registered.publish(ID, name, {})
    registered.request_redo(ID, name)
    assert [d["_id"] for d in registered.find_observations(asked)] == [ID]
    assert registered.count_observations(ObservationQuery(force_redo=False)) == 0
    # A product that is finished just now does not answer a wish of this moment.
    registered.publish(ID, name, {})
    assert wanted_again(registered.observation(ID)) == [name]
    assert registered.take_wish(ID, name)
    assert not registered.take_wish(ID, name)
    assert registered.count_observations(asked) == 0
    assert product(registered.observation(ID), name).get("status", {}).get("enqueued") is (
        None if name.endswith("preview") else True
    )


def test_requests_live_until_their_product_was_tried(registered):
    book = registered.requests
    assert book.of(ID) is None
    book.ask(ID, NIGHT, ["strehl_ratio", "pca_residual"], by="ann", why="a better library")
    (request,) = book.all()
    assert (request.observation, request.night, request.attempts) == (ID, NIGHT, 0)
    first = request.stages["strehl_ratio"]
    assert (first.by, first.why, first.force) == ("ann", "a better library", True)
    later = datetime(2030, 1, 1, tzinfo=UTC)
    book.put_off(ID, later)
    assert (book.of(ID).not_before, book.of(ID).attempts) == (later, 1)
    time.sleep(0.002)  # the catalogue keeps milliseconds
    book.ask(ID, NIGHT, ["strehl_ratio"], by="bob", why="once more")
    assert (book.of(ID).not_before, book.of(ID).attempts) == (None, 0)
    book.finish(ID, first, "done")
    assert book.of(ID).stages["strehl_ratio"].by == "bob"
    assert registered.actions.newest(ID) == []
    for asked in book.of(ID).stages.values():
        book.finish(ID, asked, "done")
    assert book.of(ID) is None
    assert book.all() == []
    history = registered.actions.newest(ID)
    assert {(e.action, e.by, e.detail["result"]) for e in history} == {
        ("made strehl_ratio", "bob", "done"),
        ("made pca_residual", "ann", "done"),
    }
    assert history[0].time >= history[1].time


def test_actions_of_one_subject_and_of_all(registered):
    book = registered.actions
    for number in range(4):
        book.record(f"2016092{number % 2}", "copied the calibration", by="ann", number=number)
    assert [e.detail["number"] for e in book.newest("20160921")] in ([3, 1], [1, 3])
    assert len(book.newest()) == 4
    assert len(book.newest(limit=3)) == 3


def test_claimant(catalogue):
    assert catalogue.claimant(ID, "reduction") is None
    catalogue.claim(ID, "reduction", "run 1", ttl_s=60)
    assert catalogue.claimant(ID, "reduction") == "run 1"
    catalogue.release(ID, "reduction", "run 1")
    catalogue.claim(ID, "reduction", "run 2", ttl_s=0.05)
    time.sleep(0.1)
    assert catalogue.claimant(ID, "reduction") is None


def test_nights_without_a_section(registered):
    registered.publish_night("20160925", "raw", {})
    registered.publish_night("20160926", "psf_lib.4_star", {})
    assert registered.nights_without("psf_lib") == ["20160925"]
    assert registered.nights_without("raw") == ["20160926"]


def test_seeing_is_set_key_by_key(registered):
    nearest = [datetime(2016, 9, 25, 11, 0, tzinfo=UTC), 1.25]
    registered.set_seeing(ID, {"median": 1.3, "mean": 1.4, "nearest": nearest})
    registered.set_seeing(ID, {"median": 1.5})
    seeing = registered.observation(ID)["seeing"]
    assert (seeing["median"], seeing["mean"], seeing["nearest"]) == (1.5, 1.4, nearest)


def test_raw_records_round_trip(registered):
    assert registered.raw_records(ID) == []
    records = [
        {"name": f"{n}.fits.bz2", "size_bytes": 2**40, "mtime_ns": 1_700_000_000_123_456_789,
         "sha256": "ab" * 32}
        for n in (2, 1)
    ]  # fmt: skip
    registered.set_raw_records(ID, records)
    assert registered.raw_records(ID) == records
    assert registered.observation(ID)["raw_data"]["data"] == ["2.fits.bz2", "1.fits.bz2"]
    assert registered.raw_records("nobody") == []


def test_times_round_trip(registered):
    zones = [UTC, timezone(timedelta(hours=-7))]
    times = [
        datetime(year, 12, 31, 23, 59, 59, microsecond, tzinfo=zone)
        for year in (1970, 1999, 2038, 2100)
        for microsecond in (0, 1, 999, 1000, 123456, 999999)
        for zone in zones
    ]
    registered.publish(ID, "bright_star", {"times": times})
    stored = product(registered.observation(ID), "bright_star")["times"]
    for given, kept in zip(times, stored, strict=True):
        assert kept == given.replace(microsecond=given.microsecond // 1000 * 1000)
        assert kept.utcoffset() == timedelta(0)


def test_odd_values_round_trip(registered):
    value = {
        "text": "Ünïcode ☄ \"quoted\" \\ 'it''s' \n\t % _ $",
        "dollar$inside": [1, -1, 0, 2**53 + 1, -(2**63), 2**63 - 1],
        "floats": [0.1, 1e-300, 1e300, 1.0, 5e-324],
        "nested": [[], [[]], [{}], [[1, [2, [3.5]]]], {"a": {}}],
        "flags": [True, False, None],
        "empty": "",
    }
    registered.publish(ID, "bright_star", value)
    stored = product(registered.observation(ID), "bright_star")
    for key, item in value.items():
        assert stored[key] == item
    assert [type(v) for v in stored["flags"]] == [bool, bool, type(None)]


def test_numbers_that_are_not_finite_are_absent(registered):
    registered.publish(ID, "bright_star", {"curve": [[1.0, math.nan], [math.inf, -math.inf]]})
    assert product(registered.observation(ID), "bright_star")["curve"] == [
        [1.0, None],
        [None, None],
    ]


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({"a.b": 1}, "a.b"),
        ({"$a": 1}, "dollar"),
        ({"": 1}, "key"),
        ({"x": {3: 1}}, "3"),
        ({"x": object()}, "object"),
        ({"x": b"bytes"}, "bytes"),
        ({"x": 2**63}, "64 bits"),
        ({"x": datetime(2016, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"status": {}}, "status"),
        ({"strehl": {}}, "strehl"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_changes_nothing(registered, value, word):
    before = registered.observation(ID)
    with pytest.raises(CatalogueError, match=word.replace("$", r"\$")):
        registered.publish(ID, "bright_star", value)
    assert registered.observation(ID) == before


def test_unknown_names_are_refused(registered):
    with pytest.raises(CatalogueError, match="no observation nobody"):
        registered.publish("nobody", "bright_star", {})
    with pytest.raises(CatalogueError, match="no product"):
        registered.publish(ID, "bright_star.colour", {})
    with pytest.raises(CatalogueError, match="YYYYMMDD"):
        registered.publish_night("2016-09-25", "calib", {})
    with pytest.raises(CatalogueError, match="_id"):
        registered.register_observation({"name": "x"})
    assert registered.observation("nobody") is None


def test_a_parent_that_is_no_mapping_is_a_sentence(registered):
    registered.publish(ID, "bright_star", {"shifts": 5})
    document = document_of(OTHER)
    document["pipelined"] = {"bright_star": "by hand"}
    registered.register_observation(document)
    with pytest.raises(CatalogueError):
        registered.publish(OTHER, "bright_star.strehl", {"flag": "OK"})
    assert registered.observation(OTHER)["pipelined"] == {"bright_star": "by hand"}


def test_returned_documents_are_the_callers_own(registered):
    first = registered.observation(ID)
    first["name"] = "changed"
    first["coordinates"]["radec"][0] = 9.0
    assert registered.observation(ID)["name"] == "351_Yrsa"
    assert registered.observation(ID)["coordinates"]["radec"][0] == math.radians(350.0)


def test_documents_with_missing_fields_are_read_and_searched(catalogue):
    catalogue.register_observation({"_id": "bare"})
    catalogue.register_observation({"_id": "odd", "coordinates": None, "pipelined": {}, "name": 5})
    catalogue.register_observation(document_of(ra_deg=10.0, dec_deg=5.0))
    assert catalogue.observation("bare") == {"_id": "bare"}
    assert catalogue.count_observations(ObservationQuery()) == 3
    for query in (
        ObservationQuery(name_contains="YRSA"),
        ObservationQuery(cone=(10.0, 5.0, 180.0)),
        ObservationQuery(nights=("20160925",)),
        ObservationQuery(programs=("4",)),
    ):
        assert [d["_id"] for d in catalogue.find_observations(query)] == [ID]
    assert [d["_id"] for d in catalogue.find_observations(ObservationQuery())] == [
        ID,
        "bare",
        "odd",
    ]
    assert [n.night for n in catalogue.nights()] == ["20160925"]
    assert night_of({"_id": "bare"}) is None
    assert program_of({"_id": "bare"}) == ""
    catalogue.publish("bare", "bright_star", {"classified_as": "faint"})
    assert catalogue.observation("bare")["pipelined"]["bright_star"]["classified_as"] == "faint"


def test_a_package_is_published_fails_and_is_withdrawn(registered):
    members = [{"name": "a/b.fits", "size_bytes": 5, "mtime_ns": 2**60, "sha256": "0" * 64}]
    record = {"fingerprint": "f", "members": members, "mtime_ns": 2**60 + 1}
    registered.set_distributed(ID, True, ["n/x/x.tar.bz2"], package=record)
    stored = registered.observation(ID)["distributed"]
    assert stored["status"] is True
    assert stored["members"] == members
    assert (stored["mtime_ns"], stored["retries"]) == (2**60 + 1, 0)
    assert [registered.record_package_failure(ID, "no space") for _ in range(2)] == [1, 2]
    stored = registered.observation(ID)["distributed"]
    assert (stored["status"], stored["reason"]) == (False, "no space")
    # What is known of the former package stays; of a new one each key replaces what was there.
    assert stored["location"] == ["n/x/x.tar.bz2"]
    registered.set_distributed(ID, True, package={"members": []})
    stored = registered.observation(ID)["distributed"]
    assert (stored["members"], stored["fingerprint"], stored["retries"]) == ([], "f", 0)
    assert "reason" not in stored
    registered.set_distributed(ID, False, [], reason="class failed")
    stored = registered.observation(ID)["distributed"]
    assert (stored["reason"], stored["location"]) == ("class failed", [])
    with pytest.raises(CatalogueError, match="kept by the catalogue itself"):
        registered.set_distributed(ID, True, package={"status": True})


def test_summary_leaves_the_header_out(registered):
    registered.set_distributed(ID, True, package={"members": [{"name": "a"}], "size_bytes": 5})
    (summary,) = registered.find_observations(ObservationQuery(summary_only=True))
    assert "fits_header" not in summary
    assert "members" not in summary["distributed"]
    assert summary["distributed"]["size_bytes"] == 5
    assert summary["name"] == "351_Yrsa"
    cone = ObservationQuery(summary_only=True, cone=(350.0, -0.5, 0.1))
    assert registered.find_observations(cone) == [summary]
    (full,) = registered.find_observations(ObservationQuery())
    assert full["fits_header"]["EXPOSURE"] == [90.0, "[s]"]


def test_nights(registered):
    registered.register_observation(document_of(OTHER))
    registered.publish(ID, "bright_star", {})
    registered.record_failure(OTHER, "bright_star", "clouds")
    registered.set_seeing(OTHER, {"median": 1.25})
    registered.publish_night("20160925", "seeing", {"median": 1.5, "frames": [[ID, 1.0]]})
    assert registered.record_night_failure("20160927", "calib", "3 dark files") == 1
    assert registered.record_night_failure("20160927", "calib", "3 dark files") == 2
    assert registered.nights() == [
        NightSummary(night="20160927", observations=0, seeing_median=None, done=0, failed=0),
        NightSummary(night="20160926", observations=1, seeing_median=1.25, done=0, failed=1),
        NightSummary(night="20160925", observations=1, seeing_median=1.5, done=1, failed=0),
    ]
    calib = registered.night("20160927")["calib"]
    assert (calib["done"], calib["retries"], calib["reason"]) == (False, 2, "3 dark files")
    registered.publish_night("20160927", "calib", {"comment": "Copied from 20160925"})
    registered.publish_night("20160927", "raw", {"dark": ["d.fits.bz2"]})
    night = registered.night("20160927")
    assert night["calib"]["comment"] == "Copied from 20160925"
    assert (night["calib"]["done"], night["calib"]["retries"]) == (True, 0)
    assert "reason" not in night["calib"]
    assert night["raw"]["dark"] == ["d.fits.bz2"]
    assert registered.night("20160901") is None


def test_a_night_counts_what_is_made_of_a_resolved_object(registered):
    registered.register_observation(document_of(OTHER))
    for identifier in (ID, OTHER):
        registered.record_skip(identifier, "bright_star", "it is a planet")
    registered.publish(ID, "extended_object", {"frames": 60})
    registered.record_failure(OTHER, "extended_object", "clouds")
    assert [(n.night, n.done, n.failed) for n in registered.nights()] == [
        ("20160926", 0, 1),
        ("20160925", 1, 0),
    ]


def test_mappings_of_a_night_are_merged_on_demand(catalogue):
    for name in ("dark_0", "dark_6", "flat_Si"):
        masters = {"masters": {name: {"files": 10}}, "comment": name}
        catalogue.publish_night("20160925", "calib", masters, merge=["masters"])
    calib = catalogue.night("20160925")["calib"]
    assert list(calib["masters"]) == ["dark_0", "dark_6", "flat_Si"]
    assert calib["comment"] == "flat_Si"
    catalogue.publish_night("20160925", "calib", {"masters": {"dark_0": {}}})
    assert catalogue.night("20160925")["calib"]["masters"] == {"dark_0": {}}


def test_psf_candidates_are_kept_by_a_key_without_dots(catalogue):
    key = psf_candidate_key(ID)
    assert "." not in key
    catalogue.publish_night("20160925", f"psf_lib.{key}", {"in_lib": False})
    candidates = catalogue.night("20160925")["psf_lib"]
    assert list(candidates) == [key]
    assert (candidates[key]["in_lib"], candidates[key]["done"]) == (False, True)
    with pytest.raises(CatalogueError, match="section"):
        catalogue.publish_night("20160925", f"psf_lib.{ID}", {})


def test_images_round_trip(catalogue):
    png = np.random.default_rng(1).bytes(2_000_000)
    keys = [f"{ID}/bright_star/full", f"{ID}/bright_star/cropped"]
    for key in keys:
        catalogue.put_image(key, png, night="20160925", observation=ID)
    catalogue.put_image("20160925/seeing", b"\x89PNG", night="20160925")
    assert catalogue.image(keys[0]) == png
    assert catalogue.image("nothing") is None
    assert catalogue.image_keys(observation=ID) == sorted(keys)
    assert catalogue.image_keys(night="20160925") == sorted([*keys, "20160925/seeing"])
    assert catalogue.image_keys(night="20160926") == []
    catalogue.put_image(keys[0], b"new", night="20160925", observation=ID)
    assert catalogue.image(keys[0]) == b"new"
    assert len(catalogue.image_keys()) == 3
    with pytest.raises(CatalogueError, match="15000000"):
        catalogue.put_image("big", bytes(15_000_001), night="20160925")
    with pytest.raises(CatalogueError, match="bytes"):
        catalogue.put_image("text", "text", night="20160925")


def test_claims(catalogue):
    assert catalogue.claim(ID, "bright_star", "one", 60.0) is True
    assert catalogue.claim(ID, "bright_star", "two", 60.0) is False
    assert catalogue.claim(ID, "bright_star", "one", 60.0) is True
    assert catalogue.claim(ID, "faint_star", "two", 60.0) is True
    assert catalogue.release(ID, "bright_star", "two") is False
    assert catalogue.release(ID, "bright_star", "one") is True
    assert catalogue.release(ID, "bright_star", "one") is False
    assert catalogue.claim(ID, "bright_star", "two", 0.001) is True
    threading.Event().wait(0.01)
    assert catalogue.release(ID, "bright_star", "two") is False
    assert catalogue.claim(ID, "bright_star", "three", 60.0) is True
    with pytest.raises(CatalogueError, match="owner"):
        catalogue.claim(ID, "bright_star", "", 60.0)


def test_a_claim_of_the_future_holds_nobody_up(catalogue, monkeypatch):
    year_s, time_of_day, now_utc = 365 * 86_400.0, time.time, mongodb.now_utc
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: time_of_day() + year_s)
        ahead.setattr(mongodb, "now_utc", lambda: now_utc() + timedelta(seconds=year_s))
        assert catalogue.claim(ID, "reduction", "one", ttl_s=60) is True
        assert catalogue.claimant(ID, "reduction") == "one"
    # The clock was wrong, and is set back.
    assert catalogue.claimant(ID, "reduction") is None
    assert catalogue.claim(ID, "reduction", "two", ttl_s=60) is True
    assert catalogue.claim(ID, "reduction", "one", ttl_s=60) is False


def test_access_follows_the_programs_pi(catalogue):
    catalogue.register_observation(document_of(program_pi=["duev", "law"]))
    catalogue.register_observation(document_of(OTHER))
    mine = ObservationQuery(program_pi="law", distributed=True)
    assert catalogue.count_observations(mine) == 0
    catalogue.set_distributed(ID, True)
    assert [d["_id"] for d in catalogue.find_observations(mine)] == [ID]
    assert catalogue.count_observations(ObservationQuery(program_pi="la")) == 0


def test_read_only_reads_and_refuses_to_write(registered, catalogue_url):
    with open_catalogue(catalogue_url, read_only=True) as reader:
        assert reader.observation(ID)["name"] == "351_Yrsa"
        registered.publish(ID, "bright_star", {"classified_as": "faint"})
        assert product(reader.observation(ID), "bright_star")["classified_as"] == "faint"
        for write in (
            lambda: reader.register_observation(document_of()),
            lambda: reader.publish(ID, "bright_star", {}),
            lambda: reader.publish_night("20160925", "calib", {}),
            lambda: reader.put_image("key", b"", night="20160925"),
            lambda: reader.claim(ID, "bright_star", "one", 1.0),
            lambda: reader.users.add("x", "y", "all"),
            lambda: reader.users.remove("x"),
        ):
            with pytest.raises(CatalogueError, match="reading only"):
                write()


def test_pickled_by_url(registered):
    with pickle.loads(pickle.dumps(registered)) as copy:
        assert copy.observation(ID) == registered.observation(ID)


def test_closed_catalogue_says_so(catalogue_url):
    catalogue = open_catalogue(catalogue_url)
    catalogue.close()
    catalogue.close()
    with pytest.raises(CatalogueError, match="closed"):
        catalogue.nights()


def test_threads_share_a_catalogue(registered):
    problems = []

    def work(number):
        try:
            for round_number in range(10):
                registered.publish(ID, "bright_star", {f"thread_{number}": round_number})
                registered.record_failure(ID, "faint_star", "x")
                registered.find_observations(ObservationQuery())
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    stored = registered.observation(ID)["pipelined"]
    assert [stored["bright_star"][f"thread_{number}"] for number in range(4)] == [9] * 4
    assert stored["faint_star"]["status"]["retries"] == 40


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12: threads
def test_survives_a_fork(registered):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of pytest may run in the child
        answer = b"failed"
        try:
            registered.publish(ID, "bright_star", {"classified_as": "faint"})
            answer = registered.observation(ID)["name"].encode()
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"351_Yrsa"
    os.waitpid(child, 0)
    assert product(registered.observation(ID), "bright_star")["classified_as"] == "faint"
    registered.publish(ID, "bright_star", {"classified_as": "high_flux"})
    assert product(registered.observation(ID), "bright_star")["classified_as"] == "high_flux"


class TestOpening:
    """What cannot be opened is said in a sentence, without a password."""

    def test_unreachable_server(self):
        url = "mongodb://user:secret@127.0.0.1:1/x?serverSelectionTimeoutMS=200"
        with pytest.raises(CatalogueUnavailableError, match=r"127\.0\.0\.1:1") as caught:
            open_catalogue(url)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "url", ["mongodb://u:se/c@ret@host:xx/x", "mongodb://u:secret@127.0.0.1:99999/x"]
    )
    def test_bad_mongodb_url(self, url):
        with pytest.raises(CatalogueError) as caught:
            open_catalogue(url)
        assert "ret@" not in str(caught.value)
        assert "secret" not in str(caught.value)

    def test_unknown_scheme(self):
        with pytest.raises(CatalogueError, match="mysql:"):
            open_catalogue("mysql://user:secret@host/x")

    def test_missing_file_for_a_reader(self, tmp_path):
        with pytest.raises(CatalogueUnavailableError, match="no catalogue at"):
            open_catalogue(f"sqlite:///{tmp_path}/none.sqlite", read_only=True)

    def test_something_else_in_the_place(self, tmp_path):
        path = tmp_path / "text.sqlite"
        path.write_text("this is no database, it is a text\n" * 100)
        with pytest.raises(CatalogueError, match="text.sqlite"):
            open_catalogue(f"sqlite:///{path}")
        assert path.read_text().startswith("this is no database")

    def test_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CatalogueUnavailableError, match="cannot be made"):
            open_catalogue(f"sqlite:///{tmp_path}/file/x.sqlite")

    def test_catalogue_of_a_later_version(self, tmp_path):
        import sqlite3

        connection = sqlite3.connect(tmp_path / "later.sqlite")
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(CatalogueError, match="99"):
            open_catalogue(f"sqlite:///{tmp_path}/later.sqlite")


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_catalogue_of_an_older_version_is_brought_to_this_one(tmp_path, version):
    """Documents that were registered before are found by fields that are searched since."""
    import sqlite3

    url = f"sqlite:///{tmp_path}/older.sqlite"
    pca = {"candidates": [{"snr": 6.0}], "contrast_1_arcsec_mag": 5.5}
    with open_catalogue(url) as catalogue:
        catalogue.register_observation({"_id": "a", "pipelined": {"bright_star": {"pca": pca}}})
        catalogue.register_observation({"_id": "b", "name": "Yrsa", "pipelined": {}})
    connection = sqlite3.connect(tmp_path / "older.sqlite")
    objects = """CREATE TEMP TABLE kept AS SELECT id, document FROM objects;
        DROP TABLE objects;
        CREATE TABLE objects (id TEXT PRIMARY KEY NOT NULL,
            name GENERATED ALWAYS AS (json_extract(document, '$.name')) STORED,
            document TEXT NOT NULL CHECK (json_valid(document)));
        INSERT INTO objects (id, document) SELECT id, document FROM kept;
        CREATE INDEX objects_0 ON objects (name);"""
    connection.executescript(
        f"""{objects if version < 3 else ""}
        {"DROP TABLE comments;" if version < 4 else ""}
        ALTER TABLE claims DROP COLUMN taken;
        {"DROP TABLE requests; DROP TABLE history;" if version == 1 else ""}
        PRAGMA user_version = {version};"""
    )
    connection.close()
    with open_catalogue(url) as catalogue:
        for query, found in (
            (ObservationQuery(has_candidates=True), ["a"]),
            (ObservationQuery(contrast_mag=(5.0, None)), ["a"]),
            (ObservationQuery(names=("Yrsa",)), ["b"]),
        ):
            assert [d["_id"] for d in catalogue.find_observations(query)] == found
        assert catalogue.actions.newest("a") == []
        assert catalogue.comments.of("a") == []
        assert catalogue.claim("a", "reduction", "one", ttl_s=60)
