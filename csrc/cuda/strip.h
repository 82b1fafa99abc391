// A strip of results: a thread walks down a few columns of a plane, or of V channels of one.
//
// Each source row is loaded once, two rows ahead of its turn, and multiplied into every result row
// that sees it; those stay in registers, and so do the weights. For each row of C x V results that
// is K x K x C x V multiplications, a load for each source of the row, and little else.
#pragma once
#include "lattice.h"
#include "numbers.h"

namespace tfcompat_dw::cuda {

// One axis. Class r of `step` holds the results r + i * step; result i sees through its tap j the
// source r - before + (i * S + j) * pitch.
struct StripAxis {
  int32_t destinations;
  int32_t sources;
  int32_t step;
  int32_t before;
  int32_t pitch;
};

DW_HOST_DEVICE inline StripAxis strip_axis(const GatherAxis& axis) {
  const int32_t reach = (axis.kernel - 1) * axis.dilation;
  return {static_cast<int32_t>(axis.destinations), static_cast<int32_t>(axis.sources), axis.step,
          axis.forward ? axis.pad : reach - axis.pad, axis.dilation};
}

// How many results a strip has where `left` rows follow, `step` from one to the next.
DW_HOST_DEVICE inline int32_t strip_rows(int32_t left, int32_t step, int32_t most) {
  const int32_t count = step == 1 ? left : (left + step - 1) / step;
  return count < most ? count : most;
}

// Places on an axis of `size`, of which some exist.
struct Places {
  int first;
  int pitch;  // from one to the next
  int size;

  __device__ bool has(int i) const {
    const int place = first + i * pitch;
    return place >= 0 && place < size;
  }
};

// The rows of sources that a strip sees, N in each. Places are counted in 32 bits: the caller has
// seen to it that the arrays have less than 2^32 elements. A strip may begin before its array: its
// place wraps around, and is right again where rows and columns lie inside.
template <class T, int V, int N>
struct SourceRows {
  const T* sources;
  uint32_t place;     // of the next row's first source
  uint32_t row_step;  // elements from one row to the next
  uint32_t col_step;  // ... and from one source of a row to the next
  int row;            // the next row
  int pitch;          // rows from one to the next
  int end;            // no row is needed from here on, or there is none
  bool inside[N];     // the sources of a row that exist

  __device__ bool exists(int y) const { return y >= 0 && y < end; }
};

// `count` rows of N sources, pixels of `pixel` elements; origin: the element of row and column 0.
template <class T, int V, int N>
__device__ inline SourceRows<T, V, N> source_rows(const T* sources, uint32_t origin, uint32_t pixel,
                                                  const Places& rows, const Places& cols,
                                                  int count) {
  SourceRows<T, V, N> seen;
  const uint32_t row_size = static_cast<uint32_t>(cols.size) * pixel;
  seen.sources = sources;
  seen.place = origin + rows.first * row_size + cols.first * pixel;
  seen.row_step = rows.pitch * row_size;
  seen.col_step = cols.pitch * pixel;
  seen.row = rows.first;
  seen.pitch = rows.pitch;
  const int needed = rows.first + count * rows.pitch;
  seen.end = needed < rows.size ? needed : rows.size;
#pragma unroll
  for (int c = 0; c < N; ++c) seen.inside[c] = cols.has(c);
  return seen;
}

// Loads the next row; zeros where it does not exist.
template <class T, int V, int N>
__device__ inline void load_row(SourceRows<T, V, N>& rows, Vector<T, V> (&row)[N]) {
  const bool exists = rows.exists(rows.row);
#pragma unroll
  for (int c = 0; c < N; ++c) {
    row[c] = {};
    if (exists && rows.inside[c]) {
      row[c] = load<T, V>(rows.sources + (rows.place + c * rows.col_step));
    }
  }
  rows.row += rows.pitch;
  rows.place += rows.row_step;
}

// Loads `count` rows and calls visit(number, half, row, exists, seen [N][V]) with each, `half`
// being number % 2, known when the kernel is compiled. One more row may follow, which does not
// exist.
template <class T, int V, int N, class Visit>
__device__ inline void for_each_row(SourceRows<T, V, N>& rows, int count, const Visit& visit) {
  const int first = rows.row;
  Vector<T, V> ahead[2][N];
  load_row(rows, ahead[0]);
  load_row(rows, ahead[1]);
#pragma unroll 1
  for (int number = 0; number < count; number += 2) {  // two a round: none has to be moved
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Sum<T> seen[N][V];
#pragma unroll
      for (int c = 0; c < N; ++c) widen(ahead[half][c], seen[c]);
      // pairs of 16 bits are in other registers now, wider numbers are still in theirs
      constexpr bool kPairs = sizeof(T) == 2 && V > 1;
      if (kPairs) load_row(rows, ahead[half]);
      visit(number + half, half, rows.exists(first + (number + half) * rows.pitch), seen);
      if (!kPairs) load_row(rows, ahead[half]);
    }
  }
}

