"""The page of the PSF library in a real browser: what it shows, and that it adds and removes."""

from pathlib import Path

import numpy as np
import pytest
from visiting import add_user, let_in

from dashboards.access import Access, AccessError, Visitor
from dashboards.library_changes import ChangeWish, change_library
from dashboards.library_collect import LibrarySource
from dashboards.source import CatalogueSource
from roboao_assets.pipelines.candidate_preview import candidate_preview
from roboao_assets.pipelines.sky_picture import Sky
from roboao_assets.storage.catalogue import User, new_observation, open_catalogue
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_candidates import preview_key, section_of
from roboao_assets.storage.psf_library import (
    PsfEntry,
    PsfLibrary,
    PsfLibraryError,
    write_psf_candidate,
)
from roboao_assets.storage.raw_names import parse_exposure_name

NIGHT, EARLIER = "20170607", "20170606"
SCRIPT = "<script>alert(1)<|script>"
SINGLE, DOUBLE = (
    f"4_{name}_VIC_Si_o_{NIGHT}_0{hour}3211.367797" for name, hour in (("HD_1", 4), (SCRIPT, 5))
)
PLANET = f"24_Mars_VIC_Si_o_{NIGHT}_063211.000000"
OLD = f"4_HD_9_VIC_lp600_o_{EARLIER}_063211.000000"
COMPANION = 'suspected: 0.85" at PA 63, 2.6 mag'
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"


def make_entry(observation, companion=""):
    y, x = np.indices((61, 61)) - 30
    frame = 1000 * np.exp(-4 * np.log(2) * (x**2 + y**2) / 5.0**2)
    if companion:
        frame += 100 * np.exp(-4 * np.log(2) * ((x - 12) ** 2 + (y - 5) ** 2) / 5.0**2)
    frame += np.random.default_rng(1).normal(size=frame.shape)
    return PsfEntry(
        obs_name=observation,
        obj_name=parse_exposure_name(observation).object_name,
        filter_name="Si",
        telescope="KPNO_2.1m",
        strehl_percent=12.3,
        frame=frame.astype(np.float32),
        fwhm_arcsec=0.1,
        elongation=1.05,
        companion=companion,
    )


def publish(catalogue, paths, entry):
    path = paths.psf_candidate(NIGHT, entry.obs_name, "fits")
    write_psf_candidate(path, entry)
    picture = candidate_preview(entry.frame, 30, 30, entry, Sky(plate_scale_arcsec=0.0176))
    catalogue.put_image(preview_key(NIGHT, entry.obs_name), picture, night=NIGHT)
    catalogue.publish_night(
        NIGHT,
        section_of(entry.obs_name),
        {
            "observation": entry.obs_name,
            "status": "candidate",
            "in_lib": False,
            "object": entry.obj_name,
            "filter": entry.filter_name,
            "telescope": entry.telescope,
            "strehl_percent": entry.strehl_percent,
            "fwhm_arcsec": entry.fwhm_arcsec,
            "elongation": entry.elongation,
            "companion": entry.companion,
            "sha256": entry.sha256,
            "fingerprint": entry.sha256,
        },
    )


@pytest.fixture
def archive(tmp_path):
    """An archive with a night of two candidates and a planet, and a star of an earlier night."""
    paths = ArchivePaths(tmp_path / "archive")
    PsfLibrary(paths.psf_library).add(make_entry(OLD), by="duev", comment="the first <i>")
    with open_catalogue(f"sqlite:///{tmp_path}/catalogue.sqlite") as catalogue:
        for observation in (SINGLE, DOUBLE, PLANET):
            catalogue.register_observation(new_observation(parse_exposure_name(observation)))
        publish(catalogue, paths, make_entry(SINGLE))
        publish(catalogue, paths, make_entry(DOUBLE, COMPANION))
        none = {"observation": PLANET, "status": "program 24 is excluded", "in_lib": False}
        catalogue.publish_night(NIGHT, section_of(PLANET), none, done=False)
    return paths


@pytest.fixture
def url(archive):
    return f"sqlite:///{archive.root.parent}/catalogue.sqlite"


def wish(action, observation):
    return ChangeWish(action=action, night=NIGHT, observation=observation, comment="why")


