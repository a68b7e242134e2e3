"""A planet of a small night: stacked on its disc, deconvolved with a star of the night, or of
another; and with the better star, whenever that is reduced.
"""

import bz2
import io
from urllib.parse import unquote

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage
from scipy.signal import fftconvolve

from dashboards import markup, night_markup
from dashboards.collect import collect_night
from roboao_assets.night_run import run_night
from roboao_assets.orchestration.home import open_instance
from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.night_table import night_rows
from roboao_assets.pipelines.observation import OBSERVATION_STAGES, reduce_observation
from roboao_assets.pipelines.psf_candidates import add_to_library
from roboao_assets.storage.catalogue import open_catalogue, product
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings, load_settings

NIGHT = "20170607"
RADIUS_PX = 15.0
STAR_STAGES = ("bright_star_stack", "strehl_ratio", "extended_object")
OTHER_NIGHT = "20170608"
NEARER_STAR = "4_HD1_VIC_Si_o_20170607_112900.000000"
PLANET = "24_Titan_VIC_Si_o_20170607_113000.000000"


def disc_kernel():
    axis = np.arange(-20, 21.0)
    x, y = np.meshgrid(axis, axis)
    distance = np.hypot(x, y)
    light = np.clip(RADIUS_PX - distance + 0.5, 0, 1)
    light *= 1 - 0.6 * np.exp(-((x - 5) ** 2 + (y - 4) ** 2) / 2 / 2.0**2)
    return light / light.sum()


def turn_into_planet(star_file, planet_file):
    """What the star's frames would show of a disc 20 times as bright: the same AO, image motion."""
    rng = np.random.default_rng(1)
    kernel = disc_kernel()
    with fits.open(io.BytesIO(bz2.decompress(star_file.read_bytes()))) as units:
        for unit in units:
            frame = unit.data.astype(float)
            level = np.median(frame)
            blurred = np.maximum(fftconvolve(frame - level, kernel, mode="same"), 0.0) * 20.0
            noise = rng.normal(0.0, 6.0, frame.shape) + rng.normal(size=frame.shape) * np.sqrt(
                2.0 * blurred
            )
            unit.data = np.clip(np.rint(level + blurred + noise), 0, 65535).astype(np.uint16)
        buffer = io.BytesIO()
        units.writeto(buffer)
    planet_file.write_bytes(bz2.compress(buffer.getvalue(), 1))


def reduce(settings, observation, names, night=NIGHT, **options):
    made = reduce_observation(
        settings.model_dump_json(), night, observation, stages=names, **options
    )
    return {outcome.stage: outcome for outcome in made}


def record_of(settings, observation):
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        return product(catalogue.observation(observation), "extended_object")


@pytest.fixture(scope="module")
def star(small_observations):
    return next(o for o in small_observations if "_Si_" in o)


@pytest.fixture(scope="module")
def settings(small_night, star, tmp_path_factory):
    root = tmp_path_factory.mktemp("extended")
    night = root / "raw" / NIGHT
    night.mkdir(parents=True)
    for file in (small_night / NIGHT).iterdir():
        (night / file.name).symlink_to(file)
    turn_into_planet(night / f"{star}.fits.bz2", night / f"{PLANET}.fits.bz2")
    made = Settings(raw_roots=(root / "raw",), archive_root=root / "archive", threads=2)
    calibrate(made, NIGHT)
    return made


def calibrate(settings, night):
    for stage in (
        stages.register_night,
        stages.make_master_darks,
        stages.make_master_flats,
        stages.make_bad_pixel_mask,
    ):
        assert stage(settings, night).succeeded


@pytest.fixture(scope="module")
def without_psf(settings):
    made = reduce(settings, PLANET, ("bright_star_stack", "extended_object"))
    return made, record_of(settings, PLANET)


@pytest.fixture(scope="module")
def with_psf(settings, without_psf, star):
    assert reduce(settings, star, STAR_STAGES)["strehl_ratio"].status == "done"
    made = reduce(settings, PLANET, ("bright_star_stack", "extended_object"))
    return made, record_of(settings, PLANET)


def test_without_a_star_there_is_the_stack_and_a_reason(settings, without_psf):
    made, record = without_psf
    assert made["extended_object"].status == "done"
    assert record["deconvolved"] is False
    assert "no single bright star in Si was reduced in the night" in record["reason"]
    paths = ArchivePaths(settings.archive_root)
    assert paths.preview(NIGHT, PLANET, "extended_object", "cropped").exists()


