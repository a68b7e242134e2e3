// The kernels, on plain pointers and sizes. What they compute is said in roboao_native/__init__.py;
// shapes and values have been checked there. T is std::uint16_t or float.
#pragma once

#include <cstddef>
#include <cstdint>

namespace roboao {

void decode_uint16(std::uint16_t *values, std::size_t count);

template <typename T>
void accumulate_groups(const T *frames, std::size_t n, std::size_t pixels, double *sums,
                       std::size_t groups, std::size_t first_index, int threads);

// counts and offsets have one value a group; a group of no frames is left out.
void median_of_groups(const double *sums, std::size_t groups, std::size_t pixels,
                      const std::int64_t *counts, const double *offsets, float *median,
                      int threads);

struct ClipOptions {
    double sigma;
    int passes;
    double scale_floor;
};

template <typename T>
void sigma_clipped_mean(const T *cube, std::size_t n, std::size_t pixels,
                        const ClipOptions &options, float *mean, float *std, std::int32_t *count,
                        int threads);

// dark and inverse_flat are full frames, bias has one value a frame; nullptr: not applied.
struct Calibration {
    const float *dark;
    const float *inverse_flat;
    const float *bias;
};

// What each pixel counts, and the calibrated value from which it does not; nullptr: 1, any.
struct PixelUse {
    const float *weight;
    const float *ceiling;
};

struct FrameShape {
    std::size_t height, width;
};

template <typename T>
void calibrate_boxes(const T *frames, std::size_t n, FrameShape shape, std::size_t x0,
                     std::size_t y0, std::size_t side, const Calibration &calibration, float *boxes,
                     int threads);

struct DrizzleOptions {
    std::size_t scale;
    double pixfrac;
};

// The frames that go into a stack, in order, each with its shift (dx, dy), and the counts of frames
// after which the stack is written out.
struct DrizzleSequence {
    const std::int64_t *order;
    const double *shifts;
    const std::int64_t *boundaries;
    std::size_t snapshots;
};

template <typename T>
void drizzle(const T *frames, FrameShape shape, const DrizzleSequence &sequence,
             const Calibration &calibration, const PixelUse &use, const DrizzleOptions &options,
             float *images, float *weights, int threads);

}  // namespace roboao
