// (value - bias - dark) * inverse_flat in float32, the one statement of it for all kernels.
#pragma once

#include <cstddef>

#include "multiversion.hpp"

namespace roboao {

// One row of `count` pixels; dark and inverse_flat point at the same pixels or are nullptr.
template <typename T>
ROBOAO_INLINE void calibrate_row(const T *row, std::size_t count, float bias, const float *dark,
                                 const float *inverse_flat, float *out) {
    if (dark && inverse_flat) {
        for (std::size_t i = 0; i < count; ++i)
            out[i] = (static_cast<float>(row[i]) - bias - dark[i]) * inverse_flat[i];
    } else if (dark) {
        for (std::size_t i = 0; i < count; ++i)
            out[i] = static_cast<float>(row[i]) - bias - dark[i];
    } else if (inverse_flat) {
        for (std::size_t i = 0; i < count; ++i)
            out[i] = (static_cast<float>(row[i]) - bias) * inverse_flat[i];
    } else {
        for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<float>(row[i]) - bias;
    }
}

}  // namespace roboao
