"""Choice and subtraction of reference stars."""

import warnings

import numpy as np
import pytest
from speckled_stars import HALF, render_star

from roboao_assets.science.errors import NoReferencesError
from roboao_assets.science.high_contrast import (
    annulus_that_matters,
    choose_references,
    prepare_psf,
    principal_modes,
    subtract_reference_pca,
    tune_subtraction,
)
from roboao_assets.science.reference_choice import correlate_frames


@pytest.fixture(scope="module")
def frames():
    return np.array([prepare_psf(render_star(seed), 60, 60, HALF).frame for seed in range(6)])


@pytest.fixture(scope="module")
def vip_pca():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vip_hci.psfsub import pca
    return pca


@pytest.fixture(scope="module")
def vip_pca_annular():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from vip_hci.psfsub import pca_annular
    return pca_annular


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
    assert result.components.number == components
    assert result.note == ""
    assert result.residual.dtype == np.float32
    np.testing.assert_allclose(result.residual, expected, rtol=0, atol=1e-6 * frames[0].max())


@pytest.mark.parametrize("components", [1, 3])
def test_annular_residual_is_that_of_vip(frames, vip_pca_annular, components):
    references = frames[1:] / np.linalg.norm(frames[1:], axis=(1, 2), keepdims=True)
    width_px = 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = vip_pca_annular(
            cube=frames[:1].astype(np.float64),
            cube_ref=references.astype(np.float64),
            angle_list=np.zeros(1),
            ncomp=components,
            asize=width_px,
            fwhm=4.0,
            svd_mode="lapack",
            verbose=False,
            nproc=1,
        )
    ours = subtract_reference_pca(frames[0], frames[1:], components, annulus_px=width_px)
    assert ours.components.number == components
    # VIP's last annulus begins a pixel further in and leaves the corners empty.
    grid_y, grid_x = np.indices(expected.shape) - HALF
    inside = np.hypot(grid_x, grid_y) < 4 * width_px - 1
    assert inside.sum() > 2500
    np.testing.assert_allclose(
        ours.residual[inside], expected[inside], rtol=0, atol=1e-6 * frames[0].max()
    )


def test_components_of_all_annuli_are_orthonormal_and_cover_the_frame(frames):
    found = subtract_reference_pca(frames[0], frames[1:], 3, annulus_px=7.0).components
    np.testing.assert_allclose(
        found.vectors @ found.vectors.T, np.eye(len(found.vectors)), atol=1e-9
    )
    assert (np.abs(found.vectors).sum(axis=0) > 0).all()
    assert found.strongest(2).number == 2
    assert len(found.strongest(2).vectors) == 2 * len(found.vectors) // 3


def test_modes_of_short_stacks_span_what_the_stacks_do(frames):
    modes = principal_modes(frames[1:], 5)
    assert modes.shape == (5, *frames.shape[1:])
    # All together they weigh as much as one frame, and the strongest is the mean, nearly.
    assert (modes.astype(float) ** 2).sum() == pytest.approx(1.0, rel=1e-5)
    by_modes = subtract_reference_pca(frames[0], frames[1:2], 5, modes=[modes])
    by_frames = subtract_reference_pca(frames[0], frames[1:], 5)
    np.testing.assert_allclose(
        by_modes.residual, by_frames.residual, rtol=0, atol=2e-5 * frames[0].max()
    )
    # A star without modes stands with its frame beside one that has some.
    mixed = subtract_reference_pca(frames[0], frames[:2], 6, modes=[[], modes])
    assert abs(mixed.residual).max() < 1e-5 * frames[0].max()


def test_correlation_is_that_of_the_annulus(frames):
    annulus = annulus_that_matters(4.0, HALF)
    assert annulus == (4.0, 32.0)
    assert annulus_that_matters(6.0, HALF) == (6.0, 37.0)
    grid_y, grid_x = np.indices(frames[0].shape) - HALF
    radius = np.hypot(grid_x, grid_y)
    inside = (radius >= annulus[0]) & (radius <= annulus[1])
    expected = [np.corrcoef(frames[0][inside], f[inside])[0, 1] for f in frames[1:]]
    found = correlate_frames(frames[0], frames[1:], annulus)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # A core that differs, by saturation say, is of no importance.
    spoilt = frames[1:].copy()
    spoilt[:, HALF - 1 : HALF + 2, HALF - 1 : HALF + 2] *= 0.3
    np.testing.assert_allclose(correlate_frames(frames[0], spoilt, annulus), expected, rtol=1e-6)


def test_tuning_takes_what_helps_and_leaves_what_does_not(frames):
    fwhm_px = 4.1
    none = [np.empty((0, *frames.shape[1:]))] * 5
    options = {"fwhm_px": fwhm_px, "annulus_px": annulus_that_matters(fwhm_px, HALF)}
    rng = np.random.default_rng(3)
    # The twin is the star itself in another noise; the others are noise: no help from them.
    twin = frames[0] + rng.normal(scale=1.0, size=frames[0].shape)
    noise = rng.normal(scale=100.0, size=(4, *frames[0].shape))
    tuned = tune_subtraction(frames[0], np.array([twin, *noise]), none, **options)
    assert (tuned.references, tuned.components.number) == (1, 1)
    assert tuned.gain_mag == pytest.approx(0.0, abs=0.01)
    # Stars of a like kind: more than one component of more than one star wins.
    tuned = tune_subtraction(frames[0], frames[1:], none, **options)
    assert tuned.references > 1
    assert tuned.components.number > 1
    assert tuned.gain_mag > 0.05
    one = tune_subtraction(
        frames[0], frames[1:], none, reference_numbers=[2], component_numbers=[2], **options
    )
    assert (one.references, one.components.number) == (2, 2)
    by_annuli = tune_subtraction(frames[0], frames[1:], none, pca_annulus_px=8.0, **options)
    assert by_annuli.components.annulus_px == 8.0


def test_brightness_of_a_reference_does_not_matter(frames):
    scale = np.array([1, 100, 0.01, 5, 1])[:, None, None]
    plain = subtract_reference_pca(frames[0], frames[1:], 1)
    scaled = subtract_reference_pca(frames[0], frames[1:] * scale, 1)
    np.testing.assert_allclose(scaled.residual, plain.residual, rtol=0, atol=1e-6 * frames[0].max())


def test_references_leave_nothing_of_themselves(frames):
    result = subtract_reference_pca(frames[2], frames[1:], 5)
    assert abs(result.residual).max() < 1e-5 * frames[2].max()
    vectors = result.components.vectors
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(5), atol=1e-12)


def test_fewer_references_than_components_is_said(frames):
    result = subtract_reference_pca(frames[0], frames[1:3], 4)
    assert result.components.number == 2
    assert result.note.startswith("2 of 4 principal components: the 2 reference frames")
    copies = subtract_reference_pca(frames[0], frames[[1, 1, 1]], 2)
    assert copies.components.number == 1


def test_references_without_signal_are_none(frames):
    with pytest.raises(NoReferencesError, match="holds any signal"):
        subtract_reference_pca(frames[0], np.zeros_like(frames[:2]), 1)
    with pytest.raises(NoReferencesError, match="no reference frame"):
        subtract_reference_pca(frames[0], frames[:0], 1)
