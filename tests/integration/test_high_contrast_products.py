"""References, residuals, candidates and contrast curves of a small night, for both stacks."""

import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.observation import reduce_observation
from roboao_assets.pipelines.psf_candidates import add_to_library
from roboao_assets.pipelines.stacks import BRIGHT_STAR, FAINT_STAR
from roboao_assets.storage.catalogue import open_catalogue, product
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_library import PsfLibrary
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
KINDS = (BRIGHT_STAR, FAINT_STAR)
HIGH_CONTRAST = tuple(stage for kind in KINDS for stage in (kind.residual, kind.contrast))


def reduce(settings, observation, **options):
    made = reduce_observation(settings.model_dump_json(), NIGHT, observation, **options)
    return {outcome.stage: outcome for outcome in made}


def document_of(settings, observation):
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        return catalogue.observation(observation)


@pytest.fixture(scope="module")
def settings(small_night, tmp_path_factory):
    return Settings(
        raw_roots=(small_night,),
        archive_root=tmp_path_factory.mktemp("high_contrast") / "archive",
        threads=2,
        decisions={"faint_star": {"all": []}},
    )


@pytest.fixture(scope="module")
def with_empty_library(settings, small_observations):
    for stage in (
        stages.register_night,
        stages.make_master_darks,
        stages.make_master_flats,
        stages.make_bad_pixel_mask,
    ):
        assert stage(settings, NIGHT).succeeded
    return {name: reduce(settings, name) for name in small_observations}


@pytest.fixture(scope="module")
def outcomes(settings, with_empty_library, small_observations):
    for name in small_observations:
        add_to_library(settings, name, by="test", comment="single star")
    made = {name: reduce(settings, name) for name in small_observations}
    assert stages.summarise_contrast(settings, NIGHT).status == "done"
    return made


def test_empty_library_is_a_reason_in_words(with_empty_library):
    for made in with_empty_library.values():
        for stage in HIGH_CONTRAST:
            assert made[stage].status == "skipped"
            assert "library.references (frames of other objects" in made[stage].reason
            assert "is 0, and 'library.references >= 1' is false" in made[stage].reason


def test_library_holds_frames_with_modes_and_history(settings, outcomes, small_observations):
    library = PsfLibrary(ArchivePaths(settings.archive_root).psf_library)
    entries = library.entries()
    assert [entry.obs_name for entry in entries] == list(small_observations)
    for entry in entries:
        assert entry.frame.shape == (201, 201)
        assert entry.modes.shape == (15, 201, 201)
        norms = np.linalg.norm(entry.modes.reshape(15, -1), axis=1)
        assert (np.diff(norms) <= 0).all()
        # The strongest mode is the star itself.
        strongest = abs(np.corrcoef(entry.modes[0].ravel(), entry.frame.ravel())[0, 1])
        assert strongest > 0.95
    assert [change.action for change in library.history()] == ["added", "added"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.pipeline)
def test_products_of_the_residual(settings, outcomes, small_observations, kind):
    paths = ArchivePaths(settings.archive_root)
    for name, other in zip(small_observations, small_observations[::-1], strict=True):
        made = outcomes[name][kind.residual]
        assert made.status == "done", made.reason
        with fits.open(paths.pca(NIGHT, name, kind.pipeline, "pca.fits")) as hdus:
            residual, header = hdus[0].data, hdus[0].header
        assert residual.shape == (201, 201)
        assert np.isfinite(residual).all()
        # The only other star; never the object itself.
        assert (header["NREF"], header["REF1"]) == (1, other)
        assert header["NCOMP"] >= 1
        assert -1 <= header["REFCOR1"] <= 1
        assert header["CORRIN"] == pytest.approx(header["FWHM"])
        assert header["CORROUT"] == pytest.approx(8 * header["FWHM"])
        with fits.open(paths.pca(NIGHT, name, kind.pipeline, "snr.fits")) as hdus:
            snr = hdus[0].data
        assert np.isnan(snr[100, 100])
        assert np.isfinite(snr[100, 130])
        record = product(document_of(settings, name), f"{kind.pipeline}.pca")
        assert record["components"] == header["NCOMP"]
        assert record["library_psf_id_corr"] == [[other, pytest.approx(header["REFCOR1"])]]
        assert record["false_alarms_expected"] == pytest.approx(header["FALSEEXP"])
        table = Table.read(
            paths.pca(NIGHT, name, kind.pipeline, "candidates.ecsv"), format="ascii.ecsv"
        )
        assert table.colnames == ["sep_arcsec", "pa_deg", "dmag", "snr", "fap", "x", "y"]
        assert len(table) == len(record["candidates"]) == header["NCAND"]
        assert (table["snr"] >= settings.high_contrast.candidate_snr).all()
        for row, candidate in zip(table, record["candidates"], strict=True):
            assert row["dmag"] == candidate["contrast_mag"]
            assert row["fap"] == candidate["false_alarm_probability"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.pipeline)
