// The kernels, on plain pointers and sizes. What they compute is said in roboao_native/__init__.py;
// shapes and values have been checked there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace roboao {

// Big-endian int16 with BZERO 32768 -> native uint16, in place.
void decode_uint16(std::uint16_t *values, std::size_t count);

}  // namespace roboao
