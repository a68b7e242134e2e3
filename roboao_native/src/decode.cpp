#include "kernels.hpp"

namespace roboao {

void decode_uint16(std::uint16_t *values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t v = values[i];
        // Adding 32768 modulo 65536 flips the top bit.
        values[i] = static_cast<std::uint16_t>(((v >> 8) | (v << 8)) ^ 0x8000u);
    }
}

}  // namespace roboao
