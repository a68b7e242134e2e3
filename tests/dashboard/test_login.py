"""Who sees what: every kind of visitor at every route and websocket, and hostile input."""

import asyncio
import http.client
import re
import time
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import quote, unquote, urlencode, urlsplit

import pytest
from plausible import NIGHT, TARGETS, fill, observation_id
from product_tree import OBSERVATION, write_tree
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect
from visiting import Client, add_user, logged_in, password_of

from dashboards.access import Access, Asked
from dashboards.source import CatalogueSource
from roboao_assets.storage.catalogue import ObservationQuery, open_catalogue

SEEN, HIDDEN, OF_PI = (observation_id(TARGETS[i]) for i in (0, 1, 2))
NOBODYS_NIGHT = "20170606"
VISITORS = ("stranger", "other", "user", "pi", "admin")
PROGRAMS = {"other": ["4", "24", "24.10"], "user": ["24.1"], "pi": [], "admin": "all"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Of program 24.1 one observation is distributed, and one of 11.1, of which pi is the PI."""
    from roboao_assets.storage.catalogue.change import Change

    url = f"sqlite:///{tmp_path_factory.mktemp('rights')}/catalogue.sqlite"
    with open_catalogue(url) as catalogue:
        fill(catalogue)
        own = {"science_program": {"program_id": "11.1", "program_PI": ["pi", "riddle"]}}
        catalogue._update("objects", OF_PI, Change(assign=own))  # noqa: SLF001
        for document in catalogue.find_observations(ObservationQuery(summary_only=True)):
            catalogue.set_distributed(document["_id"], document["_id"] in (SEEN, OF_PI))
    for name, programs in PROGRAMS.items():
        add_user(url, name, programs)
    return url


@pytest.fixture(scope="module")
def server(start_server, url):
    root = Path(urlsplit(url).path).parent
    write_tree(root)
    return start_server(url, ROBOAO_ARCHIVE_ROOT=str(root))


@pytest.fixture(scope="module")
def clients(server):
    clients = {name: logged_in(server, name) for name in PROGRAMS}
    return clients | {"stranger": Client(server)}


def picture(key):
    return f"/image?key={quote(key, safe='')}"


# What is asked for, and who gets it. A page that exists is the administrator's proof.
PICTURES = {
    f"{SEEN}/bright_star/full": {"user", "admin"},
    f"{SEEN}/bright_star/pca": {"user", "admin"},
    f"{HIDDEN}/bright_star/full": {"admin"},
    f"{OF_PI}/bright_star/full": {"pi", "admin"},
    f"{NIGHT}/seeing": {"user", "pi", "admin"},
    f"{NIGHT}/contrast_curve": {"admin"},
}


@pytest.mark.parametrize("visitor", VISITORS)
@pytest.mark.parametrize("key", PICTURES)
def test_pictures(clients, key, visitor):
    for query in ("", "&width=360&v=7"):
        status, headers, body = clients[visitor].ask(picture(key) + query)
        if visitor in PICTURES[key]:
            assert status == 200, key
            assert headers["Vary"] == "Cookie"
        elif visitor == "stranger":
            assert (status, headers["Location"]) == (404, None)
        else:
            # Word for word as of a picture that is not there.
            nothing = clients[visitor].ask(picture("nothing") + query)
            assert (status, body) == (404, nothing[2].replace(b"nothing", key.encode()))


@pytest.mark.parametrize("visitor", VISITORS)
def test_files(clients, visitor):
    query = urlencode({"observation": OBSERVATION, "name": "bright_star/100p.fits"})
    status, headers, body = clients[visitor].ask(f"/file?{query}")
    if OBSERVATION in seen_by(visitor):
        assert status == 200
        assert body.startswith(b"SIMPLE")
        assert headers["Vary"] == "Cookie"
        return
    assert status == 404
    if visitor != "stranger":
        nothing = clients[visitor].ask(f"/file?{query}x")
        assert (status, body) == (404, nothing[2])


@pytest.mark.parametrize("visitor", VISITORS)
def test_parts_of_pages(clients, visitor):
    """What a night's page is made of, and what the calendar counts."""
    client = clients[visitor]
    nights, night = client.ask("/nights/parts?year=2017"), client.ask(f"/night/parts?night={NIGHT}")
    nobodys = client.ask(f"/night/parts?night={NOBODYS_NIGHT}")
    if visitor == "stranger":
        assert {answer[0] for answer in (nights, night, nobodys)} == {404}
        return
    assert nights[0] == 200
    assert (NIGHT.encode() in nights[2]) == (night[0] == 200)
    assert (NOBODYS_NIGHT.encode() in nights[2]) == (nobodys[0] == 200) == (visitor == "admin")
    shown = {
        observation
        for observation in (SEEN, HIDDEN, OF_PI)
        if quote(observation, safe="").encode() in night[2]
    }
    assert shown == seen_by(visitor) & {SEEN, HIDDEN, OF_PI}
    if night[0] == 200:
        assert (night[1]["Vary"], night[1]["Cache-Control"]) == ("Cookie", "private, no-cache")
        again = client.ask(
            f"/night/parts?night={NIGHT}", headers={"If-None-Match": night[1]["Etag"]}
        )
        assert again[0] == 304
    else:
        nothing = client.ask("/night/parts?night=19990101")
        assert night[2] == nothing[2].replace(b"19990101", NIGHT.encode())


@pytest.mark.parametrize("visitor", VISITORS)
@pytest.mark.parametrize(
    "address",
    [
        "/search/table?format=csv",
        "/search/table?format=votable",
        "/script?tool=curl&what=packages",
        "/script?tool=wget&what=files",
    ],
)
def test_tables_and_scripts_of_everything(clients, address, visitor):
    status, _, body = clients[visitor].ask(address)
    if visitor == "stranger":
        assert status == 404
        return
    text = unquote(body.decode())
    found = {observation for observation in (SEEN, HIDDEN, OF_PI) if observation in text}
    if address.startswith("/search"):
        assert (status, found) == (200, seen_by(visitor) & {SEEN, HIDDEN, OF_PI})
    else:  # where there is nothing to fetch there is no script
        assert status in (200, 404)
        assert found <= seen_by(visitor)
        assert (status == 200) == bool(found)


@pytest.mark.parametrize("visitor", VISITORS[1:])
def test_the_neighbours_of_an_observation_are_seen_ones(clients, visitor):
    seen = sorted(seen_by(visitor) & {SEEN, HIDDEN, OF_PI})
    for observation in seen:
        page = clients[visitor].ask(address_of("/observation", observation))[2].decode()
        linked = {
            unquote(found) for found in re.findall(r'rel="(?:prev|next)"[^>]*id=([^"]+)"', page)
        }
        assert bool(linked) == (visitor == "admin"), "of this night others see one at most"


# Page -> who is shown it; `what` stands in the page of those and in nobody else's.
PAGES = {
    ("/", "nights"): (VISITORS[1:], None),
    ("/night", NIGHT): (("user", "pi", "admin"), None),
    ("/night", NOBODYS_NIGHT): (("admin",), None),
    ("/observation", SEEN): (("user", "admin"), SEEN),
    ("/observation", HIDDEN): (("admin",), HIDDEN),
    ("/observation", OF_PI): (("pi", "admin"), OF_PI),
    ("/search", "all"): (VISITORS[1:], None),
    ("/trends", "all"): (VISITORS[1:], None),
    ("/account", "own"): (VISITORS[1:], None),
}


def address_of(page, name):
    key = {"/night": "night", "/observation": "id"}.get(page)
    return f"{page}?{urlencode({key: name})}" if key else page


@pytest.mark.parametrize("visitor", VISITORS)
@pytest.mark.parametrize("page", PAGES)
def test_pages_and_their_websockets(server, clients, page, visitor):
    admitted, _ = PAGES[page]
    address = address_of(*page)
    status, headers, body = clients[visitor].ask(address)
    if visitor == "stranger":
        assert status == 302
        assert headers["Location"] == f"/login?{urlencode({'next': address})}"
        return
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    document = pull_document(server, page[0], clients[visitor], body.decode())
    assert ("No such" in document) is (visitor not in admitted)
    others = {SEEN, HIDDEN, OF_PI} - seen_by(visitor) - {page[1]}
    assert [other for other in others if quote(other, safe="") in document] == []


def seen_by(visitor):
    mine = {"user": {SEEN}, "pi": {OF_PI}, "admin": {SEEN, HIDDEN, OF_PI}}
    return mine.get(visitor, set())


def token_in(body):
    return re.search(r'"token":"([^"]+)"', body)[1]


async def _pull(server, path, cookies, token, messages=1, then=None):
    """Open a page's websocket as bokeh's client does, and ask for the document."""
    address = f"{server.replace('http', 'ws')}{path.rstrip('/')}/ws"
    request = HTTPRequest(address, headers={"Cookie": cookies, "Origin": server})
    connection = await websocket_connect(request, subprotocols=["bokeh", token])
    received = []
    for number in range(messages):
        if number and then:
            then()
        header = f'{{"msgid":"m{number}","msgtype":"PULL-DOC-REQ"}}'
        for fragment in (header, "{}", "{}"):
            await connection.write_message(fragment)
        while True:
            fragment = await asyncio.wait_for(connection.read_message(), 20)
            if fragment is None:
                connection.close()
                return received, connection.close_code
            received.append(fragment)
            if isinstance(fragment, str) and "PULL-DOC-REPLY" in fragment:
                received += [await connection.read_message() for _ in range(2)]
                break
    connection.close()
    while await asyncio.wait_for(connection.read_message(), 20) is not None:
        pass
    return received, None


def shake_hands(server, path, cookies, token, origin=None):
    """Return the status with which a websocket is answered; 101: it is open."""
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=60)
    try:
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol": f"bokeh, {token}",
            "Origin": origin or server,
            "Cookie": cookies,
        }
        connection.request("GET", f"{path}/ws", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def pull_document(server, path, client, body):
    received, code = asyncio.run(_pull(server, path, client.cookie_header(), token_in(body)))
    assert code is None
    return "".join(part for part in received if isinstance(part, str)).replace("\\u0026", "&")


@pytest.mark.parametrize("thief", [v for v in VISITORS if v != "admin"])
def test_a_page_opened_by_one_is_of_no_use_to_another(server, clients, thief):
    body = clients["admin"].ask("/night?night=" + NIGHT)[2].decode()
    token = token_in(body)
    cookies = clients[thief].cookie_header()
    assert shake_hands(server, "/night", clients["admin"].cookie_header(), token) == 101
    assert shake_hands(server, "/night", cookies, token) == 404
    assert shake_hands(server, "/psf-library", cookies, token) == 404
    for argument in ("bokeh-token", "bokeh-session-id"):
        status, _, body = clients[thief].ask(f"/night?{argument}={token}")
        assert status == (302 if thief == "stranger" else 404)
    assert clients[thief].ask("/", headers={"Bokeh-Session-Id": "x"})[0] in (302, 404)


def test_another_login_of_the_same_user_is_another_one(server, clients):
    body = clients["user"].ask("/")[2].decode()
    second = logged_in(server, "user")
    assert shake_hands(server, "", second.cookie_header(), token_in(body)) == 404


@pytest.mark.parametrize("token", ["", "x", "x.y", "é", "e30", "e30.e30", "A" * 50_000, "x, y"])
def test_spoilt_tokens_open_nothing(server, clients, token):
    cookies = clients["admin"].cookie_header()
    assert shake_hands(server, "", cookies, token) in (400, 404)
    assert clients["admin"].ask("/login")[0] == 302, "the server answers on"


def test_a_websocket_from_another_site_is_refused(server, clients):
    body = clients["admin"].ask("/")[2].decode()
    cookies = clients["admin"].cookie_header()
    evil = "https://evil.example"
    assert shake_hands(server, "", cookies, token_in(body), origin=evil) == 403


def test_a_page_does_not_carry_the_cookie(clients):
    from bokeh.util.token import get_token_payload

    body = clients["admin"].ask("/")[2].decode()
    assert clients["admin"].session.value not in body
    payload = get_token_payload(token_in(body))
    assert (payload["headers"], payload["cookies"]) == ({}, {})


@pytest.mark.parametrize("visitor", VISITORS)
@pytest.mark.parametrize(
    "path",
    [
        "/metadata",
        "/autoload.js?bokeh-autoload-element=1",
        "/night/metadata",
        "/night/autoload.js?bokeh-autoload-element=1",
        "/components/os/path/_css/x",
        "/night/",
        "//night",
        "/%2e%2e/etc/passwd",
        "/static/../app.py",
        "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/nothing",
    ],
)
def test_what_is_not_named_is_denied(clients, visitor, path):
    status, _, body = clients[visitor].ask(path)
    assert status in (403, 404)
    assert b"root:" not in body


@pytest.mark.parametrize("visitor", VISITORS)
def test_scripts_and_the_library_page(clients, visitor):
    client = clients[visitor]
    assert client.ask("/static/js/bokeh.min.js")[0] == (404 if visitor == "stranger" else 200)
    expected = {"stranger": 302, "admin": 200}.get(visitor, 404)
    assert client.ask("/psf-library")[0] == expected
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        status, _, _ = client.ask("/night", b"x=1", method=method)
        assert status in (403, 404, 405)


@pytest.mark.parametrize("visitor", ["stranger", "admin"])
def test_no_answer_may_be_framed_or_guessed_at(clients, visitor):
    for path in ("/", "/login", "/trends", "/image?key=nothing", "/file?x", "/nowhere"):
        _, headers, _ = clients[visitor].ask(path)
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], path
        assert headers["X-Content-Type-Options"] == "nosniff", path


