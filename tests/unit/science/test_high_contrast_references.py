"""Choice and subtraction of reference stars."""

import warnings

import numpy as np
import pytest
from speckled_stars import HALF, render_star

from roboao_assets.science.errors import NoReferencesError
from roboao_assets.science.high_contrast import (
    choose_references,
    prepare_psf,
    subtract_reference_pca,
)


@pytest.fixture(scope="module")
def frames():
    return np.array([prepare_psf(render_star(seed), 60, 60, HALF).frame for seed in range(6)])


@pytest.fixture(scope="module")
def vip_pca():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vip_hci.psfsub import pca
    return pca


def choose(frame, library, names, *, filters=None, telescopes=None, number=5, **options):
    count = len(names)
    arguments = {"object_name": "HD 1", "filter_name": "Si", "telescope": "KPNO_2.1m"}
    return choose_references(
        frame,
        library,
        names,
        filters or ["Si"] * count,
        telescopes or ["KPNO_2.1m"] * count,
        number=number,
        **(arguments | options),
    )


def test_best_correlated_come_first(frames):
    indices, correlations = choose(frames[0], frames[1:], list("abcde"), number=3)
    every = [np.corrcoef(frames[0].ravel(), f.ravel())[0, 1] for f in frames[1:]]
    assert indices.tolist() == np.argsort(every)[::-1][:3].tolist()
    np.testing.assert_allclose(correlations, np.sort(every)[::-1][:3], rtol=1e-6)


def test_the_object_itself_is_never_a_reference(frames):
    names = ["hd_1", "HD1", "other", "HD-1"]
    library = frames[[0, 0, 1, 0]]
    assert choose(frames[0], library, names)[0].tolist() == [2]
    with pytest.raises(NoReferencesError, match="of that object itself"):
        choose(frames[0], library[:2], names[:2])


def test_same_filter_and_telescope_are_preferred(frames):
    # Frame 0 itself, under another name, has correlation 1: but in the wrong filter.
    library = frames[[0, 1, 2, 0]]
    filters = ["Sg", "Si", "Si", "Si"]
    telescopes = ["KPNO_2.1m"] * 3 + ["Palomar_P60"]
    names = list("abcd")
    chosen = choose(frames[0], library, names, filters=filters, telescopes=telescopes)[0]
    assert sorted(chosen.tolist()) == [1, 2]
    options = {"filters": filters, "telescopes": telescopes}
    assert choose(frames[0], library, names, filter_name="Sg", **options)[0].tolist() == [0]
    by_telescope = choose(frames[0], library, names, filter_name="Sz", **options)[0]
    assert sorted(by_telescope.tolist()) == [0, 1, 2]
    by_filter = choose(frames[0], library, names, telescope="Keck", **options)[0]
    assert sorted(by_filter.tolist()) == [1, 2, 3]
    anything = choose(frames[0], library, names, telescope="Keck", filter_name="Sz", **options)[0]
    assert sorted(anything.tolist()) == [0, 1, 2, 3]


def test_frames_prepared_in_another_way_are_left_out(frames):
    ways = ["five planes", "two planes", ""]
    indices, _ = choose(
        frames[0],
        frames[1:4],
        list("abc"),
        library_preparations=ways,
        preparation="five planes",
    )
    assert sorted(indices.tolist()) == [0, 2]
    with pytest.raises(NoReferencesError, match=r"prepared in another way \(two planes\)"):
        choose(
            frames[0],
            frames[1:2],
            ["a"],
            library_preparations=["two planes"],
            preparation="five planes",
        )


def test_no_library_and_wrong_boxes_are_reasons_in_words(frames):
    with pytest.raises(NoReferencesError, match="library is empty"):
        choose(frames[0], np.array([]), [])
    with pytest.raises(NoReferencesError, match=r"81 x 81 px .* 61 x 61 px"):
        choose(frames[0][10:-10, 10:-10], frames[1:], list("abcde"))


def test_flat_library_frame_is_no_good_reference(frames):
    library = np.array([np.zeros_like(frames[0]), frames[1]])
    indices, correlations = choose(frames[0], library, ["a", "b"])
    assert indices.tolist() == [1, 0]
    assert correlations[1] == -1


@pytest.mark.parametrize("components", [1, 2, 5])
def test_residual_is_that_of_vip(frames, vip_pca, components):
    references = frames[1:] / np.linalg.norm(frames[1:], axis=(1, 2), keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = vip_pca(
            cube=frames[:1].astype(np.float64),
            cube_ref=references.astype(np.float64),
            angle_list=np.zeros(1),
            ncomp=components,
            verbose=False,
        )
    result = subtract_reference_pca(frames[0], frames[1:], components)
    assert result.components == components
    assert result.note == ""
    assert result.residual.dtype == np.float32
    np.testing.assert_allclose(result.residual, expected, rtol=0, atol=1e-6 * frames[0].max())


def test_brightness_of_a_reference_does_not_matter(frames):
    scale = np.array([1, 100, 0.01, 5, 1])[:, None, None]
    plain = subtract_reference_pca(frames[0], frames[1:], 1)
    scaled = subtract_reference_pca(frames[0], frames[1:] * scale, 1)
    np.testing.assert_allclose(scaled.residual, plain.residual, rtol=0, atol=1e-6 * frames[0].max())


def test_references_leave_nothing_of_themselves(frames):
    result = subtract_reference_pca(frames[2], frames[1:], 5)
    assert abs(result.residual).max() < 1e-5 * frames[2].max()
    np.testing.assert_allclose(result.basis @ result.basis.T, np.eye(5), atol=1e-12)


def test_fewer_references_than_components_is_said(frames):
    result = subtract_reference_pca(frames[0], frames[1:3], 4)
    assert result.components == 2
    assert result.note.startswith("2 of 4 principal components: the 2 reference frames")
    copies = subtract_reference_pca(frames[0], frames[[1, 1, 1]], 2)
    assert copies.components == 1


def test_references_without_signal_are_none(frames):
    with pytest.raises(NoReferencesError, match="holds any signal"):
        subtract_reference_pca(frames[0], np.zeros_like(frames[:2]), 1)
    with pytest.raises(NoReferencesError, match="no reference frame"):
        subtract_reference_pca(frames[0], frames[:0], 1)