def test_with_a_star_of_the_night_it_is_deconvolved(settings, with_psf, star):
    made, record = with_psf
    # A planet is no bright star.
    assert made["bright_star_stack"].status == "skipped"
    assert 'program not in ["24"]' in made["bright_star_stack"].reason
    assert made["extended_object"].status == "done"
    assert record["deconvolved"] is True, record["reason"]
    assert (record["psf_observation"], record["psf_origin"]) == (star, "night")
    assert record["flux_ratio"] == pytest.approx(1.0, abs=0.02)
    assert record["diameter_arcsec"] == pytest.approx(2 * RADIUS_PX * 0.0351594, rel=0.25)
    assert record["frames_used"] == 12
    path = ArchivePaths(settings.archive_root).extended_object(NIGHT, PLANET, "deconvolved")
    with fits.open(path) as units:
        header = units[0].header
        assert header["PSFOBS"] == star
        assert header["NITER"] == record["iterations"]
        assert units["PSF"].data.sum() == pytest.approx(1.0, abs=1e-4)
        assert units["RESIDUAL"].data.shape == units[0].data.shape
        assert units[0].data.min() >= 0
        stack = fits.getdata(path.with_name(f"{PLANET}_stack.fits"))
        rows, columns = (
            slice(int(header[f"CORNER_{a}"]), int(header[f"CORNER_{a}"]) + units[0].shape[i])
            for i, a in enumerate("YX")
        )
        before = stack[rows, columns] - header["BACKGRND"]

        # The limb is steeper, and the sky beside it darker, than in the stack.
        def slope(image):
            return np.hypot(*np.gradient(ndimage.gaussian_filter(image, 1.0))).max()

        assert slope(units[0].data) > 1.3 * slope(np.nan_to_num(before))


def test_its_previews_are_in_the_archive_and_the_catalogue(settings, with_psf):
    paths = ArchivePaths(settings.archive_root)
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        for kind in ("full", "cropped", "deconvolved"):
            png = paths.preview(NIGHT, PLANET, "extended_object", kind).read_bytes()
            assert catalogue.image(f"{PLANET}/extended_object/{kind}") == png


def test_the_same_again_is_unchanged(settings, with_psf):
    again = reduce(settings, PLANET, ("extended_object",))
    assert again["extended_object"].status == "unchanged"


def test_what_needs_a_stack_of_a_star_is_skipped(settings, with_psf):
    made = reduce(settings, PLANET, OBSERVATION_STAGES)
    assert made.pop("extended_object").status == "unchanged"
    assert made.pop("distribution_package").status == "done"
    assert {outcome.status for outcome in made.values()} == {"skipped"}
    assert all("decisions." in outcome.reason for outcome in made.values())
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        assert not product(catalogue.observation(PLANET), "bright_star.strehl").get("products")


def test_the_night_shows_the_planet_by_its_own_products(settings, with_psf, star):
    reduce(settings, PLANET, OBSERVATION_STAGES)
    for stage in (stages.summarise_strehl, stages.report_night):
        assert stage(settings, NIGHT).succeeded
    paths = ArchivePaths(settings.archive_root)
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        row = next(r for r in night_rows(catalogue, NIGHT) if r.observation == PLANET)
        observation = collect_night(catalogue, NIGHT, None).observations[-1]
        keys = catalogue.image_keys(observation=PLANET)
        night = catalogue.nights()[0]
    assert (row.classified_as, row.status, row.reasons) == ("extended_object", "done", ())
    assert (row.frames, row.strehl_percent) == (60, None)
    assert (night.done, night.failed) == (2, 0)
    # Two pictures of the planet, and the plot of the star's Strehl ratio.
    page = paths.night_report(NIGHT).read_text()
    assert page.count("data:image/jpeg;base64,") == 3
    assert observation.id == PLANET
    assert (observation.state, observation.classification) == ("done", "extended_object")
    assert [result.pipeline for result in observation.results] == ["extended_object"]
    assert observation.skipped == observation.failures == ()
    card = night_markup.observation_rows([observation], keys, night=NIGHT, total=1)
    for kind in ("full", "cropped", "deconvolved"):
        assert f"extended_object/{kind}" in unquote(card)
    whole = markup.observation_pictures(observation, keys, "extended_object")
    assert "before and after deconvolution, extended-object pipeline" in whole
    head = markup.pipeline_head(observation.results[0])
    assert "diameter" in head
    assert f"PSF {star}" in head


def test_a_star_is_left_alone(settings, with_psf, star):
    outcome = reduce(settings, star, ("extended_object",))["extended_object"]
    assert outcome.status == "skipped"
    assert 'is "4", and \'program in ["24"]\' is false' in outcome.reason
    assert "'no_core = true' is false" in outcome.reason


def test_a_star_of_a_planets_program_is_not_resolved(settings, with_psf, star):
    asked = settings.model_copy(
        update={
            "extended_object": settings.extended_object.model_copy(update={"min_size_ratio": 9.0})
        }
    )
    outcome = reduce(asked, PLANET, ("extended_object",))["extended_object"]
    assert outcome.status == "done"
    record = record_of(settings, PLANET)
    assert "not resolved" in record["reason"]
    path = ArchivePaths(settings.archive_root).extended_object(NIGHT, PLANET, "deconvolved")
    # What an earlier run made would pass for a product of this one.
    assert not path.exists()


def with_method(settings, method, monkeypatch):
    monkeypatch.setenv("ROBOAO_EXTENDED_OBJECT__METHOD", method)
    return settings.model_copy(update={"extended_object": load_settings().extended_object})


