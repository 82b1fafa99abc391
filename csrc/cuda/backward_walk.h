// All gradients at stride 1 in one sweep. A thread walks down a strip of the input: with the window
// of gradients that gives a row of the input's gradient (strip.h) it multiplies that row of the
// input as well, which gives the filter's. Input and gradient are read once, where two kernels read
// the gradient twice.
#pragma once
#include "filter_walk.h"
#include "strip.h"

namespace tfcompat_dw::cuda {

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

}  // namespace tfcompat_dw::cuda
