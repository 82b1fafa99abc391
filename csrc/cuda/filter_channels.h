// Filter and bias gradient, channels last. A thread owns V channels and walks down 2 columns of the
// output: each input row is loaded once and multiplied with the gradient rows that see it, which
// stay in registers, and so do the sums of all taps that the kernel is compiled for. Blocks split
// the walks, and where there are more taps, those; see reduce.h.
#pragma once
#include "lattice.h"
#include "numbers.h"
#include "plan.h"
#include "reduce.h"

namespace tfcompat_dw::cuda {

struct FilterChannels {
  GatherAxis rows;  // of the forward pass
  GatherAxis cols;
  int64_t batch;
  int64_t channels;
  int64_t lanes;
  int32_t multiplier;
  int32_t bias;  // 1 where its gradient is wanted: it follows the taps in a partial
  FilterPlan plan;
};

constexpr int kWalkCols = 2;

// One walk: `count` output rows of a lattice, 2 columns.
struct Walk {
  int64_t image, source_row, source_col, row_pitch, col_pitch;  // of the input
  int64_t row, col, row_step, col_step;                         // of the output
  int64_t count;
};

DW_HOST_DEVICE inline Walk walk_of(const FilterChannels& f, int64_t unit, int64_t tap_row,
                                   int64_t tap_col, int S) {
  const FilterPlan& plan = f.plan;
  const auto part = [&unit](int64_t count) {
    if (count == 1) return int64_t{0};
    const int64_t index = unit < INT32_MAX && count < INT32_MAX
                              ? static_cast<uint32_t>(unit) % static_cast<uint32_t>(count)
                              : unit % count;
    unit = unit < INT32_MAX && count < INT32_MAX
               ? static_cast<uint32_t>(unit) / static_cast<uint32_t>(count)
               : unit / count;
    return index;
  };
  const int64_t strip = part(plan.strips);
  const Lattice cols = lattice_of(f.cols, static_cast<int32_t>(part(f.cols.classes)));
  const int64_t segment = part(plan.segments);
  const Lattice rows = lattice_of(f.rows, static_cast<int32_t>(part(f.rows.classes)));
  Walk w;
  w.image = unit;
  const int64_t i = segment * plan.rows;
  const int64_t j = strip * kWalkCols;
  w.row = rows.first + i * rows.step;
  w.col = cols.first + j * cols.step;
  w.row_step = rows.step;
  w.col_step = cols.step;
  w.row_pitch = rows.pitch;
  w.col_pitch = cols.pitch;
  w.source_row = rows.origin + (i * S + tap_row) * rows.pitch;
  w.source_col = cols.origin + (j * S + tap_col) * cols.pitch;
  const int64_t left = f.rows.destinations - w.row;
  w.count = left <= 0 ? 0 : min64(plan.rows, rows.step == 1 ? left : ceil_div(left, rows.step));
  if (w.col >= f.cols.destinations) w.count = 0;
  return w;
}

// One thread's sums, and the walk that adds to them. KR x KC taps; S: the stride.
// Inner: all columns of the walk lie inside.
template <class T, int V, int KR, int KC, int S>
struct FilterSums {
  Sum<T> taps[KR][KC][V];
  Sum<T> bias[V];
};

template <class T, int V, int KR, int KC, int S, bool Inner>
__device__ inline void add_walk(FilterSums<T, V, KR, KC, S>& sums, const FilterChannels& f,
                                const Walk& w, const T* seen_line, const T* grad_line, int tap_col,
                                bool with_bias) {
  constexpr int kSeen = (kWalkCols - 1) * S + KC;
  constexpr int kRing = (KR + S - 1) / S;  // gradient rows that one input row meets
  bool inside[kSeen];
#pragma unroll
  for (int c = 0; c < kSeen; ++c) {
    const int64_t x = w.source_col + c * w.col_pitch;
    inside[c] = Inner ||
                (x >= 0 && x < f.cols.sources && tap_col + c < (kWalkCols - 1) * S + f.cols.kernel);
  }
  bool made[kWalkCols];
#pragma unroll
  for (int j = 0; j < kWalkCols; ++j) {
    made[j] = Inner || w.col + j * w.col_step < f.cols.destinations;
  }
  const int64_t seen_row = w.row_pitch * f.cols.sources * f.channels;
  const int64_t seen_col = w.col_pitch * f.channels;
  const int64_t grad_row = w.row_step * f.cols.destinations * f.lanes;
  const int64_t grad_col = w.col_step * f.lanes;
  Sum<T> ring[kRing][kWalkCols][V];  // the newest gradient row first
  // input row r of the walk meets gradient row i through filter row r - i * S
  const int count = static_cast<int>(w.count);
#pragma unroll 1
  for (int i = 0; i < count + kRing - 1; ++i) {
#pragma unroll
    for (int a = kRing - 1; a > 0; --a) {
#pragma unroll
      for (int j = 0; j < kWalkCols; ++j) {
#pragma unroll
        for (int v = 0; v < V; ++v) ring[a][j][v] = ring[a - 1][j][v];
      }
    }
    if (i < count) {
#pragma unroll
      for (int j = 0; j < kWalkCols; ++j) {
        Vector<T, V> vector = {};
        if (made[j]) vector = load<T, V>(grad_line + j * grad_col);
#pragma unroll
        for (int v = 0; v < V; ++v) {
          ring[0][j][v] = widen(vector.at[v]);
          if (with_bias) sums.bias[v] += ring[0][j][v];
        }
      }
      grad_line += grad_row;
    }
#pragma unroll
    for (int phase = 0; phase < S; ++phase, seen_line += seen_row) {
      const int64_t y = w.source_row + (static_cast<int64_t>(i) * S + phase) * w.row_pitch;
      if (y < 0 || y >= f.rows.sources) continue;
      Sum<T> seen[kSeen][V];
#pragma unroll
      for (int c = 0; c < kSeen; ++c) {
        Vector<T, V> vector = {};
        if (inside[c]) vector = load<T, V>(seen_line + c * seen_col);
#pragma unroll
        for (int v = 0; v < V; ++v) seen[c][v] = widen(vector.at[v]);
      }
      // Padding reads as zeros, which may be multiplied where both sides are finite; else it is
      // skipped.
      bool finite = true;
      if constexpr (!Inner) {
        Sum<T> zeros = 0;
#pragma unroll
        for (int v = 0; v < V; ++v) {
#pragma unroll
          for (int c = 0; c < kSeen; ++c) zeros += seen[c][v] * 0;
#pragma unroll
          for (int a = 0; a < kRing; ++a) {
#pragma unroll
            for (int j = 0; j < kWalkCols; ++j) {
              if (i - a >= 0 && i - a < count) zeros += ring[a][j][v] * 0;
            }
          }
        }
        finite = zeros == 0;
      }
#pragma unroll
      for (int a = 0; a < kRing; ++a) {
        constexpr int kLast = KR - 1;
        const int kh = phase + a * S;
        if (kh > kLast || i - a < 0 || i - a >= count) continue;
#pragma unroll
        for (int j = 0; j < kWalkCols; ++j) {
#pragma unroll
          for (int k = 0; k < KC; ++k) {
            if (!finite && !(inside[j * S + k] && made[j])) continue;
#pragma unroll
            for (int v = 0; v < V; ++v) {
              sums.taps[kh < KR ? kh : kLast][k][v] += seen[j * S + k][v] * ring[a][j][v];
            }
          }
        }
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
  constexpr int kSeen = (kWalkCols - 1) * S + KC;
  const FilterPlan& plan = f.plan;
  const auto [lane_block, tap_block, split] = filter_block(plan.lane_blocks, plan.tap_blocks);
  const int positions = kThreads >> plan.log_lanes;
  const int position = static_cast<int>(threadIdx.x) >> plan.log_lanes;
  const int64_t first_lane = (static_cast<int64_t>(lane_block) << plan.log_lanes) * V;
  const int64_t lane = first_lane + (threadIdx.x & ((1u << plan.log_lanes) - 1)) * V;
  const int64_t channel = f.multiplier == 1 ? lane : lane / f.multiplier;  // V = 1 there
  const int pieces = KR == KC ? 1 : (f.cols.kernel + KC - 1) / KC;         // of a filter row
  const int tap_row = KR > 1 ? 0 : static_cast<int>(tap_block) / pieces;
  const int tap_col = KR == KC ? 0 : static_cast<int>(tap_block) % pieces * KC;

  FilterSums<T, V, KR, KC, S> sums;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    sums.bias[v] = 0;
#pragma unroll
    for (int a = 0; a < KR; ++a) {
#pragma unroll
      for (int k = 0; k < KC; ++k) sums.taps[a][k][v] = 0;
    }
  }
  for (int64_t round = 0; lane < f.lanes && round < plan.rounds; ++round) {
    const int64_t unit = (round * plan.splits + split) * positions + position;
    if (unit >= plan.units) break;
    const Walk w = walk_of(f, unit, tap_row, tap_col, S);
    const T* seen =
        input +
        ((w.image * f.rows.sources + w.source_row) * f.cols.sources + w.source_col) * f.channels +
        channel;
    const T* grads =
        grad + ((w.image * f.rows.destinations + w.row) * f.cols.destinations + w.col) * f.lanes +
        lane;
    const bool inner =
        w.source_col >= 0 && w.source_col + (kSeen - 1) * w.col_pitch < f.cols.sources &&
        w.col + (kWalkCols - 1) * w.col_step < f.cols.destinations && tap_col + KC <= f.cols.kernel;
    const bool with_bias = tap_block == 0 && f.bias;
    if (inner) {
      add_walk<T, V, KR, KC, S, true>(sums, f, w, seen, grads, tap_col, with_bias);
    } else {
      add_walk<T, V, KR, KC, S, false>(sums, f, w, seen, grads, tap_col, with_bias);
    }
  }

  const int64_t taps = static_cast<int64_t>(f.rows.kernel) * f.cols.kernel;
  Sum<T>* partial = partials + split * (taps + f.bias) * f.lanes;
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
      const int64_t place = first_lane + own * V + n % V;
      if (k >= f.cols.kernel || place >= f.lanes) return;
      partial[(static_cast<int64_t>(tap_row + a) * f.cols.kernel + k) * f.lanes + place] = sum;
    });
  }
  if (f.bias && tap_block == 0) {
    sum_positions(sums.bias, plan.log_lanes, buffer, [&](int n, int own, Sum<T> sum) {
      const int64_t place = first_lane + own * V + n;
      if (place < f.lanes) partial[taps * f.lanes + place] = sum;
    });
  }
}

}  // namespace tfcompat_dw::cuda
