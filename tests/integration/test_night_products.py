"""A simulated night through every stage, against its truth; and again, and with bad files."""

import bz2
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from PIL import Image

from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.night_table import night_rows
from roboao_assets.pipelines.observation import OBSERVATION_STAGES, reduce_observation
from roboao_assets.pipelines.stacks import BRIGHT_STAR, FAINT_STAR
from roboao_assets.storage.catalogue import open_catalogue, product
from roboao_assets.storage.files import PARTIAL_PREFIX
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.raw_night import read_night
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
NIGHT_STAGES = (
    stages.register_night,
    stages.make_master_darks,
    stages.make_master_flats,
    stages.make_bad_pixel_mask,
    stages.measure_night_seeing,
)
SUMMARIES = (stages.summarise_strehl, stages.summarise_contrast, stages.report_night)


def link_night(source: Path, target: Path) -> Path:
    """A raw root of its own, whose files are the source's until they are replaced."""
    (target / NIGHT).mkdir(parents=True)
    for path in (source / NIGHT).iterdir():
        os.link(path, target / NIGHT / path.name)
    return target


def prepare(settings):
    return {o.stage: o for o in (stage(settings, NIGHT) for stage in NIGHT_STAGES)}


def reduce(settings, observation, **options):
    made = reduce_observation(settings.model_dump_json(), NIGHT, observation, **options)
    return {outcome.stage: outcome for outcome in made}


def catalogue_of(settings):
    return open_catalogue(settings.resolved_catalogue_url, read_only=True)


@pytest.fixture(scope="module")
def settings(small_night, tmp_path_factory):
    root = tmp_path_factory.mktemp("products")
    raw = link_night(small_night, root / "raw")
    return Settings(
        raw_roots=(raw,),
        archive_root=root / "archive",
        threads=2,
        bright_star={"selections_percent": (1, 10, 20, 50, 100)},
        decisions={"faint_star": {"all": []}},
    )


@pytest.fixture(scope="module")
def truth(small_night):
    return json.loads((small_night / NIGHT / "truth.json").read_text())


@pytest.fixture(scope="module")
def reduced(settings):
    outcomes = prepare(settings)
    for exposure in read_night(settings.raw_roots, NIGHT).observations:
        for outcome in reduce(settings, exposure.id).values():
            outcomes[exposure.id, outcome.stage] = outcome
    outcomes |= {o.stage: o for o in (stage(settings, NIGHT) for stage in SUMMARIES)}
    return outcomes


def test_everything_that_can_be_made_is_made(reduced):
    status = {key: outcome.status for key, outcome in reduced.items()}
    # No star is a resolved object.
    skipped = {"contrast_summary", "extended_object"}
    for kind in (BRIGHT_STAR, FAINT_STAR):
        skipped |= {kind.residual, kind.contrast}
    for key, value in status.items():
        stage = key if isinstance(key, str) else key[1]
        assert value == ("skipped" if stage in skipped else "done"), reduced[key].reason
    reasons = {o.stage: o.reason for o in reduced.values() if o.status == "skipped"}
    said = reasons.pop("extended_object")
    assert said.startswith("extended_object does not run by the chain decisions.extended_object")
    assert all("PSF library" in reason for reason in reasons.values())


def test_tree(reduced, settings, small_observations):
    root = settings.archive_root / NIGHT
    expected = {
        "calib/bad_pixels.fits",
        f"summary/seeing/seeing.{NIGHT}.txt",
        f"summary/seeing/seeing.{NIGHT}.png",
        f"summary/strehl.{NIGHT}.png",
        f"summary/strehl.{NIGHT}.ecsv",
        f"summary/report.{NIGHT}.html",
    }
    for name in small_observations:
        folder = f"{name}/bright_star"
        whole = ("sum.fits", "psfs.fits", "short_stacks.fits", "quick_look.fits")
        expected |= {f"{folder}/{f}" for f in whole}
        for percent in (1, 10, 20, 50, 100):
            expected |= {f"{folder}/{percent}p.fits", f"{folder}/{percent}p_weight.fits"}
        faint = ("shifts.txt", f"{name}_summed.fits", f"{name}_simple_sum.fits")
        expected |= {f"{name}/faint_star/{f}" for f in faint}
        expected |= {f"{folder}/frames.txt", f"{folder}/sorted.txt"}
        for of_stack in (folder, f"{name}/faint_star"):
            expected |= {f"{of_stack}/preview/{name}_{kind}.png" for kind in ("full", "cropped")}
            expected |= {f"{of_stack}/strehl/{name}_{f}" for f in ("strehl.txt", "box.fits")}
        expected |= {f"summary/psflib/{name}.{suffix}" for suffix in ("fits", "png")}
        expected.add(f"{name}/{name}.tar.bz2")
    there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert expected <= there
    assert not [path for path in there if PARTIAL_PREFIX in path]