def test_the_nights_are_counted_of_what_is_seen(url):
    with open_catalogue(url, read_only=True) as catalogue:
        counts = {
            name: sum(n.observations for n in catalogue.nights(catalogue.users.get(name).reader))
            for name in PROGRAMS
        }
    assert counts == {"other": 0, "user": 1, "pi": 1, "admin": 8}


def test_what_is_not_known_is_denied_to_everybody(url):
    from dashboards.access import Visitor

    source = CatalogueSource(url)
    access = Access(source)
    with open_catalogue(url, read_only=True) as catalogue:
        visitors = [Visitor(user=user, login="x") for user in catalogue.users.all()]
    for visitor in (None, *visitors):
        assert not access.may(visitor, Asked("raw_file", SEEN))
        assert not access.may(visitor, Asked("route", "/raw"))
        assert not access.may(visitor, Asked("route", ""))
    source.close()


# -- sessions ------------------------------------------------------------------------------------


@pytest.fixture
def own_user(url):
    name = f"u{time.time_ns()}"
    add_user(url, name, ["24.1"])
    return name


def cookie_of(headers):
    morsels = SimpleCookie()
    for line in headers.get_all("Set-Cookie"):
        morsels.load(line)
    return morsels["roboao_session"]


def test_the_cookie_is_kept_from_scripts_and_other_sites(server):
    _, headers, _ = Client(server).log_in("admin")
    morsel = cookie_of(headers)
    assert morsel["httponly"] is True
    assert (morsel["samesite"], morsel["path"], morsel["max-age"]) == ("Lax", "/", "43200")
    assert not morsel["secure"]


