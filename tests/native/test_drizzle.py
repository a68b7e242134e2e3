"""Drizzle: against its statement in NumPy, against STScI's, and in what it must conserve."""

import numpy as np
import oracles
import pytest
from drizzle.resample import Drizzle
from hypothesis import given, settings
from hypothesis import strategies as st

import roboao_native

PLAIN = {"dark": None, "inverse_flat": None, "weight": None, "bias": None}
shift_values = st.floats(-7.0, 7.0).map(lambda v: round(v, 4))


def star_field(shape, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = rng.normal(100, 3, shape)
    for _ in range(4):
        cy, cx = rng.uniform(8, np.array(shape) - 8)
        image += 3000 * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / 1.8**2)
    return image.astype(np.float32)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (13, 7), (33, 40)])
@pytest.mark.parametrize(
    ("scale", "pixfrac"), [(1, 1.0), (2, 0.45), (2, 1.0), (2, 0.1), (3, 0.7), (4, 0.5)]
)
def test_drizzle_is_its_statement(dtype, shape, scale, pixfrac):
    rng = np.random.default_rng(1)
    n = 9
    frames = rng.integers(0, 5000, (n, *shape)).astype(dtype)
    order = rng.permutation(n)[:7]
    shifts = rng.normal(0, 2, (7, 2))
    shifts[0], shifts[1], shifts[2] = (0, 0), (0.25, -0.5), (3, -2)
    weight = rng.uniform(0.5, 2, shape).astype(np.float32)
    weight[rng.random(shape) < 0.1] = 0
    options = {
        "dark": rng.normal(100, 5, shape).astype(np.float32),
        "inverse_flat": rng.normal(1, 0.05, shape).astype(np.float32),
        "bias": rng.normal(10, 3, n).astype(np.float32),
        "weight": weight, "scale": scale, "pixfrac": pixfrac, "boundaries": [0, 1, 3, 7],
    }  # fmt: skip
    check_against_statement(frames, order, shifts, options)


@pytest.mark.parametrize("seed", range(6))
def test_few_bad_pixels_and_frames_that_wander(seed):
    # Such weights are not summed pixel by pixel; the picture must not show it, edges included.
    rng = np.random.default_rng(seed)
    height, width, n = 20, 61, 11
    frames = rng.normal(100, 20, (n, height, width)).astype(np.float32)
    frames[rng.random(frames.shape) < 0.002] = np.nan
    weight = np.full((height, width), 0.7, np.float32)
    weight[rng.random(weight.shape) < 0.02] = 0
    weight[3, 4], weight[5, 0], weight[6, 60] = 0.35, 0, 0
    dark = np.zeros((height, width), np.float32)
    dark[7, 7] = np.nan
    shifts = rng.normal(0, (0, 2, 8)[seed % 3], (n, 2))
    options = {**PLAIN, "weight": weight if seed < 5 else None, "dark": dark}
    options |= {"scale": 2 + seed % 2, "pixfrac": 0.45, "boundaries": [1, 2, 7, n]}
    check_against_statement(frames, rng.permutation(n), shifts, options)


@pytest.mark.parametrize("spread", [6.0, 40.0])
def test_frames_that_wander_by_more_than_the_picture(spread):
    rng = np.random.default_rng(7)
    frames = rng.integers(0, 1000, (20, 9, 13)).astype(np.uint16)
    shifts = rng.uniform(-spread, spread, (20, 2))
    options = {**PLAIN, "scale": 2, "pixfrac": 0.9, "boundaries": [2, 20]}
    check_against_statement(frames, range(20), shifts, options)


def check_against_statement(frames, order, shifts, options):
    images, weights = roboao_native.drizzle(frames, order, shifts, **options)
    expected = oracles.drizzle(frames, order, shifts, **options)
    assert images.dtype == weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected[1], rtol=1e-6, atol=1e-9)
    assert np.array_equal(np.isnan(images), np.isnan(expected[0]))
    np.testing.assert_allclose(images, expected[0], rtol=1e-6, atol=1e-3)


def test_values_that_are_not_finite_have_no_weight():
    rng = np.random.default_rng(2)
    frames = rng.normal(100, 10, (4, 12, 15)).astype(np.float32)
    frames[1, 3, 4], frames[2, 5, 6] = np.nan, np.inf
    frames[:, 8, 8] = np.nan
    dark = np.zeros((12, 15), np.float32)
    dark[2, 2] = np.nan
    inverse = np.ones((12, 15), np.float32)
    inverse[9, 9] = np.inf
    options = {**PLAIN, "dark": dark, "inverse_flat": inverse}
    options |= {"scale": 2, "pixfrac": 0.45, "boundaries": [4]}
    check_against_statement(frames, range(4), np.zeros((4, 2)), options)
    images, weights = roboao_native.drizzle(frames, range(4), np.zeros((4, 2)), **options)
    for y, x in ((8, 8), (2, 2), (9, 9)):
        assert np.isnan(images[0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]).all()
        assert not weights[0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].any()


