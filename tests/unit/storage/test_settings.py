"""Settings: environment over file, and every mistake named."""

import os
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from roboao_assets.science.errors import SettingsError, UnknownInstrumentError
from roboao_assets.storage.instruments import load_instruments
from roboao_assets.storage.sent_settings import received_settings, settings_to_send
from roboao_assets.storage.settings import adopt_settings, load_settings


@pytest.fixture(autouse=True)
def no_settings_from_outside(tmp_path, monkeypatch):
    for variable in list(os.environ):
        if variable.startswith("ROBOAO_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def test_defaults():
    settings = load_settings()
    assert settings.raw_roots == ()
    assert settings.workers == 2
    assert settings.resolved_catalogue_url == f"sqlite:///{Path.cwd()}/archive/catalogue.sqlite"


def test_roots_are_separated_like_path(monkeypatch):
    monkeypatch.setenv("ROBOAO_RAW_ROOTS", os.pathsep.join(["/data/a b", "", "~/raw"]))
    monkeypatch.setenv("HOME", "/home/observer")
    assert load_settings().raw_roots == (Path("/data/a b"), Path("/home/observer/raw"))


def test_the_environment_is_over_the_file(monkeypatch):
    Path("roboao.toml").write_text(
        'raw_roots = ["/a", "/b"]\nworkers = 3\nthreads = 4\narchiving_start_date = 2015-06-01\n'
        "[seeing]\nsmoothing_px = 2.5\nmodel = 'gaussian'\n[calibration]\nmin_dark_files = 3\n"
    )
    monkeypatch.setenv("ROBOAO_WORKERS", "5")
    monkeypatch.setenv("ROBOAO_SEEING__MODEL", "moffat")
    settings = load_settings(threads=6)
    assert settings.raw_roots == (Path("/a"), Path("/b"))
    assert (settings.workers, settings.threads) == (5, 6)
    assert (settings.seeing.smoothing_px, settings.seeing.model) == (2.5, "moffat")
    assert settings.calibration.min_dark_files == 3
    assert settings.archiving_start_date == date(2015, 6, 1)


def test_the_file_that_roboao_config_names(tmp_path, monkeypatch):
    Path("roboao.toml").write_text("workers = 3")
    other = tmp_path / "other.toml"
    other.write_text("workers = 7")
    monkeypatch.setenv("ROBOAO_CONFIG", str(other))
    assert load_settings().workers == 7
    monkeypatch.setenv("ROBOAO_CONFIG", str(tmp_path / "gone.toml"))
    with pytest.raises(SettingsError, match="gone.toml, and there is no such file"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ROBOAO_RAWROOTS", "/a", "ROBOAO_RAWROOTS is no setting"),
        ("ROBOAO_SEEING__FWHM", "1", "seeing.FWHM|seeing.fwhm"),
        ("ROBOAO_WORKERS", "many", r"workers: .*\(got 'many'\)"),
        ("ROBOAO_WORKERS", "0", "workers: .*greater than or equal to 1"),
        ("ROBOAO_CATALOGUE_URL", "postgres://x", "catalogue_url: .*must start with sqlite:///"),
        ("ROBOAO_SEEING__MODEL", "lorentz", "seeing.model"),
        ("ROBOAO_ARCHIVING_START_DATE", "yesterday", "archiving_start_date"),
        ("ROBOAO_BRIGHT_STAR__SELECTIONS_PERCENT", "[0]", "bright_star.selections_percent"),
        ("ROBOAO_BRIGHT_STAR__SELECTIONS_PERCENT", "[", "bright_star"),
        ("ROBOAO_DAGSTER_PORT", "70000", "dagster_port"),
    ],
)
def test_a_mistake_in_the_environment_is_named(monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=message):
        load_settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worker = 3", "worker: "),
        ("[seeing]\nfwhm = 3", "seeing.fwhm: "),
        ("[seeings]\nmodel = 'moffat'", "seeings: "),
        ("workers = ", "cannot be read"),
        ("workers = 'x'", "workers: "),
    ],
)
def test_a_mistake_in_the_file_is_named(text, message):
    Path("roboao.toml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings()


def test_variables_of_the_tests_are_no_settings(monkeypatch):
    monkeypatch.setenv("ROBOAO_TEST_MONGODB", "mongodb://x")
    load_settings()


def test_settings_travel_and_do_not_change():
    settings = load_settings(raw_roots="/a:/b", bright_star={"selections_percent": (50,)})
    assert settings.bright_star.selections_percent == (50, 100)
    again = type(settings).model_validate_json(settings.model_dump_json())
    assert again == settings
    with pytest.raises(ValidationError, match="frozen"):
        settings.workers = 3


def test_settings_travel_to_another_working_directory():
    settings = load_settings(
        raw_roots="raw:/b", catalogue_url="sqlite:///c.sqlite", instruments_file="i.toml"
    )
    again = received_settings(settings_to_send(settings))
    here = Path.cwd()
    assert again.archive_root == here / "archive"
    assert again.raw_roots == (here / "raw", Path("/b"))
    assert again.resolved_catalogue_url == f"sqlite:///{here}/c.sqlite"
    assert again.instruments_file == here / "i.toml"
    mongodb = load_settings(catalogue_url="mongodb://archive/x", cookie_secret="of this host")
    assert received_settings(settings_to_send(mongodb)).catalogue_url == "mongodb://archive/x"
    assert "of this host" not in settings_to_send(mongodb)


def test_a_process_that_works_for_another_has_the_others_settings(monkeypatch):
    monkeypatch.setattr("roboao_assets.storage.settings._given", [])
    monkeypatch.setenv("ROBOAO_WORKERS", "7")
    adopt_settings(load_settings(workers=3, archive_root="/elsewhere"))
    assert load_settings().workers == 3
    assert load_settings(threads=2).archive_root == Path("/elsewhere")


def test_fingerprints_tell_groups_apart():
    one, other = load_settings(), load_settings(seeing={"smoothing_px": 2.0})
    assert one.seeing.fingerprint() != other.seeing.fingerprint()
    assert one.calibration.fingerprint() == other.calibration.fingerprint()


def test_instruments():
    profiles = load_instruments()
    assert {"KPNO_2.1m", "Palomar_P60"} <= set(profiles)
    kpno, palomar = profiles["KPNO_2.1m"], profiles["Palomar_P60"]
    assert kpno.drizzled_scale_arcsec == pytest.approx(0.0175797)
    assert palomar.drizzled_scale_arcsec == pytest.approx(0.0215)
    assert kpno.filter("Si").strehl_factor == 0.0266019992502
    assert palomar.filter("Sg").strehl_factor == 0.0751567096096
    assert (kpno.primary_diameter_m, palomar.secondary_diameter_m) == (1.85, 0.578)
    with pytest.raises(UnknownInstrumentError, match="filter 'Q' is not in the profile KPNO"):
        kpno.filter("Q")
    with pytest.raises(UnknownInstrumentError, match="'c'"):
        palomar.filter("c")


def test_the_profile_follows_from_camera_and_date():
    settings = load_settings()
    move = datetime(2015, 10, 1, tzinfo=UTC)
    assert settings.profile("VIC", move).name == "KPNO_2.1m"
    assert settings.profile("VIC", move.replace(month=9)).name == "Palomar_P60"
    assert load_settings(instrument="Palomar_P60").profile("X", move).name == "Palomar_P60"
    with pytest.raises(UnknownInstrumentError, match="no instrument profile has camera 'X'"):
        settings.profile("X", move)
    with pytest.raises(UnknownInstrumentError, match="'Keck' does not exist"):
        load_settings(instrument="Keck").profile("VIC", move)


@pytest.mark.parametrize(
    ("key", "value"),
    [("AUTHORITY", "a b"), ("AUTHORITY", "ab"), ("BASE_URL", "ftp//x"), ("COLLECTION", "")],
)
def test_what_names_data_in_the_world_is_checked(key, value, monkeypatch):
    monkeypatch.setenv(f"ROBOAO_DISTRIBUTION__{key}", value)
    with pytest.raises(SettingsError, match=f"distribution.{key.lower()}"):
        load_settings()


def test_passbands_hold_their_wavelengths():
    for profile in load_instruments().values():
        for band in profile.filters.values():
            assert band.lower_nm < band.wavelength_nm < band.upper_nm
