// Drizzle of many frames that differ by translations (Fruchter & Hook 2002, 10.1086/338393).
//
// A translation drops every pixel of a frame at the same place within its output pixel, so the
// overlaps are a few numbers an axis (taps) and an output row receives, of each raw row, a multiple.
// Writing to every scale-th output pixel would spoil vectors: the sums of an output row are kept
// apart by phase (x mod scale), and a tap adds one contiguous run to another. Bands of output rows
// go through all frames one after the other, so that their float64 sums stay in cache; some frames
// are added at once, so that the sums are read and written less often. Only the snapshots interleave
// the phases.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "drizzle_coverage.hpp"
#include "drizzle_rows.hpp"
#include "kernels.hpp"
#include "parallel.hpp"

namespace roboao {
namespace {

// What the sums of a band may take of the second-level cache.
constexpr std::size_t kBandBytes = 512 * 1024;
// Frames that are added at once.
constexpr std::int64_t kTogether = 4;
// Overlaps below this (output px) are the rounding of drops that just touch.
constexpr double kTouching = 1e-9;

std::ptrdiff_t floor_divide(std::ptrdiff_t a, std::ptrdiff_t b) {
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}

// Overlap of the drop of raw pixel r with output pixel scale * (r + moved) + phase. Neighbouring
// raw pixels may meet in one output pixel, others never (pixfrac <= 1).
struct Tap {
    std::ptrdiff_t moved, phase;
    double overlap;
};
using Taps = std::vector<Tap>;

Taps make_taps(double shift, std::size_t length, const DrizzleOptions &options) {
    // A frame shifted by more than itself falls outside; its position may not fit an integer.
    if (!(std::fabs(shift) <= static_cast<double>(length) + 1.0)) return {};
    const auto scale = static_cast<std::ptrdiff_t>(options.scale);
    const double centre = (shift + 0.5) * static_cast<double>(scale) - 0.5;
    const double half = 0.5 * options.pixfrac * static_cast<double>(scale);
    const auto first = static_cast<std::ptrdiff_t>(std::floor(centre - half + 0.5));
    const auto last = static_cast<std::ptrdiff_t>(std::floor(centre + half + 0.5));
    Taps taps;
    for (std::ptrdiff_t i = first; i <= last; ++i) {
        const double pixel = static_cast<double>(i);
        const double overlap =
            std::min(centre + half, pixel + 0.5) - std::max(centre - half, pixel - 0.5);
        const std::ptrdiff_t moved = floor_divide(i, scale);
        if (overlap > kTouching) taps.push_back({moved, i - moved * scale, overlap});
    }
    return taps;
}

// Everything that is the same for all bands.
template <typename T>
struct Job {
    const T *frames;
    FrameShape shape;
    DrizzleSequence sequence;
    Calibration calibration;
    WeightMap weight;
    const float *ceiling;
    std::size_t scale;
    std::vector<Taps> across, down;  // one a place in the order
    std::ptrdiff_t least_moved = 0, most_moved = 0;
    float *images, *weights;
};

// A raw row of a frame, calibrated and weighed.
struct PreparedRow {
    std::ptrdiff_t y = -1;
    std::vector<double> weighted, weights;
    std::vector<Deficit> deficits;
};

// The stack of a band of output rows.
template <typename T>
class Band {
  public:
    Band(const Job<T> &of_job, std::size_t rows_at_most)
        : job(of_job),
          width(of_job.shape.width),
          scale(of_job.scale),
          sums(rows_at_most * scale * width),
          weight_sums(sums.size()),
          coverage(rows_at_most * scale, of_job.least_moved, of_job.most_moved),
          values(width),
          prepared(2 * kTogether),
          terms(scale),
          weight_terms(scale),
          line_weights(width),
          line(2 * width) {
        for (PreparedRow &row : prepared) {
            row.weighted.resize(width);
            row.weights.resize(width);
        }
    }

    void stack(std::size_t begin, std::size_t end) {
        first_row = begin;
        rows = end - begin;
        std::fill(sums.begin(), sums.end(), 0.0);
        std::fill(weight_sums.begin(), weight_sums.end(), 0.0);
        coverage.clear();
        std::int64_t done = 0;
        for (std::size_t s = 0; s < job.sequence.snapshots; ++s) {
            while (done < job.sequence.boundaries[s]) {
                const std::int64_t until =
                    std::min(done + kTogether, job.sequence.boundaries[s]);
                add_frames(done, until);
                done = until;
            }
            write_snapshot(s);
        }
    }

