// Filter and bias gradient, channels last. A thread owns V channels and walks down columns of the
// output: each input row is loaded once, ahead of its turn, and multiplied with the gradient rows
// that see it, which stay in registers, and so do the sums of all taps that the kernel is compiled
// for. Blocks split the walks, and where there are more taps, those; see reduce.h.
#pragma once
#include "filter_walk.h"
#include "plan.h"
#include "reduce.h"
#include "strip.h"

namespace tfcompat_dw::cuda {

struct FilterChannels {
  StripAxis rows;  // of the forward pass
  StripAxis cols;
  int32_t kernel_rows, kernel_cols;
  Divisor groups_across;  // of taps
  int32_t channels;
  int32_t lanes;
  int32_t multiplier;
  int32_t bias;         // 1 where its gradient is wanted: it follows the taps in a partial
  int64_t input_image;  // elements of an image
  int64_t grad_image;
  uint32_t input_row, input_col;  // ... and from one tap to the next
  uint32_t grad_row, grad_col;    // ... from one gradient of a lattice to the next
  FilterPlan plan;
};

// Columns of a walk, for K x K taps or for any number.
DW_HOST_DEVICE constexpr int walk_cols(int V, int K) {
  return V > 1 || K == 7 ? 2 : K == 5 ? 3 : 4;
}

// One walk: `count` output rows of a lattice.
struct Walk {
  int64_t image;
  int32_t source_row, source_col;  // of the input, seen through the first tap
  int32_t row, col;                // of the output
  int32_t count;
};

DW_HOST_DEVICE inline Walk walk_of(const FilterPlan& plan, const StripAxis& rows,
                                   const StripAxis& cols, uint32_t unit, int32_t tap_row,
                                   int32_t tap_col, int32_t S) {
  const int32_t j = take_digit(unit, plan.strips) * plan.cols;
  const int32_t col_class = take_digit(unit, plan.col_classes);
  const int32_t i = take_digit(unit, plan.segments) * plan.rows;
  const int32_t row_class = take_digit(unit, plan.row_classes);
  Walk w;
  w.image = unit;
  w.row = row_class + i * rows.step;
  w.col = col_class + j * cols.step;
  w.source_row = row_class - rows.before + (i * S + tap_row) * rows.pitch;
  w.source_col = col_class - cols.before + (j * S + tap_col) * cols.pitch;
  const bool exists = w.row < rows.destinations && w.col < cols.destinations;
  w.count = exists ? strip_rows(rows.destinations - w.row, rows.step, plan.rows) : 0;
  return w;
}

// What a walk of a lane sees, K columns of taps from tap_col on.
template <class T, int N, int C>
__device__ inline WalkView<T, N, C> view_of(const FilterChannels& f, const Walk& w, const T* input,
                                            const T* grad, int lane, int tap_col, int S) {
  WalkView<T, N, C> view;
  const uint32_t lanes = static_cast<uint32_t>(f.lanes);
  view.grad_col = f.grad_col;
  view.grad_row = f.grad_row;
  view.grad_line =
      grad + w.image * f.grad_image + (int64_t{w.row} * f.cols.destinations + w.col) * lanes + lane;
  const uint32_t channels = static_cast<uint32_t>(f.channels);
  view.seen_col = f.input_col;
  view.seen_row = f.input_row;
  view.seen_line = input + w.image * f.input_image +
                   (int64_t{w.source_row} * f.cols.sources + w.source_col) * channels +
                   (f.multiplier == 1 ? lane : lane / f.multiplier);  // V = 1 with a multiplier
  view.row = w.source_row;
  view.pitch = f.rows.pitch;
  view.height = f.rows.sources;
  view.count = w.count;
  const Places cols = {w.source_col, f.cols.pitch, f.cols.sources};
#pragma unroll
  for (int c = 0; c < N; ++c) {
    view.inside[c] = cols.has(c) && tap_col + c < (C - 1) * S + f.kernel_cols;
  }
#pragma unroll
  for (int j = 0; j < C; ++j) view.made[j] = w.col + j * f.cols.step < f.cols.destinations;
  return view;
}

// Adds up N sums of each thread over the block's positions; put(n, lane, sum) gets every result.
// buffer: N * kThreads sums of shared memory.
template <int N, class S, class Put>
__device__ inline void sum_positions(const S (&sums)[N], int log_lanes, S* buffer, const Put& put) {
  const int t = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int n = 0; n < N; ++n) buffer[n * kThreads + t] = sums[n];
  __syncthreads();
  const int lanes = 1 << log_lanes;
  for (int item = t; item < N * lanes; item += kThreads) {
    const int lane = item & (lanes - 1);
    const S* own = buffer + (item >> log_lanes) * kThreads + lane;
    S sum = 0;
    for (int i = 0; i < kThreads; i += lanes) sum += own[i];
    put(item >> log_lanes, lane, sum);
  }
  __syncthreads();
}

