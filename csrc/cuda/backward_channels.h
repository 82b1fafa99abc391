// Input, filter and bias gradient at stride 1, channels last, in one sweep.
#pragma once
#include "backward_walk.h"
#include "filter_channels.h"

namespace tfcompat_dw::cuda {

struct BackwardChannels {
  StripAxis rows;  // of the input gradient
  StripAxis cols;
  int32_t channels;
  int32_t bias;         // 1 where its gradient is wanted: it follows the taps in a partial
  int64_t input_image;  // elements of an image
  int64_t grad_image;
  FilterPlan plan;  // units are walks down the input
};

// Channels of a thread, where there are as many, and columns.
constexpr int kBackwardChannels = 2;
constexpr int kBackwardCols = 2;

template <class T, int V, int K>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    backward_channels(const BackwardChannels f,
                      const T* __restrict__ input,     // [n, h, w, c]
                      const T* __restrict__ filter,    // [K, K, c, 1]
                      const T* __restrict__ grad,      // [n, h', w', c]
                      T* __restrict__ input_gradient,  // as input
                      Sum<T>* __restrict__ partials)   // [splits, (K * K + bias) * c]
{
  constexpr int C = kBackwardCols, N = C - 1 + K;
  const FilterPlan& plan = f.plan;
  const FilterBlock block = filter_block(plan.lane_blocks, plan.tap_blocks);
  const int lane = lane_of(plan, block, V);
  const uint32_t channels = static_cast<uint32_t>(f.channels);
  const uint32_t input_row = static_cast<uint32_t>(f.cols.destinations) * channels;
  const bool present = lane < f.channels;
  Weights<T, V, K> weights;
  const bool finite_filter =
      present && load_weights<T, V, K>(filter, nullptr, lane, f.channels, true, weights);

  FilterSums<T, V, K, K, 1> sums;
  const auto walk_all = [&](auto skips) {
    sums = {};
    for (int32_t round = 0; present && round < plan.rounds; ++round) {
      const uint32_t unit = unit_of(plan, block, round);
      if (unit >= plan.units) break;
      const Walk w = walk_of(plan, f.rows, f.cols, unit, 0, 0, 1);
      auto grads =
          source_rows<T, V, N>(grad + w.image * f.grad_image, lane, channels,
                               {w.source_row, f.rows.pitch, f.rows.sources},
                               {w.source_col, f.cols.pitch, f.cols.sources}, w.count + K - 1);
      InputRows<T, C> rows;
      const int64_t first =
          w.image * f.input_image + int64_t{w.row} * input_row + int64_t{w.col} * channels + lane;
      rows.line = input + first;
      rows.result = input_gradient + first;
      rows.row_step = f.rows.step * input_row;
      rows.col_step = f.cols.step * channels;
      rows.count = w.count;
#pragma unroll
      for (int j = 0; j < C; ++j) rows.made[j] = w.col + j * f.cols.step < f.cols.destinations;
      walk_back<decltype(skips)::value>(grads, weights, rows, sums);
    }
  };
  if (finite_filter) walk_all(std::false_type());
  // an infinity or a NaN of input or gradient that met padding has left a NaN
  if (present && (!finite_filter || !finite(sums))) walk_all(std::true_type());
  if (!present) sums = {};

  put_sums(sums, plan, block, f.channels, partials + block.split * (K * K + f.bias) * channels,
           f.bias ? K * K : -1, [](int a, int k) { return int64_t{K * K - 1 - (a * K + k)}; });
}

}  // namespace tfcompat_dw::cuda
