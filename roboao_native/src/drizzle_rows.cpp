#include "drizzle_rows.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "calibrate.hpp"
#include "multiversion.hpp"

namespace roboao {
namespace {

constexpr float kMost = std::numeric_limits<float>::max();

// A comparison with NaN is false: what is not finite is not good.
template <bool with_weight, bool with_ceiling>
ROBOAO_INLINE bool weigh_values(std::size_t count, const RowCalibration &c, float *values,
                                double *weighted) {
    std::int32_t lost = 0;
    for (std::size_t x = 0; x < count; ++x) {
        const float value = values[x], most = with_ceiling ? std::min(c.ceiling[x], kMost) : kMost;
        const float weight = with_weight ? c.weight[x] : 1.0f;
        const bool good = (value >= -kMost) & (value <= most);
        const float used = good ? value : 0.0f;
        weighted[x] = static_cast<double>(weight) * static_cast<double>(used);
        lost |= !good & (weight > 0.0f);
        if (with_ceiling) values[x] = good ? value : std::numeric_limits<float>::quiet_NaN();
    }
    return lost != 0;
}

template <typename T>
ROBOAO_INLINE bool prepare(const T *row, std::size_t count, const RowCalibration &c, float *values,
                           double *weighted) {
    calibrate_row(row, count, c.bias, c.dark, c.inverse_flat, values);
    if (c.weight && c.ceiling) return weigh_values<true, true>(count, c, values, weighted);
    if (c.weight) return weigh_values<true, false>(count, c, values, weighted);
    if (c.ceiling) return weigh_values<false, true>(count, c, values, weighted);
    return weigh_values<false, false>(count, c, values, weighted);
}

ROBOAO_MULTIVERSION
bool prepare_uint16(const std::uint16_t *row, std::size_t count, const RowCalibration &calibration,
                    float *values, double *weighted) {
    return prepare(row, count, calibration, values, weighted);
}

ROBOAO_MULTIVERSION
bool prepare_float(const float *row, std::size_t count, const RowCalibration &calibration,
                   float *values, double *weighted) {
    return prepare(row, count, calibration, values, weighted);
}

ROBOAO_MULTIVERSION
void add_one(const double *a, double area, std::size_t count, double *sums) {
    for (std::size_t x = 0; x < count; ++x) sums[x] += area * a[x];
}

// Several at once, as sums are read and written once: in the order of add_one for each of them.
ROBOAO_MULTIVERSION
void add_two(const double *const *from, const double *areas, std::size_t count, double *sums) {
    const double *a = from[0], *b = from[1], p = areas[0], q = areas[1];
    for (std::size_t x = 0; x < count; ++x) sums[x] = (sums[x] + p * a[x]) + q * b[x];
}

ROBOAO_MULTIVERSION
void add_four(const double *const *from, const double *areas, std::size_t count, double *sums) {
    const double *a = from[0], *b = from[1], *c = from[2], *d = from[3];
    const double p = areas[0], q = areas[1], r = areas[2], s = areas[3];
    for (std::size_t x = 0; x < count; ++x)
        sums[x] = (((sums[x] + p * a[x]) + q * b[x]) + r * c[x]) + s * d[x];
}

void add_part(const Term &term, std::ptrdiff_t begin, std::ptrdiff_t end, double *sums) {
    if (begin < end)
        add_one(term.source + (begin - term.moved), term.area,
                static_cast<std::size_t>(end - begin), sums + begin);
}

}  // namespace

bool prepare_row(const std::uint16_t *row, std::size_t count, const RowCalibration &calibration,
                 float *values, double *weighted) {
    return prepare_uint16(row, count, calibration, values, weighted);
}

bool prepare_row(const float *row, std::size_t count, const RowCalibration &calibration,
                 float *values, double *weighted) {
    return prepare_float(row, count, calibration, values, weighted);
}

ROBOAO_MULTIVERSION
void weights_of_row(const float *values, const float *weight, std::size_t count, double *weights) {
    for (std::size_t x = 0; x < count; ++x) {
        const float own = weight ? weight[x] : 1.0f;
        weights[x] = std::fabs(values[x]) <= kMost ? own : 0.0f;
    }
}

void add_terms(const Term *terms, std::size_t count, double *sums) {
    while (count > 0) {
        const std::size_t together = count >= 4 ? 4 : count >= 2 ? 2 : 1;
        std::ptrdiff_t begin = terms[0].begin, end = terms[0].end;
        for (std::size_t i = 1; i < together; ++i) {
            begin = std::max(begin, terms[i].begin);
            end = std::min(end, terms[i].end);
        }
        // What they do not all have in common, each by itself; that may be everything.
        if (together == 1 || begin >= end) begin = end = terms[0].begin;
        for (std::size_t i = 0; i < together; ++i) {
            add_part(terms[i], terms[i].begin, std::min(begin, terms[i].end), sums);
            add_part(terms[i], std::max(end, terms[i].begin), terms[i].end, sums);
        }
        if (begin < end) {
            const double *from[4] = {};
            double areas[4] = {};
            for (std::size_t i = 0; i < together; ++i) {
                from[i] = terms[i].source + (begin - terms[i].moved);
                areas[i] = terms[i].area;
            }
            const auto size = static_cast<std::size_t>(end - begin);
            if (together == 4) add_four(from, areas, size, sums + begin);
            else add_two(from, areas, size, sums + begin);
        }
        terms += together;
        count -= together;
    }
}

ROBOAO_MULTIVERSION
void divide_row(const double *values, const double *weights, std::size_t count, float *image,
                float *weight) {
    for (std::size_t x = 0; x < count; ++x) {
        const double w = weights[x];
        image[x] = static_cast<float>(w > 0.0 ? values[x] / w
                                              : std::numeric_limits<double>::quiet_NaN());
        weight[x] = static_cast<float>(w);
    }
}

}  // namespace roboao