  private:
    const Job<T> &job;
    const std::size_t width, scale;
    // [row][phase][x]. weight_sums has sums of weights, or, of a sparse map, what they lack.
    std::vector<double> sums, weight_sums;
    Coverage coverage;
    std::vector<float> values;
    std::vector<PreparedRow> prepared;  // an even and an odd row of each frame added at once
    std::vector<std::vector<Term>> terms, weight_terms;  // by phase
    std::vector<double> line_weights;
    std::vector<float> line;
    std::size_t first_row = 0, rows = 0;

    void add_frames(std::int64_t begin, std::int64_t end) {
        for (PreparedRow &row : prepared) row.y = -1;
        for (std::size_t row = 0; row < rows; ++row) {
            for (auto &of_phase : terms) of_phase.clear();
            for (auto &of_phase : weight_terms) of_phase.clear();
            for (std::int64_t place = begin; place < end; ++place)
                collect(place, 2 * (place - begin), row);
            for (std::size_t phase = 0; phase < scale; ++phase) {
                const std::size_t at = (row * scale + phase) * width;
                add_terms(terms[phase].data(), terms[phase].size(), sums.data() + at);
                add_terms(weight_terms[phase].data(), weight_terms[phase].size(),
                          weight_sums.data() + at);
            }
        }
    }

    // What one frame adds to one output row.
    void collect(std::int64_t place, std::size_t slot, std::size_t row) {
        const auto out = static_cast<std::ptrdiff_t>(first_row + row);
        const std::ptrdiff_t of_scale = floor_divide(out, static_cast<std::ptrdiff_t>(scale));
        const std::ptrdiff_t phase = out - of_scale * static_cast<std::ptrdiff_t>(scale);
        if (job.across[place].empty()) return;
        // Raw rows in ascending order: a greater displacement is an earlier row.
        const Taps &down = job.down[place];
        for (auto tap = down.rbegin(); tap != down.rend(); ++tap) {
            const std::ptrdiff_t y = of_scale - tap->moved;
            if (tap->phase != phase || y < 0 || y >= static_cast<std::ptrdiff_t>(job.shape.height))
                continue;
            PreparedRow &raw = prepared[slot + static_cast<std::size_t>(y & 1)];
            if (raw.y != y) prepare(place, y, raw);
            collect_row(place, raw, tap->overlap, row);
        }
    }

    void collect_row(std::int64_t place, const PreparedRow &raw, double overlap, std::size_t row) {
        const auto size = static_cast<std::ptrdiff_t>(width);
        for (const Tap &tap : job.across[place]) {
            const auto phase = static_cast<std::size_t>(tap.phase);
            const double area = overlap * tap.overlap;
            const std::ptrdiff_t begin = std::max<std::ptrdiff_t>(0, tap.moved);
            const std::ptrdiff_t end = std::min(size, size + tap.moved);
            if (begin >= end) continue;
            terms[phase].push_back({raw.weighted.data(), area, tap.moved, begin, end});
            if (!job.weight.sparse) {
                weight_terms[phase].push_back({raw.weights.data(), area, tap.moved, begin, end});
                continue;
            }
            const std::size_t number = row * scale + phase;
            coverage.add(number, tap.moved, area);
            double *missing = weight_sums.data() + number * width;
            for (const Deficit &deficit : raw.deficits) {
                const std::ptrdiff_t x = deficit.x + tap.moved;
                if (x >= begin && x < end) missing[x] += area * deficit.missing;
            }
        }
    }

