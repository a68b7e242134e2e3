"""What must hold for every route of the server, whichever they are: asked of the server itself."""

import http.client
import json
import re
from urllib.parse import quote, urlencode, urlsplit

import pytest
from plausible import NIGHT, fill
from product_tree import OBSERVATION, SECRET, write_tree
from site_routes import all_routes
from visiting import Client, add_user, logged_in, password_of

from roboao_assets.storage.catalogue import ObservationQuery, open_catalogue

SEEN = OBSERVATION
VISITORS = ("stranger", "user", "admin")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("routes")
    write_tree(root / "archive")
    return root / "archive"


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    return all_routes(str(tmp_path_factory.mktemp("asked")))


@pytest.fixture(scope="module")
def url(root):
    url = f"sqlite:///{root}/catalogue.sqlite"
    fill_archive(url)
    return url


def fill_archive(url):
    """One observation is seen by the user, the others by administrators only."""
    with open_catalogue(url) as catalogue:
        fill(catalogue)
        for document in catalogue.find_observations(ObservationQuery(summary_only=True)):
            catalogue.set_distributed(document["_id"], document["_id"] == SEEN)
    add_user(url)
    add_user(url, "user", ["24.1"])


@pytest.fixture(scope="module")
def server(start_server, url, root):
    return start_server(url, ROBOAO_ARCHIVE_ROOT=str(root))


@pytest.fixture(scope="module")
def clients(server):
    clients = {name: logged_in(server, name) for name in ("user", "admin")}
    return clients | {"stranger": Client(server)}


def raw(server, method, target, headers=(), body=None):
    """Ask for a path as it stands: no client makes it another."""
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=60)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in dict(headers).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


# -- headers -------------------------------------------------------------------------------------


def directives(policy):
    return {words[0]: words[1:] for part in policy.split(";") if (words := part.split())}


@pytest.mark.parametrize("visitor", VISITORS)
def test_headers_of_every_answer(clients, routes, visitor):
    paths = [route.path for route in routes if not route.is_socket]
    good = (f"/night?night={NIGHT}", f"/observation?id={quote(SEEN)}", "/static/js/bokeh.min.js")
    file = f"/file?{urlencode({'observation': SEEN, 'name': 'bright_star/100p.fits'})}"
    picture = f"/image?key={quote(f'{SEEN}/bright_star/full', safe='')}"
    for path in (*paths, *good, file, picture, "/nowhere", "/%ff"):
        status, headers, _ = clients[visitor].ask(path)
        assert status < 500, path
        policy = directives(headers["Content-Security-Policy"])
        assert policy["default-src"] == ["'none'"], path
        assert policy["frame-ancestors"] == ["'none'"], path
        allowed = policy.get("script-src", [])
        assert "'unsafe-inline'" not in allowed, path
        if allowed:
            assert policy["base-uri"] == ["'none'"]
            assert policy["form-action"] == ["'self'"]
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Referrer-Policy"] == "same-origin", path
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin", path
        assert headers["Access-Control-Allow-Origin"] is None, path
        assert headers["Server"] is None, path
        for cookie in headers.get_all("Set-Cookie") or ():
            assert {"httponly", "samesite=lax", "path=/"} <= {
                word.strip().lower() for word in cookie.split(";")
            }, path


def test_pages_are_kept_by_nobody_and_their_nonce_is_of_one_answer(clients, routes):
    for route in routes:
        if route.is_page:
            nonces = []
            for _ in range(2):
                _, headers, body = clients["admin"].ask(route.path)
                assert headers["Cache-Control"] == "no-store", route.path
                (nonce,) = re.findall(r"'nonce-([\w-]+)'", headers["Content-Security-Policy"])
                given = re.findall(r'<script nonce="([^"]*)"', body.decode())
                assert given
                assert set(given) == {nonce}
                nonces.append(nonce)
            assert len(set(nonces)) == 2


