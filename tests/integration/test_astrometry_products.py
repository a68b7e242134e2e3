"""The stacks of an observation carry world coordinates: of the pointing, or of field stars."""

import json
import os

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from typer.testing import CliRunner

from roboao_assets.cli import app
from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.distortion_epoch import solve_epoch
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.science.distortion import linear_distortion
from roboao_assets.science.errors import FitFailedError, RawDataError
from roboao_assets.science.sky_catalogue import deproject, project
from roboao_assets.storage.catalogue import open_catalogue, product
from roboao_assets.storage.distortion_files import read_distortion, write_distortion
from roboao_assets.storage.fits_products import read_image, replace_cards, write_image
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
STACK, STAGE = "bright_star_stack", "astrometric_solution"


@pytest.fixture(scope="module")
def archive(small_night, tmp_path_factory):
    root = tmp_path_factory.mktemp("astrometry")
    (root / "raw" / NIGHT).mkdir(parents=True)
    for path in (small_night / NIGHT).iterdir():
        os.link(path, root / "raw" / NIGHT / path.name)
    settings = Settings(raw_roots=(root / "raw",), archive_root=root / "archive", threads=2)
    stages.register_night(settings, NIGHT)
    for make in (stages.make_master_darks, stages.make_master_flats, stages.make_bad_pixel_mask):
        make(settings, NIGHT)
    return settings


def reduce(settings, observation, *wanted, **options):
    made = reduce_observation(
        settings.model_dump_json(), NIGHT, observation, stages=wanted, **options
    )
    return {outcome.stage: outcome for outcome in made}


def astrometry_of(settings, observation, name="bright_star.astrometry"):
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        return product(catalogue.observation(observation), name)


@pytest.fixture(scope="module")
def pointed(archive, small_observations):
    return reduce(archive, small_observations[0], STACK, STAGE)


def test_without_a_catalogue_the_pointing_is_told_with_the_reason(
    pointed, archive, small_observations
):
    name = small_observations[0]
    assert pointed[STAGE].status == "done", pointed[STAGE].reason
    known = astrometry_of(archive, name)
    assert known["wcs_source"] == "pointing"
    assert "astrometry.catalogue names no table" in known["reason_unsolved"]
    paths = ArchivePaths(archive.archive_root.absolute())
    raw_header = fits.getheader(paths.stack_sum(NIGHT, name))
    header = fits.getheader(paths.stack(NIGHT, name, 100))
    assert (header["WCSSRC"], header["RADESYS"], header["ASTSTARS"]) == ("pointing", "ICRS", 0)
    fine, coarse = (
        WCS(h).all_pix2world([[(h["NAXIS1"] - 1) / 2, (h["NAXIS2"] - 1) / 2]], 0)[0]
        for h in (header, raw_header)
    )
    assert fine == pytest.approx(coarse, abs=1e-8)
    table = Table.read(paths.astrometry(NIGHT, name, "bright_star", "stars.ecsv"))
    assert len(table) == 0
    assert table.meta["wcs_source"] == "pointing"
    # DATASUM and CHECKSUM hold.
    with fits.open(paths.stack(NIGHT, name, 100), checksum=True) as units:
        assert units[0].verify_datasum() == 1
        assert units[0].verify_checksum() == 1


def test_nothing_is_made_twice_and_a_new_stack_is_solved_again(
    pointed, archive, small_observations
):
    name = small_observations[0]
    again = reduce(archive, name, STACK, STAGE)
    assert {o.status for o in again.values()} == {"unchanged"}
    reduce(archive, name, STACK, force=True)
    assert reduce(archive, name, STAGE)[STAGE].status == "done"
    assert {o.status for o in reduce(archive, name, STACK, STAGE).values()} == {"unchanged"}