def test_the_myopic_method_is_asked_for_in_the_environment(
    settings, with_psf, star, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    myopic = with_method(settings, "myopic", monkeypatch)
    assert reduce(myopic, PLANET, ("extended_object",))["extended_object"].status == "done"
    record = record_of(myopic, PLANET)
    assert (record["deconvolved"], record["method"]) == (True, "myopic"), record["reason"]
    assert record["flux_ratio"] == pytest.approx(1.0, abs=0.02)
    path = ArchivePaths(settings.archive_root).extended_object(NIGHT, PLANET, "deconvolved")
    with fits.open(path) as units:
        assert (units[0].header["METHOD"], units[0].header["PSFOBS"]) == ("myopic", star)
        improved = units["PSF"].data.copy()
        assert improved.sum() == pytest.approx(1.0, abs=1e-3)
        assert units[0].data.min() >= 0
    # The other method is another product, its PSF the star's as it was.
    plain = with_method(settings, "richardson_lucy", monkeypatch)
    assert reduce(plain, PLANET, ("extended_object",))["extended_object"].status == "done"
    assert fits.getheader(path)["METHOD"] == "richardson_lucy"
    given = fits.getdata(path, "PSF")
    assert np.abs(improved - given).max() > 1e-3 * given.max()


def test_a_star_of_the_library_serves_where_the_night_has_none(settings, with_psf, star):
    night, planet = OTHER_NIGHT, PLANET.replace(NIGHT, OTHER_NIGHT)
    raw = settings.raw_roots[0]
    (raw / night).mkdir()
    for file in (raw / NIGHT).iterdir():
        if file.name.startswith(("dark_", "flat_", PLANET)):
            (raw / night / file.name.replace(NIGHT, night)).symlink_to(file.resolve())
    calibrate(settings, night)
    wanted = ("bright_star_stack", "extended_object")
    assert reduce(settings, planet, wanted, night)["extended_object"].status == "done"
    assert (
        "none of KPNO_2.1m in that filter is in the PSF library"
        in (record_of(settings, planet)["reason"])
    )
    reduce(settings, star, ("psf_candidate",))
    add_to_library(settings, star, by="tester", comment="single")
    assert reduce(settings, planet, wanted, night)["extended_object"].status == "done"
    record = record_of(settings, planet)
    assert record["deconvolved"] is True, record["reason"]
    assert (record["psf_observation"], record["psf_origin"]) == (star, "library")
    header = fits.getheader(
        ArchivePaths(settings.archive_root).extended_object(night, planet, "deconvolved")
    )
    assert (header["PSFOBS"], header["PSFFROM"]) == (star, "library")
    again = reduce(settings, planet, wanted, night)
    assert again["extended_object"].status == "unchanged"


def test_a_better_star_that_is_reduced_later_makes_it_stale(settings, with_psf, star):
    assert reduce(settings, PLANET, ("extended_object",), force=True)["extended_object"].succeeded
    assert record_of(settings, PLANET)["psf_observation"] == star
    raw = settings.raw_roots[0] / NIGHT
    (raw / f"{NEARER_STAR}.fits.bz2").symlink_to((raw / f"{star}.fits.bz2").resolve())
    assert stages.register_night(settings, NIGHT).succeeded
    # Not before it is reduced.
    assert reduce(settings, PLANET, ("extended_object",))["extended_object"].status == "unchanged"
    assert reduce(settings, NEARER_STAR, STAR_STAGES)["strehl_ratio"].status == "done"
    assert reduce(settings, PLANET, ("extended_object",))["extended_object"].status == "done"
    record = record_of(settings, PLANET)
    assert (record["psf_observation"], record["psf_origin"]) == (NEARER_STAR, "night")
    assert reduce(settings, PLANET, ("extended_object",))["extended_object"].status == "unchanged"


@pytest.mark.slow
def test_one_run_of_a_night_ends_with_the_star_that_any_order_gives(
    settings, star, tmp_path, monkeypatch
):
    """The planet is the first observation of the night, and no star is reduced before it."""
    raw = tmp_path / "raw" / NIGHT
    raw.mkdir(parents=True)
    early = PLANET.replace("_113000", "_010000")
    for file in (settings.raw_roots[0] / NIGHT).iterdir():
        if file.name.startswith(("dark_", "flat_", f"{star}.")):
            (raw / file.name).symlink_to(file.resolve())
        elif file.name.startswith(PLANET):
            (raw / f"{early}.fits.bz2").symlink_to(file.resolve())
    made = Settings(raw_roots=(tmp_path / "raw",), archive_root=tmp_path / "archive", workers=1)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    told = []
    with open_instance(made) as instance:
        run = run_night(made, NIGHT, instance, told.append)
    assert run.observations == (early, star)
    looks = [e for e in told if (e.partition, e.asset) == (early, "extended_object")]
    assert [e.status for e in looks] == ["done", "done"], run.problems
    record = record_of(made, early)
    assert (record["psf_observation"], record["psf_origin"]) == (star, "night")
    # A star is looked at once.
    assert len([e for e in told if (e.partition, e.asset) == (star, "extended_object")]) == 1
