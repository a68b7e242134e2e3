"""Survey images without a server of ours: the service and its troubles, field, plot, markup."""

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from hips_service import HUGE_BYTES, draw, picture, serving
from hypothesis import given
from hypothesis import strategies as st
from plausible import NIGHT, SCALE_ARCSEC
from product_tree import OBSERVATION, SIZE_PX, STAR_XY, stack_wcs, write_tree

from dashboards.results import Candidate
from dashboards.source import CatalogueSource
from dashboards.survey_field import pixels_of, read_field
from dashboards.survey_images import (
    SurveyDesk,
    png_of,
    read_png,
    survey_key,
    without_survey,
)
from dashboards.survey_plot import plot_survey
from dashboards.survey_service import MOST_BYTES, SurveyError, SurveyService, survey_wcs
from dashboards.survey_view import SurveyView, caption, problem_of, survey_parts
from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.served_files import observation_files
from roboao_assets.storage.settings import SurveySettings, load_settings
from roboao_assets.storage.tables import ecsv_text

HIPS = "CDS/P/PanSTARRS/DR1/color-z-zg-g"
SIDE_PX, SCALE = 160, 0.25
# In no line and not symmetric: no image of itself in a mirror.
STARS = np.array([[234.5, 47.25], [234.503, 47.2512], [234.4975, 47.2533]])
STARS_XY = [(40.0, 30.0), (200.0, 64.0), (90.0, 222.0)]
CANDIDATE = Candidate(
    separation_arcsec=1.45,
    pa_deg=76.0,
    contrast_mag=6.0,
    snr=7.3,
    false_alarm_probability=4e-7,
)


@pytest.fixture(scope="module")
def hips():
    with serving() as service:
        service.stars_deg = STARS
        yield service


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    write_tree(root)
    path = ArchivePaths(root).astrometry(NIGHT, OBSERVATION, "bright_star", "stars.ecsv")
    path.parent.mkdir(parents=True)
    x, y = np.transpose([*STARS_XY, (np.nan, 5.0)])
    path.write_text(ecsv_text(Table({"x": x, "y": y, "snr": [9.0, 80.0, 20.0, 30.0]})))
    return root


@pytest.fixture(scope="module")
def field(tree):
    return field_of(tree)


def field_of(root, *candidates):
    found = observation_files(ArchivePaths(root), NIGHT, OBSERVATION)
    return read_field(found, OBSERVATION, [SimpleNamespace(candidates=candidates)])


def service_of(hips, image_format="jpg", timeout_s=10.0):
    return SurveyService(hips.url, image_format, timeout_s)


def wcs_of(side_px=SIDE_PX):
    return survey_wcs(*STARS[0], side_px, SCALE)


# -- the service -----------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["jpg", "png", "fits"])
def test_stars_are_where_the_world_coordinates_say(hips, image_format):
    image = service_of(hips, image_format).image(HIPS, wcs_of())
    assert image.pixels.shape == (SIDE_PX, SIDE_PX, 3)
    assert image.pixels.dtype == np.uint8
    for ra, dec in STARS:
        x, y = pixels_of(image.wcs, np.array([[ra, dec]]))[0]
        column, row = round(x), round(y)
        box = image.pixels[row - 6 : row + 7, column - 6 : column + 7].sum(axis=2)
        weights = np.clip(box.astype(float) - np.median(box), 0, None)
        rows, columns = np.indices(box.shape) - 6
        assert (weights * columns).sum() / weights.sum() == pytest.approx(x - column, abs=0.15)
        assert (weights * rows).sum() / weights.sum() == pytest.approx(y - row, abs=0.15)
    query = hips.asked[-1]
    assert (query["hips"], query["format"]) == (HIPS, image_format)
    header = json.loads(query["wcs"])
    assert (header["NAXIS1"], header["NAXIS2"]) == (SIDE_PX, SIDE_PX)
    assert header["CTYPE1"] == "RA---TAN"
    assert not image.is_blank


@pytest.mark.parametrize(
    ("trouble", "image_format", "sentence", "of_service"),
    [
        ("refuse", "jpg", r"answered 400 \('Bad <b>request</b>'\)", False),
        ("broken", "jpg", "answered 500", True),
        ("garbage", "jpg", "5000 bytes that are no image", False),
        ("spoilt", "png", "600 x 600 px, and 160 x 160 px were asked for", False),
        ("cards", "fits", "cannot be read as FITS", False),
        ("cube", "fits", "no image in one band", False),
        ("small", "jpg", "30 x 40 px, and 160 x 160 px were asked for", False),
        ("bomb", "png", "no image|30000 x 30000 px", False),
        ("huge", "jpg", "more than 8 MB", False),
        ("short", "jpg", "3 of 100000 bytes|did not|cannot be reached", False),
    ],
)
def test_what_is_no_answer_is_a_sentence(hips, trouble, image_format, sentence, of_service):
    assert HUGE_BYTES > MOST_BYTES
    with pytest.raises(SurveyError, match=sentence) as caught:
        service_of(hips, image_format).image(f"CDS/P/{trouble}", wcs_of())
    assert caught.value.of_service is of_service
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("trouble", ["hang", "trickle", "drip"])
def test_an_answer_that_does_not_come_to_an_end_is_waited_for_so_long(hips, trouble):
    started = time.monotonic()
    with pytest.raises(SurveyError, match=r"did not answer within 0\.7 s") as caught:
        service_of(hips, timeout_s=0.7).image(f"CDS/P/{trouble}", wcs_of())
    assert caught.value.of_service
    assert 0.6 < time.monotonic() - started < 3.0


