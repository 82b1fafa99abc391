// The sums of a filter gradient, and the walk of a thread that adds to them: down a few columns of
// output gradients, V channels of each. Each input row is loaded once, ahead of its turn, and
// multiplied with the gradient rows that see it; those stay in registers, and so do the sums.
#pragma once
#include "numbers.h"
#include "plan.h"

namespace tfcompat_dw::cuda {

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

// The first of the KR x KC taps of a block, when groups of so many share a filter.
struct FirstTap {
  int row, col;
};
DW_HOST_DEVICE inline FirstTap first_tap(uint32_t group, int KR, int KC,
                                         const Divisor& side_by_side) {
  const int col = take_digit(group, side_by_side);
  return {static_cast<int>(group) * KR, col * KC};
}

// What a walk sees: N sources of each input row, C columns of gradients. A line may begin outside
// of its array; what does not exist is not read.
template <class T, int N, int C>
struct WalkView {
  const T* seen_line;  // the next input row, at its first source
  uint32_t seen_row;   // elements from one to the next
  uint32_t seen_col;
  const T* grad_line;  // the next gradient row
  uint32_t grad_row;
  uint32_t grad_col;
  int row;     // of the input line
  int pitch;   // rows from one to the next
  int height;  // rows that exist
  int count;   // of gradient rows
  bool inside[N];
  bool made[C];
};

// Adds a walk to the sums. What does not exist reads as zeros and is multiplied as well, so that
// there is no branch; with Skips it is skipped.
template <bool Skips, class T, int V, int KR, int KC, int S, int N, int C>
__device__ inline void add_walk(FilterSums<T, V, KR, KC, S>& sums, WalkView<T, N, C>& w,
                                bool with_bias) {
  constexpr int kRing = (KR + S - 1) / S;  // gradient rows that one input row meets
  const int steps = w.count + kRing - 1;
  Vector<T, V> next_grads[C];
  const auto load_grads = [&](int i) {
#pragma unroll
    for (int j = 0; j < C; ++j) {
      next_grads[j] = {};
      if (i < w.count && w.made[j]) next_grads[j] = load<T, V>(w.grad_line + j * w.grad_col);
    }
    w.grad_line += w.grad_row;
  };
  bool exists = w.row >= 0 && w.row < w.height;
  Vector<T, V> seen[N];
  const auto load_seen = [&](int c) {
    seen[c] = {};
    if (exists && w.inside[c]) seen[c] = load<T, V>(w.seen_line + c * w.seen_col);
  };

  load_grads(0);
#pragma unroll
  for (int c = 0; c < N; ++c) load_seen(c);
  Sum<T> ring[kRing][C][V] = {};  // the newest gradient row first
  // input row r of the walk meets gradient row i through filter row r - i * S
#pragma unroll 1
  for (int i = 0; i < steps; ++i) {
#pragma unroll
    for (int j = 0; j < C; ++j) {
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
#pragma unroll
    for (int phase = 0; phase < S; ++phase) {
      if (phase == S - 1) load_grads(i + 1);
      const bool now = exists;
      w.row += w.pitch;
      w.seen_line += w.seen_row;
      exists = (phase + 1 < S || i + 1 < steps) && w.row >= 0 && w.row < w.height;
#pragma unroll
      for (int c = 0; c < N; ++c) {
        Sum<T> value[V];
        widen(seen[c], value);
#pragma unroll
        for (int a = 0; a < kRing; ++a) {
          const int kh = phase + a * S;
#pragma unroll
          for (int j = 0; j < C; ++j) {
            const int k = c - j * S;
            if (kh >= KR || k < 0 || k >= KC) continue;
            const bool row_made = i - a >= 0 && i - a < w.count;
            if (Skips && !(now && w.inside[c] && w.made[j] && row_made)) continue;
#pragma unroll
            for (int v = 0; v < V; ++v) sums.taps[kh][k][v] += value[v] * ring[a][j][v];
          }
        }
        load_seen(c);  // of the next row: on its way while the other columns are multiplied
      }
    }
  }
}

}  // namespace tfcompat_dw::cuda
