// Bindings: arrays in, pointers on. roboao_native/__init__.py has checked shapes and values, and
// made the arrays that are written to. All work is done without the GIL.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <optional>

#include "kernels.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <typename T, int N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <int N>
using MaybeFloats = std::optional<Array<const float, N>>;

template <typename AnyArray>
const float *pointer(const std::optional<AnyArray> &array) {
    return array ? array->data() : nullptr;
}

void bind_decode(nb::module_ &m) {
    m.def(
        "decode_uint16",
        [](Array<std::uint16_t, 1> values) {
            const nb::gil_scoped_release release;
            roboao::decode_uint16(values.data(), values.size());
        },
        "values"_a.noconvert());
}

void bind_median(nb::module_ &m) {
    m.def(
        "median_of_groups",
        [](Array<const double, 3> sums, Array<const std::int64_t, 1> counts,
           Array<const double, 1> offsets, Array<float, 2> median, int threads) {
            const nb::gil_scoped_release release;
            roboao::median_of_groups(sums.data(), sums.shape(0), sums.shape(1) * sums.shape(2),
                                     counts.data(), offsets.data(), median.data(), threads);
        },
        "sums"_a.noconvert(), "counts"_a.noconvert(), "offsets"_a.noconvert(),
        "median"_a.noconvert(), "threads"_a);
}

template <typename T>
void bind_frames(nb::module_ &m) {
    m.def(
        "accumulate_groups",
        [](Array<const T, 3> frames, Array<double, 3> sums, std::size_t first_index, int threads) {
            const nb::gil_scoped_release release;
            roboao::accumulate_groups(frames.data(), frames.shape(0),
                                      frames.shape(1) * frames.shape(2), sums.data(),
                                      sums.shape(0), first_index, threads);
        },
        "frames"_a.noconvert(), "sums"_a.noconvert(), "first_index"_a, "threads"_a);
    m.def(
        "sigma_clipped_mean",
        [](Array<const T, 3> cube, double sigma, int passes, double scale_floor,
           Array<float, 2> mean, Array<float, 2> std, Array<std::int32_t, 2> count, int threads) {
            const nb::gil_scoped_release release;
            roboao::sigma_clipped_mean(cube.data(), cube.shape(0), cube.shape(1) * cube.shape(2),
                                       roboao::ClipOptions{sigma, passes, scale_floor},
                                       mean.data(), std.data(), count.data(), threads);
        },
        "cube"_a.noconvert(), "sigma"_a, "passes"_a, "scale_floor"_a, "mean"_a.noconvert(),
        "std"_a.noconvert(), "count"_a.noconvert(), "threads"_a);
    m.def(
        "calibrate_boxes",
        [](Array<const T, 3> frames, std::size_t x0, std::size_t y0, MaybeFloats<2> dark,
           MaybeFloats<2> inverse_flat, MaybeFloats<1> bias, Array<float, 3> boxes, int threads) {
            const nb::gil_scoped_release release;
            roboao::calibrate_boxes(
                frames.data(), frames.shape(0),
                roboao::FrameShape{frames.shape(1), frames.shape(2)}, x0, y0, boxes.shape(2),
                roboao::Calibration{pointer(dark), pointer(inverse_flat), pointer(bias)},
                boxes.data(), threads);
        },
        "frames"_a.noconvert(), "x0"_a, "y0"_a, "dark"_a.noconvert().none(),
        "inverse_flat"_a.noconvert().none(), "bias"_a.noconvert().none(), "boxes"_a.noconvert(),
        "threads"_a);
    m.def(
        "drizzle",
        [](Array<const T, 3> frames, Array<const std::int64_t, 1> order,
           Array<const double, 2> shifts, MaybeFloats<2> dark, MaybeFloats<2> inverse_flat,
           MaybeFloats<2> weight, MaybeFloats<2> ceiling, MaybeFloats<1> bias, std::size_t scale,
           double pixfrac, Array<const std::int64_t, 1> boundaries, Array<float, 3> images,
           Array<float, 3> weights, int threads) {
            const nb::gil_scoped_release release;
            roboao::drizzle(
                frames.data(), roboao::FrameShape{frames.shape(1), frames.shape(2)},
                roboao::DrizzleSequence{order.data(), shifts.data(), boundaries.data(),
                                        boundaries.size()},
                roboao::Calibration{pointer(dark), pointer(inverse_flat), pointer(bias)},
                roboao::PixelUse{pointer(weight), pointer(ceiling)},
                roboao::DrizzleOptions{scale, pixfrac}, images.data(), weights.data(), threads);
        },
        "frames"_a.noconvert(), "order"_a.noconvert(), "shifts"_a.noconvert(),
        "dark"_a.noconvert().none(), "inverse_flat"_a.noconvert().none(),
        "weight"_a.noconvert().none(), "ceiling"_a.noconvert().none(),
        "bias"_a.noconvert().none(), "scale"_a, "pixfrac"_a,
        "boundaries"_a.noconvert(), "images"_a.noconvert(), "weights"_a.noconvert(), "threads"_a);
}

}  // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "Compiled kernels of roboao_native; call them through that package.";
    bind_decode(m);
    bind_median(m);
    bind_frames<std::uint16_t>(m);
    bind_frames<float>(m);
}