@pytest.mark.parametrize(
    "change",
    [
        lambda users, name: users.set_password(name, users.get(name).password_hash),
        lambda users, name: users.set_programs(name, ["24.1"]),
        lambda users, name: users.remove(name),
    ],
)
def test_a_change_of_the_user_ends_sessions_and_open_websockets(server, url, own_user, change):
    client = logged_in(server, own_user)
    status, _, body = client.ask("/")
    assert status == 200

    def apply():
        with open_catalogue(url) as catalogue:
            change(catalogue.users, own_user)

    received, code = asyncio.run(
        _pull(server, "", client.cookie_header(), token_in(body.decode()), 2, then=apply)
    )
    assert received, "the first message was answered"
    assert code == 1008, "the second was not"
    assert client.ask("/")[0] == 302


def test_log_out_ends_the_session_for_good(server, own_user):
    client = logged_in(server, own_user)
    stolen = Client(server)
    stolen.cookies.set_cookie(client.session)
    assert stolen.ask("/")[0] == 200
    assert client.ask("/logout")[0] == 405, "a link cannot log out"
    assert client.ask("/logout", b"x=1")[0] == 403, "nor another site's form"
    status, headers, _ = client.post("/logout")
    assert (status, headers["Location"]) == (303, "/login")
    assert client.session is None
    assert stolen.ask("/")[0] == 302