@pytest.mark.parametrize("shape", [(3, 700), (700, 3), (130, 257)])
@pytest.mark.parametrize("threads", [2, 5])
def test_the_same_bits_for_any_number_of_threads(shape, threads):
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 60000, (6, *shape)).astype(np.uint16)
    arguments = (frames, [5, 0, 3, 3], rng.normal(0, 4, (4, 2)))
    options = {**PLAIN, "boundaries": [1, 4]}
    one = roboao_native.drizzle(*arguments, **options)
    more = roboao_native.drizzle(*arguments, **options, threads=threads)
    for a, b in zip(one, more, strict=True):
        assert np.array_equal(a, b, equal_nan=True)


@given(dx=shift_values, dy=shift_values, scale=st.integers(1, 4), pixfrac=st.floats(0.05, 1.0))
@settings(max_examples=60, deadline=None)
def test_flux_is_conserved(dx, dy, scale, pixfrac):
    # A star well inside: all its light, times the area of a drop, is in sum(image * weight).
    frame = star_field((48, 56))
    frame[:16], frame[-16:], frame[:, :16], frame[:, -16:] = 0, 0, 0, 0
    images, weights = roboao_native.drizzle(
        frame[np.newaxis], [0], [(dx, dy)], **PLAIN, scale=scale, pixfrac=pixfrac, boundaries=[1]
    )
    flux = np.nansum(images[0].astype(np.float64) * weights[0])
    expected = frame.sum(dtype=np.float64) * (pixfrac * scale) ** 2
    assert flux == pytest.approx(expected, rel=1e-4)


@given(steps=st.tuples(st.integers(-12, 12), st.integers(-12, 12)), pixfrac=st.floats(0.1, 1.0))
@settings(max_examples=40, deadline=None)
def test_shift_there_and_back(steps, pixfrac):
    # Whole output pixels: the drizzled image moves, and nothing else.
    frame = star_field((40, 44))[np.newaxis]
    step_x, step_y = steps
    options = {**PLAIN, "scale": 2, "pixfrac": pixfrac, "boundaries": [1]}
    still = roboao_native.drizzle(frame, [0], [(0.0, 0.0)], **options)[0][0]
    moved = roboao_native.drizzle(frame, [0], [(step_x / 2, step_y / 2)], **options)[0][0]
    back = np.roll(moved, (-step_y, -step_x), axis=(0, 1))
    inside = (slice(14, -14), slice(14, -14))
    np.testing.assert_allclose(back[inside], still[inside], rtol=1e-6)


def test_star_stays_where_the_shifts_put_it():
    # Frames whose star wanders, stacked with the shifts that undo it: one sharp star at its place.
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:48, :48]
    wander = rng.uniform(-3, 3, (60, 2))
    frames = np.array([
        5000 * np.exp(-0.5 * ((x - 23.3 - dx) ** 2 + (y - 20.7 - dy) ** 2) / 2.0**2)
        for dx, dy in wander
    ]).astype(np.float32)  # fmt: skip
    image = roboao_native.drizzle(frames, range(60), -wander, **PLAIN, boundaries=[60])[0][0]
    image = np.nan_to_num(image[8:-8, 8:-8])
    yy, xx = np.mgrid[8:88, 8:88]
    assert (image * xx).sum() / image.sum() == pytest.approx((23.3 + 0.5) * 2 - 0.5, abs=0.02)
    assert (image * yy).sum() / image.sum() == pytest.approx((20.7 + 0.5) * 2 - 0.5, abs=0.02)


def test_a_flat_field_stays_flat():
    frames = np.full((30, 20, 20), 1234, np.uint16)
    shifts = np.random.default_rng(5).uniform(-1, 1, (30, 2))
    image = roboao_native.drizzle(frames, range(30), shifts, **PLAIN, boundaries=[30])[0][0]
    np.testing.assert_allclose(image[4:-4, 4:-4], 1234.0, rtol=1e-6)


@pytest.mark.parametrize("shifts", [
    [(0.0, 0.0)], [(0.25, -0.125)], [(0.3, 0.41), (-1.7, 2.2)],
    [(0.1, 0.0), (0.6, 0.5), (2.35, -3.15)],
])  # fmt: skip
@pytest.mark.parametrize("pixfrac", [0.45, 0.9])
def test_as_stsci_drizzles(shifts, pixfrac):
    # drizzle 3.0.0, square kernel, is the reference implementation of Fruchter & Hook (2002).
    shape, scale = (28, 34), 2
    frames = np.array([star_field(shape, seed) for seed in range(len(shifts))])
    weight = np.random.default_rng(6).uniform(0.5, 1.5, shape).astype(np.float32)
    weight[10, 12] = 0
    reference = Drizzle(
        kernel="square", out_shape=(shape[0] * scale, shape[1] * scale), fillval="NaN"
    )
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    for frame, (dx, dy) in zip(frames, shifts, strict=True):
        to = np.dstack([(x + dx + 0.5) * scale - 0.5, (y + dy + 0.5) * scale - 0.5])
        reference.add_image(
            frame, exptime=1.0, pixmap=to, pixfrac=pixfrac, weight_map=weight, in_units="cps"
        )
    images, weights = roboao_native.drizzle(
        frames, range(len(shifts)), shifts, **{**PLAIN, "weight": weight},
        scale=scale, pixfrac=pixfrac, boundaries=[len(shifts)],
    )  # fmt: skip
    # STScI's drops stay whole at the rim, where it also drops pixels; compared is what is inside.
    inside = (slice(10, -10), slice(10, -10))
    ours, theirs = images[0][inside], reference.out_img[inside]
    seen = weights[0][inside] > 1e-6
    assert np.array_equal(np.isnan(ours[seen]), np.isnan(theirs[seen]))
    np.testing.assert_allclose(ours[seen], theirs[seen], rtol=1e-5)
    # Its weights are areas of the drop's unit of light: proportional to ours.
    ratio = reference.out_wht[inside][seen] / weights[0][inside][seen]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-5)


