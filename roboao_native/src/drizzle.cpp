// Drizzle of many frames that differ by translations (Fruchter & Hook 2002, 10.1086/338393).
//
// A translation drops every pixel of a frame at the same place within its output pixel, so the
// overlaps are a few numbers an axis (taps) and an output row receives, of each raw row, a multiple.
// Writing to every scale-th output pixel would spoil vectors: the accumulators of an output row are
// kept apart by phase (x mod scale), and a tap adds one contiguous run to another. Bands of output
// rows go through all frames one after the other, so that their float64 accumulators stay in cache;
// they are interleaved into the images only at the snapshots.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "calibrate.hpp"
#include "kernels.hpp"
#include "multiversion.hpp"
#include "parallel.hpp"

namespace roboao {
namespace {

// What the accumulators of a band may take of the second-level cache.
constexpr std::size_t kBandBytes = 384 * 1024;
// Overlaps below this (output px) are the rounding of drops that just touch.
constexpr double kTouching = 1e-9;

// Overlap of the drop of raw pixel r with output pixel scale * r + first + t is overlap[t].
struct Taps {
    std::ptrdiff_t first = 0;
    std::vector<double> overlap;
};

void set_taps(double shift, std::size_t length, const DrizzleOptions &options, Taps &taps) {
    taps.overlap.clear();
    // A frame shifted by more than itself falls outside; its position may not fit an integer.
    if (!(std::fabs(shift) <= static_cast<double>(length) + 1.0)) return;
    const double scale = static_cast<double>(options.scale);
    const double centre = (shift + 0.5) * scale - 0.5, half = 0.5 * options.pixfrac * scale;
    const auto first = static_cast<std::ptrdiff_t>(std::floor(centre - half + 0.5));
    const auto last = static_cast<std::ptrdiff_t>(std::floor(centre + half + 0.5));
    taps.first = first;
    for (std::ptrdiff_t i = first; i <= last; ++i) {
        const double pixel = static_cast<double>(i);
        const double overlap =
            std::min(centre + half, pixel + 0.5) - std::max(centre - half, pixel - 0.5);
        taps.overlap.push_back(overlap > kTouching ? overlap : 0.0);
    }
}

// v and its weight, as weight * v and weight: zero where v is not finite.
ROBOAO_INLINE void weigh_row(const float *values, const float *weight, std::size_t count,
                             double *weighted, double *weights) {
    constexpr float most = std::numeric_limits<float>::max();
    for (std::size_t i = 0; i < count; ++i) {
        const bool good = std::fabs(values[i]) <= most;
        const float w = good ? (weight ? weight[i] : 1.0f) : 0.0f, v = good ? values[i] : 0.0f;
        weights[i] = w;
        weighted[i] = static_cast<double>(w) * static_cast<double>(v);
    }
}

struct RawRow {
    float bias;
    const float *dark, *inverse_flat, *weight;
    std::size_t count;
};

ROBOAO_MULTIVERSION
void prepare_row_u16(const std::uint16_t *row, const RawRow &raw, float *values, double *weighted,
                     double *weights) {
    calibrate_row(row, raw.count, raw.bias, raw.dark, raw.inverse_flat, values);
    weigh_row(values, raw.weight, raw.count, weighted, weights);
}

ROBOAO_MULTIVERSION
void prepare_row_f32(const float *row, const RawRow &raw, float *values, double *weighted,
                     double *weights) {
    calibrate_row(row, raw.count, raw.bias, raw.dark, raw.inverse_flat, values);
    weigh_row(values, raw.weight, raw.count, weighted, weights);
}

void prepare_row(const std::uint16_t *row, const RawRow &raw, float *values, double *weighted,
                 double *weights) {
    prepare_row_u16(row, raw, values, weighted, weights);
}
void prepare_row(const float *row, const RawRow &raw, float *values, double *weighted,
                 double *weights) {
    prepare_row_f32(row, raw, values, weighted, weights);
}

ROBOAO_MULTIVERSION
void add_row(const double *weighted, const double *weights, double area, std::size_t count,
             double *sum_weighted, double *sum_weights) {
    for (std::size_t i = 0; i < count; ++i) {
        sum_weighted[i] += area * weighted[i];
        sum_weights[i] += area * weights[i];
    }
}

std::ptrdiff_t floor_divide(std::ptrdiff_t a, std::ptrdiff_t b) {
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}

// Everything that is the same for all bands.
template <typename T>
struct Job {
    const T *frames;
    FrameShape shape;
    DrizzleSequence sequence;
    Calibration calibration;
    const float *weight;
    DrizzleOptions options;
    std::vector<Taps> taps_x, taps_y;  // one a place in the order
    float *images, *weights;
};

// One band of output rows [begin, end): accumulators and the scratch of a raw row.
template <typename T>
class Band {
  public:
    Band(const Job<T> &of_job, std::size_t rows_at_most)
        : job(of_job),
          width(of_job.shape.width),
          scale(static_cast<std::ptrdiff_t>(of_job.options.scale)),
          row_size(width * of_job.options.scale),
          sums(2 * rows_at_most * row_size),
          values(width),
          weighted(width),
          row_weights(width) {}

