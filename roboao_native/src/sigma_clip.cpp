// Sigma-clipped mean of a cube, per pixel over its frames.
//
// kLanes neighbouring pixels are worked on at once; their samples lie as [frame][lane] in cache and
// every inner loop runs over the lanes, which compilers turn into vectors. The median is found by
// bisection on the bit pattern of the floats (which orders as the floats do): some 25 passes that
// only compare and count, without a branch, are several times faster than std::nth_element pixel by
// pixel.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels.hpp"
#include "multiversion.hpp"
#include "parallel.hpp"

namespace roboao {
namespace {

// 32 uint16 samples are one cache line of a frame.
constexpr std::size_t kLanes = 32;
constexpr double kSigmaOfMad = 1.4826;
constexpr float kMost = std::numeric_limits<float>::max();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Samples = float[kLanes];  // of one frame

// Float <-> integer of the same order.
ROBOAO_INLINE std::int32_t rank_of(float value) {
    std::int32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}
ROBOAO_INLINE float value_of(std::int32_t rank) {
    const std::int32_t bits = rank ^ ((rank >> 31) & 0x7fffffff);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// NaN compares false, so it is never counted and never an extreme.
ROBOAO_INLINE void count_at_or_below(const Samples *samples, std::size_t n, const float *threshold,
                                     std::int32_t *count) {
    for (std::size_t k = 0; k < kLanes; ++k) count[k] = 0;
    std::size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const float *a = samples[i], *b = samples[i + 1], *c = samples[i + 2], *d = samples[i + 3];
        for (std::size_t k = 0; k < kLanes; ++k)
            count[k] += (a[k] <= threshold[k]) + (b[k] <= threshold[k]) + (c[k] <= threshold[k]) +
                        (d[k] <= threshold[k]);
    }
    for (; i < n; ++i)
        for (std::size_t k = 0; k < kLanes; ++k) count[k] += samples[i][k] <= threshold[k];
}

// A value that exactly the `wanted` least samples are at or below, as long as ties allow it. Samples
// are multiples of `resolution` (0: of nothing).
ROBOAO_INLINE void select_lanes(const Samples *samples, std::size_t n, const std::int32_t *wanted,
                                float resolution, float *selected) {
    float least[kLanes], most[kLanes];
    for (std::size_t k = 0; k < kLanes; ++k) {
        least[k] = kMost;
        most[k] = -kMost;
    }
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t k = 0; k < kLanes; ++k) {
            least[k] = samples[i][k] < least[k] ? samples[i][k] : least[k];
            most[k] = samples[i][k] > most[k] ? samples[i][k] : most[k];
        }
    }
    std::int32_t low[kLanes], high[kLanes], middle[kLanes], count[kLanes];
    for (std::size_t k = 0; k < kLanes; ++k) {
        low[k] = rank_of(least[k]);
        high[k] = std::max(low[k], rank_of(most[k]));  // the same where there is no sample
    }
    for (;;) {
        std::int32_t open = 0;
        for (std::size_t k = 0; k < kLanes; ++k) {
            // One sample value at most fits between them: the answer is what is at or below `high`.
            low[k] = value_of(high[k]) - value_of(low[k]) < resolution ? high[k] : low[k];
            open |= low[k] ^ high[k];
            middle[k] = (low[k] & high[k]) + ((low[k] ^ high[k]) >> 1);  // mean without overflow
            selected[k] = value_of(middle[k]);
        }
        if (open == 0) return;
        count_at_or_below(samples, n, selected, count);
        for (std::size_t k = 0; k < kLanes; ++k) {
            const bool enough = count[k] >= wanted[k], exactly = count[k] == wanted[k];
            high[k] = enough ? middle[k] : high[k];
            // Never past `high`: a lane without samples, or one that has closed, stays as it is.
            const std::int32_t above = std::min(middle[k] + 1, high[k]);
            low[k] = exactly ? middle[k] : enough ? low[k] : above;
        }
    }
}

// Median of the samples that are not NaN, 0 where there are none.
ROBOAO_INLINE void median_of_lanes(const Samples *samples, std::size_t n, const std::int32_t *valid,
                                   float resolution, double *median) {
    std::int32_t wanted[kLanes], below[kLanes];
    float threshold[kLanes], lower[kLanes], upper[kLanes];
    for (std::size_t k = 0; k < kLanes; ++k) wanted[k] = (valid[k] + 1) / 2;
    select_lanes(samples, n, wanted, resolution, threshold);
    count_at_or_below(samples, n, threshold, below);
    for (std::size_t k = 0; k < kLanes; ++k) {
        lower[k] = -kMost;
        upper[k] = kMost;
    }
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t k = 0; k < kLanes; ++k) {
            const float x = samples[i][k];
            const float under = x <= threshold[k] ? x : -kMost, over = x > threshold[k] ? x : kMost;
            lower[k] = under > lower[k] ? under : lower[k];
            upper[k] = over < upper[k] ? over : upper[k];
        }
    }
    for (std::size_t k = 0; k < kLanes; ++k) {
        const double next = below[k] >= valid[k] / 2 + 1 ? lower[k] : upper[k];
        median[k] = valid[k] == 0 ? 0.0 : 0.5 * (lower[k] + next);
    }
}

// Number, sum and sum of squares of what is kept, of deviations from the median.
struct Moments {
    double count[kLanes], sum[kLanes], squares[kLanes];
};

