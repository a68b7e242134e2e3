// Sums of weights for next to nothing, where all but a few pixels have the same weight.
//
// If every pixel of a frame weighs the same, the weight that an output row receives from it is the
// overlap area on one run of pixels: only sums of areas by displacement are kept, and the rows of
// weights are made at the snapshots. What the few other pixels lack is kept apart, pixel by pixel.
#pragma once

#include <cstddef>
#include <vector>

namespace roboao {

// A pixel whose weight is less than that of the others.
struct Deficit {
    std::ptrdiff_t x;
    double missing;
};

// The weights of the raw pixels, apart from values that are not finite.
struct WeightMap {
    const float *weights;             // full frame, nullptr: 1
    bool sparse;                      // all but few pixels have the weight `common`, the greatest
    double common;
    std::vector<Deficit> deficits;    // of all rows
    std::vector<std::size_t> starts;  // deficits of row y: starts[y] to starts[y + 1]
};

// Looks at weights of height * width pixels (or nullptr: 1).
WeightMap describe_weights(const float *weights, std::size_t height, std::size_t width);

// Sums of areas by displacement for a number of output rows and phases ("lines"). Displacements are
// from least_moved <= 0 to most_moved >= 0, and fewer than a row has pixels.
class Coverage {
  public:
    Coverage(std::size_t lines, std::ptrdiff_t least_moved, std::ptrdiff_t most_moved);
    void clear();
    void add(std::size_t line, std::ptrdiff_t moved, double area);
    // weights[x] = common * area - missing[x], 0 where nothing but rounding is left.
    void weigh(std::size_t line, double common, const double *missing, std::size_t width,
               double *weights) const;

  private:
    std::ptrdiff_t least, most;
    std::size_t range;
    std::vector<double> areas;  // [line][moved - least]
};

}  // namespace roboao