def test_strehl_ratios_are_true(reduced, settings, truth):
    with catalogue_of(settings) as catalogue:
        for true in truth["observations"]:
            strehl = product(catalogue.observation(true["id"]), "bright_star.strehl")
            # With the light of neighbours, of which the measurement knows nothing.
            value = true["strehl_percent_whole_field"]
            assert strehl["ratio_percent"] == pytest.approx(value, abs=max(0.5, 0.05 * value))


def test_report_has_the_night_in_it(reduced, settings, small_observations):
    page = ArchivePaths(settings.archive_root).night_report(NIGHT).read_text()
    assert page.startswith("<!DOCTYPE html>")
    for name in small_observations:
        assert name in page
    # Two plots and a preview of each observation; there is no contrast curve yet.
    assert page.count("data:image/jpeg;base64,") == 2 + len(small_observations)
    assert "not measured this night" in page
    # It needs nothing else, and loads nothing.
    assert "http" not in page
    assert "<script" not in page
    assert stages.report_night(settings, NIGHT).status == "unchanged"


def test_best_fifth_is_sharper(reduced, settings, small_observations):
    paths = ArchivePaths(settings.archive_root)
    for name in small_observations:
        peak = {}
        for percent in (20, 100):
            with fits.open(paths.stack(NIGHT, name, percent)) as hdus:
                x, y = int(hdus[0].header["LOCK_X"]), int(hdus[0].header["LOCK_Y"])
                peak[percent] = hdus[0].data[y, x]
        assert peak[20] > 1.1 * peak[100]


def test_single_frames_are_shown_best_first(reduced, settings, small_observations):
    paths = ArchivePaths(settings.archive_root)
    with fits.open(paths.frame_psfs(NIGHT, small_observations[0])) as hdus:
        cube, header = hdus[0].data, hdus[0].header
    quality = [header[f"QUAL{k}"] for k in range(1, len(cube) + 1)]
    assert quality == sorted(quality, reverse=True)
    middle = cube.shape[1] // 2
    for image in cube[:3]:
        y, x = np.unravel_index(image.argmax(), image.shape)
        assert max(abs(y - middle), abs(x - middle)) <= 1
    with fits.open(paths.quick_look(NIGHT, small_observations[0])) as hdus:
        y, x = np.unravel_index(hdus[0].data.argmax(), hdus[0].data.shape)
    assert max(abs(y - middle), abs(x - middle)) <= 1


def test_faint_star_products_agree_with_the_bright_star_ones(reduced, settings, truth):
    paths = ArchivePaths(settings.archive_root)
    for true in truth["observations"]:
        shifts = np.loadtxt(paths.shifts_table(NIGHT, true["id"]))
        motion = np.array([true["frames"]["motion_x"], true["frames"]["motion_y"]], float)
        moved = shifts[:, 1:3].T - motion
        # The whole of the light follows the tilt, whatever its brightest speckle does.
        assert np.all(np.std(moved, axis=1) < 0.6)
        with fits.open(paths.faint_star_sum(NIGHT, true["id"], "summed")) as hdus:
            image, header = hdus[0].data, hdus[0].header
        y, x = int(header["LOCK_Y"]), int(header["LOCK_X"])
        near = np.nanmax(image[y - 12 : y + 13, x - 12 : x + 13])
        assert near == pytest.approx(np.nanmax(image), rel=1e-6)


def test_the_field_is_where_the_telescope_pointed(reduced, settings, small_observations):
    from astropy.wcs import WCS

    paths = ArchivePaths(settings.archive_root)
    with catalogue_of(settings) as catalogue:
        ra, dec = catalogue.observation(small_observations[0])["coordinates"]["radec"]
    header = fits.getheader(paths.stack(NIGHT, small_observations[0], 20))
    sky = WCS(header).pixel_to_world(255.5, 255.5)
    assert (sky.ra.rad, sky.dec.rad) == pytest.approx((ra, dec), abs=1e-7)
    assert header["WCSSRC"] == "pointing"


