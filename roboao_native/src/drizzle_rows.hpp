// The inner loops of drizzle, over one row of a frame or of an output phase.
#pragma once

#include <cstddef>
#include <cstdint>

namespace roboao {

// What calibrates and weighs a raw row; pointers are at its first pixel, or nullptr (no dark, no
// flat, weight 1, no ceiling).
struct RowCalibration {
    float bias;
    const float *dark, *inverse_flat, *weight, *ceiling;
};

// weighted[x] = weight * calibrated value, 0 where that is not finite or above the ceiling.
// `values` is scratch and has the calibrated values afterwards, NaN above the ceiling. Returns
// whether a pixel with weight was not used.
bool prepare_row(const std::uint16_t *row, std::size_t count, const RowCalibration &calibration,
                 float *values, double *weighted);
bool prepare_row(const float *row, std::size_t count, const RowCalibration &calibration,
                 float *values, double *weighted);

// Weights that belong to what prepare_row left in `values`.
void weights_of_row(const float *values, const float *weight, std::size_t count, double *weights);

// sums[x] += area * source[x - moved] for begin <= x < end.
struct Term {
    const double *source;
    double area;
    std::ptrdiff_t moved, begin, end;
};

// Adds the terms in their order.
void add_terms(const Term *terms, std::size_t count, double *sums);

// image = value / weight, NaN without weight, and both to float32.
void divide_row(const double *values, const double *weights, std::size_t count, float *image,
                float *weight);

}  // namespace roboao
