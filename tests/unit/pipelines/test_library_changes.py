"""Which observations a change of the library makes stale, and in which words."""

import pytest
from library_stars import ID, NIGHT, SIDE, later, library_star, reduced

from roboao_assets.pipelines.library_changes import judge_references
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.psf_library import PsfLibrary


@pytest.fixture
def paths(tmp_path):
    return ArchivePaths(tmp_path)


@pytest.fixture
def catalogue(tmp_path):
    with open_catalogue(f"sqlite:///{tmp_path}/catalogue.sqlite") as opened:
        yield opened


@pytest.fixture
def library(paths):
    made = PsfLibrary(paths.psf_library)
    made.add(library_star("good", 0.95, 1))
    made.add(library_star("fair", 0.80, 2))
    return made


def judge(catalogue, paths, references=2):
    (judgement,) = judge_references(catalogue, paths, [NIGHT], references=references)
    assert judgement.observation == ID
    return judgement


def test_an_unchanged_library_leaves_all_current(catalogue, paths, library):
    reduced(catalogue, paths, ["good", "fair"])
    assert judge(catalogue, paths).current
    assert judge(catalogue, paths).sentence == ""


def test_a_star_that_was_removed(catalogue, paths, library):
    reduced(catalogue, paths, ["good", "fair"])
    library.remove("fair")
    judgement = judge(catalogue, paths)
    assert not judgement.current
    assert judgement.sentence == (
        "the library changed: fair was removed: materialise pca_residual to renew it"
    )


def test_a_star_that_was_replaced_and_one_that_came_back_the_same(catalogue, paths, library):
    reduced(catalogue, paths, ["good", "fair"])
    library.remove("fair")
    library.add(library_star("fair", 0.80, 2, added=later()))
    assert judge(catalogue, paths).current
    library.remove("fair")
    library.add(library_star("fair", 0.80, 3, added=later()))
    assert "the frame of fair was replaced" in judge(catalogue, paths).sentence


def test_a_better_star_is_told_with_its_correlation(catalogue, paths, library):
    reduced(catalogue, paths, ["good", "fair"])
    library.add(library_star("better", 0.99, 4, added=later()))
    sentence = judge(catalogue, paths).sentence
    assert sentence.startswith("the library changed: better was added (correlation 0.9")
    assert sentence.endswith("of the last reference): materialise pca_residual to use it")
    told = sentence.split("correlation ")[1].split(" of the")[0].split(" > ")
    assert float(told[0]) > float(told[1]) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"likeness": 0.5},
        {"likeness": 0.99, "obj_name": "HD-1"},
        {"likeness": 0.99, "filter_name": "lp600"},
        {"likeness": 0.99, "telescope": "Palomar_P60"},
    ],
)
def test_a_star_that_would_not_be_used_changes_nothing(catalogue, paths, library, changes):
    reduced(catalogue, paths, ["good", "fair"])
    library.add(library_star("other", changes.pop("likeness"), 5, added=later(), **changes))
    assert judge(catalogue, paths).current


def test_a_poor_star_counts_where_there_were_too_few(catalogue, paths, library):
    reduced(catalogue, paths, ["good", "fair"])
    library.add(library_star("poor", 0.3, 6, added=later()))
    sentence = judge(catalogue, paths, references=5).sentence
    assert "and there were only 2 references" in sentence


def test_a_star_of_the_right_filter_displaces_all_of_another(catalogue, paths, library):
    library.add(library_star("red", 0.97, 7, filter_name="lp600"))
    reduced(catalogue, paths, ["red"])
    library.add(library_star("own filter", 0.6, 8, added=later()))
    sentence = judge(catalogue, paths, references=1).sentence
    assert "own filter was added" in sentence
    assert "no like reference was there before" in sentence


def test_an_observation_without_references_gains_the_first(catalogue, paths):
    reduced(catalogue, paths, None)
    assert judge(catalogue, paths).current
    PsfLibrary(paths.psf_library).add(library_star("first", 0.5, added=later()))
    assert "first was added" in judge(catalogue, paths).sentence


def test_without_a_candidate_to_compare_it_counts_as_stale(catalogue, paths, library):
    reduced(catalogue, paths, ["good", "fair"], candidate=False)
    library.add(library_star("poor", 0.1, 9, added=later()))
    assert "its correlation is not known" in judge(catalogue, paths).sentence


def test_failed_and_unmade_ones_are_not_judged(catalogue, paths, library):
    reduced(catalogue, paths, ["good"])
    catalogue.record_failure(ID, "bright_star.pca", "the star could not be centred")
    assert list(judge_references(catalogue, paths, [NIGHT])) == []
    assert list(judge_references(catalogue, paths, ["20170608"])) == []


def test_a_library_of_another_box_gives_nobody_a_reference(catalogue, paths):
    reduced(catalogue, paths, None)
    frame = library_star("x", 1.0).frame[2:-2, 2:-2]
    assert frame.shape == (SIDE - 4, SIDE - 4)
    PsfLibrary(paths.psf_library).add(library_star("small", 1.0, added=later(), frame=frame))
    assert judge(catalogue, paths).current
