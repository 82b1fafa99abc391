// Filter and bias gradient, channels last. A thread owns V channels and walks down columns of the
// output: each input row is loaded once, ahead of its turn, and multiplied with the gradient rows
// that see it, which stay in registers, and so do the sums of all taps that the kernel is compiled
// for. Blocks split the walks, and where there are more taps, those; see reduce.h.
#pragma once
#include "numbers.h"
#include "plan.h"
#include "reduce.h"
#include "strip.h"

namespace tfcompat_dw::cuda {

struct FilterChannels {
  StripAxis rows;  // of the forward pass
  StripAxis cols;
  int32_t kernel_rows, kernel_cols;
  int32_t channels;
  int32_t lanes;
  int32_t multiplier;
  int32_t bias;         // 1 where its gradient is wanted: it follows the taps in a partial
  int64_t input_image;  // elements of an image
  int64_t grad_image;
  FilterPlan plan;
};

// Columns of a walk, for K x K taps or for any number.
DW_HOST_DEVICE constexpr int walk_cols(int V, int K) { return V > 1 || K == 7 ? 2 : 4; }

// One walk: `count` output rows of a lattice.
struct Walk {
  int64_t image;
  int32_t source_row, source_col;  // of the input, seen through the first tap
  int32_t row, col;                // of the output
  int32_t count;
};

DW_HOST_DEVICE inline Walk walk_of(const FilterChannels& f, uint32_t unit, int32_t tap_row,
                                   int32_t tap_col, int32_t S) {
  const FilterPlan& plan = f.plan;
  const auto part = [&unit](const Divisor& count) {
    const uint32_t rest = count.quotient(unit);
    const int32_t index = static_cast<int32_t>(unit - rest * count);
    unit = rest;
    return index;
  };
  const int32_t j = part(plan.strips) * plan.cols;
  const int32_t col_class = part(plan.col_classes);
  const int32_t i = part(plan.segments) * plan.rows;
  const int32_t row_class = part(plan.row_classes);
  Walk w;
  w.image = unit;
  w.row = row_class + i * f.rows.step;
  w.col = col_class + j * f.cols.step;
  w.source_row = row_class - f.rows.before + (i * S + tap_row) * f.rows.pitch;
  w.source_col = col_class - f.cols.before + (j * S + tap_col) * f.cols.pitch;
  const bool exists = w.row < f.rows.destinations && w.col < f.cols.destinations;
  w.count = exists ? strip_rows(f.rows, w.row, plan.rows) : 0;
  return w;
}

// One thread's sums of KR x KC taps; S: the stride.
template <class T, int V, int KR, int KC, int S>
struct FilterSums {
  Sum<T> taps[KR][KC][V];
  Sum<T> bias[V];
};

template <class T, int V, int KR, int KC, int S>
__device__ inline bool finite(const FilterSums<T, V, KR, KC, S>& sums) {
  Sum<T> zeros = 0;
#pragma unroll
  for (int a = 0; a < KR; ++a) {
#pragma unroll
    for (int k = 0; k < KC; ++k) {
#pragma unroll
      for (int v = 0; v < V; ++v) zeros += sums.taps[a][k][v] * 0;
    }
  }
  return zeros == 0;
}

// Adds a walk to the sums of a lane. Each row is loaded while the one before it is multiplied. What
// does not exist reads as zeros and is multiplied as well, so that there is no branch; with Skips
// it is skipped.
template <bool Skips, class T, int V, int KR, int KC, int S>
__device__ inline void add_walk(FilterSums<T, V, KR, KC, S>& sums, const FilterChannels& f,
                                const Walk& w, const T* input, const T* grad, int lane, int tap_col,
                                bool with_bias) {
  constexpr int kCols = walk_cols(V, KR);
  constexpr int kSeen = (kCols - 1) * S + KC;
  constexpr int kRing = (KR + S - 1) / S;  // gradient rows that one input row meets
  bool inside[kSeen];
#pragma unroll
  for (int c = 0; c < kSeen; ++c) {
    const int x = w.source_col + c * f.cols.pitch;
    inside[c] = x >= 0 && x < f.cols.sources && tap_col + c < (kCols - 1) * S + f.kernel_cols;
  }
  bool made[kCols];
#pragma unroll
  for (int j = 0; j < kCols; ++j) made[j] = w.col + j * f.cols.step < f.cols.destinations;
  const int steps = w.count + kRing - 1;

  // Steps within an image are counted in 32 bits. A line may begin outside of it; it is not read.
  const uint32_t lanes = static_cast<uint32_t>(f.lanes);
  const uint32_t grad_col = f.cols.step * lanes;
  const uint32_t grad_row = f.rows.step * (f.cols.destinations * lanes);
  const T* grad_line =
      grad + w.image * f.grad_image + (int64_t{w.row} * f.cols.destinations + w.col) * lanes + lane;
  Vector<T, V> next_grads[kCols];
  const auto load_grads = [&](int i) {
#pragma unroll
    for (int j = 0; j < kCols; ++j) {
      next_grads[j] = {};
      if (i < w.count && made[j]) next_grads[j] = load<T, V>(grad_line + j * grad_col);
    }
    grad_line += grad_row;
  };
  const uint32_t channels = static_cast<uint32_t>(f.channels);
  const uint32_t seen_col = f.cols.pitch * channels;
  const uint32_t seen_row = f.rows.pitch * (f.cols.sources * channels);
  const T* seen_line = input + w.image * f.input_image +
                       (int64_t{w.source_row} * f.cols.sources + w.source_col) * channels +
                       (f.multiplier == 1 ? lane : lane / f.multiplier);  // V = 1 with a multiplier
  int y = w.source_row;
  bool exists = y >= 0 && y < f.rows.sources;
  Vector<T, V> seen[kSeen];
  const auto load_seen = [&](int c) {
    seen[c] = {};
    if (exists && inside[c]) seen[c] = load<T, V>(seen_line + c * seen_col);
  };

  load_grads(0);
#pragma unroll
  for (int c = 0; c < kSeen; ++c) load_seen(c);
  Sum<T> ring[kRing][kCols][V] = {};  // the newest gradient row first
  // input row r of the walk meets gradient row i through filter row r - i * S
#pragma unroll 1
  for (int i = 0; i < steps; ++i) {
#pragma unroll
    for (int j = 0; j < kCols; ++j) {
#pragma unroll
      for (int a = kRing - 1; a > 0; --a) {
#pragma unroll
        for (int v = 0; v < V; ++v) ring[a][j][v] = ring[a - 1][j][v];
      }
      widen(next_grads[j], ring[0][j]);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        if (with_bias) sums.bias[v] += ring[0][j][v];
      }
    }
    load_grads(i + 1);
#pragma unroll
    for (int phase = 0; phase < S; ++phase) {
      const bool now = exists;
      y += f.rows.pitch;
      seen_line += seen_row;
      exists = (phase + 1 < S || i + 1 < steps) && y >= 0 && y < f.rows.sources;
#pragma unroll
      for (int c = 0; c < kSeen; ++c) {
        Sum<T> value[V];
        widen(seen[c], value);
#pragma unroll
        for (int a = 0; a < kRing; ++a) {
          const int kh = phase + a * S;
#pragma unroll
          for (int j = 0; j < kCols; ++j) {
            const int k = c - j * S;
            if (kh >= KR || k < 0 || k >= KC) continue;
            if (Skips && !(now && inside[c] && made[j] && i - a >= 0 && i - a < w.count)) continue;
#pragma unroll
            for (int v = 0; v < V; ++v) sums.taps[kh][k][v] += value[v] * ring[a][j][v];
          }
        }
        load_seen(c);  // of the next row: on its way while the other columns are multiplied
      }
    }
  }
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

// KR x KC taps at once: the whole filter, some columns of it, or (KR = 1) a piece of one of its
// rows.
template <class T, int V, int KR, int KC, int S>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    filter_channels(const FilterChannels f,
                    const T* __restrict__ input,    // [n, h, w, c]
                    const T* __restrict__ grad,     // [n, h', w', c * m]
                    Sum<T>* __restrict__ partials)  // [splits, (taps + bias) * c * m]
{
  const FilterPlan& plan = f.plan;
  const FilterBlock block = filter_block(plan.lane_blocks, plan.tap_blocks);
  const int positions = kThreads >> plan.log_lanes;
  const int position = static_cast<int>(threadIdx.x) >> plan.log_lanes;
  const int first_lane = static_cast<int>(block.lanes << plan.log_lanes) * V;
  const int lane = first_lane + static_cast<int>(threadIdx.x & ((1u << plan.log_lanes) - 1)) * V;
  const int pieces = KR == KC ? 1 : (f.kernel_cols + KC - 1) / KC;  // of a filter row
  const int tap_row = KR > 1 ? 0 : static_cast<int>(block.taps) / pieces;
  const int tap_col = KR == KC ? 0 : static_cast<int>(block.taps) % pieces * KC;

  FilterSums<T, V, KR, KC, S> sums;
  const auto add_walks = [&](auto skips) {
    sums = {};
    for (int32_t round = 0; lane < f.lanes && round < plan.rounds; ++round) {
      const uint32_t unit = (round * plan.splits + block.split) * positions + position;
      if (unit >= plan.units) break;
      add_walk<decltype(skips)::value>(sums, f, walk_of(f, unit, tap_row, tap_col, S), input, grad,
                                       lane, tap_col, block.taps == 0 && f.bias);
    }
  };
  add_walks(std::false_type());
  // an infinity or a NaN that met padding has left a NaN
  if (!finite(sums)) add_walks(std::true_type());

  const int64_t taps = static_cast<int64_t>(f.kernel_rows) * f.kernel_cols;
  Sum<T>* partial = partials + block.split * (taps + f.bias) * f.lanes;
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
      const int k = tap_col + n / V;
      const int place = first_lane + own * V + n % V;
      if (k >= f.kernel_cols || place >= f.lanes) return;
      partial[(static_cast<int64_t>(tap_row + a) * f.kernel_cols + k) * f.lanes + place] = sum;
    });
  }
  if (f.bias && block.taps == 0) {
    sum_positions(sums.bias, plan.log_lanes, buffer, [&](int n, int own, Sum<T> sum) {
      const int place = first_lane + own * V + n;
      if (place < f.lanes) partial[taps * f.lanes + place] = sum;
    });
  }
}

}  // namespace tfcompat_dw::cuda
