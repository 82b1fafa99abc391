// Input, filter and bias gradient at stride 1, channels first, in one sweep. Gradients and input
// come into shared memory as for filter_planes.h; each element of the input gives its place there
// to its gradient, which then leaves as the input came.
#pragma once
#include "backward_walk.h"
#include "filter_planes.h"

namespace tfcompat_dw::cuda {

// Columns of a strip: two would spill registers, and meet in the banks of shared memory.
constexpr int kBackwardPlaneCols = 1;

// K x K taps. Units are bands of the input's rows; its gradient is aligned as the input is.
template <class T, int K>
__global__ void __launch_bounds__(kThreads, K < 5 ? 3 : 2)
    backward_planes(const FilterPlanes f,
                    const T* __restrict__ input,     // [n, c, h, w]
                    const T* __restrict__ filter,    // [K, K, c, 1]
                    const T* __restrict__ grad,      // [n, c, h', w']
                    T* __restrict__ input_gradient,  // as input
                    Sum<T>* __restrict__ partials)   // [splits, (K * K + bias) * c]
{
  const FilterBlock block = filter_block(f.plan.groups, f.plan.tap_blocks);
  const PlaneGroup own = plane_group(f, block.lanes);
  const int64_t channels = f.problem.source_channels;
  const int channel = static_cast<int>(own.first) + (own.present ? own.own : 0);
  Weights<T, 1, K> weights;
  const bool finite_filter = all_threads(
      load_weights<T, 1, K>(filter, nullptr, channel, static_cast<int>(channels), true, weights));

  FilterSums<T, 1, K, K, 1> sums;
  const auto add_units = [&](auto skips) {
    sums = {};
    for_each_unit(
        f, own, block.split, grad, input,
        [&](const Slab<T>& grads, const Slab<T>& inputs, Range band, Range from) {
          const int strips = own.present ? f.plan.strips.count() : 0;
          const int tall = static_cast<int>(band.end - band.begin);
          const int height = static_cast<int>(from.end - from.begin);
          for (int item = own.member; item < strips; item += f.plan.members) {
            const BandStrip at = band_strip(f.plan.strips, item);
            if (at.row >= tall || at.col >= f.cols.destinations) continue;
            const int first = static_cast<int>(band.begin - from.begin) + at.row - f.rows.before;
            InputRows<T, kBackwardPlaneCols> rows;
            rows.count = strip_rows(tall - at.row, f.rows.step, f.plan.strips.length);
            rows.result = inputs.plane(own.own) + at.row * f.cols.destinations + at.col;
            rows.line = rows.result;
            rows.row_step = static_cast<uint32_t>(f.rows.step) * f.cols.destinations;
            rows.col_step = 0;  // there is one
            rows.made[0] = true;
            auto seen = source_rows<T, 1, K>(
                grads.plane(own.own), 0, 1, {first, f.rows.pitch, height},
                {at.col - f.cols.before, f.cols.pitch, f.cols.sources}, rows.count + K - 1);
            walk_back<decltype(skips)::value>(seen, weights, rows, sums);
          }
          __syncthreads();
          inputs.copy_out(input, input_gradient);
        });
  };
  if (finite_filter) add_units(std::false_type());
  // an infinity or a NaN of input or gradient that met padding has left a NaN
  if (!finite_filter || !all_threads(finite(sums))) add_units(std::true_type());

  Sum<T>* partial = partials + block.split * (K * K + f.bias) * channels + own.first;
#pragma unroll
  for (int k = 0; k < K * K; ++k) {  // the taps are those of the turned filter
    put_plane_sum(own, f.plan.members, sums.taps[k / K][k % K][0],
                  partial + (K * K - 1 - k) * channels);
  }
  if (f.bias) put_plane_sum(own, f.plan.members, sums.bias[0], partial + K * K * channels);
}

}  // namespace tfcompat_dw::cuda
