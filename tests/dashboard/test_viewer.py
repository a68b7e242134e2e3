"""The viewer of images and the files' route: numbers against oracles, hostile names, a browser."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from plausible import NIGHT, SCALE_ARCSEC
from product_tree import (
    BOX_PX,
    FRAMES,
    OBSERVATION,
    RAW_NAME,
    RAW_SHA256,
    SECRET,
    STAR_XY,
    TURNED_DEG,
    stack_wcs,
    star_image,
    write_tree,
)
from visiting import Client, add_user, logged_in

from dashboards.frame_quality import plot_frame_quality, read_frame_quality
from dashboards.links import file_url, observation_url
from dashboards.provenance import provenance_markup, read_provenance
from dashboards.viewer import Viewer
from dashboards.viewer_compute import (
    CUTS,
    NO_DATA,
    STRETCHES,
    cut_levels,
    directions,
    radial_profile,
    read_out,
    shade,
)
from dashboards.viewer_images import ImageStore, image_titles
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.fits_products import ProductError
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.served_files import observation_files

STACK = "bright_star/100p.fits"
RESIDUAL = f"bright_star/pca/{OBSERVATION}_pca.fits"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    write_tree(root)
    return observation_files(ArchivePaths(root), NIGHT, OBSERVATION)


@pytest.fixture
def store():
    return ImageStore()


def test_images_are_offered_in_the_order_of_the_flow(files):
    assert list(image_titles(files)) == [
        "stack of all frames",
        "stack of the best 50 %",
        "stack of the best 20 %",
        "sum (raw pixels)",
        "PSF-subtracted",
    ]


def test_links_and_other_observations_are_no_files(files, tmp_path):
    assert "link.txt" not in files
    assert f"{OBSERVATION}.tar.bz2" in files
    paths = ArchivePaths(next(iter(files.values())).path.parents[3])
    for name in ("..", ".", "../20170607", "a/../../x", "", "\0"):
        assert observation_files(paths, NIGHT, name) == {} or name == ""


@pytest.mark.parametrize("stretch", STRETCHES)
@pytest.mark.parametrize("cut", CUTS)
def test_shades_keep_the_order_and_tell_what_has_no_data(files, store, stretch, cut):
    pixels = store.read(files, STACK).pixels
    low, high = cut_levels(pixels, cut)
    shades = shade(pixels, low, high, stretch)
    good = np.isfinite(pixels)
    assert (shades[~good] == NO_DATA).all()
    assert (shades[good] > NO_DATA).all()
    order = np.argsort(pixels[good], kind="stable")
    assert (np.diff(shades[good][order].astype(int)) >= 0).all()
    assert set(shades[pixels >= high]) <= {255}
    assert set(shades[pixels <= low]) <= {1}


def test_levels_of_an_image_without_data_or_without_contrast():
    empty = np.full((5, 5), np.nan, np.float32)
    assert cut_levels(empty, "noise to peak") == (0.0, 1.0)
    assert (shade(empty, 0.0, 1.0, "linear") == NO_DATA).all()
    flat = np.full((50, 50), 7.0, np.float32)
    for cut in CUTS:
        low, high = cut_levels(flat, cut)
        assert high > low
        assert (shade(flat, low, high, "logarithmic") > NO_DATA).all()


def test_the_profile_of_a_gaussian(files, store):
    profile = radial_profile(store.read(files, STACK), *STAR_XY, most_arcsec=0.3)
    expected = 10 + 1000 * np.exp(-((profile.radius_arcsec / SCALE_ARCSEC / 3) ** 2) / 2)
    assert profile.median == pytest.approx(expected, rel=0.08, abs=2)
    assert (profile.lower <= profile.median).all()
    assert (profile.median <= profile.upper).all()
    assert profile.radius_arcsec[0] == 0


@pytest.mark.parametrize("xy", [(0.0, 0.0), (255.0, 255.0), (-400.0, 10.0), (1e5, 1e5)])
def test_the_profile_at_the_edge_and_outside(files, store, xy):
    profile = radial_profile(store.read(files, STACK), *xy, most_arcsec=2.0)
    assert np.isfinite(profile.median).all()


def test_north_and_east_are_where_the_solution_says(files, store):
    north, east = directions(store.read(files, STACK))
    angle = np.radians(TURNED_DEG)
    assert north == pytest.approx((np.sin(angle), np.cos(angle)), abs=1e-3)
    assert east == pytest.approx((-np.cos(angle), np.sin(angle)), abs=1e-3)


def test_a_box_round_the_star_lies_where_the_star_is(files, store):
    """The same place of the sky, read in the stack and in the residual."""
    shift = 12.0
    middle = (BOX_PX - 1) / 2
    in_stack = read_out(store.read(files, STACK), STAR_XY[0] + shift, STAR_XY[1])
    in_box = read_out(store.read(files, RESIDUAL), middle + shift, middle)
    sky = re.compile(r"RA .*$")
    assert sky.search(in_stack)[0] == sky.search(in_box)[0]


def test_the_read_out_agrees_with_the_solution(files, store):
    x, y = 30.0, 200.0
    told = read_out(store.read(files, STACK), x, y)
    place = SkyCoord(*stack_wcs().all_pix2world(x, y, 0), unit="deg")
    star = SkyCoord(*stack_wcs().all_pix2world(*STAR_XY, 0), unit="deg")
    ra, dec = re.search(r"RA (\S+), Dec (\S+)", told).groups()
    assert SkyCoord(ra, dec, unit=("hourangle", "deg")).separation(place).arcsec < 0.012
    separation, angle = re.search(r'([\d.]+)" from the guide star, PA ([\d.]+)', told).groups()
    assert float(separation) == pytest.approx(star.separation(place).arcsec, abs=0.002)
    assert float(angle) == pytest.approx(star.position_angle(place).deg, abs=0.06)
    assert "x 30, y 200 px · 10 adu" in told
    assert "no data" in read_out(store.read(files, STACK), 5.0, 1.0)
    assert read_out(store.read(files, STACK), -1.0, 5.0) == ""


def test_images_are_shared_until_they_are_made_again(files, tmp_path):
    write_tree(tmp_path)
    paths = ArchivePaths(tmp_path)
    store = ImageStore(most_bytes=2 * 256 * 256 * 4)
    found = observation_files(paths, NIGHT, OBSERVATION)
    first = store.read(found, STACK)
    assert store.read(observation_files(paths, NIGHT, OBSERVATION), STACK) is first
    status = os.stat(found[STACK].path)
    os.utime(found[STACK].path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert store.read(observation_files(paths, NIGHT, OBSERVATION), STACK) is not first
    for percent in (20, 100, 20):
        store.read(found, f"bright_star/{percent}p.fits")
    assert sum(i.pixels.nbytes for i in store._images.values()) <= 2 * 256 * 256 * 4


def test_a_file_that_is_gone_or_spoilt_is_a_sentence(files, store):
    with pytest.raises(ProductError, match="is not there any more"):
        store.read(files, "bright_star/10p.fits")
    with pytest.raises(ProductError, match=r"50p\.fits"):
        store.read(files, "bright_star/50p.fits")


def test_the_viewer_without_a_browser(files, store):
    with ThreadPoolExecutor(1) as executor:
        viewer = Viewer(store, files, executor)
        viewer._look()
        sent = viewer._figure.pixels.data
        assert sent["image"][0].shape == (256, 256)
        assert sent["x"][0] == pytest.approx(-(STAR_XY[0] + 0.5) * SCALE_ARCSEC)
        rings = viewer._profile.rings.data
        assert rings["median"][0] == pytest.approx(1010)
        viewer._figure.pointer.data = {"x": [0.0], "y": [0.0]}
        assert "0.000&quot; from the guide star" in viewer.read_out.object
        viewer.image_choice.value = RESIDUAL
        assert viewer._figure.pixels.data["image"][0].shape == (BOX_PX, BOX_PX)
        assert viewer.stretch_choice.value == "linear"
        viewer.image_choice.value = "bright_star/50p.fits"
        assert "cannot be read as FITS" in viewer.read_out.object
        assert not viewer._plots.visible
        assert "No image" in Viewer(store, {}, executor).panel().object


@pytest.fixture(scope="module")
def client(server):
    return logged_in(server)


def ask(client, query, **headers):
    status, headers, body = client.ask(f"/file?{urlencode(query)}", headers=headers)
    return status, body, headers


def test_whose_files_one_may_have(server, client, catalogue_url):
    """Also of those that are distributed: a stranger's request is that of a file that is not."""
    query = {"observation": OBSERVATION, "name": STACK}
    add_user(catalogue_url, "hers", ["24.1"])
    add_user(catalogue_url, "his", ["24"])
    hers, his, stranger = logged_in(server, "hers"), logged_in(server, "his"), Client(server)
    with open_catalogue(catalogue_url) as catalogue:
        for distributed, statuses in ((True, (200, 404, 404)), (False, (404, 404, 404))):
            catalogue.set_distributed(OBSERVATION, distributed)
            asked = [ask(who, query) for who in (hers, his, stranger)]
            assert tuple(answer[0] for answer in asked) == statuses
            assert all(b"SIMPLE" not in body for status, body, _ in asked if status != 200)
    assert ask(client, query)[0] == 200