def test_behind_tls_every_cookie_is_sent_over_tls_only(start_server, url, root):
    address = start_server(
        url, ROBOAO_ARCHIVE_ROOT=str(root), ROBOAO_DASHBOARD_BEHIND_TLS_PROXY="true"
    )
    status, headers, body = raw(address, "GET", "/login")
    token = re.search(rb'name="_xsrf" value="([^"]+)"', body)[1].decode()
    own = [line.partition(";")[0] for line in headers.get_all("Set-Cookie")]
    form = {"_xsrf": token, "name": "admin", "password": password_of("admin"), "next": "/"}
    sent = {"Cookie": "; ".join(own), "Content-Type": "application/x-www-form-urlencoded"}
    answer = raw(address, "POST", "/login", sent, urlencode(form).encode())
    assert answer[0] == 303
    themed = raw(
        address, "POST", "/theme", sent, urlencode({"_xsrf": token, "theme": "light"}).encode()
    )
    assert themed[0] == 303
    cookies = [c for _, h, _ in ((0, headers, 0), answer, themed) for c in h.get_all("Set-Cookie")]
    assert {c.partition("=")[0] for c in cookies} == {"_xsrf", "roboao_session", "roboao_theme"}
    assert all("; Secure" in cookie for cookie in cookies)


# -- another site writes in somebody's name ------------------------------------------------------


def state(url):
    with open_catalogue(url, read_only=True) as catalogue:
        return (
            [u for u in catalogue.users.all()],
            catalogue.requests.all(),
            [a for a in catalogue.actions.newest() if "logged" not in a.action],
            catalogue.comments.of(SEEN),
        )


FORMS = {
    "/account/end-tokens": {},
    "/comment": {"observation": SEEN, "text": "hello"},
    "/administration/action": {"action": "redo", "subject": SEEN, "product": "bright_star"},
    "/login": {"name": "admin", "password": password_of("admin"), "next": "/"},
    "/logout": {},
    "/theme": {"theme": "light", "next": "/"},
}
ELSEWHERE = (
    "https://evil.example",
    "null",
    "http://127.0.0.1",
    "http://127.0.0.1.evil.example",
    "",
    "file://",
)


def test_every_form_is_tested_here(routes):
    assert {route.path for route in routes if "post" in route.methods} == set(FORMS)
    others = {m for route in routes for m in route.methods} - {"get", "head", "options", "post"}
    assert others == set()


@pytest.mark.parametrize("path", FORMS)
def test_no_form_is_taken_from_another_site(server, clients, url, path):
    client, other = logged_in(server, "admin"), clients["admin"]
    before, session = state(url), client.session.value
    fields = {"_xsrf": client.form_token(), **FORMS[path]}
    body = urlencode(fields).encode()
    spoilt = [
        client.ask(path, urlencode(FORMS[path]).encode()),
        client.ask(path, urlencode(fields | {"_xsrf": other.form_token()}).encode()),
        client.ask(path, urlencode(fields | {"_xsrf": "2|x|y|z"}).encode()),
        # A token in the address would stand in logs; as JSON no browser asks beforehand.
        client.ask(path, json.dumps(fields).encode(), {"Content-Type": "application/json"}),
        *(client.ask(path, body, {"Origin": origin}) for origin in ELSEWHERE),
    ]
    for status, headers, _ in spoilt:
        assert status == 403
        assert "roboao_session" not in str(headers)
        assert "roboao_theme" not in str(headers)
    assert client.ask(f"{path}?{body.decode()}")[0] in (302, 400, 404, 405), "a link does nothing"
    assert state(url) == before
    assert client.session.value == session
    assert client.ask("/account")[0] == 200
    # The same from its own page is carried out: it was the origin that was refused.
    assert client.ask(path, body, {"Origin": server})[0] in (200, 303)


@pytest.mark.parametrize("visitor", VISITORS)
def test_nothing_is_changed_by_other_methods(clients, routes, url, visitor):
    client, before = clients[visitor], state(url)
    for route in routes:
        for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"):
            if method == "POST" and route.path in FORMS:
                continue
            status, _, _ = client.ask(route.path, b"x=1", method=method)
            assert status in (400, 403, 404, 405), (method, route.path)
    assert state(url) == before


# -- paths ---------------------------------------------------------------------------------------

