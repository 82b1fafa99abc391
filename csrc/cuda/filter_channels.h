// Filter and bias gradient, channels last. A thread owns V channels and walks down 2 columns of the
// output: each input row is loaded once and multiplied with the gradient rows that see it, which
// stay in registers, and so do the sums of all taps. Blocks split the walks; see reduce.h.
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

// KR x KC taps at once: the whole filter, or (KR = 1) a piece of one of its rows. S: the stride.
template <class T, int V, int KR, int KC, int S>
__global__ void __launch_bounds__(kThreads, V * sizeof(Sum<T>) * KR * KC > 144 ? 1 : 2)
    filter_channels(const FilterChannels f,
                    const T* __restrict__ input,    // [n, h, w, c]
                    const T* __restrict__ grad,     // [n, h', w', c * m]
                    Sum<T>* __restrict__ partials)  // [splits, (taps + bias) * c * m]
{
  constexpr int kSeen = (kWalkCols - 1) * S + KC;
  constexpr int kRing = (KR + S - 1) / S;  // gradient rows that one input row meets
  const FilterPlan& plan = f.plan;
  uint32_t block = blockIdx.x;
  const uint32_t lane_block = block % plan.lane_blocks;
  block /= plan.lane_blocks;
  const uint32_t tap_block = block % plan.tap_blocks;
  const uint32_t split = block / plan.tap_blocks;
  const int lane_threads = 1 << plan.log_lanes;
  const int positions = kThreads >> plan.log_lanes;
  const int position = static_cast<int>(threadIdx.x) >> plan.log_lanes;
  const int64_t lane = ((static_cast<int64_t>(lane_block) << plan.log_lanes) +
                        (threadIdx.x & (lane_threads - 1))) * V;
  const bool present = lane < f.lanes;
  const int64_t channel = f.multiplier == 1 ? lane : lane / f.multiplier;  // V = 1 there
  const int pieces = KR > 1 ? 1 : (f.cols.kernel + KC - 1) / KC;           // of a filter row
  const int tap_row = KR > 1 ? 0 : static_cast<int>(tap_block) / pieces;
  const int tap_col = KR > 1 ? 0 : static_cast<int>(tap_block) % pieces * KC;

  Sum<T> sums[KR][KC][V];
  Sum<T> bias_sums[V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    bias_sums[v] = 0;
#pragma unroll
    for (int a = 0; a < KR; ++a) {
#pragma unroll
      for (int k = 0; k < KC; ++k) sums[a][k][v] = 0;
    }
  }

  for (int64_t round = 0; present && round < plan.rounds; ++round) {
    const int64_t unit = (round * plan.splits + split) * positions + position;
    if (unit >= plan.units) break;
    const Walk w = walk_of(f, unit, tap_row, tap_col, S);
    bool inside[kSeen];
#pragma unroll
    for (int c = 0; c < kSeen; ++c) {
      const int64_t x = w.source_col + c * w.col_pitch;
      inside[c] = x >= 0 && x < f.cols.sources && tap_col + c < (kWalkCols - 1) * S + f.cols.kernel;
    }
    bool made[kWalkCols];
#pragma unroll
    for (int j = 0; j < kWalkCols; ++j) made[j] = w.col + j * w.col_step < f.cols.destinations;
    const T* seen_line = input + ((w.image * f.rows.sources + w.source_row) * f.cols.sources +
                                  w.source_col) * f.channels + channel;
    const T* grad_line = grad + ((w.image * f.rows.destinations + w.row) * f.cols.destinations +
                                 w.col) * f.lanes + lane;
    const int64_t seen_step = w.row_pitch * f.cols.sources * f.channels;
    const int64_t grad_step = w.row_step * f.cols.destinations * f.lanes;

    Vector<T, V> ring[kRing][kWalkCols];  // the newest gradient row first
    // input row r of the walk meets gradient row i through filter row r - i * S
    const int count = static_cast<int>(w.count);
    for (int i = 0; i < count + kRing - 1; ++i) {
#pragma unroll
      for (int a = kRing - 1; a > 0; --a) {
#pragma unroll
        for (int j = 0; j < kWalkCols; ++j) ring[a][j] = ring[a - 1][j];
      }
      if (i < count) {
#pragma unroll
        for (int j = 0; j < kWalkCols; ++j) {
          if (!made[j]) continue;
          ring[0][j] = load<T, V>(grad_line + j * w.col_step * f.lanes);
          if (tap_block == 0) {
#pragma unroll
            for (int v = 0; v < V; ++v) bias_sums[v] += widen(ring[0][j].at[v]);
          }
        }
        grad_line += grad_step;
      }
#pragma unroll
      for (int phase = 0; phase < S; ++phase) {
        const int64_t y = w.source_row + (static_cast<int64_t>(i) * S + phase) * w.row_pitch;
        const bool row_inside = y >= 0 && y < f.rows.sources;
        if (row_inside) {
          Vector<T, V> seen[kSeen];
#pragma unroll
          for (int c = 0; c < kSeen; ++c) {
            if (inside[c]) seen[c] = load<T, V>(seen_line + c * w.col_pitch * f.channels);
          }
#pragma unroll
          for (int a = 0; a < kRing; ++a) {
            if (phase + a * S >= KR || i - a < 0 || i - a >= count) continue;
#pragma unroll
            for (int j = 0; j < kWalkCols; ++j) {
#pragma unroll
              for (int k = 0; k < KC; ++k) {
                // padding is skipped, not multiplied: see gather_channels.h
                if (!inside[j * S + k] || !made[j]) continue;
#pragma unroll
                for (int v = 0; v < V; ++v) {
                  sums[phase + a * S < KR ? phase + a * S : 0][k][v] +=
                      widen(seen[j * S + k].at[v]) * widen(ring[a][j].at[v]);
                }
              }
            }
          }
        }
        seen_line += seen_step;
      }
    }
  }

  const int64_t taps = static_cast<int64_t>(f.rows.kernel) * f.cols.kernel;
  Sum<T>* partial = partials + split * (taps + f.bias) * f.lanes;
  Sum<T>* buffer = reinterpret_cast<Sum<T>*>(shared_memory());
  const auto put = [&](Sum<T> sum, int64_t tap, int v) {
    sum = block_sum(sum, buffer, position, positions, lane_threads);
    if (position == 0 && present) partial[tap * f.lanes + lane + v] = sum;
  };
#pragma unroll
  for (int a = 0; a < KR; ++a) {
#pragma unroll
    for (int k = 0; k < KC; ++k) {
      if (tap_col + k >= f.cols.kernel) break;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        put(sums[a][k][v], static_cast<int64_t>(tap_row + a) * f.cols.kernel + tap_col + k, v);
      }
    }
  }
  if (f.bias && tap_block == 0) {
#pragma unroll
    for (int v = 0; v < V; ++v) put(bias_sums[v], taps, v);
  }
}

}  // namespace tfcompat_dw::cuda