    void stack(std::size_t begin, std::size_t end) {
        first_row = static_cast<std::ptrdiff_t>(begin);
        rows = static_cast<std::ptrdiff_t>(end - begin);
        std::fill(sums.begin(), sums.end(), 0.0);
        std::int64_t done = 0;
        for (std::size_t s = 0; s < job.sequence.snapshots; ++s) {
            for (; done < job.sequence.boundaries[s]; ++done) add_frame(done);
            write_snapshot(s);
        }
    }

  private:
    const Job<T> &job;
    const std::size_t width;
    const std::ptrdiff_t scale;
    const std::size_t row_size;
    std::vector<double> sums;  // [row][sum of w v, sum of w][phase][x]
    std::vector<float> values;
    std::vector<double> weighted, row_weights;
    std::ptrdiff_t first_row = 0, rows = 0;

    void add_frame(std::int64_t place) {
        const Taps &across = job.taps_x[place], &down = job.taps_y[place];
        if (across.overlap.empty() || down.overlap.empty()) return;
        const auto taps = static_cast<std::ptrdiff_t>(down.overlap.size());
        const auto height = static_cast<std::ptrdiff_t>(job.shape.height);
        // Raw rows y whose taps scale * y + first + (0..taps-1) meet the band.
        const std::ptrdiff_t from = first_row - down.first - (taps - 1);
        const std::ptrdiff_t to = first_row + rows - 1 - down.first;
        const std::ptrdiff_t y_first = std::max<std::ptrdiff_t>(0, floor_divide(from + scale - 1, scale));
        const std::ptrdiff_t y_last = std::min(height - 1, floor_divide(to, scale));
        for (std::ptrdiff_t y = y_first; y <= y_last; ++y) {
            bool prepared = false;
            for (std::ptrdiff_t t = 0; t < taps; ++t) {
                const std::ptrdiff_t row = scale * y + down.first + t - first_row;
                if (row < 0 || row >= rows || down.overlap[t] == 0.0) continue;
                if (!prepared) prepare(place, y);
                prepared = true;
                add_raw_row(across, down.overlap[t], static_cast<std::size_t>(row));
            }
        }
    }

    void prepare(std::int64_t place, std::ptrdiff_t y) {
        const auto frame = static_cast<std::size_t>(job.sequence.order[place]);
        const std::size_t at = static_cast<std::size_t>(y) * width;
        const Calibration &c = job.calibration;
        const RawRow raw{c.bias ? c.bias[frame] : 0.0f, c.dark ? c.dark + at : nullptr,
                         c.inverse_flat ? c.inverse_flat + at : nullptr,
                         job.weight ? job.weight + at : nullptr, width};
        prepare_row(job.frames + frame * job.shape.height * width + at, raw, values.data(),
                    weighted.data(), row_weights.data());
    }