def test_frames_are_unpacked_once_for_both_pipelines(reduced, settings, small_observations):
    told = []
    reduce(
        settings,
        small_observations[0],
        # A stack that is made again is solved again, and packed.
        stages=(
            *("bright_star_stack", "faint_star_stack"),
            *("astrometric_solution", "distribution_package"),
        ),
        force=True,
        on_progress=lambda frames, part: told.append((frames, part)),
    )
    assert [frames for frames, _ in told] == [16, 32, 48, 60]
    parts = [part for _, part in told]
    assert parts == sorted(parts)
    assert 0 < parts[0] <= parts[-1] == 1


def test_registration_is_true(reduced, settings, truth):
    paths = ArchivePaths(settings.archive_root)
    for true in truth["observations"]:
        table = np.loadtxt(paths.frames_table(NIGHT, true["id"]))
        assert table.shape == (60, 6)
        x, y = (np.array(true["frames"][axis], float) for axis in "xy")
        error = np.hypot(table[:, 3] - x, table[:, 4] - y)
        # Frames of two like speckles may be put on the other one: they are few.
        assert np.median(error) < 0.1
        assert np.mean(error < 0.5) > 0.95


def test_seeing_is_true(reduced, settings, truth):
    with catalogue_of(settings) as catalogue:
        seeing = catalogue.night(NIGHT)["seeing"]
        observation = catalogue.observation(truth["observations"][0]["id"])
    assert len(seeing["frames"]) == len(truth["seeing"])
    measured = {row[0]: row[3] for row in seeing["frames"]}
    for true in truth["seeing"]:
        assert measured[true["id"]] == pytest.approx(true["fwhm_arcsec"], rel=0.05)
    paths = ArchivePaths(settings.archive_root)
    details = Table.read(paths.seeing_details(NIGHT), format="ascii.ecsv")
    assert list(details["id"]) == list(measured)
    # The turbulence of so short an exposure is a sample: some per cent.
    assert (details["fwhm_error_arcsec"] > 0).all()
    assert (details["fwhm_error_arcsec"] < 0.2 * details["fwhm_arcsec"]).all()
    assert (details["fwhm_moffat_arcsec"] == details["fwhm_arcsec"]).all()
    assert (abs(details["fwhm_gaussian_arcsec"] / details["fwhm_arcsec"] - 1) < 0.25).all()
    assert (details["airmass"] >= 1).all()
    with Image.open(paths.seeing_movie(NIGHT)) as movie:
        assert movie.n_frames == len(measured)
    assert observation["seeing"]["median"] == pytest.approx(seeing["median"])
    assert observation["seeing"]["nearest"][1] in measured.values()


def test_sorted_table_names_file_and_frame(reduced, settings, small_observations):
    name = small_observations[0]
    lines = ArchivePaths(settings.archive_root).sorted_table(NIGHT, name).read_text().splitlines()
    qualities = [float(line.split()[0]) for line in lines[1:]]
    assert qualities == sorted(qualities, reverse=True)
    assert lines[1].split()[-1].startswith(name)
    assert lines[1].endswith("]")


def test_products_say_where_they_come_from(reduced, settings, small_observations):
    paths = ArchivePaths(settings.archive_root)
    # A wrong checksum would be a warning, and warnings are errors.
    with fits.open(paths.stack(NIGHT, small_observations[0], 100), checksum=True) as hdus:
        header = hdus[0].header
    assert header["STAGE"] == "bright_star_stack"
    assert header["NRAW"] >= 1
    assert len(header["RSHA0001"]) == 64
    assert {header[f"CAL{k:04d}"] for k in (1, 2, 3)} >= {"bad_pixels.fits"}
    assert "DATASUM" in header


def test_previews_are_in_the_catalogue(reduced, settings, small_observations):
    with catalogue_of(settings) as catalogue:
        for name in small_observations:
            for kind in ("full", "cropped"):
                png = catalogue.image(f"{name}/bright_star/{kind}")
                assert png.startswith(b"\x89PNG")
        assert catalogue.image(f"{NIGHT}/seeing").startswith(b"\x89PNG")