PATHS = (
    "../secret.txt",
    "../../secret.txt",
    "bright_star/../../../secret.txt",
    "..\\..\\secret.txt",
    "%2e%2e/%2e%2e/secret.txt",
    "%252e%252e%252fsecret.txt",
    "..%c0%af..%c0%afsecret.txt",
    "/etc/passwd",
    "//etc/passwd",
    "file:///etc/passwd",
    "bright_star/100p.fits\0.txt",
    "/etc/passwd\0.png",
    "C:\\windows\\win.ini",
    "link.txt",
    "./link.txt",
    ".",
    "..",
    "~root/.bashrc",
    "bright_star//100p.fits/../../link.txt",
)
# Route -> parameters that name something, and what else it is asked with.
NAMING = {
    "/file": (("observation", "name"), {"observation": SEEN, "name": "bright_star/100p.fits"}),
    "/image": (("key", "v"), {"key": f"{SEEN}/bright_star/full"}),
    "/night/parts": (("night",), {}),
    "/nights/parts": (("year", "colour"), {}),
    "/script": (("tool", "what", "text"), {"tool": "curl", "what": "files"}),
    "/search/table": (("format", "text"), {"format": "csv"}),
    "/authorised/dagster": ((), {}),
    "/login": (("next",), {}),
    "/favicon.ico": ((), {}),
    "/": (("year", "said"), {}),
    "/night": (("night", "show", "sort", "q"), {}),
    "/observation": (("id", "said", "file"), {}),
    "/search": (("text", "target", "program", "page", "sort"), {}),
    "/trends": (("text", "program"), {}),
    "/account": (("ended",), {}),
    "/psf-library": (("night", "said"), {}),
    "/administration": (("said",), {}),
    "/administration/redo": (("subject", "product", "said"), {}),
    "/administration/calibration": (("night", "said"), {}),
    "/administration/users": (("name", "said"), {}),
    "/administration/log": (("subject", "before", "by", "said"), {}),
}


def addresses(path, value, suffix=""):
    """Of a page one in which all is hostile, of other routes one for each parameter."""
    names, others = NAMING[path]
    together = [names] if not others else [(name,) for name in names]
    for some in together:
        yield f"{path}?{urlencode(others | {name + suffix: value for name in some})}"


def readable(routes):
    """Routes that are read and are neither bokeh's own nor a page's part of them."""
    brought = re.compile(r"(/|^)(ws|metadata|autoload\.js)$|static/|/components/")
    return {r.path for r in routes if "get" in r.methods and not brought.search(r.path)}


def test_every_reading_route_is_tested_here(routes):
    assert readable(routes) == set(NAMING)


@pytest.mark.parametrize("visitor", VISITORS)
@pytest.mark.parametrize("path", NAMING)
def test_no_parameter_leads_out_of_the_archive(clients, path, visitor):
    for value in PATHS:
        for asked in addresses(path, value):
            status, _, body = clients[visitor].ask(asked)
            assert status < 500, asked
            assert SECRET.encode() not in body, asked
            assert b"root:" not in body, asked
            if path == "/file" or (path == "/image" and "&v=" not in asked):
                assert status in (400, 404), asked


BELOW = (
    "/static/{}",
    "/static/extensions/{}",
    "/static/extensions/panel/{}",
    "/night/static/{}",
    "/components/{}",
    "/components/panel.io/x/{}",
    "/{}",
    "/file/{}",
    "/image/{}",
)


@pytest.mark.parametrize("visitor", VISITORS)
@pytest.mark.parametrize("place", BELOW)
def test_no_path_leads_out_of_the_archive(server, clients, root, place, visitor):
    cookies = {"Cookie": clients[visitor].cookie_header()}
    up = ("../" * 12, "%2e%2e/" * 12, "..%2f" * 12, "%252e%252e%252f" * 12, "..\\" * 12, "/", "//")
    for prefix in up:
        for target in ("etc/passwd", f"{str(root).lstrip('/')}/secret.txt"):
            status, _, body = raw(server, "GET", place.format(prefix + target), cookies)
            assert status in (400, 403, 404, 405), (place, prefix)
            assert b"root:" not in body
            assert SECRET.encode() not in body


def test_a_link_in_the_archive_is_followed_nowhere(clients, root):
    """Links to a file and to a folder outside, where a product is expected: not served."""
    folder = root / NIGHT / SEEN
    outside = root.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "passwords.txt").write_text(SECRET)
    links = {
        "bright_star/preview/linked.png": outside / "passwords.txt",
        "bright_star/strehl": outside,
        "dangling": outside / "nothing",
    }
    for name, target in links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
    try:
        asked = (*links, "bright_star/strehl/passwords.txt")
        for name in asked:
            query = urlencode({"observation": SEEN, "name": name})
            status, _, body = clients["admin"].ask(f"/file?{query}")
            assert status == 404, name
            assert SECRET.encode() not in body
        page = clients["admin"].ask("/script?tool=curl&what=files")[2].decode()
        assert "bright_star/100p.fits" in page
        assert "linked.png" not in page
        assert "passwords" not in page
    finally:
        for name in links:
            (folder / name).unlink()
