#include "kernels.hpp"
#include "multiversion.hpp"

namespace roboao {

ROBOAO_MULTIVERSION
void decode_uint16(std::uint16_t *values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        const std::uint16_t native = values[i];
#else
        const std::uint16_t v = values[i];
        const std::uint16_t native = static_cast<std::uint16_t>((v >> 8) | (v << 8));
#endif
        // Adding BZERO = 32768 modulo 65536 flips the top bit.
        values[i] = static_cast<std::uint16_t>(native ^ 0x8000u);
    }
}

}  // namespace roboao
