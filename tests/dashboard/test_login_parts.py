"""Throttle, passwords, the secret, the settings: without a server."""

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.access import Asked, picture_subject
from dashboards.app import allowed_origins
from dashboards.login_form import own_path
from dashboards.sessions import Sessions, read_secret
from dashboards.source import CatalogueSource
from dashboards.throttle import Throttle
from roboao_assets.science.errors import PasswordError, SettingsError
from roboao_assets.storage import passwords
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.settings import Settings, load_settings


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_the_wait_doubles_up_to_a_limit_and_is_forgotten():
    clock = Clock()
    throttle = Throttle(3, 60.0, clock=clock)
    waits = []
    for _ in range(12):
        throttle.count("a")
        waits.append(throttle.wait_s("a"))
        clock.now += throttle.wait_s("a")
        assert throttle.wait_s("a") == 0.0
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert throttle.wait_s("b") == 0.0
    clock.now += 3601
    throttle.count("a")
    assert throttle.wait_s("a") == 0.0
    for _ in range(5):
        throttle.count("c")
    throttle.forgive("c")
    assert throttle.wait_s("c") == 0.0


def test_the_throttle_remembers_a_bounded_number_of_names():
    throttle = Throttle(1, 60.0, most=100)
    for number in range(1000):
        throttle.count(str(number))
    assert len(throttle._failures) == 100  # noqa: SLF001
    assert throttle.wait_s("999") > 0


def test_passwords_are_kept_as_argon2id_hashes():
    kept = passwords.hash_password("correct horse battery")
    assert kept.startswith("$argon2id$")
    assert "horse" not in kept
    assert kept != passwords.hash_password("correct horse battery"), "salted"
    assert passwords.verify_password(kept, "correct horse battery")
    assert not passwords.verify_password(kept, "correct horse batterz")
    assert not passwords.is_outdated(kept)


@pytest.mark.parametrize(
    "kept", [None, "", "plain", "pbkdf2:sha256:1$x$y", "$argon2id$v=19$m=1", "é"]
)
def test_without_a_hash_no_password_is_right(kept):
    assert not passwords.verify_password(kept, "a password that nobody has")
    assert not passwords.verify_password(kept, kept or "")


def test_an_accent_may_be_typed_in_either_way():
    kept = passwords.hash_password("mot de passe é 12")
    assert passwords.verify_password(kept, "mot de passe e\u0301 12")


def test_a_hash_of_other_parameters_is_outdated():
    from argon2 import PasswordHasher

    assert passwords.is_outdated(PasswordHasher(time_cost=1, memory_cost=8192).hash("x" * 12))


@pytest.mark.parametrize(
    "password", ["", "short", "a" * 11, "a" * 30, "x1y2z" * 300, "administrator"]
)
def test_weak_passwords_are_refused(password):
    with pytest.raises(PasswordError, match="a password"):
        passwords.hash_password(password, login="Administrator")


def test_the_secret_is_made_once_and_is_its_owners(tmp_path):
    path = tmp_path / ".dashboard" / "cookie_secret"
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: read_secret("", path), range(16)))
    assert len(secrets) == 1
    assert len(secrets.pop()) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["cookie_secret"]
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="0600"):
        read_secret("", path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(SettingsError, match="remove it"):
        read_secret("", path)
    assert read_secret("s" * 32, path) == "s" * 32
    with pytest.raises(SettingsError, match="ROBOAO_COOKIE_SECRET") as refused:
        read_secret("secret", path)
    assert "'secret'" not in str(refused.value)


def test_origins_must_be_named_where_others_reach_the_server():
    assert allowed_origins(Settings(), 5006) == ["127.0.0.1:5006", "localhost:5006"]
    proxied = Settings(dashboard_origins="archive.example.org", dashboard_behind_tls_proxy=True)
    assert allowed_origins(proxied, 5006)[0] == "archive.example.org"
    with pytest.raises(SettingsError, match="dashboard_origins"):
        allowed_origins(Settings(dashboard_address="0.0.0.0"), 5006)
    named = Settings(dashboard_address="0.0.0.0", dashboard_origins="a.org, B.org:8443")
    assert allowed_origins(named, 5006) == ["a.org", "b.org:8443"]


@pytest.mark.parametrize("origin", ["*", "https://a.org", "a.org/x", "a.org:x", "a b", "*.org"])
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(SettingsError, match="no origin"):
        load_settings(dashboard_origins=origin)


def test_the_secret_is_in_no_dump_of_the_settings(monkeypatch):
    monkeypatch.setenv("ROBOAO_COOKIE_SECRET", "s3cr3t" * 8)
    settings = load_settings()
    assert settings.cookie_secret.get_secret_value() == "s3cr3t" * 8
    assert "s3cr3t" not in repr(settings) + settings.model_dump_json()


@given(st.text(max_size=60) | st.from_regex(r"[/\\\s]{1,3}[a-z.:/\\\s]*", fullmatch=True))
def test_where_a_login_leads_is_on_this_server(text):
    path = own_path(text)
    assert path.startswith("/")
    assert path[1:2] not in ("/", "\\")
    assert path.isascii()
    assert path.isprintable()
    assert "\\" not in path


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        (
            "4_x_VIC_Si_o_20170607_043211.3/bright_star/full",
            ("observation", "4_x_VIC_Si_o_20170607_043211.3"),
        ),
        ("20170607/seeing", ("night", "20170607")),
        ("20170607/seeing/seeing_VIC", ("night", "20170607")),
        ("20170607/seeing_of_others", ("administration", "")),
        ("20170607/strehl", ("administration", "")),
        ("20170607/psf_candidate/4_x", ("administration", "")),
        ("20170607", ("administration", "")),
        ("", ("observation", "")),
    ],
)
def test_what_a_picture_shows(key, subject):
    assert picture_subject(key) == Asked(*subject)


class Browser:
    """Keeps what a server sets, as a handler hands it on."""

    def __init__(self):
        self.cookies = SimpleCookie()

    def set_cookie(self, name, value, **options):
        self.cookies[name] = value.decode("ascii")


def test_a_session_that_a_wrong_clock_has_opened_is_none(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/catalogue.sqlite"
    with open_catalogue(url) as catalogue:
        catalogue.users.add("ann", passwords.hash_password("correct horse battery"), "all")
        ann = catalogue.users.get("ann")
    sessions, browser = Sessions(CatalogueSource(url), "s" * 32, hours=8), Browser()
    time_of_day = time.time
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: time_of_day() + 365 * 86_400)
        sessions.open(browser, ann)
        assert sessions.find(browser.cookies) is not None
    # It would last for a year and eight hours.
    assert sessions.find(browser.cookies) is None
    sessions.open(browser, ann)
    assert sessions.find(browser.cookies) is not None
