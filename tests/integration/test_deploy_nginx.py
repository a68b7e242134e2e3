"""The nginx of deploy/, running, before a real dashboard and a real webserver of Dagster."""

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from roboao_assets.orchestration.home import prepare_dagster_home
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.passwords import hash_password
from roboao_assets.storage.settings import Settings

SITE = Path(__file__).parents[2] / "deploy" / "one-machine" / "nginx" / "roboao.conf"
NAME = "archive.example.org"
PASSWORD = "the words of the gate"
START_LIMIT_S = 120
VERSION = json.dumps({"query": "{ version }"})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def nginx():
    path = shutil.which("nginx", path=f"{os.environ.get('PATH')}:/usr/sbin")
    if path is None:
        message = "no nginx on this machine: its site was NOT tested"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="module")
def ports():
    return {name: free_port() for name in ("http", "https", "dashboard", "dagster")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("deployed")


@pytest.fixture(scope="module")
def services(folder, ports):
    """A dashboard with an administrator and a user, and a webserver with nothing loaded."""
    for name in ("archive", "raw", "home"):
        (folder / name).mkdir()
    with open_catalogue(f"sqlite:///{folder}/archive/catalogue.sqlite") as catalogue:
        for login, programs in (("chief", "all"), ("law", ["4"])):
            catalogue.users.add(login, hash_password(PASSWORD, login=login), programs)
    (folder / "nothing.py").write_text("import dagster as dg\ndefs = dg.Definitions()\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROBOAO_", "DAGSTER_"))}
    environment = kept | {
        "DAGSTER_HOME": str(folder / "home"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "ROBOAO_ARCHIVE_ROOT": str(folder / "archive"),
        "ROBOAO_RAW_ROOTS": str(folder / "raw"),
        "ROBOAO_DASHBOARD_ORIGINS": f"{NAME}:{ports['https']}",
        "ROBOAO_DASHBOARD_BEHIND_TLS_PROXY": "true",
        "ROBOAO_SURVEY__ENABLED": "false",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
        prepare_dagster_home(Settings())
    webserver = ["dagster_webserver", "-f", "nothing.py", "-h", "127.0.0.1", "--path-prefix"]
    commands = (
        ["dashboards.app", "--port", str(ports["dashboard"])],
        [*webserver, "/dagster", "-p", str(ports["dagster"])],
    )
    running = []
    with (folder / "services.log").open("wb") as log:
        for command in commands:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command],
                    env=environment,
                    cwd=folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        for name in ("dashboard", "dagster"):
            wait_for(ports[name], folder / "services.log")
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(port, log):
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                pytest.fail(f"nothing listens on {port}:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)


def written_site(folder, ports):
    """The site with ports and certificate of the test, and nothing else changed."""
    text = SITE.read_text()
    for old, new in (
        ("listen 80;", f"listen 127.0.0.1:{ports['http']};"),
        ("    listen [::]:80;\n", ""),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{ports['https']} ssl http2;"),
        ("    listen [::]:443 ssl http2;\n", ""),
        ("127.0.0.1:5006", f"127.0.0.1:{ports['dashboard']}"),
        ("127.0.0.1:3000", f"127.0.0.1:{ports['dagster']}"),
        ("/etc/ssl/roboao", str(folder)),
    ):
        assert old in text, old
        text = text.replace(old, new)
    own = "\n".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\ndaemon off;\n"
        f"worker_processes 1;\nevents {{}}\nhttp {{\naccess_log {folder}/access.log;\n{own}\n"
        f"{text}\n}}\n"
    )
    return folder / "nginx.conf"


@pytest.fixture(scope="module")
def proxy(nginx, services, folder, ports):
    subject = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    files = ["-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"]
    new_key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*new_key, *subject, *files], check=True, capture_output=True)
    config = written_site(folder, ports)
    checked = subprocess.run(
        [nginx, "-t", "-c", config], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr.replace('the "user" directive', ""), checked.stderr
    process = subprocess.Popen([nginx, "-c", config])
    try:
        wait_for(ports["https"], folder / "error.log")
        yield ports["https"]
    finally:
        process.terminate()
        process.wait(20)


class Browser:
    """What a browser sends through the proxy, and the cookies it keeps."""

    def __init__(self, port, folder):
        self.port, self.cookies = port, {}
        self.context = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
        self.origin = f"https://{NAME}:{port}"

    def ask(self, path, method="GET", body=None, **headers):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.context, timeout=60
        )
        # The certificate's name, whatever the address.
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sock = self.context.wrap_socket(plain, server_hostname=NAME)
        sent = {"Host": f"{NAME}:{self.port}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        try:
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            for line in answer.headers.get_all("Set-Cookie") or []:
                name, _, rest = line.partition("=")
                self.cookies[name] = rest.partition(";")[0]
                assert "Secure" in line
            if answer.status == 101:
                return answer.status, answer.headers, b""
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def log_in(self, name):
        page = self.ask("/login")[2].decode()
        token = page.partition('name="_xsrf" value="')[2].partition('"')[0]
        form = {"_xsrf": token, "name": name, "password": PASSWORD, "next": "/"}
        headers = {"Content_Type": "application/x-www-form-urlencoded"}
        return self.ask("/login", "POST", urlencode(form), Origin=self.origin, **headers)

    def query(self, origin=None):
        headers = {} if origin is None else {"Origin": origin}
        return self.ask(
            "/dagster/graphql", "POST", VERSION, Content_Type="application/json", **headers
        )


@pytest.fixture
def browser(proxy, folder):
    return lambda: Browser(proxy, folder)


@pytest.fixture(scope="module")
def chief(proxy, folder):
    browser = Browser(proxy, folder)
    status, headers, body = browser.log_in("chief")
    assert (status, headers["Location"]) == (303, "/"), body
    return browser


def test_a_stranger_is_led_to_the_log_in(browser):
    stranger = browser()
    for path in ("/dagster", "/dagster/", "/dagster/runs"):
        status, headers, _ = stranger.ask(path)
        assert status == 302
        assert headers["Location"].endswith(f"/login?next={path}")
    assert stranger.query()[0] in (302, 401)
    assert b"version" not in stranger.query()[2]
    assert stranger.ask("/authorised/dagster")[0] == 404


def test_a_user_who_does_not_administrate_is_refused(browser):
    user = browser()
    assert user.log_in("law")[0] == 303
    assert user.ask("/account")[0] == 200
    for answer in (user.ask("/dagster/"), user.query(), user.query(user.origin)):
        assert answer[0] == 403
        assert b"1.13" not in answer[2]


def test_an_administrator_sees_dagster(chief):
    status, headers, body = chief.ask("/dagster/")
    assert status == 200
    assert b"/dagster/" in body
    assert headers["Strict-Transport-Security"]
    assert headers["X-Frame-Options"] == "DENY"
    status, _, body = chief.query(chief.origin)
    assert status == 200
    assert json.loads(body)["data"]["version"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", f"http://{NAME}", f"https://{NAME}.evil.example"]
)
def test_another_site_writes_nothing_into_dagster(chief, origin):
    assert chief.query(origin)[0] == 403
    assert upgrade(chief, "/dagster/graphql", "graphql-ws", origin)[0] == 403


def upgrade(browser, path, protocol, origin):
    return browser.ask(
        path,
        Origin=origin,
        Upgrade="websocket",
        Connection="Upgrade",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        Sec_WebSocket_Version="13",
        Sec_WebSocket_Protocol=protocol,
    )


def test_websockets_pass(chief):
    assert upgrade(chief, "/dagster/graphql", "graphql-ws", chief.origin)[0] == 101
    body = chief.ask("/trends")[2].decode()
    token = body.partition('"token":"')[2].partition('"')[0]
    assert upgrade(chief, "/trends/ws", f"bokeh, {token}", chief.origin)[0] == 101
    assert upgrade(chief, "/trends/ws", f"bokeh, {token}", "https://evil.example")[0] == 403


def test_without_tls_nothing_is_said(folder, ports, proxy):
    connection = http.client.HTTPConnection("127.0.0.1", ports["http"], timeout=20)
    connection.request("GET", "/night?night=20170607", headers={"Host": NAME})
    answer = connection.getresponse()
    assert answer.status == 301
    assert answer.headers["Location"] == f"https://{NAME}/night?night=20170607"
    connection.close()


def test_what_is_too_large_is_not_read(chief):
    assert chief.ask("/login", "POST", b"x" * 200_000)[0] == 413


# The last one: it uses up what the address may try.
def test_guesses_are_slowed_down(browser):
    statuses = [browser().ask("/login", "POST", "name=x")[0] for _ in range(25)]
    assert statuses.count(429) >= 10
    assert browser().ask("/login")[0] == 200
