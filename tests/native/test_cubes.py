"""decode, accumulate, boxes, sigma-clipped mean: against their statements in NumPy."""

import threading
import time

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import roboao_native

SHAPES = [(1, 1, 1), (1, 3, 5), (2, 1, 7), (5, 17, 33), (8, 16, 64), (13, 5, 129)]
DTYPES = [np.uint16, np.float32]
odd_shapes = st.tuples(st.integers(0, 12), st.integers(1, 9), st.integers(1, 40))


def random_cube(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == np.uint16:
        return rng.integers(0, 65536, shape, dtype=np.uint16)
    return rng.normal(100, 30, shape).astype(np.float32)


# --- decode


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 33, 31)])
def test_decode_gives_what_fits_says(shape):
    values = random_cube(shape, np.uint16)
    stored = (values.astype(np.int32) - 32768).astype(">i2")
    frames = np.frombuffer(bytearray(stored.tobytes()), np.uint16).reshape(shape)
    roboao_native.decode_uint16(frames)
    assert np.array_equal(frames, values)


def test_decode_knows_every_value():
    stored = np.arange(-32768, 32768, dtype=np.int16).astype(">i2")
    frames = np.frombuffer(bytearray(stored.tobytes()), np.uint16)
    roboao_native.decode_uint16(frames)
    assert np.array_equal(frames, np.arange(65536))


def test_decode_of_nothing_does_nothing():
    roboao_native.decode_uint16(np.zeros((0, 4, 4), np.uint16))


@pytest.mark.parametrize(("frames", "words"), [
    (np.zeros((2, 4, 4), np.int16), "native uint16, not <i2"),
    (np.zeros((2, 4, 4), ">u2"), "native uint16, not >u2"),
    (np.zeros((2, 4, 4), np.uint16)[:, :, ::2], "C-contiguous"),
    (np.frombuffer(bytes(8), np.uint16), "not writable"),
])  # fmt: skip
def test_decode_refuses_what_it_cannot_convert_in_place(frames, words):
    with pytest.raises(ValueError, match=words):
        roboao_native.decode_uint16(frames)
    with pytest.raises(TypeError, match="not list"):
        roboao_native.decode_uint16([1, 2])