def test_sessions_expire(start_server, url, own_user):
    address = start_server(url, ROBOAO_SESSION_HOURS=str(3 / 3600))
    client = logged_in(address, own_user)
    session = client.session
    # The browser would have dropped the cookie; who keeps it is not let in either.
    time.sleep(4.5)
    assert client.ask("/", headers={"Cookie": f"roboao_session={session.value}"})[0] == 302


@pytest.mark.parametrize(
    "spoil", [lambda v: v[:-1] + "0", lambda v: "x", lambda v: "", lambda v: v * 2]
)
def test_spoilt_cookies_are_strangers(server, clients, spoil):
    value = spoil(clients["admin"].session.value)
    assert Client(server).ask("/", headers={"Cookie": f"roboao_session={value}"})[0] == 302


def test_the_cookie_of_another_archive_is_a_strangers(start_server, url, server, clients):
    other = Client(start_server(url))
    assert other.ask("/", headers={"Cookie": clients["admin"].cookie_header()})[0] == 302


# -- the log-in ----------------------------------------------------------------------------------

HOSTILE = (
    "",
    " ",
    '{"$ne": ""}',
    '{"$gt": ""}',
    "admin' OR '1'='1",
    "../../../../etc/passwd",
    "<script>alert(1)</script>",
    "admi\x00n",
    "admin\r\nSet-Cookie: a=b",
    "é" * 500,
    "\udcff".encode("utf-8", "surrogatepass").decode("latin-1"),
    "x" * 30_000,
)


