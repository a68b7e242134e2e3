#include <algorithm>

#include "kernels.hpp"
#include "multiversion.hpp"
#include "parallel.hpp"

namespace roboao {
namespace {

// Pixels whose sums (8 bytes each) stay in the first-level cache while all frames are added.
constexpr std::size_t kTile = 2048;

ROBOAO_MULTIVERSION
void add_u16(const std::uint16_t *frame, std::uint32_t *sums, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) sums[i] += frame[i];
}

ROBOAO_MULTIVERSION
void add_u32(const std::uint32_t *part, double *sums, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) sums[i] += part[i];
}

ROBOAO_MULTIVERSION
void add_f32(const float *frame, double *sums, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) sums[i] += static_cast<double>(frame[i]);
}

// frames[start], frames[start + step], ... of one tile, added to the sums of one group.
void add_tile(const float *frames, std::size_t n, std::size_t stride, std::size_t start,
              std::size_t step, double *sums, std::size_t count) {
    for (std::size_t i = start; i < n; i += step) add_f32(frames + i * stride, sums, count);
}

void add_tile(const std::uint16_t *frames, std::size_t n, std::size_t stride, std::size_t start,
              std::size_t step, double *sums, std::size_t count) {
    // Sums of uint16 are exact in uint32 up to 65536 frames, and cheaper than in double.
    constexpr std::size_t exact = 65536;
    std::uint32_t part[kTile];
    for (std::size_t i = start; i < n;) {
        std::fill(part, part + count, 0u);
        for (std::size_t added = 0; i < n && added < exact; i += step, ++added)
            add_u16(frames + i * stride, part, count);
        add_u32(part, sums, count);
    }
}

}  // namespace

template <typename T>
void accumulate_groups(const T *frames, std::size_t n, std::size_t pixels, double *sums,
                       std::size_t groups, std::size_t first_index, int threads) {
    if (n == 0) return;
    parallel_for((pixels + kTile - 1) / kTile, threads, [&] {
        return [&](std::size_t tile) {
            const std::size_t begin = tile * kTile, count = std::min(kTile, pixels - begin);
            for (std::size_t start = 0; start < std::min(groups, n); ++start) {
                const std::size_t group = (first_index + start) % groups;
                add_tile(frames + begin, n, pixels, start, groups, sums + group * pixels + begin,
                         count);
            }
        };
    });
}

template void accumulate_groups(const std::uint16_t *, std::size_t, std::size_t, double *,
                                std::size_t, std::size_t, int);
template void accumulate_groups(const float *, std::size_t, std::size_t, double *, std::size_t,
                                std::size_t, int);

}  // namespace roboao