// Adds up the sums of a block's threads into its partial; tap(a, k) is the filter's tap whose sum
// taps[a][k] is, or -1; so is `bias`, which follows the taps.
template <class T, int V, int KR, int KC, int S, class Tap>
__device__ inline void put_sums(const FilterSums<T, V, KR, KC, S>& sums, const FilterPlan& plan,
                                const FilterBlock& block, int lanes, Sum<T>* partial, int64_t bias,
                                const Tap& tap) {
  const int first_lane = static_cast<int>(block.lanes << plan.log_lanes) * V;
  Sum<T>* buffer = reinterpret_cast<Sum<T>*>(shared_memory());
#pragma unroll
  for (int a = 0; a < KR; ++a) {
    Sum<T> row[KC * V];
#pragma unroll
    for (int k = 0; k < KC; ++k) {
#pragma unroll
      for (int v = 0; v < V; ++v) row[k * V + v] = sums.taps[a][k][v];
    }
    sum_positions(row, plan.log_lanes, buffer, [&](int n, int own, Sum<T> sum) {
      const int64_t at = tap(a, n / V);
      const int lane = first_lane + own * V + n % V;
      if (at >= 0 && lane < lanes) partial[at * lanes + lane] = sum;
    });
  }
  if (bias < 0) return;
  sum_positions(sums.bias, plan.log_lanes, buffer, [&](int n, int own, Sum<T> sum) {
    const int lane = first_lane + own * V + n;
    if (lane < lanes) partial[bias * lanes + lane] = sum;
  });
}

// The first lane of a thread, and its unit of a round.
__device__ inline int lane_of(const FilterPlan& plan, const FilterBlock& block, int V) {
  const int own = static_cast<int>(threadIdx.x) & ((1 << plan.log_lanes) - 1);
  return (static_cast<int>(block.lanes << plan.log_lanes) + own) * V;
}
__device__ inline uint32_t unit_of(const FilterPlan& plan, const FilterBlock& block, int round) {
  const uint32_t positions = kThreads >> plan.log_lanes;
  return (round * plan.splits + block.split) * positions + (threadIdx.x >> plan.log_lanes);
}

// KR x KC taps at once: the whole filter or a part of it.
template <class T, int V, int KR, int KC, int S>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    filter_channels(const FilterChannels f,
                    const T* __restrict__ input,    // [n, h, w, c]
                    const T* __restrict__ grad,     // [n, h', w', c * m]
                    Sum<T>* __restrict__ partials)  // [splits, (taps + bias) * c * m]
{
  constexpr int C = walk_cols(V, KR);
  const FilterPlan& plan = f.plan;
  const FilterBlock block = filter_block(plan.lane_blocks, plan.tap_blocks);
  const FirstTap tap = first_tap(block.taps, KR, KC, f.groups_across);

  FilterSums<T, V, KR, KC, S> sums;
  const auto add_walks = [&](auto skips) {
    sums = {};
    const int lane = lane_of(plan, block, V);
    for (int32_t round = 0; lane < f.lanes && round < plan.rounds; ++round) {
      const uint32_t unit = unit_of(plan, block, round);
      if (unit >= plan.units) break;
      const Walk w = walk_of(plan, f.rows, f.cols, unit, tap.row, tap.col, S);
      auto view = view_of<T, (C - 1) * S + KC, C>(f, w, input, grad, lane, tap.col, S);
      add_walk<decltype(skips)::value>(sums, view, block.taps == 0 && f.bias);
    }
  };
  add_walks(std::false_type());
  // an infinity or a NaN that met padding has left a NaN
  if (!finite(sums)) add_walks(std::true_type());

  const int64_t taps = static_cast<int64_t>(f.kernel_rows) * f.kernel_cols;
  put_sums(sums, plan, block, f.lanes, partials + block.split * (taps + f.bias) * f.lanes,
           f.bias && block.taps == 0 ? taps : -1, [&](int a, int k) {
             const int row = tap.row + a, col = tap.col + k;
             const bool exists = row < f.kernel_rows && col < f.kernel_cols;
             return exists ? static_cast<int64_t>(row) * f.kernel_cols + col : -1;
           });
}

}  // namespace tfcompat_dw::cuda
