"""Single sign-on: a provider says who comes, and our own users and sessions decide the rest."""

import re
import urllib.request
from urllib.parse import parse_qs, urlsplit

import pytest
from oidc_provider import KEY, SECRET, providing
from plausible import fill
from visiting import Client, add_user, logged_in

from dashboards.single_sign_on import sign_on_handler
from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.catalogue.change import Change

ADA = "ada@example.org"


@pytest.fixture(scope="module")
def provider():
    with providing() as provider:
        yield provider


@pytest.fixture(autouse=True)
def _willing(provider):
    provider.claims, provider.spoilt, provider.sends_id_token = {"email": ADA}, "", True
    provider.asked.clear()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('sign-on')}/catalogue.sqlite"
    with open_catalogue(url) as catalogue:
        fill(catalogue)
    for name, programs in (("admin", "all"), ("ada", ["24.1"])):
        add_user(url, name, programs)
    with open_catalogue(url) as catalogue:
        catalogue.users.add("eve", "", [])
        catalogue.users.set_identity("ada", ADA)
        catalogue.users.set_identity("eve", "4711")
    return url


@pytest.fixture(scope="module")
def server(start_server, url, provider):
    return start_server(url, **provider.settings())


def come_back(client, server, following="/"):
    """Go to the provider, and as far as the answer of the archive when coming back."""
    status, headers, _ = client.ask(f"/login/oauth?next={following}")
    assert status == 302
    there = headers["Location"]
    assert SECRET not in urllib.request.unquote(there)
    back = Client("").ask(there)[1]["Location"]
    assert back.startswith(f"{server}/login/oauth?")
    return back.removeprefix(server)


def name_on_the_page(client):
    text = client.ask("/account")[2].decode()
    found = re.search(r'title="account, download scripts">([^<]*)</a>', text)
    return found and found[1]


def seen_on(client):
    """The observations that a table of everything has."""
    rows = client.ask("/search/table?format=csv")[2].decode().splitlines()[1:]
    return {row.split(",")[0] for row in rows}


@pytest.mark.parametrize("sends_id_token", [True, False])
def test_a_user_comes_in_with_the_own_session(server, provider, sends_id_token):
    provider.sends_id_token = sends_id_token
    client = Client(server)
    status, headers, _ = client.ask(come_back(client, server, "/search?name=TYC"))
    assert (status, headers["Location"]) == (302, "/search?name=TYC")
    assert {cookie.name for cookie in client.cookies} <= {"roboao_session", "_xsrf"}
    assert client.session.has_nonstandard_attr("HttpOnly")
    assert name_on_the_page(client) == "ada"
    assert seen_on(client) == seen_on(logged_in(server, "ada")) != seen_on(logged_in(server))
    assert client.ask("/administration")[0] == 404
    assert client.post("/logout")[0] == 303
    assert client.ask("/account")[0] == 302


def test_what_the_archive_says_to_the_provider(server, provider):
    client = Client(server)
    client.ask(come_back(client, server))
    (path, fields), (token, secret) = provider.asked[:2]
    assert (path, token) == ("/authorize", "/token")
    assert fields["client_id"] == KEY
    assert fields["redirect_uri"] == f"{server}/login/oauth"
    assert "openid" in fields["scope"].split()
    assert secret["client_secret"] == SECRET


def test_without_a_secret_by_a_code_challenge(start_server, url, provider):
    server = start_server(url, **provider.settings("auth_code"))
    client = Client(server)
    assert client.ask(come_back(client, server))[0] == 302
    assert client.session is not None


def test_who_is_no_user_stays_outside(server, provider):
    # Whoever it is for the provider: it is the operator who says which user that is.
    for claims in ({"email": "admin"}, {"email": "<b>x</b>"}, {"email": ""}, {"email": "ADA@x"}):
        provider.claims = claims
        client = Client(server)
        status, _, body = client.ask(come_back(client, server))
        assert status == 403
        assert client.session is None
        assert b"<b>x" not in body
    assert b"no user of this archive is known by that" in body


def test_a_claim_that_is_a_number_is_its_text(start_server, url, provider):
    provider.claims = {"id": 4711}
    server = start_server(url, PANEL_OAUTH_JWT_USER="id", **provider.settings())
    client = Client(server)
    assert client.ask(come_back(client, server))[0] == 302
    assert name_on_the_page(client) == "eve"


def test_an_address_that_was_not_verified_is_refused(server, provider):
    provider.claims = {"email": ADA, "email_verified": False}
    client = Client(server)
    status, _, body = client.ask(come_back(client, server))
    assert status == 403
    assert client.session is None
    assert b"was not verified" in body