@pytest.fixture(scope="module")
def solvable(pointed, archive, small_observations, tmp_path_factory):
    """A stack with nine field stars, turned and off by 10 arcsec, and a catalogue of them."""
    name = small_observations[0]
    path = ArchivePaths(archive.archive_root.absolute()).stack(NIGHT, name, 100)
    image, header = read_image(path)
    height, width = image.shape
    rng = np.random.default_rng(3)
    image = rng.normal(0, 1, image.shape)
    x, y = rng.uniform(25, width - 25, 9), rng.uniform(25, height - 25, 9)
    ys, xs = np.mgrid[:height, :width]
    for one_x, one_y in zip(x, y, strict=True):
        image += 300 * np.exp(-((xs - one_x) ** 2 + (ys - one_y) ** 2) / (2 * 2.5**2))
    ra, dec = WCS(header).all_pix2world([[(width - 1) / 2, (height - 1) / 2]], 0)[0]
    true = linear_distortion(
        shape=image.shape, plate_scale_arcsec=header["PIXSCALE"], y_axis_pa_deg=0.5
    )
    true_ra, true_dec = deproject((8.0, -6.0), ra, dec)
    sky = np.array([deproject(o, true_ra, true_dec) for o in true.offsets(x, y)])
    cards = [(c.keyword, c.value, c.comment) for c in header.cards if c.keyword]
    write_image(path, image, cards)
    catalogue = tmp_path_factory.mktemp("sky") / "stars.fits"
    Table(
        {"ra": sky[:, 0], "dec": sky[:, 1], "mag": np.full(9, 15.0), "epoch": np.full(9, 2017.43)}
    ).write(catalogue)
    settings = archive.model_copy(
        update={"astrometry": archive.astrometry.model_copy(update={"catalogue": str(catalogue)})}
    )
    return settings, path, (x, y), sky


def test_field_stars_give_the_stack_its_coordinates(solvable, small_observations):
    settings, path, (x, y), sky = solvable
    outcome = reduce(settings, small_observations[0], STAGE)[STAGE]
    assert outcome.status == "done", outcome.reason
    known = astrometry_of(settings, small_observations[0])
    assert known["wcs_source"] == "stars", known["reason_unsolved"]
    assert known["stars"] >= 8
    assert known["rms_mas"] < 20
    assert known["pointing_error_arcsec"] == pytest.approx(10, abs=0.1)
    assert abs(known["rotation_deg"]) == pytest.approx(0.5, abs=0.05)
    header = fits.getheader(path)
    assert header["ASTRMS"] == pytest.approx(known["rms_mas"])
    found = np.stack(WCS(header).all_pix2world(x, y, 0), axis=1)
    off = project(found[:, 0], found[:, 1], *sky[0]) - project(sky[:, 0], sky[:, 1], *sky[0])
    assert np.abs(off).max() < 0.02
    table = Table.read(
        ArchivePaths(settings.archive_root.absolute()).astrometry(
            NIGHT, small_observations[0], "bright_star", "stars.ecsv"
        )
    )
    assert table["used"].sum() == known["stars"]


def test_an_epochs_distortion_is_used_and_makes_the_solution_anew(solvable, small_observations):
    settings, path, _, _ = solvable
    paths = ArchivePaths(settings.archive_root.absolute())
    flat = linear_distortion(shape=(1024, 1024), plate_scale_arcsec=0.0351594)
    flat.a[2, 0] = 1e-6
    telescope = fits.getheader(path)["TELESCOP"]
    write_distortion(paths.distortion(telescope, "20170601"), flat)
    write_distortion(paths.distortion(telescope, "20180101"), flat)
    outcome = reduce(settings, small_observations[0], STAGE)[STAGE]
    assert outcome.status == "done", outcome.reason
    header = fits.getheader(path)
    assert header["ASTGEOM"] == f"{telescope}_20170601.ecsv"
    assert header["CTYPE1"] == "RA---TAN-SIP"
    assert header["WCSSRC"] == "stars"


