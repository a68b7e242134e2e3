"""What the catalogue keeps of PSF candidates, in each of its homes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from roboao_assets.storage.catalogue import new_observation
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_candidates import (
    add_candidate,
    candidate_record,
    read_candidates,
    remove_star,
    section_of,
)
from roboao_assets.storage.psf_library import (
    PsfEntry,
    PsfLibrary,
    PsfLibraryError,
    write_psf_candidate,
)
from roboao_assets.storage.raw_names import parse_exposure_name

NIGHT = "20170607"
EARLY, LATE, FAILED = (
    f"{program}_HD_1_VIC_Si_o_{NIGHT}_{hour}3211.367797"
    for program, hour in (("9", "03"), ("4.1", "05"), ("4", "04"))
)


def make_entry(observation, seed=0):
    return PsfEntry(
        obs_name=observation,
        obj_name="HD_1",
        filter_name="Si",
        telescope="KPNO_2.1m",
        strehl_percent=10.0,
        frame=np.random.default_rng(seed).normal(size=(21, 21)).astype(np.float32),
    )


def publish(catalogue, paths, entry):
    write_psf_candidate(paths.psf_candidate(NIGHT, entry.obs_name, "fits"), entry)
    record = {"observation": entry.obs_name, "sha256": entry.sha256, "elongation": np.nan}
    catalogue.publish_night(NIGHT, section_of(entry.obs_name), record | {"in_lib": False})


@pytest.fixture
def paths(tmp_path):
    return ArchivePaths(tmp_path / "tree")


def test_candidates_published_at_once_are_all_there_in_time_order(catalogue, paths):
    entries = [make_entry(LATE, 1), make_entry(EARLY, 2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda entry: publish(catalogue, paths, entry), entries))
    found = read_candidates(catalogue, paths, NIGHT)
    assert [c.observation for c in found] == [EARLY, LATE]
    assert all(c.is_candidate and not c.in_library for c in found)
    assert np.isnan(found[0].elongation)
    assert read_candidates(catalogue, paths, "20170608") == ()


def test_adding_and_removing_is_told_in_the_record_and_a_failure_by_its_id(catalogue, paths):
    publish(catalogue, paths, make_entry(LATE))
    catalogue.register_observation(new_observation(parse_exposure_name(FAILED)))
    catalogue.record_night_failure(NIGHT, section_of(FAILED), "the disk was full")
    add_candidate(catalogue, paths, NIGHT, LATE, by="duev")
    failed, added = read_candidates(catalogue, paths, NIGHT)
    assert (failed.observation, failed.status) == (FAILED, "the disk was full")
    assert (failed.is_candidate, added.in_library, added.same_frame) == (False, True, True)
    assert candidate_record(catalogue, NIGHT, LATE)["in_lib"] is True
    with pytest.raises(PsfLibraryError, match="in the PSF library already"):
        add_candidate(catalogue, paths, NIGHT, LATE, by="duev")
    with pytest.raises(PsfLibraryError, match="the disk was full"):
        add_candidate(catalogue, paths, NIGHT, FAILED, by="duev")

    publish(catalogue, paths, make_entry(LATE, 7))
    assert not read_candidates(catalogue, paths, NIGHT)[1].same_frame
    remove_star(catalogue, paths, LATE, by="duev", comment="made anew")
    assert candidate_record(catalogue, NIGHT, LATE)["in_lib"] is False
    assert not read_candidates(catalogue, paths, NIGHT)[1].in_library
    assert PsfLibrary(paths.psf_library).history()[-1].comment == "made anew"


def test_a_star_that_the_catalogue_does_not_know_can_be_removed(catalogue, paths):
    for name in ("no id", EARLY):
        PsfLibrary(paths.psf_library).add(make_entry(name))
        remove_star(catalogue, paths, name, by="duev")
    assert catalogue.night(NIGHT) is None, "no record is made up"