def test_a_service_that_is_not_there():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = SurveyService(f"http://user:secret@127.0.0.1:{port}/", "jpg", 2.0)
    with pytest.raises(SurveyError, match="may have no network") as caught:
        service.image(HIPS, wcs_of())
    assert caught.value.of_service
    assert "secret" not in str(caught.value)


def test_where_a_survey_has_nothing_it_is_blank(hips):
    assert service_of(hips).image("CDS/P/blank", wcs_of()).is_blank
    assert service_of(hips, "fits").image("CDS/P/blank", wcs_of()).is_blank


def test_a_kept_image_is_the_one_that_was_fetched(hips):
    image = service_of(hips).image(HIPS, wcs_of())
    kept = read_png(png_of(image))
    assert (kept.pixels == image.pixels).all()
    assert (kept.hips, kept.service, kept.fetched) == (HIPS, image.service, image.fetched)
    places = np.array([[0.0, 0.0], [159.0, 20.0]])
    assert kept.wcs.all_pix2world(places, 0) == pytest.approx(image.wcs.all_pix2world(places, 0))
    assert kept.wcs.pixel_shape == (SIDE_PX, SIDE_PX)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=99).map(lambda b: b"\x89PNG\r\n" + b)))
def test_what_is_no_kept_image_is_none(content):
    assert read_png(content) is None


def test_a_picture_of_somebody_else_is_no_survey_image(hips):
    header = {"NAXIS1": 20, "NAXIS2": 20}
    assert read_png(picture(draw(header, []), "png")) is None


# -- the field -------------------------------------------------------------------------------


def test_the_field_is_that_of_the_stack(tree):
    field = field_of(tree, CANDIDATE)
    wcs = stack_wcs()
    corners = [(-0.5, -0.5), (SIZE_PX - 0.5, -0.5), (SIZE_PX - 0.5, SIZE_PX - 0.5)]
    for place in wcs.all_pix2world(corners, 0):
        nearest = np.abs(field.outline_deg - place).sum(axis=1).min()
        assert nearest == pytest.approx(0, abs=1e-9)
    # Turned by 23 degrees: cos + sin of the side.
    assert field.side_arcsec == pytest.approx(
        SIZE_PX * SCALE_ARCSEC * (np.cos(np.radians(23)) + np.sin(np.radians(23))), rel=1e-3
    )
    star = SkyCoord(*wcs.all_pix2world(*STAR_XY, 0), unit="deg")
    guide = SkyCoord(field.guide_star.ra_deg, field.guide_star.dec_deg, unit="deg")
    assert guide.separation(star).arcsec < 1e-6
    candidate = field.candidates[0]
    there = SkyCoord(candidate.ra_deg, candidate.dec_deg, unit="deg")
    assert guide.separation(there).arcsec == pytest.approx(1.45, abs=1e-6)
    assert guide.position_angle(there).to_value(u.deg) == pytest.approx(76.0, abs=1e-6)
    assert not field.by_stars


def test_the_stars_are_those_of_the_table_the_surest_first(field):
    assert [mark.label for mark in field.stars] == [
        "star, S/N 80",
        "star, S/N 20",
        "star, S/N 9",
    ]
    order = (STARS_XY[1], STARS_XY[2], STARS_XY[0])
    for mark, xy in zip(field.stars, order, strict=True):
        place = stack_wcs().all_pix2world([xy], 0)[0]
        assert (mark.ra_deg, mark.dec_deg) == pytest.approx(tuple(place), abs=1e-9)


@pytest.mark.parametrize(
    "text", ["", "x y snr\n", "<script>", "# %ECSV 1.0\n# ---\n# !!python/x []\nx\n1\n", "x\ny\0"]
)
def test_a_table_of_stars_that_cannot_be_read_is_left_out(tmp_path, text):
    write_tree(tmp_path)
    path = ArchivePaths(tmp_path).astrometry(NIGHT, OBSERVATION, "bright_star", "stars.ecsv")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert field_of(tmp_path).stars == ()


def test_without_world_coordinates_there_is_no_field(tmp_path):
    write_tree(tmp_path)
    paths = ArchivePaths(tmp_path)
    os.unlink(paths.stack(NIGHT, OBSERVATION, 100))
    # The sum is there, and has none.
    assert field_of(tmp_path) is None
    assert read_field({}, OBSERVATION, []) is None