def test_an_epoch_is_solved_on_a_field_of_stars(solvable, small_observations):
    settings, _, _, _ = solvable
    options = settings.astrometry.model_copy(update={"order": 1})
    solved = solve_epoch(settings.model_copy(update={"astrometry": options}), small_observations[0])
    assert solved.distortion.rms_mas < 20
    assert solved.distortion.shape == (1024, 1024)
    assert solved.distortion.y_axis_pa_deg == pytest.approx(0.5, abs=0.05)
    assert solved.plot.read_bytes().startswith(b"\x89PNG")
    # What was written is what was solved, and the middle of the frame its reference.
    back = read_distortion(solved.path)
    corner = np.array([400.0]), np.array([600.0])
    assert back.offsets(*corner) == pytest.approx(solved.distortion.offsets(*corner))
    assert (back.reference_x, back.reference_y) == pytest.approx((511.5, 511.5))
    assert back.matrix_error is not None
    solved.path.unlink()
    cubic = settings.model_copy(
        update={"astrometry": settings.astrometry.model_copy(update={"order": 3})}
    )
    with pytest.raises(FitFailedError, match="a distortion of order 3 needs"):
        solve_epoch(cubic, small_observations[0])
    assert not solved.path.exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.fits", "was looked for and is not there"),
        ("stars.txt", "none of FITS, ECSV and Parquet"),
        ("broken.fits", "cannot be read"),
        ("far.ecsv", "the catalogue has 0 near the field"),
    ],
)
def test_a_catalogue_that_does_not_help_leaves_the_pointing(
    pointed, archive, small_observations, tmp_path, name, reason
):
    table = tmp_path / name
    if name in ("stars.txt", "broken.fits"):
        table.write_text("nothing")
    elif name == "far.ecsv":
        Table({"ra": [1.0], "dec": [-80.0], "epoch": [2016.0]}).write(table, format="ascii.ecsv")
    settings = archive.model_copy(
        update={"astrometry": archive.astrometry.model_copy(update={"catalogue": str(table)})}
    )
    outcome = reduce(settings, small_observations[0], STAGE, force=True)[STAGE]
    assert outcome.status == "done", outcome.reason
    known = astrometry_of(settings, small_observations[0])
    assert known["wcs_source"] == "pointing"
    assert reason in known["reason_unsolved"]


def test_cards_are_replaced_and_the_data_stay(tmp_path):
    path = tmp_path / "a.fits"
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_image(path, image, [("CRVAL1", 1.0, ""), ("FILTER", "Si", "")])
    replace_cards(path, [("CRVAL2", 2.0, "")], remove=lambda k: k == "CRVAL1")
    back, header = read_image(path)
    assert (back == image).all()
    assert "CRVAL1" not in header
    assert (header["CRVAL2"], header["FILTER"]) == (2.0, "Si")


@pytest.fixture
def command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOAO_ARCHIVE_ROOT", str(tmp_path / "archive"))
    return CliRunner()


def test_a_published_solution_is_entered_from_the_command_line(command_line, tmp_path):
    names = ["x_tan", "y_tan", "M_11", "M_12", "M_21", "M_22"]
    names += ["a_02", "a_11", "a_20", "b_02", "b_11", "b_20"]
    values = [-1.7, -3.0, -1e-5, 0.0, 0.0, 1e-5, 0, 0, 0, -5e-5, 0, -5e-5]
    published = tmp_path / "kp.json"
    published.write_text(json.dumps({"source": "a paper", "order": names, "values": values}))
    asked = ["astrometry", "import", str(published), "--telescope", "KPNO_2.1m"]
    done = command_line.invoke(app, [*asked, "--night", "20170620"])
    assert done.exit_code == 0, done.output
    back = read_distortion(tmp_path / "archive" / "astrometry" / "KPNO_2.1m_20170620.ecsv")
    assert (back.source, back.b[0, 2]) == ("a paper", -5e-5)
    unknown = [*asked[:-1], "Keck", "--night", "20170620"]
    assert command_line.invoke(app, unknown).exit_code == 2


def test_an_unreduced_field_cannot_be_solved(command_line):
    asked = ["astrometry", "solve", "4_M13_VIC_Si_o_20170620_110427.040912"]
    failed = command_line.invoke(app, asked)
    assert isinstance(failed.exception, RawDataError)
    assert "no raw data of the night 20170620" in str(failed.exception)