// K x K weights of V channels, and what sums begin with.
template <class T, int V, int K>
struct Weights {
  Sum<T> taps[K * K][V];
  Sum<T> bias[V];
};

// Reads them; whether all weights are finite. turned: from the filter's last tap to its first.
template <class T, int V, int K>
__device__ inline bool load_weights(const T* __restrict__ filter, const T* __restrict__ bias,
                                    int channel, int channels, bool turned,
                                    Weights<T, V, K>& weights) {
  const T* tap = filter + (turned ? (K * K - 1) * static_cast<int64_t>(channels) : 0) + channel;
  const int64_t step = turned ? -channels : channels;
  Sum<T> zeros = 0;
#pragma unroll
  for (int k = 0; k < K * K; ++k) {
    widen(load<T, V>(tap + k * step), weights.taps[k]);
#pragma unroll
    for (int v = 0; v < V; ++v) zeros += weights.taps[k][v] * 0;
  }
#pragma unroll
  for (int v = 0; v < V; ++v) weights.bias[v] = bias ? widen(bias[channel + v]) : Sum<T>(0);
  return zeros == 0;
}

// Walks down `count` rows of C results at forward stride S (1 or 2); put(number, results [C][V])
// gets each, and numbers outside [0, count) as well. Finite: all weights are; then what does not
// exist is multiplied as zeros, else it is skipped.
template <int S, int C, bool Finite, class T, int V, int K, class Put>
__device__ inline void walk(SourceRows<T, V, (C - 1) * S + K>& rows,
                            const Weights<T, V, K>& weights, int count, const Put& put) {
  constexpr int kLive = (K + S - 1) / S;  // result rows that a source row meets at the most
  Sum<T> sums[kLive][C][V] = {};          // the newest first
  const auto visit = [&](int number, int half, bool exists, const auto& seen) {
    // With every S-th source row a result row begins, and each other one becomes the next older:
    // its first product is added to the sum where that was, so that nothing is moved.
    const bool begins = S == 1 || half == 0;
#pragma unroll
    for (int a = kLive - 1; a >= 0; --a) {
      const int kh = a * S + (S == 1 ? 0 : half);
#pragma unroll
      for (int j = 0; j < C; ++j) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
          Sum<T> sum = !begins ? sums[a][j][v] : a > 0 ? sums[a - 1][j][v] : weights.bias[v];
#pragma unroll
          for (int k = 0; k < K; ++k) {
            if (kh >= K || !(Finite || (exists && rows.inside[j * S + k]))) continue;
            sum += seen[j * S + k][v] * weights.taps[kh * K + k][v];
          }
          sums[a][j][v] = sum;
        }
      }
    }
    // K is odd: at stride 2 a result row ends with the source row that another begins with
    if (begins) put((number - (K - 1)) / S, sums[kLive - 1]);
  };
  for_each_row(rows, (count - 1) * S + K, visit);
}

}  // namespace tfcompat_dw::cuda
