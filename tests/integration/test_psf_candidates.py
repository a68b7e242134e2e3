"""PSF candidates of a simulated night: as a product, and on the command line."""

import multiprocessing
import os
import sqlite3
from concurrent.futures import ProcessPoolExecutor

import pytest
from typer.testing import CliRunner

from roboao_assets import cli
from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.storage.catalogue import open_catalogue, psf_candidate_key
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_candidates import preview_key
from roboao_assets.storage.psf_library import PsfLibrary, read_psf_candidate
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
MADE_OF = ("bright_star_stack", "strehl_ratio", "psf_candidate")


def reduce(settings, observation, made=("psf_candidate",), **options):
    outcomes = reduce_observation(
        settings.model_dump_json(), NIGHT, observation, stages=made, **options
    )
    return outcomes[-1]


@pytest.fixture(scope="module")
def settings(small_night, small_observations, tmp_path_factory):
    """A calibrated night whose observations have stacks, and a planet's raw file."""
    root = tmp_path_factory.mktemp("candidates")
    (root / "raw" / NIGHT).mkdir(parents=True)
    for path in (small_night / NIGHT).iterdir():
        os.link(path, root / "raw" / NIGHT / path.name)
    first = small_observations[0]
    source = small_night / NIGHT / f"{first}.fits.bz2"
    os.link(source, root / "raw" / NIGHT / f"{planet_of(first)}.fits.bz2")
    made = Settings(raw_roots=(root / "raw",), archive_root=root / "archive", threads=2)
    for stage in (
        stages.register_night,
        stages.make_master_darks,
        stages.make_master_flats,
        stages.make_bad_pixel_mask,
    ):
        assert stage(made, NIGHT).succeeded
    for observation in small_observations:
        assert reduce(made, observation, MADE_OF).status == "done"
    return made


def planet_of(observation):
    return "24.1_" + observation.partition("_")[2].replace("HIP", "Mars")


@pytest.fixture
def paths(settings):
    return ArchivePaths(settings.archive_root)


def record_of(settings, observation):
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        return (catalogue.night(NIGHT).get("psf_lib") or {}).get(psf_candidate_key(observation))


def test_a_candidate_is_a_centred_frame_with_its_quality_and_preview(
    settings, paths, small_observations
):
    first = small_observations[0]
    entry = read_psf_candidate(paths.psf_candidate(NIGHT, first, "fits"))
    assert entry.frame.shape == (201, 201)
    assert entry.frame[100, 100] == entry.frame.max()
    assert 1.0 <= entry.elongation < 1.3
    assert 0.05 < entry.fwhm_arcsec < 0.2
    record = record_of(settings, first)
    assert (record["done"], record["in_lib"], record["status"]) == (True, False, "candidate")
    assert record["sha256"] == entry.sha256
    assert record["strehl_percent"] == entry.strehl_percent > 0
    png = paths.psf_candidate(NIGHT, first, "png").read_bytes()
    assert png.startswith(b"\x89PNG")
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        assert catalogue.image(preview_key(NIGHT, first)) == png


def test_a_double_star_is_suspected(settings, small_observations):
    companions = [record_of(settings, name)["companion"] for name in small_observations]
    assert any(words.startswith("suspected: 0.8") for words in companions), companions


def test_what_was_made_is_left_alone_and_what_vanished_is_made_again(
    settings, paths, small_observations
):
    first, second = small_observations
    assert reduce(settings, first).status == "unchanged"
    preview = paths.psf_candidate(NIGHT, first, "png")
    content = preview.read_bytes()
    preview.unlink()
    assert reduce(settings, first).status == "done"
    assert preview.read_bytes() == content
    assert reduce(settings, second).status == "unchanged"


def test_records_unset_by_an_operator_are_made_again_at_once(settings, small_observations):
    file = settings.resolved_catalogue_url.removeprefix("sqlite:///")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE aux SET document = json_remove(document, '$.psf_lib')")
    database.close()
    assert record_of(settings, small_observations[0]) is None
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, mp_context=fork) as pool:
        outcomes = list(pool.map(reduce, [settings] * 2, small_observations))
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    assert all(record_of(settings, name)["done"] for name in small_observations)


def test_a_planet_is_no_candidate_and_the_record_says_why(settings, small_observations):
    planet = planet_of(small_observations[0])
    outcome = reduce(settings, planet)
    assert outcome.status == "skipped"
    assert 'is "24", and \'program not in ["24"]\' is false' in outcome.reason
    record = record_of(settings, planet)
    assert (record["done"], record["status"]) == (False, outcome.reason)


def test_the_command_line_lists_adds_and_removes(settings, paths, small_observations, monkeypatch):
    monkeypatch.setenv("ROBOAO_RAW_ROOTS", str(settings.raw_roots[0]))
    monkeypatch.setenv("ROBOAO_ARCHIVE_ROOT", str(settings.archive_root))
    monkeypatch.setattr(cli.console, "width", 220)
    first, second = small_observations
    planet = planet_of(first)

    def roboao(*words, status=0):
        done = CliRunner().invoke(cli.app, ["psf-library", *words])
        assert done.exit_code == status, done.output
        return done.output

    said = roboao("candidates", NIGHT)
    assert first in said
    assert "suspected: 0.8" in said
    assert str(paths.psf_candidate(NIGHT, "<id>", "png")) in said
    assert f"no candidate: {planet}" in said
    assert "no PSF candidates" in roboao("candidates", "20170101", status=2)

    # The candidate is made where it is not.
    paths.psf_candidate(NIGHT, second, "fits").unlink()
    said = roboao("add", first, second, planet, "gone", "--comment", "looks [red]single", status=1)
    assert said.count("added: ") == 2
    assert "is no candidate for the PSF library: psf_library does not run" in said
    assert "no observation gone" in said
    assert "in the PSF library already" in roboao("add", first, status=1)
    assert roboao("candidates", NIGHT).count("yes") == 2
    assert first in roboao("show")

    said = roboao("remove", first, "gone", "--comment", "double", status=1)
    assert f"removed: {first}" in said
    assert "gone is not in the PSF library" in said
    assert record_of(settings, first)["in_lib"] is False
    lines = roboao("show", "--history").splitlines()
    assert sum("added" in line and "looks [red]single" in line for line in lines) == 2
    assert any("removed" in line and "double" in line for line in lines)
    stars = PsfLibrary(paths.psf_library).entries()
    assert [star.obs_name for star in stars] == [second]
