"""An administrator does each action in a real browser, and a reader comments."""

from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from plausible import NIGHT, TARGETS, fill, observation_id
from visiting import add_user, let_in, password_of

from roboao_assets.pipelines.freshness import product_record
from roboao_assets.storage.catalogue import ObservationQuery, open_catalogue
from roboao_assets.storage.paths import ArchivePaths

SEEN = observation_id(TARGETS[0])
LENT = "20170606"
TEXT = "A ghost of the dichroic:\nit is <b>always</b> there."
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """`NIGHT` has a master that `LENT`, a night with a raw file, can be lent."""
    root = tmp_path_factory.mktemp("administered")
    master = ArchivePaths(root).master_dark(NIGHT, "9")
    master.parent.mkdir(parents=True)
    master.write_bytes(b"a master")
    (root / "raw" / LENT).mkdir(parents=True)
    (root / "raw" / LENT / f"bias_{LENT}_010000.000000.fits.bz2").touch()
    url = f"sqlite:///{root}/catalogue.sqlite"
    with open_catalogue(url) as catalogue:
        fill(catalogue)
        masters = {"dark_9": product_record(root, "1-abc", [master])}
        catalogue.publish_night(NIGHT, "calib", {"masters": masters})
        for document in catalogue.find_observations(ObservationQuery(summary_only=True)):
            catalogue.set_distributed(document["_id"], document["_id"] == SEEN)
    add_user(url)
    add_user(url, "duev", ["24.1"])
    return url


@pytest.fixture(scope="module")
def administered(start_server, url):
    root = Path(urlsplit(url).path).parent
    variables = {"ROBOAO_ARCHIVE_ROOT": str(root), "ROBOAO_RAW_ROOTS": str(root / "raw")}
    return start_server(url, **variables)


@pytest.fixture
def catalogue(url):
    with open_catalogue(url, read_only=True) as opened:
        yield opened


