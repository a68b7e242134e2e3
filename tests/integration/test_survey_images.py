"""Survey images: asked for once, kept in both homes of the catalogue; failures wait."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hips_service import serving

from dashboards.source import CatalogueSource
from dashboards.survey_field import FieldOnSky
from dashboards.survey_images import SurveyDesk, read_png, survey_key
from dashboards.survey_service import SurveyError
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.settings import SurveySettings

NORTH, SOUTH = "CDS/P/PanSTARRS/DR1/color-z-zg-g", "CDS/P/DSS2/color"
NIGHT = "20170607"
OBSERVATION = "24.1_KOI-1422_VIC_lp600_o_20170607_044427.040912"


def field_at(ra_deg=281.5, dec_deg=-0.5, side_arcsec=36.0):
    half = side_arcsec / 7200
    around = half * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
    around[:, 0] /= np.cos(np.radians(dec_deg))
    return FieldOnSky(
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        side_arcsec=side_arcsec,
        outline_deg=np.array([ra_deg, dec_deg]) + around,
        by_stars=True,
        guide_star=None,
        stars=(),
        candidates=(),
    )


FIELD = field_at()


@pytest.fixture
def hips():
    with serving() as service:
        yield service


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def desk_of(hips, catalogue_url):
    """A function that makes a desk, as a server that is started anew."""
    open_catalogue(catalogue_url).close()
    sources = []

    def make(clock=None, url=None, **options):
        settings = SurveySettings(url=url or hips.url, timeout_s=5.0, **options)
        sources.append(CatalogueSource(catalogue_url))
        return SurveyDesk(sources[-1], catalogue_url, settings, clock or Clock())

    yield make
    for source in sources:
        source.close()


def look(desk, observation=OBSERVATION, field=FIELD):
    return desk.ask(observation, NIGHT, field).result(30)


def test_an_image_is_asked_for_once_and_kept(desk_of, hips, catalogue_url):
    desk = desk_of()
    first = look(desk)
    assert (look(desk).pixels == first.pixels).all()
    # Of another server, too.
    again = look(desk_of())
    assert (again.pixels == first.pixels).all()
    assert (again.hips, again.fetched) == (NORTH, first.fetched)
    assert hips.surveys() == [NORTH]
    with open_catalogue(catalogue_url) as catalogue:
        assert catalogue.image_keys(night=NIGHT) == [survey_key(OBSERVATION)]
        assert catalogue.image_keys(observation=OBSERVATION) == [survey_key(OBSERVATION)]
        assert read_png(catalogue.image(survey_key(OBSERVATION))).hips == NORTH
    assert first.pixels.shape == (432, 432, 3), "three fields of 36 arcsec, 0.25 arcsec a pixel"


def test_it_is_asked_for_again_when_it_would_be_another(desk_of, hips, catalogue_url):
    look(desk_of())
    # The astrometric solution has moved the field a little, then out of the image.
    look(desk_of(), field=field_at(ra_deg=281.504))
    assert len(hips.asked) == 1
    look(desk_of(), field=field_at(ra_deg=281.52))
    assert len(hips.asked) == 2
    look(desk_of(hips="CDS/P/SDSS9/color"))
    assert hips.surveys() == [NORTH, NORTH, "CDS/P/SDSS9/color"]
    with open_catalogue(catalogue_url) as catalogue:
        catalogue.put_image(
            survey_key(OBSERVATION), b"no PNG", night=NIGHT, observation=OBSERVATION
        )
    look(desk_of())
    assert len(hips.asked) == 4


def test_where_the_first_survey_has_nothing_the_second_is_taken(desk_of, hips):
    assert look(desk_of(), field=field_at(dec_deg=-45.0)).hips == SOUTH
    assert hips.surveys() == [SOUTH], "it is known how far the first one goes"
    north = field_at(dec_deg=-29.9)
    assert look(desk_of(hips="CDS/P/blank"), "other", north).hips == SOUTH
    assert hips.surveys() == [SOUTH, "CDS/P/blank", SOUTH]
    assert look(desk_of(hips="CDS/P/blank"), "other", north).hips == SOUTH
    assert len(hips.asked) == 3
    with pytest.raises(SurveyError, match="CDS/P/blank and CDS/P/blank have no data there"):
        look(desk_of(hips="CDS/P/blank", fallback_hips="CDS/P/blank"), "third")


def test_a_refusal_is_remembered_for_a_while_and_is_of_one_field(desk_of, hips):
    clock = Clock()
    desk = desk_of(clock, hips="CDS/P/refuse", retry_minutes=10)
    for _ in range(3):
        with pytest.raises(SurveyError, match="answered 400"):
            look(desk)
        clock.now += 299
    assert len(hips.asked) == 1
    with pytest.raises(SurveyError, match="nobody is asked again for 10 minutes"):
        look(desk, "another")
    assert len(hips.asked) == 2
    with pytest.raises(SurveyError):
        look(desk)
    assert len(hips.asked) == 3, "the ten minutes are over"


def test_a_service_out_of_reach_is_left_alone_by_all(desk_of, hips):
    clock = Clock()
    desk = desk_of(clock, hips="CDS/P/broken")
    for name in ("one", "two", "three"):
        with pytest.raises(SurveyError, match="answered 500"):
            look(desk, name)
    assert len(hips.asked) == 1
    nobody = desk_of(url="http://127.0.0.1:9/hips2fits")
    for name in ("one", "two"):
        with pytest.raises(SurveyError, match="127.0.0.1:9 cannot be reached"):
            look(nobody, name)


def test_what_is_kept_is_shown_without_a_network(desk_of):
    first = look(desk_of())
    nobody = desk_of(url="http://127.0.0.1:9/hips2fits")
    with pytest.raises(SurveyError):
        look(nobody, "another")
    assert (look(nobody).pixels == first.pixels).all()


def test_many_who_ask_at_once_wait_for_one_answer(desk_of, hips):
    desk = desk_of(hips="CDS/P/slow")
    ready = threading.Barrier(8)

    def visit(_):
        ready.wait(10)
        return look(desk)

    with ThreadPoolExecutor(8) as visitors:
        images = list(visitors.map(visit, range(8)))
    assert len(hips.asked) == 1
    assert all(image is images[0] for image in images)


def test_failures_do_not_pile_up(desk_of, hips):
    desk = desk_of(hips="CDS/P/small", fallback_hips="CDS/P/small", retry_minutes=1e6)
    desk._failures.update((str(number), (np.inf, "")) for number in range(2000))
    with pytest.raises(SurveyError, match="were asked for"):
        look(desk)
    assert len(desk._failures) == 1000
    with pytest.raises(SurveyError):
        look(desk)
    assert len(hips.asked) == 1


def test_a_catalogue_that_takes_nothing_does_not_hide_the_image(hips, tmp_path, caplog):
    url = f"sqlite:///{tmp_path}/catalogue.sqlite"
    open_catalogue(url).close()
    settings = SurveySettings(url=hips.url)
    # What is written goes to a folder that cannot be made.
    (tmp_path / "file").write_text("")
    desk = SurveyDesk(CatalogueSource(url), f"sqlite:///{tmp_path}/file/x.sqlite", settings)
    assert look(desk).hips == NORTH
    assert "cannot be kept" in caplog.text


def test_the_largest_field_and_the_smallest(desk_of):
    for side_arcsec, side_px in ((1.0, 128), (44.0, 528), (600.0, 800)):
        field = replace(FIELD, side_arcsec=side_arcsec)
        assert look(desk_of(), f"of {side_arcsec}", field).pixels.shape[0] == side_px
