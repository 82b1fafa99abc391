// Input gradient of stride 2, channels last: a thread walks down a strip of pairs of rows and
// columns (strip.h), results of all four parities.
//
// A result meets every second tap of each axis, from the first or from the second on as its place
// plus the padding is even or odd: of 3 x 3 taps 2 x 2, 2 x 1, 1 x 2 or 1. Pairs begin where that
// is even, so which taps a result takes is known when the kernel is compiled, and the threads of a
// warp go one way. With 3 x 3 taps a thread loads two vectors for four results.
#pragma once
#include "plan.h"
#include "strip.h"

namespace tfcompat_dw::cuda {

// The pairs of an axis, as plan_strips takes them: the first begins at result 0, or one place
// before it where the padding is odd.
inline GatherAxis pairs_of(GatherAxis axis) {
  axis.destinations = ceil_div(axis.destinations + axis.pad % 2, 2);
  axis.classes = axis.step = 1;
  return axis;
}

struct ParityAxis {
  int32_t destinations;
  int32_t sources;
  int32_t pad;

  // The first result of a pair, and the source that it sees through the first tap.
  DW_HOST_DEVICE int32_t first(int32_t pair) const { return 2 * pair - pad % 2; }
  DW_HOST_DEVICE int32_t source(int32_t pair) const { return pair + pad / 2; }
  DW_HOST_DEVICE bool has(int32_t result) const { return result >= 0 && result < destinations; }
};

struct GatherParities {
  ParityAxis rows;
  ParityAxis cols;
  int32_t row_pairs;
  int32_t batch;
  int32_t channels;
  TilePlan plan;  // a destination is a pair of rows and a pair of columns
};

DW_HOST_DEVICE inline ParityAxis parity_axis(const GatherAxis& axis) {
  return {static_cast<int32_t>(axis.destinations), static_cast<int32_t>(axis.sources), axis.pad};
}

// Channels of a strip, where there are as many.
template <class T, int K>
constexpr int kParityChannels = K == 3 ? kChannels<T> : 2;

// Walks down `count` pairs of rows; put(number, results [2][2][V]) gets each, and numbers below 0.
// Pair p sees source p - t through the taps 2 t and, in its second row or column, 2 t + 1. The rows
// begin K / 2 sources before the first pair's own, and so does what is seen of a row.
template <bool Finite, class T, int V, int K, class Put>
__device__ inline void walk_pairs(SourceRows<T, V, K / 2 + 1>& rows,
                                  const Weights<T, V, K>& weights, int count, const Put& put) {
  constexpr int kLive = K / 2 + 1;   // pairs of rows that a source row meets
  Sum<T> sums[kLive][2][2][V] = {};  // the newest first: it meets the last taps
  // with every source row a pair begins, and each other one becomes the next older: see walk
  const auto visit = [&](int number, int, bool exists, const auto& seen) {
#pragma unroll
    for (int a = kLive - 1; a >= 0; --a) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int kh = 2 * (kLive - 1 - a) + i;
#pragma unroll
        for (int j = 0; j < 2; ++j) {
#pragma unroll
          for (int v = 0; v < V; ++v) {
            Sum<T> sum = a > 0 ? sums[a - 1][i][j][v] : Sum<T>(0);
#pragma unroll
            for (int c = 0; c < kLive; ++c) {
              const int kw = 2 * (kLive - 1 - c) + j;
              if (kh >= K || kw >= K || !(Finite || (exists && rows.inside[c]))) continue;
              sum += seen[c][v] * weights.taps[kh * K + kw][v];
            }
            sums[a][i][j][v] = sum;
          }
        }
      }
    }
    put(number - (kLive - 1), sums[kLive - 1]);
  };
  for_each_row(rows, count + kLive - 1, visit);
}

// K x K taps, one source channel for each of the results'.
template <class T, int V, int K>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    gather_parities(const GatherParities g,
                    const T* __restrict__ sources,   // [n, h', w', c]
                    const T* __restrict__ filter,    // [K, K, c, 1]
                    T* __restrict__ destinations) {  // [n, h, w, c]
  const TilePosition at = tile_position(g.plan, blockIdx.x, threadIdx.x);
  const int channel = static_cast<int>(at.vector) * V;
  const int image = static_cast<int>(at.image);
  const int row_pair = static_cast<int>(at.row);
  const int row = g.rows.first(row_pair);
  const int col = g.cols.first(static_cast<int>(at.col));
  if (channel >= g.channels || image >= g.batch || row_pair >= g.row_pairs ||
      col >= g.cols.destinations) {
    return;
  }
  Weights<T, V, K> weights;
  const bool finite = load_weights<T, V, K>(filter, nullptr, channel, g.channels, false, weights);
  const int count = strip_rows(g.row_pairs - row_pair, 1, g.plan.tile_rows);
  const uint32_t pixel = static_cast<uint32_t>(g.channels);
  const uint32_t source_image = static_cast<uint32_t>(g.rows.sources) * g.cols.sources * pixel;
  auto seen = source_rows<T, V, K / 2 + 1>(
      sources, image * source_image + channel, pixel,
      {g.rows.source(row_pair) - K / 2, 1, g.rows.sources},
      {g.cols.source(static_cast<int>(at.col)) - K / 2, 1, g.cols.sources}, count + K / 2);

  const uint32_t result_row = static_cast<uint32_t>(g.cols.destinations) * pixel;
  uint32_t corner = (image * static_cast<uint32_t>(g.rows.destinations) + row) * result_row +
                    col * pixel + channel;
  const bool made[2] = {g.cols.has(col), g.cols.has(col + 1)};
  const auto put = [&](int number, const Sum<T>(&results)[2][2][V]) {
    if (number < 0 || number >= count) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!g.rows.has(row + 2 * number + i)) continue;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (!made[j]) continue;
        store<T, V>(destinations + (corner + i * result_row + j * pixel), narrow<T>(results[i][j]));
      }
    }
    corner += 2 * result_row;
  };
  if (finite) {
    walk_pairs<true>(seen, weights, count, put);
  } else {
    walk_pairs<false>(seen, weights, count, put);
  }
}

}  // namespace tfcompat_dw::cuda