def test_table_of_the_night(reduced, settings, small_observations):
    with catalogue_of(settings) as catalogue:
        rows = night_rows(catalogue, NIGHT)
    assert [row.observation for row in rows] == list(small_observations)
    assert all(row.status == "done" and row.classified_as == "high_flux" for row in rows)


def test_again_nothing_is_done(reduced, settings, small_observations):
    products = [p for p in (settings.archive_root / NIGHT).rglob("*") if p.is_file()]
    before = {p: p.stat().st_mtime_ns for p in products}
    again = prepare(settings)
    assert [again[s].status for s in ("master_darks", "master_flats", "bad_pixel_mask")] == [
        "unchanged"
    ] * 3
    assert again["seeing"].status == "unchanged"
    for name in small_observations:
        made = reduce(settings, name)
        # No star is a resolved object.
        assert made["extended_object"].status == "skipped"
        stacks = [s for s in OBSERVATION_STAGES[:5] if s != "extended_object"]
        assert {made[s].status for s in stacks} == {"unchanged"}
        assert made["strehl_ratio"].fingerprint == reduced[name, "strehl_ratio"].fingerprint
    assert stages.summarise_strehl(settings, NIGHT).status == "unchanged"
    after = {p: p.stat().st_mtime_ns for p in before}
    assert after == before


def test_lost_product_is_made_again_and_nothing_else(reduced, settings, small_observations):
    paths = ArchivePaths(settings.archive_root)
    box = paths.strehl_box(NIGHT, small_observations[0], "bright_star")
    content = box.read_bytes()
    box.unlink()
    made = reduce(settings, small_observations[0])
    assert made["bright_star_stack"].status == "unchanged"
    assert made["strehl_ratio"].status == "done"
    assert made["bright_star_preview"].status == "unchanged"
    assert box.read_bytes() == content


def test_changed_setting_remakes_what_depends_on_it(reduced, settings, small_observations):
    other = settings.model_copy(
        update={"bright_star": settings.bright_star.model_copy(update={"groups": 7})}
    )
    made = reduce(other, small_observations[1])
    assert made["bright_star_stack"].status == "done"
    assert made["strehl_ratio"].status == "done"
    back = reduce(settings, small_observations[1])
    assert back["strehl_ratio"].fingerprint == (
        reduced[small_observations[1], "strehl_ratio"].fingerprint
    )


# -- bad input ----------------------------------------------------------------------------------