def test_frames_shifted_out_of_the_picture_add_nothing():
    frames = np.full((3, 8, 8), 7, np.uint16)
    shifts = [(0, 0), (9, 0), (1e300, -1e12)]
    image, weight = roboao_native.drizzle(frames, range(3), shifts, **PLAIN, boundaries=[1, 3])
    assert np.array_equal(image[0], image[1], equal_nan=True)
    assert np.array_equal(weight[0], weight[1])


def test_no_frames_no_boundaries_and_no_cubes():
    frames = np.zeros((0, 4, 6), np.uint16)
    images, weights = roboao_native.drizzle(frames, [], [], **PLAIN, boundaries=[0])
    assert images.shape == weights.shape == (1, 8, 12)
    assert np.isnan(images).all()
    assert not weights.any()
    images, weights = roboao_native.drizzle(frames, [], [], **PLAIN, boundaries=[])
    assert images.shape == weights.shape == (0, 8, 12)


@pytest.mark.parametrize(("change", "words"), [
    ({"frames": np.zeros((3, 8, 16), np.uint16)[:, :, ::2]}, "C-contiguous"),
    ({"frames": np.zeros((3, 8, 8), np.int32)}, "uint16 or float32, not <i4"),
    ({"order": [0, 3]}, "0 to 2; it has 0 to 3"),
    ({"order": [-1, 1]}, "it has -1 to 1"),
    ({"order": [0.0, 1.0]}, "integers"),
    ({"shifts": np.zeros((3, 2))}, r"\(2, 2\), not \(3, 2\)"),
    ({"shifts": [(0, 0), (np.nan, 0)]}, "the first for frame 1"),
    ({"boundaries": [2, 1]}, "must increase"),
    ({"boundaries": [3]}, "within 0 to 2"),
    ({"boundaries": [-1]}, "within 0 to 2"),
    ({"scale": 0}, "scale"), ({"scale": 17}, "scale"), ({"scale": 1.5}, "scale"),
    ({"pixfrac": 0.0}, "pixfrac"), ({"pixfrac": 1.1}, "pixfrac"),
    ({"weight": -np.ones((8, 8))}, "64 px are negative"),
    ({"weight": np.full((8, 8), np.nan)}, "64 px are not finite"),
    ({"weight": np.ones((8, 9))}, "weight must have the shape"),
    ({"bias": np.ones(2)}, "bias must have the shape"),
    ({"threads": 0}, "threads"),
])  # fmt: skip
def test_drizzle_refuses_what_does_not_fit(change, words):
    arguments = {
        "frames": np.zeros((3, 8, 8), np.uint16), "order": [0, 1], "shifts": np.zeros((2, 2)),
        **PLAIN, "boundaries": [1, 2],
    } | change  # fmt: skip
    with pytest.raises(ValueError, match=words):
        roboao_native.drizzle(**arguments)


@pytest.mark.parametrize("weighted", [None, "few bad", "uneven"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_pixels_above_the_ceiling_have_no_weight(weighted, dtype):
    rng = np.random.default_rng(4)
    frames = rng.integers(0, 1000, (9, 14, 37)).astype(dtype)
    weight = {
        None: None,
        "few bad": (rng.random((14, 37)) > 0.02).astype(np.float32),
        "uneven": rng.uniform(0.5, 1, (14, 37)).astype(np.float32),
    }[weighted]
    ceiling = rng.uniform(850, 1100, (14, 37)).astype(np.float32)
    ceiling[3, 3], ceiling[4, 4] = np.inf, -1
    options = {**PLAIN, "weight": weight, "bias": np.full(9, 20.0), "ceiling": ceiling}
    options |= {"scale": 2, "pixfrac": 0.45, "boundaries": [2, 9]}
    check_against_statement(frames, rng.permutation(9), rng.normal(0, 2, (9, 2)), options)


def test_a_ceiling_that_is_no_number_is_refused():
    ceiling = np.full((4, 4), np.nan, np.float32)
    with pytest.raises(ValueError, match="16 px"):
        roboao_native.drizzle(
            np.zeros((1, 4, 4), np.uint16), [0], [(0, 0)], **PLAIN, ceiling=ceiling, boundaries=[1]
        )