    void add_raw_row(const Taps &across, double overlap_y, std::size_t row) {
        double *row_sums = sums.data() + 2 * row * row_size;
        for (std::size_t t = 0; t < across.overlap.size(); ++t) {
            if (across.overlap[t] == 0.0) continue;
            const std::ptrdiff_t offset = across.first + static_cast<std::ptrdiff_t>(t);
            const std::ptrdiff_t moved = floor_divide(offset, scale), phase = offset - moved * scale;
            // Raw x goes to place x + moved of the phase; both must exist.
            const auto size = static_cast<std::ptrdiff_t>(width);
            const std::ptrdiff_t begin = std::max<std::ptrdiff_t>(0, -moved);
            const std::ptrdiff_t end = std::min(size, size - moved);
            if (begin >= end) continue;
            double *to = row_sums + phase * size + begin + moved;
            add_row(weighted.data() + begin, row_weights.data() + begin,
                    overlap_y * across.overlap[t], static_cast<std::size_t>(end - begin), to,
                    to + row_size);
        }
    }

    void write_snapshot(std::size_t snapshot) {
        const std::size_t steps = job.options.scale;
        const std::size_t image_size = job.shape.height * steps * row_size;
        for (std::ptrdiff_t row = 0; row < rows; ++row) {
            const std::size_t at =
                snapshot * image_size + static_cast<std::size_t>(first_row + row) * row_size;
            float *image = job.images + at, *weight = job.weights + at;
            const double *of_values = sums.data() + 2 * static_cast<std::size_t>(row) * row_size;
            const double *of_weights = of_values + row_size;
            for (std::size_t phase = 0; phase < steps; ++phase) {
                for (std::size_t x = 0; x < width; ++x) {
                    const double w = of_weights[phase * width + x];
                    const double v = of_values[phase * width + x];
                    image[x * steps + phase] = w > 0.0 ? static_cast<float>(v / w)
                                                       : std::numeric_limits<float>::quiet_NaN();
                    weight[x * steps + phase] = static_cast<float>(w);
                }
            }
        }
    }
};

}  // namespace

template <typename T>
void drizzle(const T *frames, FrameShape shape, const DrizzleSequence &sequence,
             const Calibration &calibration, const float *weight, const DrizzleOptions &options,
             float *images, float *weights, int threads) {
    if (sequence.snapshots == 0 || shape.height == 0 || shape.width == 0) return;
    const auto used = static_cast<std::size_t>(sequence.boundaries[sequence.snapshots - 1]);
    Job<T> job{frames, shape, sequence, calibration, weight, options, {}, {}, images, weights};
    job.taps_x.resize(used);
    job.taps_y.resize(used);
    for (std::size_t place = 0; place < used; ++place) {
        set_taps(sequence.shifts[2 * place], shape.width, options, job.taps_x[place]);
        set_taps(sequence.shifts[2 * place + 1], shape.height, options, job.taps_y[place]);
    }
    const std::size_t height = shape.height * options.scale;
    const std::size_t row_bytes = 2 * shape.width * options.scale * sizeof(double);
    const std::size_t rows = std::min(height, std::max<std::size_t>(1, kBandBytes / row_bytes));
    parallel_for((height + rows - 1) / rows, threads, [&] {
        return [&, band = Band<T>(job, rows)](std::size_t task) mutable {
            band.stack(task * rows, std::min(height, (task + 1) * rows));
        };
    });
}

template void drizzle(const std::uint16_t *, FrameShape, const DrizzleSequence &,
                      const Calibration &, const float *, const DrizzleOptions &, float *, float *,
                      int);
template void drizzle(const float *, FrameShape, const DrizzleSequence &, const Calibration &,
                      const float *, const DrizzleOptions &, float *, float *, int);

}  // namespace roboao