@pytest.fixture
def admin(browser, administered):
    """A page of an administrator that remembers what its console complains of."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    let_in(context, administered)
    page = context.new_page()
    page.complaints = []
    page.on(
        "console",
        lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append("dialog"), dialog.dismiss()))
    yield page
    context.close()


def picture(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def answered(page, text):
    page.locator(".answer", has_text=text).wait_for()


def test_a_failure_is_seen_and_made_again(admin, administered, catalogue):
    admin.goto(administered)
    admin.get_by_role("link", name="Administration").click()
    row = admin.locator(".failures tr", has_text="no master dark of mode 9").first
    row.wait_for()
    failed = row.locator("td").nth(1).inner_text()
    assert row.locator("td").nth(5).inner_text() == "0"
    admin.locator(".status th", has_text="archive").first.wait_for(timeout=90_000)
    assert "2 nights" in admin.locator(".status").inner_text()
    picture(admin, "administration")
    row.get_by_role("link", name="make again…").click()
    plan = admin.locator(".plan")
    plan.wait_for()
    assert "the bright-star stack, from the raw frames" in plan.inner_text()
    assert "the Strehl ratio" in plan.inner_text()
    assert catalogue.requests.of(failed) is None
    picture(admin, "administration-redo")
    plan.get_by_label("why").fill("a <b>better</b> dark")
    plan.get_by_role("button", name="Make again").click()
    answered(admin, "will be made again, with all that is made from it")
    assert quote(failed, safe="") in admin.url
    asked = catalogue.requests.of(failed).stages["bright_star_stack"]
    assert (asked.by, asked.why) == ("admin", "a <b>better</b> dark")
    # Reloading asks for nothing.
    admin.reload()
    admin.locator("#comments").wait_for()
    assert admin.locator(".answer").count() == 0
    assert len(catalogue.actions.newest(failed)) == 1
    assert admin.complaints == []


def test_an_observation_and_a_night_are_made_again_from_their_pages(admin, administered, catalogue):
    admin.goto(f"{administered}/observation?id={quote(SEEN)}")
    admin.locator("summary", has_text="Make again…").click()
    admin.get_by_label("product").select_option("bright_star.pca")
    admin.get_by_role("button", name="What would be made?").click()
    admin.locator(".plan", has_text="the contrast curve").wait_for()
    admin.get_by_role("button", name="Make again").click()
    answered(admin, "bright_star.pca of")
    assert set(catalogue.requests.of(SEEN).stages) == {"pca_residual"}
    admin.goto(f"{administered}/night?night={NIGHT}")
    admin.get_by_role("link", name="Make the night or its PCA again…").click()
    admin.get_by_role("button", name="PCA of the night again").click()
    answered(admin, "The PCA of")
    # Whoever comes back to the page finds it as it was.
    admin.locator(".plan").first.wait_for()
    admin.get_by_role("button", name="Make again", exact=True).click()
    answered(admin, "observations of 2017-06-07 will be made again")
    assert "bright_star_stack" in catalogue.requests.of(SEEN).stages
    actions = [entry.action for entry in catalogue.actions.newest(NIGHT)]
    assert actions == ["asked for bright_star again", "asked for the PCA again"]
    assert admin.complaints == []


def test_calibration_is_copied_from_the_nearest_night(admin, administered, catalogue, url):
    admin.goto(f"{administered}/night?night={LENT}")
    admin.get_by_role("link", name="Copy calibration…").click()
    admin.get_by_label("from").wait_for()
    assert admin.get_by_label("from").locator("option").all_inner_texts() == [
        "the nearest that lacks nothing",
        "2017-06-07, 1 day away, lacks nothing",
    ]
    picture(admin, "administration-calibration")
    admin.get_by_role("button", name="Copy the masters").click()
    answered(admin, "The masters of 2017-06-06 are copied from 2017-06-07.")
    assert catalogue.night(LENT)["calib"]["comment"] == f"Copied from {NIGHT}"
    root = Path(urlsplit(url).path).parent
    assert ArchivePaths(root).master_dark(LENT, "9").read_bytes() == b"a master"
    assert set(catalogue.requests.of(LENT).stages) >= {"master_darks", "seeing"}
    # What cannot be is said: of the night that lends nobody has masters to lend.
    admin.goto(f"{administered}/administration/calibration?night=20170101")
    admin.locator(".notice.problem", has_text="20170101").wait_for()
    assert admin.complaints == []


def test_users_are_added_changed_and_removed(admin, administered, catalogue):
    admin.goto(f"{administered}/administration/users")
    form = admin.locator("form.new-user")
    form.wait_for()
    form.get_by_label("login").fill("eve")
    form.get_by_label("programs").fill("4,24.1")
    form.get_by_label("password", exact=True).fill(password_of("eve"))
    form.get_by_label("once more").fill(password_of("nobody"))
    form.get_by_role("button").click()
    answered(admin, "the two passwords are not the same")
    form.get_by_label("login").fill("eve")
    form.get_by_label("programs").fill("4,24.1")
    form.get_by_label("password", exact=True).fill(password_of("eve"))
    form.get_by_label("once more").fill(password_of("eve"))
    form.get_by_role("button").click()
    answered(admin, "User eve sees 4, 24.1.")
    row = admin.locator(".users tr", has=admin.get_by_text("eve", exact=True))
    row.locator("summary").nth(0).click()
    row.get_by_label("4,24.1 · all · none").fill("none")
    picture(admin, "administration-users")
    row.get_by_role("button", name="Set programs").click()
    answered(admin, "the programs of which they are a PI")
    assert catalogue.users.get("eve").programs == ()
    before = catalogue.users.get("eve")
    row.locator("summary").nth(1).click()
    row.get_by_label("password", exact=True).fill(password_of("eve") + "!")
    row.get_by_label("once more").fill(password_of("eve") + "!")
    row.get_by_role("button", name="Set password").click()
    answered(admin, "The password of eve was set")
    assert catalogue.users.get("eve").password_hash != before.password_hash
    row.locator("summary").nth(2).click()
    row.get_by_role("button", name="Remove eve").click()
    answered(admin, "User eve was removed.")
    assert catalogue.users.get("eve") is None
    own = admin.locator(".users tr", has=admin.get_by_text("admin", exact=True))
    assert "the only administrator" in own.inner_text()
    assert admin.complaints == []


def test_a_reader_comments_and_an_administrator_deletes(browser, admin, administered, catalogue):
    context = browser.new_context(viewport={"width": 1024, "height": 768})
    let_in(context, administered, "duev")
    reader = context.new_page()
    reader.goto(f"{administered}/observation?id={quote(SEEN)}")
    assert reader.get_by_role("link", name="Administration").count() == 0
    reader.get_by_label("your comment").fill(TEXT)
    reader.get_by_role("button", name="Write").click()
    reader.locator(".comment", has_text="it is <b>always</b> there.").wait_for()
    assert reader.locator("summary", has_text="Make again…").count() == 0
    assert reader.get_by_role("button", name="delete the comment of duev").count() == 1
    picture(reader, "observation-comments")
    assert [(c.by, c.text) for c in catalogue.comments.of(SEEN)] == [("duev", TEXT)]
    context.close()
    admin.goto(f"{administered}/observation?id={quote(SEEN)}")
    admin.get_by_role("button", name="delete the comment of duev").click()
    answered(admin, "The comment of duev was deleted.")
    assert catalogue.comments.of(SEEN) == []
    assert admin.complaints == []


def test_the_log_tells_who_did_what(admin, administered):
    admin.goto(f"{administered}/administration/log")
    rows = admin.locator(".log tbody tr")
    rows.first.wait_for()
    told = rows.all_inner_texts()
    for action in (
        *("asked for bright_star again", "asked for the PCA again", "copied the calibration"),
        *("user added", "user's programs set", "user's password set", "user removed"),
        *("comment written", "comment deleted"),
    ):
        assert any(action in row for row in told), action
    assert any("a <b>better</b> dark" in row for row in told)
    picture(admin, "administration-log")
    admin.get_by_label("who").fill("DUEV")
    admin.get_by_role("button", name="Find").click()
    admin.wait_for_url("**by=DUEV*")
    rows.first.wait_for()
    assert ["comment written" in row for row in rows.all_inner_texts()] == [True]
    admin.get_by_label("who").fill("<script>alert(1)</script>")
    admin.get_by_role("button", name="Find").click()
    admin.get_by_text("The log has no such entry").wait_for()
    assert admin.complaints == []
