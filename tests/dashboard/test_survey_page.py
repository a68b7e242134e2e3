"""Survey images on the observation's page, in a real browser, from a service on loopback."""

import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
from hips_service import serving
from plausible import NIGHT, TARGETS, add_observation
from product_tree import OBSERVATION, stack_wcs, write_tree
from visiting import Client, add_user, let_in, logged_in

from dashboards.links import image_url, observation_url
from dashboards.survey_images import survey_key
from roboao_assets.storage.catalogue import open_catalogue

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"


@pytest.fixture(scope="module")
def hips():
    with serving() as service:
        service.stars_deg = stack_wcs().all_pix2world([(140.0, 111.0), (30, 40), (900, -500)], 0)
        yield service


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive")
    url = f"sqlite:///{root}/catalogue.sqlite"
    with open_catalogue(url) as catalogue:
        add_observation(catalogue, TARGETS[0], NIGHT, np.random.default_rng(1))
    write_tree(root)
    add_user(url)
    add_user(url, "stranger", ["4"])
    return url, str(root)


@pytest.fixture(scope="module")
def address(start_server, archive, hips):
    """A server that asks the service on loopback."""
    return start_server(
        archive[0],
        ROBOAO_ARCHIVE_ROOT=archive[1],
        ROBOAO_SURVEY__ENABLED="true",
        ROBOAO_SURVEY__URL=hips.url,
        ROBOAO_SURVEY__TIMEOUT_S="50",
    )


def forget(archive):
    """Spoil the image that is kept, so that it has to be asked for."""
    with open_catalogue(archive[0]) as catalogue:
        catalogue.put_image(
            survey_key(OBSERVATION), b"not one", night=NIGHT, observation=OBSERVATION
        )


def assert_sound(page):
    assert page.complaints == []
    asked = {urlsplit(url).hostname for url in page.asked if not url.startswith(("data:", "blob:"))}
    assert asked == {"127.0.0.1"}, "the browser asks nobody but the archive"
    width, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= room


def shoot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def test_the_field_in_the_survey(page, address, hips):
    let_in(page.context, address)
    page.goto(address + observation_url(OBSERVATION))
    told = page.locator(".survey-told", has_text="Pan-STARRS DR1")
    told.wait_for()
    assert f"made by {urlsplit(hips.url).netloc}" in told.inner_text()
    assert len(hips.asked) == 1
    assert urlsplit(hips.url).netloc not in {urlsplit(url).netloc for url in page.asked}
    # The pictures of the pipelines are there, and the survey's is not among them.
    assert page.locator("figure.full").count() == 1
    assert page.locator("figure.field").count() == 0
    shoot(page, "survey")
    assert_sound(page)
    page.set_viewport_size({"width": 1024, "height": 768})
    page.reload()
    told.wait_for()
    assert len(hips.asked) == 1, "it was kept"
    told.scroll_into_view_if_needed()
    shoot(page, "survey-tablet")
    assert_sound(page)


def test_it_is_a_picture_of_its_observation(address, hips):
    """Also for those who may not see it."""
    picture = image_url(survey_key(OBSERVATION))
    status, headers, body = logged_in(address).ask(picture)
    assert (status, headers["Content-Type"], body[:4]) == (200, "image/png", b"\x89PNG")
    asked = len(hips.asked)
    stranger = logged_in(address, "stranger")
    assert stranger.ask(picture)[0] == 404
    assert stranger.ask(observation_url(OBSERVATION))[0] == 200
    assert Client(address).ask(picture)[0] == 404
    time.sleep(0.5)
    assert len(hips.asked) == asked, "who may not see an observation has nobody asked for it"


def test_a_page_that_is_only_fetched_asks_nobody(address, hips, archive):
    forget(archive)
    asked = len(hips.asked)
    assert logged_in(address).ask(observation_url(OBSERVATION))[0] == 200
    for hostile in ("../x", "<script>", '{"$gt": ""}', "\u202e\u0000", "y" * 50_000):
        assert logged_in(address).ask(f"/observation?{urlencode({'id': hostile})}")[0] == 200
    time.sleep(0.5)
    assert len(hips.asked) == asked


def test_a_service_that_hangs_holds_nothing_up(page, address, archive, hips):
    """The last test: the server leaves the service alone after it."""
    forget(archive)
    hips.trouble, before = "hang", len(hips.asked)
    let_in(page.context, address)
    client = logged_in(address)
    page.goto(address + observation_url(OBSERVATION))
    page.locator(".survey-told", has_text="Asking for").wait_for()
    page.locator("p.read-out", has_text="Move over the image").wait_for()
    for path in ("/", observation_url(OBSERVATION)):
        asked = time.monotonic()
        assert client.ask(path)[0] == 200
        assert time.monotonic() - asked < 20, "the service is silent for longer"
    assert page.locator(".survey-told", has_text="Asking for").count() == 1
    hips.released.set()
    page.locator(".survey-problem", has_text="cannot be reached").wait_for()
    shoot(page, "survey-problem")
    page.reload()
    page.locator(".survey-problem", has_text="nobody is asked again for 10 minutes").wait_for()
    assert len(hips.asked) == before + 1
    assert_sound(page)