def test_a_file_comes_whole_in_parts_and_not_twice(client):
    query = {"observation": OBSERVATION, "name": STACK}
    status, content, headers = ask(client, query)
    assert status == 200
    assert content[:6] == b"SIMPLE"
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''100p.fits"
    assert ask(client, query, Range="bytes=100-199")[:2] == (206, content[100:200])
    assert ask(client, query, **{"If-None-Match": headers["Etag"]})[0] == 304
    status, headers, body = client.ask(file_url(OBSERVATION, STACK), method="HEAD")
    assert (status, int(headers["Content-Length"]), body) == (200, len(content), b"")


@pytest.mark.parametrize(
    ("observation", "name", "expected"),
    [
        (OBSERVATION, "../../secret.txt", 404),
        (OBSERVATION, "link.txt", 404),
        (OBSERVATION, "/etc/passwd", 404),
        (OBSERVATION, "bright_star/../bright_star/100p.fits", 404),
        (OBSERVATION, "bright_star", 404),
        (OBSERVATION, "<script>alert(1)</script>", 404),
        (OBSERVATION, "100p.fits\0.png", 404),
        (OBSERVATION, "x" * 501, 400),
        (OBSERVATION, "", 400),
        ("", STACK, 400),
        ("../20170607", STACK, 404),
        ('{"$gt": ""}', STACK, 404),
        ("y" * 30_000, STACK, 400),
    ],
)
def test_hostile_names_lead_nowhere(client, observation, name, expected):
    status, content, headers = ask(client, {"observation": observation, "name": name})
    assert status == expected
    assert SECRET.encode() not in content
    assert b"<script>" not in content
    assert headers["Content-Type"].startswith("text/plain")


