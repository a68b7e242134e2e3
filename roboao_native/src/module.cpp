#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "kernels.hpp"

namespace nb = nanobind;
using namespace nb::literals;

template <typename T, int N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;

NB_MODULE(_kernels, m) {
    m.def(
        "decode_uint16",
        [](Array<std::uint16_t, 1> values) {
            nb::gil_scoped_release release;
            roboao::decode_uint16(values.data(), values.size());
        },
        "values"_a.noconvert());
}