def test_another_ones_way_back_is_refused(server):
    """Nobody is logged in by a link that somebody else has sent."""
    sent = come_back(Client(server), server)
    victim = Client(server)
    code = parse_qs(urlsplit(sent).query)["code"][0]
    tries = (sent, f"/login/oauth?code={code}", f"/login/oauth?code={code}&state=")
    for way in tries:
        status, _, body = victim.ask(way)
        assert status == 401
        assert b"single sign-on did not say who you are" in body
    victim.ask("/login/oauth")  # their own one is under way
    for way in tries:
        assert victim.ask(way)[0] == 401
    assert victim.session is None


def test_a_code_is_good_once(server):
    client = Client(server)
    way = come_back(client, server)
    assert client.ask(way)[0] == 302
    client.post("/logout")
    assert client.ask(way)[0] == 401
    assert client.session is None


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("refuses", 401, "did not say who you are"),
        ("breaks", 401, "did not say who you are"),
        ("mumbles", 500, "does not answer as it should"),
    ],
)
def test_what_the_provider_says_is_not_shown(server, provider, fault, status, words):
    provider.spoilt = fault
    client = Client(server)
    answer = client.ask(come_back(client, server))
    assert answer[0] == status
    assert words in answer[2].decode()
    assert b"555" not in answer[2]
    assert client.session is None


def test_a_provider_that_is_away(start_server, url, provider, tmp_path):
    settings = provider.settings() | {"PANEL_OAUTH_TOKEN_URL": "http://127.0.0.1:9/token"}
    server = start_server(url, **settings)
    client = Client(server)
    status, _, body = client.ask(come_back(client, server))
    assert status == 500
    assert "does not answer as it should" in body.decode()


@pytest.mark.parametrize("elsewhere", ["https://example.org/", "//example.org", "/logout"])
def test_it_leads_to_own_pages_only(server, elsewhere):
    client = Client(server)
    status, headers, _ = client.ask(f"/login/oauth?next={elsewhere}")
    if status == 302:
        back = Client("").ask(headers["Location"])[1]["Location"].removeprefix(server)
        assert client.ask(back)[1]["Location"] == "/"
    else:
        assert status == 400


def test_a_change_of_the_identity_ends_the_session(server, url):
    client = Client(server)
    client.ask(come_back(client, server))
    assert client.ask("/account")[0] == 200
    with open_catalogue(url) as catalogue:
        catalogue.users.set_identity("ada", "")
    try:
        assert client.ask("/account")[0] == 302
        assert client.ask(come_back(client, server))[0] == 403
    finally:
        with open_catalogue(url) as catalogue:
            catalogue.users.set_identity("ada", ADA)


def test_the_password_opens_as_well_and_without_one_nothing(server):
    assert logged_in(server, "ada").session is not None
    for password in ("", "4711"):
        assert Client(server).log_in("eve", password)[0] == 403


def test_two_users_of_one_identity_are_nobody(server, url):
    """As an operator may have written with a database client."""
    change = Change(assign={"identity": ADA})
    with open_catalogue(url) as catalogue:
        catalogue._update("users", "eve", change)  # noqa: SLF001
    try:
        client = Client(server)
        assert client.ask(come_back(client, server))[0] == 403
        assert client.session is None
    finally:
        with open_catalogue(url) as catalogue:
            catalogue.users.set_identity("eve", "4711")


def test_in_a_browser(browser, server):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.goto(f"{server}/trends")
    page.get_by_role("link", name="Log in by single sign-on").click()
    page.wait_for_url(f"{server}/trends")
    page.get_by_text("ada", exact=True).first.wait_for()
    assert complaints == []
    context.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"PROVIDER": "basic"}, "which is no single sign-on; it is one of auth0"),
        ({"PROVIDER": "password", "KEY": "k", "SECRET": "s"}, "which is no single sign-on"),
        ({"PROVIDER": "generic"}, "PANEL_OAUTH_KEY and PANEL_OAUTH_SECRET are not set"),
        ({"PROVIDER": "auth_code"}, "PANEL_OAUTH_KEY is not set"),
    ],
)
def test_settings_that_cannot_be_meant(monkeypatch, settings, words):
    for name, value in settings.items():
        monkeypatch.setenv(f"PANEL_OAUTH_{name}", value)
    with pytest.raises(SettingsError, match=re.escape(words)):
        sign_on_handler()


def test_without_settings_there_is_none(start_server, url):
    assert sign_on_handler() is None
    server = start_server(url)
    client = Client(server)
    assert b"single sign-on" not in client.ask("/login")[2]
    assert client.ask("/login/oauth")[0] == 404
