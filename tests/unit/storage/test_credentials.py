"""Secrets are shown nowhere, are read from private files only, and do not travel with tasks."""

import os
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.credentials import without_credentials
from roboao_assets.storage.sent_settings import (
    catalogue_place,
    needs_credentials,
    received_settings,
    settings_to_send,
)
from roboao_assets.storage.settings import Settings, load_settings

CANARY = "c4nary-Of-Th3-Tests"
URL = f"mongodb://roboao:{CANARY}@db.example.org:27017/roboao?authSource=roboao"
SHOWN = "mongodb://***@db.example.org:27017/roboao?authSource=roboao"


@pytest.fixture(autouse=True)
def no_settings_from_outside(tmp_path, monkeypatch):
    for variable in list(os.environ):
        if variable.startswith("ROBOAO_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, SHOWN),
        (f"mongodb+srv://u:{CANARY}@h", "mongodb+srv://***@h"),
        (f"mongodb://u:{CANARY}/x@y@h/db", "mongodb://***@h/db"),
        (f"mongodb://u:{CANARY}\n@h/db", "mongodb://***@h/db"),
        (
            f"mongodb://h/db?tls=true&tlsCertificateKeyFilePassword={CANARY}&w=1",
            "mongodb://h/db?tls=true&tlsCertificateKeyFilePassword=***&w=1",
        ),
        (
            f"mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:{CANARY}",
            "mongodb://h/?authMechanismProperties=***",
        ),
        ("mongodb://h:27017/db?w=1", "mongodb://h:27017/db?w=1"),
        ("sqlite:////data/archive/catalogue.sqlite", "sqlite:////data/archive/catalogue.sqlite"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_credentials(url, shown):
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ROBOAO_CATALOGUE_URL", f"postgres://u:{CANARY}@h/db"),
        ("ROBOAO_CATALOGUE_URL", f"roboao:{CANARY}@h/db"),
        ("ROBOAO_CATALOGUE_URL", CANARY),
        ("ROBOAO_DASHBOARD_URL", f"ftp://u:{CANARY}@h"),
        ("ROBOAO_SURVEY__URL", f"ftp://u:{CANARY}@h"),
    ],
)
def test_a_setting_that_is_wrong_is_told_without_its_secret(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert variable.removeprefix("ROBOAO_").lower().replace("__", ".") in str(refused.value)
    assert CANARY not in "".join(traceback.format_exception(refused.value))
    with pytest.raises(ValidationError) as raw:
        Settings()
    assert CANARY not in str(raw.value) + repr(raw.value)


@pytest.mark.parametrize(
    "text",
    [f'catalog_url = "{URL}"', f'cookie_secrets = "{CANARY}"', f"cookie_secret = ['{CANARY}"],
)
def test_a_mistake_in_the_file_is_told_without_its_secret(text):
    path = Path("roboao.toml")
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert CANARY not in "".join(traceback.format_exception(refused.value))


def test_settings_do_not_show_their_secrets(monkeypatch):
    monkeypatch.setenv("ROBOAO_CATALOGUE_URL", URL)
    monkeypatch.setenv("ROBOAO_COOKIE_SECRET", CANARY * 2)
    settings = load_settings()
    assert settings.resolved_catalogue_url == URL
    assert settings.cookie_secret.get_secret_value() == CANARY * 2
    # What was looked up once is kept beside the fields.
    assert CANARY not in f"{settings} {settings!r}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
@pytest.mark.parametrize(
    "text", [f'catalogue_url = "{URL}"', f'cookie_secret = "{CANARY}{CANARY}"']
)
@pytest.mark.parametrize("named", [True, False])
def test_a_file_with_a_secret_that_others_may_read_is_refused(monkeypatch, named, text, mode):
    path = Path("site.toml" if named else "roboao.toml").absolute()
    if named:
        monkeypatch.setenv("ROBOAO_CONFIG", str(path))
    path.write_text(f"workers = 3\n{text}\n")
    path.chmod(mode)
    with pytest.raises(SettingsError, match=rf"{path.name} .*has mode {mode:04o}.*chmod 600") as no:
        load_settings()
    assert CANARY not in str(no.value)
    path.chmod(0o600)
    assert load_settings().workers == 3


def test_a_file_without_a_secret_may_be_read_by_all():
    path = Path("roboao.toml")
    path.write_text('catalogue_url = "mongodb://127.0.0.1/roboao"\nworkers = 3\n')
    path.chmod(0o644)
    assert load_settings().workers == 3


def test_settings_are_sent_without_secrets_and_the_receiver_has_its_own(monkeypatch):
    settings = Settings(catalogue_url=URL, cookie_secret=CANARY * 2, workers=7)
    sent = settings_to_send(settings)
    assert CANARY not in sent
    assert needs_credentials(settings) == SHOWN
    with pytest.raises(SettingsError, match="ROBOAO_CATALOGUE_URL is not set, not mongodb://"):
        received_settings(sent)
    monkeypatch.setenv("ROBOAO_CATALOGUE_URL", URL.replace("db.example.org", "elsewhere"))
    with pytest.raises(SettingsError, match=r"is mongodb://\*\*\*@elsewhere:27017.*, not") as no:
        received_settings(sent)
    assert CANARY not in str(no.value)
    # A worker may be another user of the same database.
    own = URL.replace("roboao:", "worker:")
    monkeypatch.setenv("ROBOAO_CATALOGUE_URL", own)
    assert catalogue_place() == SHOWN
    received = received_settings(sent)
    assert (received.catalogue_url, received.workers) == (own, 7)


@pytest.mark.parametrize("url", ["", "sqlite:////data/c.sqlite", "mongodb://127.0.0.1:1/roboao"])
def test_settings_without_secrets_arrive_as_they_were(url, monkeypatch):
    settings = Settings(catalogue_url=url, raw_roots="/a:/b", nap="22:00-05:30")
    monkeypatch.setenv("ROBOAO_CATALOGUE_URL", "mongodb://of.the.worker/roboao")
    assert needs_credentials(settings) == ""
    assert received_settings(settings_to_send(settings)) == settings.with_absolute_paths()
    assert received_settings(settings.model_dump_json()).catalogue_url == url
