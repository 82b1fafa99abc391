// Input, filter and bias gradient at stride 1, channels last, in one sweep. A thread walks down a
// strip of the input: with the window of gradients that gives a row of the input's gradient
// (gather_strips.h) it multiplies that row of the input as well, which gives the filter's. Input
// and gradient are read once, where two kernels read the gradient twice.
#pragma once
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

// The rows of the input that a strip walks down, and their gradient.
template <class T, int C>
struct InputRows {
  const T* line;      // the next row of the input
  T* result;          // the next row of its gradient
  uint32_t row_step;  // elements from one row to the next, in both
  uint32_t col_step;
  int count;
  bool made[C];  // the columns that exist
};

// Adds a walk to the sums, whose taps are those of the turned filter, and writes the input
// gradient. Skips: what does not exist is skipped; else it is multiplied as zeros.
template <bool Skips, class T, int V, int K, int N, int C>
__device__ inline void walk_back(SourceRows<T, V, N>& grads, const Weights<T, V, K>& weights,
                                 InputRows<T, C>& input, FilterSums<T, V, K, K, 1>& sums) {
  Vector<T, V> next[C];
  const auto load_input = [&](int number) {
#pragma unroll
    for (int j = 0; j < C; ++j) {
      next[j] = {};
      if (number < input.count && input.made[j]) {
        next[j] = load<T, V>(input.line + j * input.col_step);
      }
    }
    input.line += input.row_step;
  };
  load_input(0);
  Sum<T> results[K][C][V] = {};  // rows of the input gradient, the newest first
  Sum<T> ring[K][C][V] = {};     // ... and of the input
  const auto visit = [&](int number, int, bool exists, const auto& seen) {
#pragma unroll
    for (int a = K - 1; a >= 0; --a) {
#pragma unroll
      for (int j = 0; j < C; ++j) {
        if (a == 0) {
          widen(next[j], ring[0][j]);
        } else {
#pragma unroll
          for (int v = 0; v < V; ++v) ring[a][j][v] = ring[a - 1][j][v];
        }
        const bool made = input.made[j] && number - a >= 0 && number - a < input.count;
#pragma unroll
        for (int v = 0; v < V; ++v) {
          Sum<T> sum = a > 0 ? results[a - 1][j][v] : Sum<T>(0);
#pragma unroll
          for (int k = 0; k < K; ++k) {
            if (Skips && !(exists && grads.inside[j + k] && made)) continue;
            sum += seen[j + k][v] * weights.taps[a * K + k][v];
            sums.taps[a][k][v] += seen[j + k][v] * ring[a][j][v];
          }
          results[a][j][v] = sum;
          // every gradient that exists is in the middle of one result's window
          if (a == K / 2 && made) sums.bias[v] += seen[j + K / 2][v];
        }
      }
    }
    load_input(number + 1);
    if (number < K - 1 || number - (K - 1) >= input.count) return;
#pragma unroll
    for (int j = 0; j < C; ++j) {
      if (!input.made[j]) continue;
      store<T, V>(input.result + j * input.col_step, narrow<T>(results[K - 1][j]));
    }
    input.result += input.row_step;
  };
  for_each_row(grads, input.count + K - 1, visit);
}

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
