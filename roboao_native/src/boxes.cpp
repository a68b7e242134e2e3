#include "calibrate.hpp"
#include "kernels.hpp"
#include "parallel.hpp"

namespace roboao {

template <typename T>
void calibrate_boxes(const T *frames, std::size_t n, FrameShape shape, std::size_t x0,
                     std::size_t y0, std::size_t side, const Calibration &calibration, float *boxes,
                     int threads) {
    parallel_for(n, threads, [&] {
        return [&](std::size_t i) {
            const float bias = calibration.bias ? calibration.bias[i] : 0.0f;
            for (std::size_t y = 0; y < side; ++y) {
                const std::size_t at = (y0 + y) * shape.width + x0;
                calibrate_row(frames + i * shape.height * shape.width + at, side, bias,
                              calibration.dark ? calibration.dark + at : nullptr,
                              calibration.inverse_flat ? calibration.inverse_flat + at : nullptr,
                              boxes + (i * side + y) * side);
            }
        };
    });
}

template void calibrate_boxes(const std::uint16_t *, std::size_t, FrameShape, std::size_t,
                              std::size_t, std::size_t, const Calibration &, float *, int);
template void calibrate_boxes(const float *, std::size_t, FrameShape, std::size_t, std::size_t,
                              std::size_t, const Calibration &, float *, int);

}  // namespace roboao
