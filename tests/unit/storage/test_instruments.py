"""A site's own instrument profiles, beside those that come with the package."""

from datetime import UTC, datetime

import pytest

from roboao_assets.science.errors import SettingsError
from roboao_assets.storage.instruments import load_instruments
from roboao_assets.storage.settings import Settings, load_settings

OWN = """
[MINE]
telescope = "Mine_1m"
site_latitude_deg = 50.0
camera = "CAM"
valid_from = 2020-01-01T00:00:00
plate_scale_arcsec = 0.05
primary_diameter_m = 1.0
secondary_diameter_m = 0.3
[[MINE.filters]]
name = "r"
wavelength_nm = 620.0
strehl_factor = 0.02
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "instruments.toml"

    def write(old="", new=""):
        path.write_text(OWN.replace(old, new))
        return path

    return write


def complete(own):
    """The file with all that a profile must have, taken from a shipped one."""
    shipped = load_instruments()["KPNO_2.1m"]
    given = {line.split(" = ")[0] for line in OWN.splitlines() if " = " in line}
    lines = [
        f"{key} = {value!r}"
        for key, value in vars(shipped).items()
        if key not in given and isinstance(value, float | int) and not isinstance(value, bool)
    ]
    return own("primary_diameter_m = 1.0", "\n".join(["primary_diameter_m = 1.0", *lines]))


def test_own_profiles_stand_beside_the_shipped_ones(own, monkeypatch):
    monkeypatch.setenv("ROBOAO_INSTRUMENTS_FILE", str(complete(own)))
    settings = load_settings()
    assert set(settings.instruments) == {*load_instruments(), "MINE"}
    found = settings.profile("CAM", datetime(2021, 1, 1, tzinfo=UTC))
    assert (found.name, found.plate_scale_arcsec) == ("MINE", 0.05)
    assert found.filters["r"].wavelength_nm == 620.0
    assert found.valid_from == datetime(2020, 1, 1, tzinfo=UTC)


def test_an_own_profile_replaces_the_shipped_one_of_its_name(own):
    path = complete(own)
    path.write_text(path.read_text().replace("MINE", "PHARO"))
    assert load_instruments(path)["PHARO"].telescope == "Mine_1m"
    assert load_instruments()["PHARO"].telescope != "Mine_1m"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("plate_scale_arcsec", "plate_scale", "'MINE' of .*plate_scale"),
        ("[[MINE.filters]]", "[[MINE.bands]]", "'MINE' of .*filters"),
        ('name = "r"', "", "'MINE' of .*name"),
        ("[MINE]", "[MINE", "cannot be read"),
        ("[MINE]", 'OTHER = "x"\n[MINE]', "'OTHER' of"),
    ],
)
def test_what_is_wrong_is_told(own, old, new, words):
    with pytest.raises(SettingsError, match=words):
        load_instruments(own(old, new))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match="nothing.toml .*instruments_file.* cannot be read"):
        _ = Settings(instruments_file=tmp_path / "nothing.toml").instruments