def test_frames_in_the_order_of_time_and_the_best_of_them(files):
    frames = read_frame_quality(files, exposure_s=6.96)
    rows = np.array(FRAMES)
    assert frames.quality.tolist() == rows[:, 1].tolist()
    # A fifth of ten frames: the two best.
    assert set(frames.number[frames.is_best]) == set(np.argsort(rows[:, 1])[-2:])
    assert frames.seconds[-1] == pytest.approx(6.96 * 9 / 10)
    moved = (rows[:, 3] - np.median(rows[:, 3])) * 2 * SCALE_ARCSEC
    assert frames.dx_arcsec == pytest.approx(moved)
    for plot in plot_frame_quality(frames):
        assert plot.x_range.end > frames.seconds[-1]


@pytest.mark.parametrize("text", ["", "# frame quality\n", "1 2 3\n4 5 6\n", "<script>\n", "1\n"])
def test_a_table_of_frames_that_cannot_be_read_is_left_out(tmp_path, text):
    write_tree(tmp_path)
    paths = ArchivePaths(tmp_path)
    paths.frames_table(NIGHT, OBSERVATION).write_text(text)
    assert read_frame_quality(observation_files(paths, NIGHT, OBSERVATION), 1.0) is None


def test_provenance_is_what_the_headers_tell(files):
    stack, residual = read_provenance(files, OBSERVATION)
    assert (residual.asset, residual.raw_files) == ("pca_residual", ())
    assert stack.raw_files == ((RAW_NAME, RAW_SHA256),)
    assert stack.calibration == ("dark_9.fits", "flat_lp600.fits")
    assert (stack.code_version, stack.data_version) == ("3", f"3-{'f' * 64}")
    html = provenance_markup([stack], "<script>", "http://127.0.0.1:3000")
    assert "<script>" not in html
    assert "/assets/bright_star_stack?view=partitions&amp;partition=%3Cscript%3E" in html
    assert provenance_markup([], OBSERVATION, "") == ""


@pytest.mark.browser
def test_the_viewer_in_a_browser(page, server):
    page.goto(server + observation_url(OBSERVATION))
    told = page.locator("p.read-out")
    canvas = page.locator(".bk-Canvas").first
    canvas.wait_for()
    page.wait_for_load_state("networkidle")
    box = canvas.bounding_box()
    # The figure listens to the pointer some time after its canvas is there.
    for step in range(100):
        page.mouse.move(box["x"] + box["width"] / 2 + step % 2, box["y"] + box["height"] / 2)
        if "from the guide star" in told.inner_text():
            break
        page.wait_for_timeout(300)
    else:
        pytest.fail(f"the read-out says {told.inner_text()!r}")
    before = told.inner_text()
    page.mouse.move(box["x"] + box["width"] / 2 + 90, box["y"] + box["height"] / 2 - 60)
    page.wait_for_function("t => !document.body.innerText.includes(t)", arg=before)
    image = page.get_by_label("image", exact=True)
    image.select_option(label="PSF-subtracted")
    told.get_by_text("Move over the image").wait_for()
    image.select_option(label="stack of the best 50 %")
    told.get_by_text("cannot be read as FITS").wait_for()
    image.select_option(label="stack of the best 20 %")
    told.get_by_text("Move over the image").wait_for()
    with page.expect_download() as downloading:
        page.get_by_text("Files (").click()
        page.get_by_role("link", name=f"{OBSERVATION}.tar.bz2").click()
    assert downloading.value.suggested_filename == f"{OBSERVATION}.tar.bz2"
    assert page.complaints == []


def test_the_oracle_is_no_image_of_itself():
    """The star of the tests is off the middle, and its image not symmetric in x and y."""
    image = star_image(64, (20.0, 40.0))
    assert np.unravel_index(image.argmax(), image.shape) == (40, 20)