# --- accumulate


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (9, 50, 101)])
@pytest.mark.parametrize("groups", [1, 2, 5, 20])
def test_accumulate_is_its_statement(shape, dtype, groups):
    frames = random_cube(shape, dtype)
    sums = np.random.default_rng(1).normal(size=(groups, *shape[1:])).round(3)
    expected = oracles.accumulate_groups(frames, sums, 7)
    for threads in (1, 3):
        result = sums.copy()
        roboao_native.accumulate_groups(frames, result, 7, threads=threads)
        np.testing.assert_allclose(result, expected, rtol=1e-14, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_accumulate_block_by_block_is_accumulate_at_once(dtype):
    frames = random_cube((23, 9, 70), dtype)
    if dtype == np.float32:
        frames[4, 3, 2] = np.nan
    at_once, blocks = np.zeros((5, 9, 70)), np.zeros((5, 9, 70))
    roboao_native.accumulate_groups(frames, at_once, 0)
    for first, last in ((0, 1), (1, 9), (9, 9), (9, 23)):
        roboao_native.accumulate_groups(frames[first:last], blocks, first)
    assert np.array_equal(at_once, blocks, equal_nan=True)
    assert np.count_nonzero(np.isnan(at_once)) == (dtype == np.float32)


def test_accumulate_of_uint16_is_exact_beyond_a_32_bit_sum():
    frames = np.full((70000, 1, 1), 65535, np.uint16)
    sums = np.zeros((1, 1, 1))
    roboao_native.accumulate_groups(frames, sums, 0)
    assert sums[0, 0, 0] == 70000 * 65535


@pytest.mark.parametrize(("change", "words"), [
    ({"frames": np.zeros((2, 4, 4), np.float64)}, "uint16 or float32, not <f8"),
    ({"frames": np.zeros((4, 4), np.uint16)}, r"\(n, y, x\)"),
    ({"frames": np.zeros((2, 4, 8), np.uint16)[:, :, ::2]}, "C-contiguous"),
    ({"frames": np.zeros((2, 4, 5), np.uint16)}, r"\(4, 4\) px do not fit frames of \(4, 5\)"),
    ({"sums": np.zeros((0, 4, 4))}, "g >= 1"),
    ({"sums": np.zeros((5, 4, 4), np.float32)}, "must be float64"),
    ({"sums": np.zeros((5, 4, 8))[:, :, ::2]}, "C-contiguous"),
    ({"first_index": -1}, "not be negative"),
    ({"threads": 0}, "at least 1"),
])  # fmt: skip
def test_accumulate_refuses_what_does_not_fit(change, words):
    arguments = {
        "frames": np.zeros((2, 4, 4), np.uint16), "sums": np.zeros((5, 4, 4)), "first_index": 0,
    } | change  # fmt: skip
    with pytest.raises(ValueError, match=words):
        roboao_native.accumulate_groups(**arguments)


# --- boxes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x0", "y0", "side"), [(0, 0, 1), (3, 5, 12), (8, 0, 32), (38, 0, 2)])
@pytest.mark.parametrize("given_arrays", ["", "d", "f", "b", "dfb"])
def test_boxes_are_their_statement_to_the_bit(dtype, x0, y0, side, given_arrays):
    frames = random_cube((6, 32, 40), dtype)
    rng = np.random.default_rng(2)
    dark = rng.normal(50, 5, (32, 40)).astype(np.float32) if "d" in given_arrays else None
    inverse = rng.normal(1, 0.1, (32, 40)).astype(np.float32) if "f" in given_arrays else None
    bias = rng.normal(10, 3, 6).astype(np.float32) if "b" in given_arrays else None
    whole = [oracles.calibrate(f, None if bias is None else bias[i], dark, inverse)
             for i, f in enumerate(frames)]  # fmt: skip
    expected = np.array(whole)[:, y0 : y0 + side, x0 : x0 + side]
    for threads in (1, 4):
        boxes = roboao_native.calibrate_boxes(frames, x0, y0, side, dark, inverse, bias, threads)
        assert boxes.dtype == np.float32
        assert np.array_equal(boxes, expected)


def test_boxes_of_no_frames_are_none():
    boxes = roboao_native.calibrate_boxes(np.zeros((0, 8, 8), np.uint16), 1, 1, 4, None, None, [])
    assert boxes.shape == (0, 4, 4)


@pytest.mark.parametrize(
    ("x0", "y0", "side"), [(-1, 0, 2), (0, -1, 2), (7, 0, 2), (0, 7, 2), (0, 0, 0)]
)
def test_boxes_outside_the_frame_are_refused(x0, y0, side):
    with pytest.raises(ValueError, match="not inside frames of 8 x 8"):
        roboao_native.calibrate_boxes(
            np.zeros((2, 8, 8), np.uint16), x0, y0, side, None, None, None
        )


@pytest.mark.parametrize("name", ["dark", "inverse_flat", "bias"])
def test_boxes_refuse_calibrations_of_another_shape(name):
    arguments = dict.fromkeys(("dark", "inverse_flat", "bias")) | {name: np.zeros(5)}
    with pytest.raises(ValueError, match=f"{name} must have the shape"):
        roboao_native.calibrate_boxes(np.zeros((2, 8, 8), np.uint16), 0, 0, 2, **arguments)


# --- sigma-clipped mean


def check_clipped(cube, **options):
    mean, std, count = roboao_native.sigma_clipped_mean(cube, **options)
    full = {"sigma": 3.0, "passes": 2, "scale_floor": 0.0} | options
    full.pop("threads", None)
    expected = oracles.sigma_clipped_mean(cube, **full)
    assert (mean.dtype, std.dtype, count.dtype) == (np.float32, np.float32, np.int32)
    # A sample that lies on its limit to the last bit may fall on either side of it.
    same = count == expected[2]
    assert np.count_nonzero(~same) <= max(1, 0.001 * same.size)
    np.testing.assert_allclose(mean[same], expected[0][same], rtol=2e-7, atol=1e-6)
    np.testing.assert_allclose(std[same], expected[1][same], rtol=2e-6, atol=1e-5)
    return mean, std, count


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (40, 7, 50), (401, 3, 11)])
@pytest.mark.parametrize("options", [
    {}, {"passes": 0}, {"passes": 1, "sigma": 1.5}, {"passes": 5, "sigma": 2.0},
    {"scale_floor": 40.0}, {"threads": 3},
])  # fmt: skip
def test_clipped_mean_is_its_statement(shape, dtype, options):
    rng = np.random.default_rng(3)
    cube = rng.normal(1000, 20, shape)
    cube[rng.random(shape) < 0.05] += 5000
    check_clipped(cube.astype(dtype), **options)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 30])
def test_clipped_mean_counts_no_nan_and_no_infinity(n):
    rng = np.random.default_rng(n)
    cube = rng.normal(-3, 2, (n, 9, 37)).astype(np.float32)
    cube[rng.random(cube.shape) < 0.4] = np.nan
    cube[rng.random(cube.shape) < 0.1] = np.inf
    cube[rng.random(cube.shape) < 0.1] = -np.inf
    cube[:, 2, 3] = np.nan
    mean, std, count = check_clipped(cube)
    none = ~np.isfinite(cube).any(axis=0)
    assert none[2, 3]
    assert np.array_equal(np.isnan(mean), none)
    assert np.array_equal(np.isnan(std), none)
    assert np.array_equal(count == 0, none)