ROBOAO_INLINE void sum_kept(const Samples *samples, std::size_t n, const double *median,
                            const double *centre, const double *limit, Moments &kept) {
    for (std::size_t k = 0; k < kLanes; ++k) kept.count[k] = kept.sum[k] = kept.squares[k] = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t k = 0; k < kLanes; ++k) {
            const double deviation = static_cast<double>(samples[i][k]) - median[k];
            const bool keep = std::fabs(deviation - centre[k]) <= limit[k];
            const double d = keep ? deviation : 0.0;
            kept.count[k] += keep ? 1.0 : 0.0;
            kept.sum[k] += d;
            kept.squares[k] += d * d;
        }
    }
}

// Mean, standard deviation and count of kLanes pixels; `deviations` is scratch of n frames.
ROBOAO_MULTIVERSION
void clip_lanes(const Samples *samples, std::size_t n, bool integers, const ClipOptions &options,
                Samples *deviations, float *mean, float *std, std::int32_t *count) {
    std::int32_t valid[kLanes];
    float everything[kLanes];
    double median[kLanes], centre[kLanes], scale[kLanes], limit[kLanes];
    for (std::size_t k = 0; k < kLanes; ++k) {
        everything[k] = kMost;
        centre[k] = scale[k] = 0.0;
        limit[k] = std::numeric_limits<double>::infinity();
        count[k] = 0;
    }
    count_at_or_below(samples, n, everything, valid);
    median_of_lanes(samples, n, valid, integers ? 1.0f : 0.0f, median);
    if (options.passes > 0) {
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t k = 0; k < kLanes; ++k)
                deviations[i][k] = static_cast<float>(
                    std::fabs(static_cast<double>(samples[i][k]) - median[k]));
        // The median of integers may be half of one.
        median_of_lanes(deviations, n, valid, integers ? 0.5f : 0.0f, scale);
        for (std::size_t k = 0; k < kLanes; ++k)
            limit[k] = options.sigma * std::max(kSigmaOfMad * scale[k], options.scale_floor);
    }
    for (int pass = 1;; ++pass) {
        Moments kept;
        sum_kept(samples, n, median, centre, limit, kept);
        for (std::size_t k = 0; k < kLanes; ++k) {
            // Rounding can leave nothing within a limit of zero: then the pass before stands.
            if (kept.count[k] == 0.0) continue;
            const double inverse = 1.0 / kept.count[k];
            centre[k] = kept.sum[k] * inverse;
            scale[k] =
                std::sqrt(std::max(0.0, kept.squares[k] * inverse - centre[k] * centre[k]));
            limit[k] = options.sigma * std::max(scale[k], options.scale_floor);
            count[k] = static_cast<std::int32_t>(kept.count[k]);
        }
        if (pass >= options.passes) break;
    }
    for (std::size_t k = 0; k < kLanes; ++k) {
        mean[k] = valid[k] == 0 ? kNan : static_cast<float>(median[k] + centre[k]);
        std[k] = valid[k] == 0 ? kNan : static_cast<float>(scale[k]);
    }
}

ROBOAO_INLINE float finite_or_nan(std::uint16_t value) { return value; }
ROBOAO_INLINE float finite_or_nan(float value) { return std::fabs(value) <= kMost ? value : kNan; }

// Samples of `count` pixels from `begin` on; lanes past the end are NaN.
template <typename T>
void gather_lanes(const T *cube, std::size_t n, std::size_t pixels, std::size_t begin,
                  std::size_t count, Samples *samples) {
    for (std::size_t i = 0; i < n; ++i) {
        const T *row = cube + i * pixels + begin;
        if (count == kLanes) {
            for (std::size_t k = 0; k < kLanes; ++k) samples[i][k] = finite_or_nan(row[k]);
        } else {
            for (std::size_t k = 0; k < kLanes; ++k)
                samples[i][k] = k < count ? finite_or_nan(row[k]) : kNan;
        }
    }
}

}  // namespace

template <typename T>
void sigma_clipped_mean(const T *cube, std::size_t n, std::size_t pixels,
                        const ClipOptions &options, float *mean, float *std, std::int32_t *count,
                        int threads) {
    parallel_for((pixels + kLanes - 1) / kLanes, threads, [&] {
        auto scratch = std::vector<float>(2 * n * kLanes);
        return [&, scratch](std::size_t task) mutable {
            auto *samples = reinterpret_cast<Samples *>(scratch.data());
            const std::size_t begin = task * kLanes, size = std::min(kLanes, pixels - begin);
            gather_lanes(cube, n, pixels, begin, size, samples);
            float means[kLanes], stds[kLanes];
            std::int32_t counts[kLanes];
            clip_lanes(samples, n, std::is_integral_v<T>, options, samples + n, means, stds, counts);
            std::copy(means, means + size, mean + begin);
            std::copy(stds, stds + size, std + begin);
            std::copy(counts, counts + size, count + begin);
        };
    });
}

template void sigma_clipped_mean(const std::uint16_t *, std::size_t, std::size_t,
                                 const ClipOptions &, float *, float *, std::int32_t *, int);
template void sigma_clipped_mean(const float *, std::size_t, std::size_t, const ClipOptions &,
                                 float *, float *, std::int32_t *, int);

}  // namespace roboao