def test_products_of_the_curve(settings, outcomes, small_observations, kind):
    paths = ArchivePaths(settings.archive_root)
    for name in small_observations:
        text = np.loadtxt(paths.pca(NIGHT, name, kind.pipeline, "contrast_curve.txt"))
        table = Table.read(
            paths.pca(NIGHT, name, kind.pipeline, "contrast_curve.ecsv"), format="ascii.ecsv"
        )
        np.testing.assert_allclose(text[:, 0], table["separation_arcsec"], atol=1e-5)
        np.testing.assert_allclose(text[:, 1], table["contrast_mag"], atol=1e-4)
        assert table["separation_arcsec"].unit == "arcsec"
        loss_mag = table["contrast_mag"] - table["blind_contrast_mag"]
        assert loss_mag[table["apertures"] <= 12].mean() > 0
        assert (table["throughput"] <= 1.05).all()
        assert (table["noise"] > 0).all()
        assert table.meta["sigma"] == 5.0
        record = product(document_of(settings, name), f"{kind.pipeline}.pca")
        np.testing.assert_allclose(record["contrast_curve"][1], table["contrast_mag"])
        first, last = table["separation_arcsec"][[0, -1]]
        for key, separation in {
            "contrast_0_2_arcsec_mag": 0.2,
            "contrast_0_5_arcsec_mag": 0.5,
            "contrast_1_arcsec_mag": 1.0,
            "contrast_2_arcsec_mag": 2.0,
        }.items():
            at = np.interp(separation, table["separation_arcsec"], table["contrast_mag"])
            inside = first <= separation <= last
            assert record[key] == (pytest.approx(at) if inside else None)


def test_pictures_are_in_the_archive_and_in_the_catalogue(settings, outcomes, small_observations):
    paths = ArchivePaths(settings.archive_root)
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        for name in small_observations:
            for kind in KINDS:
                for picture in ("pca", "snr_map", "contrast_curve"):
                    file = paths.pca(NIGHT, name, kind.pipeline, f"{picture}.png")
                    assert file.read_bytes().startswith(b"\x89PNG")
                    stored = catalogue.image(f"{name}/{kind.pipeline}/{picture}")
                    assert stored == file.read_bytes()


def test_companions_of_the_truth_are_candidates(settings, outcomes, small_night):
    """Where the truth has a companion that the curve says would be seen, it is the first."""
    truth = json.loads((small_night / NIGHT / "truth.json").read_text())
    seen = 0
    for observation in truth["observations"]:
        record = product(document_of(settings, observation["id"]), "bright_star.pca")
        separation, contrast = (np.array(a) for a in record["contrast_curve"])
        for companion in observation["companions"]:
            place = companion["sep_arcsec"]
            limit = np.interp(place, separation, contrast, left=-1, right=-1)
            if companion["dmag"] < limit - 1:
                seen += 1
                first = record["candidates"][0]
                assert first["separation_arcsec"] == pytest.approx(place, abs=0.02)
    assert seen == sum(len(o["companions"]) for o in truth["observations"])


def test_nothing_is_made_again_of_the_same(settings, outcomes, small_observations):
    again = reduce(settings, small_observations[0], stages=HIGH_CONTRAST)
    for stage, outcome in again.items():
        assert outcome.status == "unchanged"
        assert outcome.fingerprint == outcomes[small_observations[0]][stage].fingerprint
    path = ArchivePaths(settings.archive_root).pca(
        NIGHT, small_observations[0], "bright_star", "snr.fits"
    )
    path.unlink()
    again = reduce(settings, small_observations[0], stages=HIGH_CONTRAST)
    assert path.exists()
    assert again[BRIGHT_STAR.residual].status == "done"
    assert again[FAINT_STAR.residual].status == "unchanged"


def test_numbers_of_references_and_components_are_settings(settings, outcomes, small_observations):
    name = small_observations[0]
    fixed = settings.model_copy(
        update={
            "high_contrast": settings.high_contrast.model_copy(
                update={"components": 3, "references": 1, "annulus_fwhm": 3.0}
            )
        }
    )
    made = reduce(fixed, name, stages=(BRIGHT_STAR.residual,))
    assert made[BRIGHT_STAR.residual].metadata["components"] == 3
    header = fits.getheader(
        ArchivePaths(settings.archive_root).pca(NIGHT, name, "bright_star", "pca.fits")
    )
    assert header["NCOMP"] == 3
    assert header["PCAANN"] == pytest.approx(3 * header["FWHM"])
    back = reduce(settings, name, stages=(BRIGHT_STAR.residual,))
    assert back[BRIGHT_STAR.residual].status == "done"


def test_star_at_the_edge_is_a_reason_in_words(settings, outcomes, small_observations):
    name = small_observations[0]
    lock = product(document_of(settings, name), "bright_star")["lock_position"]
    stages_asked = (BRIGHT_STAR.residual, BRIGHT_STAR.contrast)
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        catalogue.publish(name, "bright_star", {"lock_position": [9.0, 12.0]})
    made = reduce(settings, name, stages=stages_asked, force=True)
    for outcome in made.values():
        assert outcome.status == "skipped"
        assert "the star is too close to its edge" in outcome.reason
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        catalogue.publish(name, "bright_star", {"lock_position": lock})
    made = reduce(settings, name, stages=stages_asked, force=True)
    assert {outcome.status for outcome in made.values()} == {"done"}


def test_only_the_object_itself_is_a_reason_in_words(settings, outcomes, small_observations):
    """Last of all: it takes the other star out of the library."""
    own, other = small_observations
    library = PsfLibrary(ArchivePaths(settings.archive_root).psf_library)
    library.remove(other, by="test")
    made = reduce(settings, own, stages=(BRIGHT_STAR.residual, BRIGHT_STAR.contrast))
    for outcome in made.values():
        assert outcome.status == "skipped"
        assert "library.references (frames of other objects in the PSF library" in outcome.reason
        assert "is 0" in outcome.reason
    # What was made before is not taken away.
    assert ArchivePaths(settings.archive_root).pca(NIGHT, own, "bright_star", "pca.fits").exists()
