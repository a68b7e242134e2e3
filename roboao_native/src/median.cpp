#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels.hpp"
#include "multiversion.hpp"
#include "parallel.hpp"

namespace roboao {
namespace {

// Pixels sorted at once: those of all groups stay in the first-level cache.
constexpr std::size_t kTile = 512;

ROBOAO_MULTIVERSION
void group_means(const double *sums, double count, double offset, std::size_t size, float *means) {
    for (std::size_t i = 0; i < size; ++i) means[i] = static_cast<float>(sums[i] / count - offset);
}

// Smaller values to `low`, larger ones to `high`. A NaN goes to both: the median is NaN then.
ROBOAO_MULTIVERSION
void order_pair(float *low, float *high, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) {
        const float a = low[i], b = high[i], smaller = a < b ? a : b, larger = a < b ? b : a;
        const bool numbers = a == a && b == b;
        low[i] = numbers ? smaller : std::numeric_limits<float>::quiet_NaN();
        high[i] = numbers ? larger : std::numeric_limits<float>::quiet_NaN();
    }
}

ROBOAO_MULTIVERSION
void middle_of(const float *low, const float *high, std::size_t size, float *median) {
    for (std::size_t i = 0; i < size; ++i) median[i] = 0.5f * (low[i] + high[i]);
}

}  // namespace

// Odd-even transposition sort: whole rows of pixels are compared at once.
void median_of_groups(const double *sums, std::size_t groups, std::size_t pixels,
                      const std::int64_t *counts, const double *offsets, float *median,
                      int threads) {
    std::vector<std::size_t> used;
    for (std::size_t group = 0; group < groups; ++group)
        if (counts[group] > 0) used.push_back(group);
    if (used.empty()) {
        std::fill(median, median + pixels, std::numeric_limits<float>::quiet_NaN());
        return;
    }
    parallel_for((pixels + kTile - 1) / kTile, threads, [&] {
        return [&, means = std::vector<float>(used.size() * kTile)](std::size_t tile) mutable {
            const std::size_t begin = tile * kTile, size = std::min(kTile, pixels - begin);
            for (std::size_t i = 0; i < used.size(); ++i)
                group_means(sums + used[i] * pixels + begin, static_cast<double>(counts[used[i]]),
                            offsets[used[i]], size, means.data() + i * kTile);
            for (std::size_t round = 0; round < used.size(); ++round)
                for (std::size_t i = round % 2; i + 1 < used.size(); i += 2)
                    order_pair(means.data() + i * kTile, means.data() + (i + 1) * kTile, size);
            const std::size_t low = (used.size() - 1) / 2, high = used.size() / 2;
            middle_of(means.data() + low * kTile, means.data() + high * kTile, size,
                      median + begin);
        };
    });
}

}  // namespace roboao
