#include "drizzle_coverage.hpp"

#include <algorithm>

namespace roboao {
namespace {

// Beyond this share of unusual pixels the weights are summed like the values.
constexpr std::size_t kPixelsPerDeficit = 16;
// Differences of sums below this share of the sum are rounding.
constexpr double kRounding = 1e-9;

}  // namespace

WeightMap describe_weights(const float *weights, std::size_t height, std::size_t width) {
    WeightMap map{weights, true, 1.0, {}, std::vector<std::size_t>(height + 1, 0)};
    if (!weights) return map;
    const std::size_t pixels = height * width;
    const float common = *std::max_element(weights, weights + pixels);
    map.common = common;
    const auto usual = static_cast<std::size_t>(std::count(weights, weights + pixels, common));
    if (common <= 0.0f || (pixels - usual) * kPixelsPerDeficit > pixels) {
        map.sparse = false;
        return map;
    }
    map.deficits.reserve(pixels - usual);
    for (std::size_t y = 0; y < height; ++y) {
        for (std::size_t x = 0; x < width; ++x) {
            const float weight = weights[y * width + x];
            if (weight != common)
                map.deficits.push_back({static_cast<std::ptrdiff_t>(x),
                                        map.common - static_cast<double>(weight)});
        }
        map.starts[y + 1] = map.deficits.size();
    }
    return map;
}

Coverage::Coverage(std::size_t lines, std::ptrdiff_t least_moved, std::ptrdiff_t most_moved)
    : least(least_moved),
      most(most_moved),
      range(static_cast<std::size_t>(most_moved - least_moved + 1)),
      areas(lines * range, 0.0) {}

void Coverage::clear() { std::fill(areas.begin(), areas.end(), 0.0); }

void Coverage::add(std::size_t line, std::ptrdiff_t moved, double area) {
    areas[line * range + static_cast<std::size_t>(moved - least)] += area;
}

void Coverage::weigh(std::size_t line, double common, const double *missing, std::size_t width,
                     double *weights) const {
    // A run that is moved by m covers x from m on and up to width + m. As least <= 0 <= most and all
    // runs overlap, pixels before `most` lack the runs that begin later, and pixels from
    // width + least on those that have ended.
    const double *of_line = areas.data() + line * range;
    const auto size = static_cast<std::ptrdiff_t>(width);
    double all = 0.0, begun = 0.0, open = 0.0;
    for (std::size_t i = 0; i < range; ++i) all += of_line[i];
    std::fill(weights, weights + width, all);
    for (std::ptrdiff_t m = least; m < most; ++m) {
        begun += of_line[m - least];
        if (m >= 0) weights[m] = begun;
    }
    for (std::ptrdiff_t m = most; m > least; --m) {
        open += of_line[m - least];
        if (m <= 0) weights[size + m - 1] = open;
    }
    for (std::ptrdiff_t x = 0; x < size; ++x) {
        const double full = common * weights[x], weight = full - missing[x];
        weights[x] = weight > kRounding * full ? weight : 0.0;
    }
}

}  // namespace roboao