def frames_of(path: Path, number: int) -> list[bytes]:
    """The first HDUs of a raw file, each as bytes."""
    raw = bz2.decompress(path.read_bytes())
    first, other = 2880, 2880
    while b"END     " not in raw[first - 2880 : first]:
        first += 2880
    size = -(-256 * 256 * 2 // 2880) * 2880
    hdus, at = [raw[: first + size]], first + size
    while b"END     " not in raw[at : at + other]:
        other += 2880
    for k in range(number - 1):
        hdus.append(raw[at + k * (other + size) : at + (k + 1) * (other + size)])
    return hdus


def small_shape(hdus):
    hdus[5] = hdus[5].replace(b"NAXIS1  =                  256", b"NAXIS1  =                  128")
    return bz2.compress(b"".join(hdus), 1)


def unknown_mode(hdus):
    at = hdus[0].index(b"MODE_NUM")
    card = b"MODE_NUM=                 9999".ljust(80)
    return bz2.compress(hdus[0][:at] + card + hdus[0][at + 80 :] + b"".join(hdus[1:]), 1)


BAD_FILES = {
    "truncated bzip2": (lambda h: bz2.compress(b"".join(h), 1)[:-5000], r"ends|truncated|cut"),
    "zero bytes": (lambda _: b"", r"empty|zero bytes"),
    "no bzip2": (lambda h: h[0], r"bzip2"),
    "no FITS": (lambda _: bz2.compress(b"no image at all " * 1000, 1), r"FITS"),
    "another shape": (small_shape, r"256 x 256|128 x 256"),
    "truncated FITS": (lambda h: bz2.compress(b"".join(h)[:-3000], 1), r"ends|truncated|cut"),
    "unknown mode": (unknown_mode, r"MODE_NUM"),
}


@pytest.fixture(scope="module")
def bad_settings(small_night, settings, reduced, tmp_path_factory):
    """The same night in an archive of its own, calibrated already."""
    root = tmp_path_factory.mktemp("bad")
    raw = link_night(small_night, root / "raw")
    bad = Settings(raw_roots=(raw,), archive_root=root / "archive", threads=2)
    prepare(bad)
    return bad


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file_fails_in_a_sentence_and_leaves_nothing(
    kind, bad_settings, small_night, small_observations
):
    spoil, pattern = BAD_FILES[kind]
    name = next(
        n for n in small_observations if not (small_night / NIGHT / f"{n}_0.fits.bz2").exists()
    )
    path = bad_settings.raw_roots[0] / NIGHT / f"{name}.fits.bz2"
    content = spoil(frames_of(small_night / NIGHT / path.name, 24))
    path.unlink()
    path.write_bytes(content)
    assert stages.register_night(bad_settings, NIGHT).status == "done"
    made = reduce(bad_settings, name)
    stack = made["bright_star_stack"]
    assert stack.status == "failed"
    assert not stack.retryable
    assert re.search(pattern, stack.reason), stack.reason
    assert "defect" not in stack.reason
    assert all(made[stage].status == "failed" for stage in ("strehl_ratio", "contrast_curve"))
    folder = ArchivePaths(bad_settings.archive_root).observation(NIGHT, name)
    assert not [p for p in folder.rglob("*") if p.is_file()]
    with catalogue_of(bad_settings) as catalogue:
        status = product(catalogue.observation(name), "bright_star")["status"]
        row = next(r for r in night_rows(catalogue, NIGHT) if r.observation == name)
    assert status["done"] is False
    assert status["retries"] >= 1
    assert row.status == "failed"
    assert any(re.search(pattern, reason) for reason in row.reasons)


def test_unknown_filter(bad_settings, small_night, small_observations):
    name = small_observations[0]
    other = name.replace("_Si_", "_H2O_").replace("_lp600_", "_H2O_")
    os.link(
        small_night / NIGHT / f"{name}.fits.bz2",
        bad_settings.raw_roots[0] / NIGHT / f"{other}.fits.bz2",
    )
    stages.register_night(bad_settings, NIGHT)
    reason = reduce(bad_settings, other)["bright_star_stack"].reason
    assert "filter 'H2O' is not in the profile KPNO_2.1m" in reason


def test_name_that_does_not_parse_is_told_of(bad_settings):
    stray = bad_settings.raw_roots[0] / NIGHT / "what is this.fits.bz2"
    stray.write_bytes(b"x")
    outcome = stages.register_night(bad_settings, NIGHT)
    with catalogue_of(bad_settings) as catalogue:
        problems = dict(catalogue.night(NIGHT)["raw"]["problems"])
    assert outcome.metadata["problems"] >= 1
    assert "neither <program>_<object>" in problems["what is this.fits.bz2"]


def test_missing_calibration(small_night, small_observations, tmp_path):
    raw = link_night(small_night, tmp_path / "raw")
    for path in (raw / NIGHT).glob("flat_*"):
        path.unlink()
    settings = Settings(raw_roots=(raw,), archive_root=tmp_path / "archive")
    made = prepare(settings)
    assert made["master_darks"].status == made["master_flats"].status == "failed"
    assert "0 flat files" in made["master_flats"].reason
    assert "no other night of the archive has masters yet" in made["master_flats"].reason
    stack = reduce(settings, small_observations[0])["bright_star_stack"]
    assert stack.status == "failed"
    assert "materialise master_flats of that night" in stack.reason
    with catalogue_of(settings) as catalogue:
        assert "0 flat files" in catalogue.night(NIGHT)["calib"]["reason"]


def test_night_that_is_not_there(tmp_path):
    settings = Settings(raw_roots=(tmp_path,), archive_root=tmp_path / "archive")
    outcome = stages.register_night(settings, "20170607")
    assert outcome.status == "failed"
    assert str(tmp_path) in outcome.reason


def test_observation_taken_by_another_run(settings, reduced, small_observations):
    name = small_observations[0]
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        assert catalogue.claim(name, "reduction", "another run", ttl_s=60)
    made = reduce(settings, name)
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        catalogue.release(name, "reduction", "another run")
    assert made["bright_star_stack"].status == "failed"
    assert "by another run" in made["bright_star_stack"].reason
