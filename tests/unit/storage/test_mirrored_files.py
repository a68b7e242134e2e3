"""Which files of the archive a worker without mounts may read and write: its observation's."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboao_assets.storage.mirrored_files import MirroredFiles, TransferRefusedError
from roboao_assets.storage.settings import Settings

NIGHT, OBSERVATION = "20170607", "4_HD1_VIC_Si_o_20170607_112900.000000"
OTHER = "4_HD2_VIC_Si_o_20170607_113900.000000"
OWN = f"archive/{NIGHT}/{OBSERVATION}"


@pytest.fixture
def mirrored(tmp_path):
    for name in (
        f"raw/{NIGHT}/{OBSERVATION}.fits.bz2",
        f"raw/{NIGHT}/{OBSERVATION}_0.fits.bz2",
        f"raw/{NIGHT}/{OTHER}.fits.bz2",
        f"archive/{NIGHT}/{OBSERVATION}/bright_star/100p.fits",
        f"archive/{NIGHT}/{OBSERVATION}/bright_star/.partial-x.fits",
        f"archive/{NIGHT}/{OTHER}/bright_star/100p.fits",
        f"archive/{NIGHT}/calib/flat_Si.fits",
        "archive/psf_library.fits",
        "archive/catalogue.sqlite",
        "archive/.dashboard/cookie_secret",
        "site/instruments.toml",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    given = Settings(
        raw_roots=(tmp_path / "nowhere", tmp_path / "raw"),
        archive_root=tmp_path / "archive",
        instruments_file=tmp_path / "site" / "instruments.toml",
    )
    return MirroredFiles(given, NIGHT, OBSERVATION)


def test_what_stands_in_the_mirror(mirrored, tmp_path):
    found = {file.name: file for file in mirrored.files()}
    assert set(found) == {
        f"raw/1/{NIGHT}/{OBSERVATION}.fits.bz2",
        f"raw/1/{NIGHT}/{OBSERVATION}_0.fits.bz2",
        f"{OWN}/bright_star/100p.fits",
        f"archive/{NIGHT}/calib/flat_Si.fits",
        "archive/psf_library.fits",
        "settings/instruments/instruments.toml",
    }
    for name, file in found.items():
        path = mirrored.readable(name)
        assert path.read_text() == str(path.relative_to(tmp_path))
        assert (file.size_bytes, file.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert mirrored.folders() == ["archive", f"raw/1/{NIGHT}"]
    other = mirrored.folder_files(f"archive/{NIGHT}/{OTHER}/bright_star")
    assert [file.name for file in other] == [f"archive/{NIGHT}/{OTHER}/bright_star/100p.fits"]
    assert mirrored.folder_files(f"archive/{NIGHT}/nobody/bright_star") == []


@pytest.mark.parametrize(
    "name",
    [
        f"{OWN}/bright_star/100p.fits",
        f"{OWN}/{OBSERVATION}.tar.bz2",
        f"{OWN}/bright_star/preview/{OBSERVATION}_full.png",
        f"archive/{NIGHT}/records/{OBSERVATION}.json",
        f"archive/{NIGHT}/records/{NIGHT}.json",
        f"archive/{NIGHT}/summary/psflib/{OBSERVATION}.fits",
    ],
)
def test_products_may_be_written(mirrored, name):
    path = mirrored.writable(name)
    assert path == mirrored.paths.root / name.removeprefix("archive/")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "/etc/passwd",
        "archive",
        OWN,
        f"{OWN}/",
        f"{OWN}/../{OTHER}/bright_star/100p.fits",
        f"{OWN}/./a.fits",
        f"{OWN}//a.fits",
        f"{OWN}/.partial-a",
        f"{OWN}/bright_star",
        f"{OWN}x/a.fits",
        f"archive/{NIGHT}/{OTHER}/bright_star/100p.fits",
        f"archive/20170608/{OBSERVATION}/bright_star/100p.fits",
        f"archive/{NIGHT}/records/{OTHER}.json",
        f"archive/{NIGHT}/records/comments/{OBSERVATION}.json",
        f"archive/{NIGHT}/summary/psflib/{OTHER}.fits",
        f"archive/{NIGHT}/calib/flat_Si.fits",
        "archive/psf_library.fits",
        "archive/manifest.json",
        f"raw/1/{NIGHT}/{OBSERVATION}.fits.bz2",
        "settings/instruments/instruments.toml",
        f"{OWN}/a\0b",
    ],
)
def test_nothing_else_may_be_written(mirrored, name):
    with pytest.raises(TransferRefusedError, match="none of that observation's files"):
        mirrored.writable(name)


@pytest.mark.parametrize(
    "name",
    [
        "archive/catalogue.sqlite",
        "archive/manifest.json",
        "archive/.dashboard/cookie_secret",
        f"archive/{NIGHT}/../.dashboard/cookie_secret",
        "archive/dagster/dagster.yaml",
        f"raw/1/{NIGHT}/{OTHER}.fits.bz2",
        f"raw/1/20170608/{OBSERVATION}.fits.bz2",
        f"raw/7/{NIGHT}/{OBSERVATION}.fits.bz2",
        f"raw/-1/{NIGHT}/{OBSERVATION}.fits.bz2",
        "settings/instruments/other.toml",
        "/etc/passwd",
    ],
)
def test_what_is_no_input_may_not_be_read(mirrored, name):
    with pytest.raises(TransferRefusedError, match="none of that observation's files"):
        mirrored.readable(name)


def test_links_lead_nowhere_else(mirrored, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    own = mirrored.paths.observation(NIGHT, OBSERVATION)
    (own / "faint_star").symlink_to(outside)
    with pytest.raises(TransferRefusedError, match="whose folder is a link"):
        mirrored.writable(f"{OWN}/faint_star/a.fits")
    own.rename(tmp_path / "moved")
    own.symlink_to(mirrored.paths.observation(NIGHT, OTHER))
    with pytest.raises(TransferRefusedError, match="whose folder is a link"):
        mirrored.writable(f"{OWN}/bright_star/100p.fits")


def test_a_night_may_stand_on_another_disk(mirrored, tmp_path):
    night = mirrored.paths.night(NIGHT)
    night.rename(tmp_path / "disk2")
    night.symlink_to(tmp_path / "disk2")
    assert mirrored.writable(f"{OWN}/bright_star/100p.fits").exists()


# Pieces that names of the archive are made of, and that attacks are.
PIECES = st.sampled_from(
    [
        "archive",
        "raw",
        "1",
        NIGHT,
        OBSERVATION,
        OTHER,
        "records",
        "summary",
        "psflib",
        "..",
        ".",
        "",
    ]
    + [f"{OBSERVATION}.json", f"{OBSERVATION}.png", "bright_star", "100p.fits", "~", "\0", "a\\b"]
)


@settings(max_examples=400)
@given(st.one_of(st.lists(PIECES, max_size=7).map("/".join), st.text(max_size=60)))
def test_whatever_is_asked_only_the_observations_own_is_written(name):
    root = Path("/no/such/archive")
    mirrored = MirroredFiles(Settings(archive_root=root), NIGHT, OBSERVATION)
    try:
        path = mirrored.writable(name)
    except TransferRefusedError:
        return
    assert path == Path(os.path.normpath(path))
    below = path.relative_to(root / NIGHT)
    assert below.parts[0] == OBSERVATION or below in {
        Path("records", f"{OBSERVATION}.json"),
        Path("records", f"{NIGHT}.json"),
        *(Path("summary", "psflib", f"{OBSERVATION}.{suffix}") for suffix in ("fits", "png")),
    }