def test_clipped_mean_of_no_frames_is_nan():
    mean, std, count = roboao_native.sigma_clipped_mean(np.zeros((0, 3, 4), np.float32))
    assert np.isnan(mean).all()
    assert np.isnan(std).all()
    assert not count.any()


@given(
    hnp.arrays(np.uint16, odd_shapes, elements=st.integers(0, 6)),
    st.floats(1.0, 5.0), st.integers(0, 4), st.sampled_from([0.0, 0.4, 2.0]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_clipped_mean_with_many_ties(cube, sigma, passes, scale_floor):
    check_clipped(cube, sigma=sigma, passes=passes, scale_floor=scale_floor)


@given(hnp.arrays(
    np.float32, odd_shapes,
    elements=st.one_of(
        st.floats(-2.0**100, 2.0**100, width=32), st.sampled_from([0.0, -0.0, 1e-40])
    ),
))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_median_of_any_floats(cube):
    # Nothing but the median stays within a tiny sigma of it; here one pass shows which it was.
    mean, _, count = roboao_native.sigma_clipped_mean(cube, sigma=1.0, passes=1)
    expected = oracles.sigma_clipped_mean(cube, 1.0, 1, 0.0)
    same = count == expected[2]
    assert np.count_nonzero(~same) <= max(1, 0.02 * same.size)
    np.testing.assert_allclose(mean[same], expected[0][same], rtol=1e-6, atol=1e-30)


@given(hnp.arrays(np.uint16, odd_shapes, elements=st.integers(0, 65535)), st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_clipped_mean_is_the_same_for_any_number_of_threads(cube, threads):
    one = roboao_native.sigma_clipped_mean(cube)
    more = roboao_native.sigma_clipped_mean(cube, threads=threads)
    for a, b in zip(one, more, strict=True):
        assert np.array_equal(a, b, equal_nan=True)


def test_uint16_and_float32_agree():
    cube = random_cube((15, 20, 45), np.uint16)
    for a, b in zip(
        roboao_native.sigma_clipped_mean(cube),
        roboao_native.sigma_clipped_mean(cube.astype(np.float32)),
        strict=True,
    ):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(("change", "words"), [
    ({"sigma": 0.9}, "at least 1"), ({"sigma": np.nan}, "at least 1"), ({"passes": -1}, "negative"),
    ({"scale_floor": -1.0}, "not negative"), ({"threads": 0}, "at least 1"),
    ({"cube": np.zeros((2, 4, 4))}, "not <f8"),
    ({"cube": np.zeros((4, 4, 2), np.float32).transpose(2, 0, 1)}, "C-contiguous"),
])  # fmt: skip
def test_clipped_mean_refuses_what_does_not_fit(change, words):
    with pytest.raises(ValueError, match=words):
        roboao_native.sigma_clipped_mean(**({"cube": np.zeros((2, 4, 4), np.float32)} | change))


def test_the_interpreter_is_free_while_a_kernel_works():
    cube = random_cube((60, 512, 512), np.uint16)
    worker = threading.Thread(target=roboao_native.sigma_clipped_mean, args=(cube,))
    ticks = 0
    worker.start()
    while worker.is_alive():
        ticks += 1
        time.sleep(0.001)
    assert ticks > 5


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (33, 65), (40, 50)])
@pytest.mark.parametrize("groups", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("threads", [1, 3])
def test_median_of_groups_is_its_statement(shape, groups, threads):
    rng = np.random.default_rng(groups)
    counts = rng.integers(1, 9, groups)
    counts[0] = 0 if groups > 2 else 1  # a group of no frames is left out
    sums = rng.normal(1000, 50, (groups, *shape)) * counts[:, None, None]
    sums.flat[rng.integers(0, sums.size)] = np.nan
    offsets = rng.normal(0, 100, groups)
    median = roboao_native.median_of_groups(sums, counts, offsets, threads)
    expected = oracles.median_of_groups(sums, counts, offsets)
    assert median.dtype == np.float32
    np.testing.assert_allclose(median, expected, rtol=3e-7, atol=1e-4)


def test_median_of_no_frames_is_nan():
    assert np.isnan(roboao_native.median_of_groups(np.zeros((3, 2, 2)), [0, 0, 0], [0] * 3)).all()


@pytest.mark.parametrize(
    ("sums", "counts", "words"),
    [
        (np.zeros((2, 3)), [1, 1], "float64 of shape"),
        (np.zeros((2, 3, 3), np.float32), [1, 1], "float64 of shape"),
        (np.zeros((2, 3, 3)), [1], "2 groups"),
        (np.zeros((2, 3, 3)), [0.5, 1], "integers"),
    ],
)
def test_median_refuses_what_does_not_fit(sums, counts, words):
    with pytest.raises(ValueError, match=words):
        roboao_native.median_of_groups(sums, counts, [0.0, 0.0])