@pytest.fixture(scope="module")
def guessed_server(start_server, url):
    """One of its own: guesses make an address wait."""
    return start_server(url)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_passwords_are_refused_in_the_same_words(url, start_server, text):
    server = start_server_once(start_server, url)
    client = Client(server)
    for name, password in ((text, password_of("admin")), ("admin", text)):
        status, headers, body = client.post("/login", name=name, password=password, next=text)
        assert status == 403
        assert b"is not right" in body
        assert b"<script" not in body
        assert client.session is None
        assert "a=b" not in str(headers)


_SERVERS = {}


def start_server_once(start_server, url):
    # After five failures a name has to wait, and the answer would prove nothing.
    count = _SERVERS["asked"] = _SERVERS.get("asked", -1) + 1
    if count % 5 == 0:
        _SERVERS["address"] = start_server(url)
    return _SERVERS["address"]


def test_a_megabyte_is_not_read(guessed_server):
    client = Client(guessed_server)
    try:
        status, _, _ = client.post("/login", name="admin", password="x" * 1_000_000)
        assert status in (400, 413)
    except OSError:
        pass  # the connection was closed while it was sent
    assert client.ask("/login")[0] == 200


def test_without_its_token_a_form_is_refused(guessed_server):
    client = Client(guessed_server)
    fields = urlencode({"name": "admin", "password": password_of("admin")}).encode()
    assert client.ask("/login", fields)[0] == 403
    assert client.session is None


@pytest.mark.parametrize(
    ("following", "location"),
    [
        ("/night?night=20170607&q=a%20b", "/night?night=20170607&q=a%20b"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("/\t/evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/logout", "/"),
        ("/login?next=/", "/"),
        ("night", "/"),
        ("", "/"),
        ("/x\r\nSet-Cookie: a=b", "/"),
        ("/" + "x" * 5000, "/"),
    ],
)
def test_the_login_leads_to_own_pages_only(server, following, location):
    status, headers, _ = Client(server).log_in("admin", following=following)
    assert (status, headers["Location"]) == (303, location)


def test_refusals_look_alike_and_take_alike(start_server, url):
    server = start_server(url)
    client = Client(server)
    took, answers = {}, set()
    for name in ("admin", "nobody", "user", "not a login"):
        token = client.form_token()
        fields = {"_xsrf": token, "name": name, "password": "wrong wrong wrong", "next": "/"}
        begin = time.perf_counter()
        status, _, body = client.ask("/login", urlencode(fields).encode())
        took[name] = time.perf_counter() - begin
        answers.add((status, re.sub(rb'name="_xsrf" value="[^"]+"', b"", body)))
    assert len(answers) == 1
    assert min(took.values()) >= 0.99, took
    assert max(took.values()) < 6.0, took


def test_after_failures_even_the_right_password_has_to_wait(start_server, url, own_user):
    server = start_server(url)
    client = Client(server)
    for _ in range(8):
        assert client.log_in(own_user, "wrong wrong wrong")[0] == 403
    # The wait is 8 s by now, of which this takes one.
    assert client.log_in(own_user)[0] == 403
    assert Client(server).log_in("admin")[0] == 303, "others do not wait"
    time.sleep(9)
    assert client.log_in(own_user)[0] == 303


def test_an_archive_without_users_says_how_to_make_one(start_server, tmp_path):
    path = tmp_path / "catalogue.sqlite"
    client = Client(start_server(f"sqlite:///{path}"))
    status, _, body = client.ask("/login")
    assert status == 200
    assert b"<code>roboao user add NAME --programs all</code>" in body
    assert client.log_in("admin", "admin")[0] == 403, "there is no default password"
    assert not path.exists(), "the dashboard makes no catalogue"


@pytest.mark.browser
def test_log_in_and_out_in_a_browser(browser, server, own_user):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{server}/night?night={NIGHT}")
    page.wait_for_url("**/login?next=**")
    folder = Path(__file__).parents[2] / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    page.get_by_label("name").fill(own_user)
    page.get_by_label("password").fill("not the password")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("alert").wait_for()
    page.screenshot(path=folder / "login.png")
    page.get_by_label("name").fill(own_user)
    page.get_by_label("password").fill(password_of(own_user))
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{server}/night?night={NIGHT}")
    page.locator("article.card").first.wait_for()
    assert page.locator("article.card").count() == 1
    assert page.locator("header .visitor").inner_text().startswith(own_user)
    assert page.get_by_role("link", name="PSF library").count() == 0
    page.screenshot(path=folder / "night-of-a-user.png")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{server}/login")
    page.goto(f"{server}/observation?id={quote(SEEN, safe='')}")
    page.wait_for_url("**/login?next=**")
    assert complaints == []
    context.close()