    void prepare(std::int64_t place, std::ptrdiff_t y, PreparedRow &raw) {
        const auto frame = static_cast<std::size_t>(job.sequence.order[place]);
        const std::size_t at = static_cast<std::size_t>(y) * width;
        const Calibration &c = job.calibration;
        const float *weight = job.weight.weights ? job.weight.weights + at : nullptr;
        const RowCalibration calibration{c.bias ? c.bias[frame] : 0.0f,
                                         c.dark ? c.dark + at : nullptr,
                                         c.inverse_flat ? c.inverse_flat + at : nullptr, weight,
                                         job.ceiling ? job.ceiling + at : nullptr};
        const bool lost = prepare_row(job.frames + frame * job.shape.height * width + at, width,
                                      calibration, values.data(), raw.weighted.data());
        raw.y = y;
        if (!job.weight.sparse) {
            weights_of_row(values.data(), weight, width, raw.weights.data());
            return;
        }
        const auto row = static_cast<std::size_t>(y);
        const auto first = job.weight.deficits.begin();
        raw.deficits.assign(first + static_cast<std::ptrdiff_t>(job.weight.starts[row]),
                            first + static_cast<std::ptrdiff_t>(job.weight.starts[row + 1]));
        if (!lost) return;
        // Here some pixel with weight is not finite: all that lack weight, anew.
        weights_of_row(values.data(), weight, width, raw.weights.data());
        raw.deficits.clear();
        for (std::size_t x = 0; x < width; ++x)
            if (raw.weights[x] != job.weight.common)
                raw.deficits.push_back(
                    {static_cast<std::ptrdiff_t>(x), job.weight.common - raw.weights[x]});
    }

    void write_snapshot(std::size_t snapshot) {
        const std::size_t row_size = scale * width, image_size = job.shape.height * scale * row_size;
        for (std::size_t row = 0; row < rows; ++row) {
            const std::size_t to = snapshot * image_size + (first_row + row) * row_size;
            for (std::size_t phase = 0; phase < scale; ++phase) {
                const std::size_t number = row * scale + phase;
                const double *weights = weight_sums.data() + number * width;
                if (job.weight.sparse) {
                    coverage.weigh(number, job.weight.common, weights, width, line_weights.data());
                    weights = line_weights.data();
                }
                float *image = line.data(), *weight = image + width;
                divide_row(sums.data() + number * width, weights, width, image, weight);
                float *to_image = job.images + to + phase, *to_weight = job.weights + to + phase;
                for (std::size_t x = 0; x < width; ++x) {
                    to_image[x * scale] = image[x];
                    to_weight[x * scale] = weight[x];
                }
            }
        }
    }
};

// Weights with 0 where the calibration itself is not finite; empty if they need not be changed.
std::vector<float> without_uncalibrated(const float *weight, const Calibration &calibration,
                                        std::size_t pixels) {
    const auto finite = [](const float *values, std::size_t i) {
        return !values || std::fabs(values[i]) <= std::numeric_limits<float>::max();
    };
    std::vector<float> changed;
    for (std::size_t i = 0; i < pixels; ++i) {
        if (finite(calibration.dark, i) && finite(calibration.inverse_flat, i)) continue;
        if (changed.empty()) {
            if (weight) changed.assign(weight, weight + pixels);
            else changed.assign(pixels, 1.0f);
        }
        changed[i] = 0.0f;
    }
    return changed;
}

}  // namespace

template <typename T>
void drizzle(const T *frames, FrameShape shape, const DrizzleSequence &sequence,
             const Calibration &calibration, const PixelUse &use, const DrizzleOptions &options,
             float *images, float *weights, int threads) {
    const std::size_t pixels = shape.height * shape.width;
    if (sequence.snapshots == 0 || pixels == 0) return;
    const auto used = static_cast<std::size_t>(sequence.boundaries[sequence.snapshots - 1]);
    const std::vector<float> changed = without_uncalibrated(use.weight, calibration, pixels);
    const float *effective = changed.empty() ? use.weight : changed.data();
    Job<T> job{frames, shape, sequence, calibration,
               describe_weights(effective, shape.height, shape.width), use.ceiling, options.scale,
               {}, {}, 0, 0, images, weights};
    for (std::size_t place = 0; place < used; ++place) {
        job.across.push_back(make_taps(sequence.shifts[2 * place], shape.width, options));
        job.down.push_back(make_taps(sequence.shifts[2 * place + 1], shape.height, options));
        for (const Tap &tap : job.across.back()) {
            job.least_moved = std::min(job.least_moved, tap.moved);
            job.most_moved = std::max(job.most_moved, tap.moved);
        }
    }
    // The short way to the weights needs runs that all overlap.
    if (job.most_moved - job.least_moved >= static_cast<std::ptrdiff_t>(shape.width)) {
        job.weight.sparse = false;
        job.least_moved = job.most_moved = 0;
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
                      const Calibration &, const PixelUse &, const DrizzleOptions &, float *,
                      float *, int);
template void drizzle(const float *, FrameShape, const DrizzleSequence &, const Calibration &,
                      const PixelUse &, const DrizzleOptions &, float *, float *, int);

}  // namespace roboao