def test_a_change_is_in_the_library_its_history_and_the_catalogue(archive, url):
    source = LibrarySource(archive)
    assert [star.obs_name for star in source.get().stars] == [OLD]
    assert "added" in change(url, archive, wish("add", SINGLE))
    assert [star.obs_name for star in source.get().stars] == [OLD, SINGLE]
    assert source.get().history[0].by == "duev"
    with open_catalogue(url) as catalogue:
        assert catalogue.night(NIGHT)["psf_lib"][section_of(SINGLE)[8:]]["in_lib"] is True
    change(url, archive, wish("remove", SINGLE))
    with open_catalogue(url) as catalogue:
        assert catalogue.night(NIGHT)["psf_lib"][section_of(SINGLE)[8:]]["in_lib"] is False
        told = [(entry.subject, entry.action, entry.by) for entry in catalogue.actions.newest()]
    assert told == [
        (SINGLE, "removed from the PSF library", "duev"),
        (SINGLE, "added to the PSF library", "duev"),
    ]
    assert [c.action for c in source.get().history] == ["removed", "added", "added"]
    assert source.get() is source.get(), "read again only when it changed"


@pytest.mark.parametrize(
    ("action", "observation", "sentence"),
    [
        ("add", OLD, "has no PSF candidate"),
        ("add", "nothing", "has no PSF candidate nothing"),
        ("add", PLANET, "program 24 is excluded"),
        ("remove", SINGLE, "is not in the PSF library"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(archive, url, action, observation, sentence):
    before = archive.psf_library.read_bytes()
    with pytest.raises(PsfLibraryError, match=sentence):
        change(url, archive, wish(action, observation))
    assert archive.psf_library.read_bytes() == before


def test_a_candidate_that_is_not_what_was_looked_at_is_refused(archive, url):
    other = make_entry(SINGLE, "another frame")
    write_psf_candidate(archive.psf_candidate(NIGHT, SINGLE, "fits"), other)
    with pytest.raises(PsfLibraryError, match="is not the one that the catalogue knows"):
        change(url, archive, wish("add", SINGLE))


ADMIN_VISITOR = Visitor(
    user=User(name="duev", password_hash="", programs="all", stamp=""), login="one"
)


def change(url, archive, wished, visitor=ADMIN_VISITOR):
    access = Access(CatalogueSource(url))
    return change_library(url, archive, wished, visitor, access)


@pytest.mark.parametrize("programs", [(), ("4",), ("4", "24")])
def test_who_does_not_see_everything_may_not_change_it(archive, url, programs):
    before = archive.psf_library.read_bytes()
    user = User(name="law", password_hash="", programs=programs, stamp="")
    with pytest.raises(AccessError, match="law may not change the PSF library"):
        change(url, archive, wish("add", SINGLE), Visitor(user=user, login="two"))
    assert archive.psf_library.read_bytes() == before


@pytest.fixture
def library_server(start_server, archive, url):
    add_user(url)
    return start_server(url, ROBOAO_ARCHIVE_ROOT=str(archive.root))


@pytest.mark.browser
def test_a_candidate_is_looked_at_added_and_removed(page, library_server, archive):
    let_in(page.context, library_server)
    page.goto(library_server)
    page.get_by_role("link", name="PSF library").click()
    cards = page.locator(".candidates .card")
    cards.first.wait_for()
    assert cards.locator("h3").all_inner_texts() == ["HD_1", SCRIPT]
    assert COMPANION in cards.nth(1).inner_text()
    assert "elongation 1.05" in cards.nth(0).inner_text()
    assert page.locator(".stars .card h3").all_inner_texts() == ["HD_9"]
    page.locator("summary").click()
    assert "program 24 is excluded" in page.locator(".remark.skipped").inner_text()
    assert "the first <i>" in page.locator("table.history").inner_text()

    cards.nth(1).get_by_role("link", name="choose").click()
    page.locator(".psf-choice img").wait_for()
    picture = page.locator(".psf-choice img")
    page.wait_for_function(
        "(i) => i.complete && i.naturalWidth > 800", arg=picture.element_handle()
    )
    remove = page.get_by_role("button", name="Remove from the library")
    assert remove.is_disabled()
    page.get_by_label("comment").press_sequentially("for <b>tests", delay=5)
    page.get_by_role("button", name="Add to the library").click()
    page.locator(".answer", has_text="was added to the PSF library").wait_for()
    page.locator(".stars .card", has_text=SCRIPT).wait_for()
    assert "in library" in cards.nth(1).inner_text()
    assert "for <b>tests" in page.locator("table.history tbody tr").first.inner_text()
    assert "admin" in page.locator("table.history tbody tr").first.inner_text()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "psf-library.png", full_page=True)

    # Somebody else is quicker: the page says so and shows what is there now.
    PsfLibrary(archive.psf_library).remove(DOUBLE, by="somebody else")
    remove.click()
    page.locator(".answer.bad", has_text="is not in the PSF library").wait_for()
    page.locator("td", has_text="somebody else").wait_for()
    assert [e.obs_name for e in PsfLibrary(archive.psf_library).entries()] == [OLD]

    archive.psf_library.write_bytes(b"no library")
    page.goto(f"{library_server}/psf-library?star=<b>x")
    page.locator(".notice", has_text="restore it from a backup").wait_for()
    assert page.complaints == []