@pytest.mark.parametrize("centre", [(0.001, 10.0), (359.9999, -35.0), (120.0, 89.9995)])
def test_a_field_at_the_seam_and_at_the_pole_is_inside_of_its_survey_image(tmp_path, centre):
    write_tree(tmp_path)
    path = ArchivePaths(tmp_path).stack(NIGHT, OBSERVATION, 100)
    with fits.open(path, mode="update") as units:
        units[0].header["CRVAL1"], units[0].header["CRVAL2"] = centre
    field = field_of(tmp_path)
    side_px = 60
    around = survey_wcs(field.ra_deg, field.dec_deg, side_px, 1.001 * field.side_arcsec / side_px)
    assert field.is_inside(around)
    within = survey_wcs(field.ra_deg, field.dec_deg, side_px, 0.99 * field.side_arcsec / side_px)
    assert not field.is_inside(within)
    behind = survey_wcs((field.ra_deg + 180) % 360, -field.dec_deg, side_px, 1.0)
    assert not field.is_inside(behind)


# -- what is shown ---------------------------------------------------------------------------


def test_marks_lie_on_what_they_mark(hips, tree):
    """The outline's and the marks' places, read back by the image's own projection."""
    field = field_of(tree, CANDIDATE)
    image = service_of(hips).image(HIPS, survey_wcs(field.ra_deg, field.dec_deg, SIDE_PX, SCALE))
    plot = plot_survey(image, field)
    named = {item.label.value: item.renderers[0] for legend in plot.legend for item in legend.items}
    assert list(named) == ["our field", "guide star", "detected stars", "companion candidates"]
    source = named["guide star"].data_source.data
    x, y = (source[axis][0] / SCALE + (SIDE_PX - 1) / 2 for axis in "xy")
    there = SkyCoord(*image.wcs.all_pix2world(x, y, 0), unit="deg")
    guide = SkyCoord(field.guide_star.ra_deg, field.guide_star.dec_deg, unit="deg")
    assert guide.separation(there).arcsec < 1e-4
    candidate = named["companion candidates"].data_source.data
    dx, dy = (candidate[axis][0] - source[axis][0] for axis in "xy")
    # North is up and east to the left.
    assert np.degrees(np.arctan2(-dx, dy)) == pytest.approx(76.0, abs=0.1)
    assert np.hypot(dx, dy) == pytest.approx(1.45, abs=0.001)
    sent = plot.renderers[0].data_source.data["image"][0]
    assert (sent.view(np.uint8).reshape(SIDE_PX, SIDE_PX, 4)[..., :3] == image.pixels).all()


def test_keys_of_survey_images_are_told_from_those_of_pipelines():
    keys = ["a/bright_star/full", survey_key("a"), "20170607/seeing"]
    assert without_survey(keys) == [keys[0], keys[2]]


def test_what_a_stranger_writes_is_text():
    assert "<b>" not in problem_of(SurveyError("it answered <b>no</b>"))
    image = SimpleNamespace(hips="<script>", service="<i>", fetched=datetime.now(UTC))
    told = caption(image, SimpleNamespace(by_stars=False))
    assert "<script>" not in told
    assert "<i>" not in told
    assert "pointed" in told


@pytest.fixture
def desk_of(hips, tmp_path):
    """A function that makes a desk which asks for a survey."""
    url = f"sqlite:///{tmp_path}/catalogue.sqlite"
    open_catalogue(url).close()

    def make(survey=HIPS, **options):
        settings = SurveySettings(url=hips.url, hips=survey, **options)
        return SurveyDesk(CatalogueSource(url), url, settings)

    return make


def test_the_view_without_a_browser(desk_of, tree):
    observation = SimpleNamespace(id=OBSERVATION, night=NIGHT, results=())
    files = observation_files(ArchivePaths(tree), NIGHT, OBSERVATION)

    def looked_at(desk, files=files):
        with ThreadPoolExecutor(1) as executor:
            view = SurveyView(desk, executor, observation, files)
            view.start()
        return view

    refused = looked_at(desk_of("CDS/P/refuse"))
    assert "answered 400 (&#x27;Bad &lt;b&gt;request&lt;/b&gt;&#x27;)" in refused.told.object
    assert len(refused.content) == 1
    shown = looked_at(desk_of())
    assert len(shown.content) == 2
    assert "Pan-STARRS DR1" in shown.told.object
    assert "has world coordinates yet" in looked_at(desk_of(), {}).told.object
    assert survey_parts(desk_of(enabled=False), None, observation, files) == []


def test_settings_that_cannot_be_used_are_refused(monkeypatch):
    assert load_settings().survey.url.startswith("https://")
    for variable, value in (
        ("URL", "file:///etc/passwd"),
        ("FIELDS", "9"),
        ("IMAGE_FORMAT", "gif"),
        ("TIMEOUT_S", "0"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(f"ROBOAO_SURVEY__{variable}", value)
            with pytest.raises(SettingsError, match=variable.lower()):
                load_settings()
