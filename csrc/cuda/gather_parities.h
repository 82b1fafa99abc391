// Input gradient of stride 2, channels last: a tile of results of all four parities in registers.
//
// A result meets every second tap of each axis, from the first or from the second on as its place
// plus the padding is even or odd: of 3 x 3 taps 2 x 2, 2 x 1, 1 x 2 or 1. Tiles begin where a
// lattice of stride 2 does, so which taps a result of a tile takes is known when the kernel is
// compiled, and the threads of a warp go one way. A vector of the output gradient is loaded once
// for all parities: with 3 x 3 taps 6 loads for 8 results, where gather_channels, parity by parity,
// makes 45 for 32.
#pragma once
#include "gather_channels.h"

namespace tfcompat_dw::cuda {

// The axis that plan_tiles lays tiles on: the first begins at result 0, or one place before it
// where the padding is odd, so that the first result of every tile meets tap 0.
inline GatherAxis of_both_parities(GatherAxis axis) {
  axis.destinations += axis.pad % 2;
  axis.classes = axis.step = 1;
  return axis;
}

// The part of a tile of `side` results from `first` on that exists.
__device__ inline void clip_side(int64_t first, int side, int64_t count, int& begin, int& end) {
  begin = first < 0 ? static_cast<int>(-first) : 0;
  end = static_cast<int>(max64(0, min64(side, count - first)));
}

// Result i of a side meets source i / 2 - kh / 2 through tap kh, counted from the tile's own, where
// both are even or both are odd. Sources from -(K / 2) on are seen.
template <class T, int V, int K, bool Finite>
__device__ inline void add_parities(Tile<T, V, 1>& tile, const Sum<T>* held) {
  constexpr int kBefore = K / 2;
  constexpr int kRows = kBefore + kTileRows / 2;
  constexpr int kSeen = kBefore + kTileCols / 2;
  bool inside[kSeen];
#pragma unroll
  for (int c = 0; c < kSeen; ++c) inside[c] = tile.col + c >= 0 && tile.col + c < tile.width;
  const T* line = tile.source;
#pragma unroll
  for (int r = 0; r < kRows; ++r, line += tile.row_step) {
    const bool row_inside = tile.row + r >= 0 && tile.row + r < tile.height;
    if (!Finite && !row_inside) continue;
    Sum<T> seen[kSeen][V];
    see_row(tile, line, inside, row_inside, seen);
#pragma unroll
    for (int i = 0; i < kTileRows; ++i) {
      const int kh = i - 2 * (r - kBefore);
      if (kh < 0 || kh >= K) continue;
#pragma unroll
      for (int c = 0; c < kSeen; ++c) {
        if (!Finite && !inside[c]) continue;
#pragma unroll
        for (int j = 0; j < kTileCols; ++j) {
          const int kw = j - 2 * (c - kBefore);
          if (kw < 0 || kw >= K) continue;
          const Sum<T>* weight = held + (kh * K + kw) * kLaneSlots;
#pragma unroll
          for (int v = 0; v < V; ++v) tile.sums[i][j][v] += seen[c][v] * weight[v];
        }
      }
    }
  }
}

// K x K taps, one source channel for each of the results'.
template <class T, int V, int K>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    gather_parities(const GatherChannels g,
                    const T* __restrict__ sources,   // [n, h', w', c]
                    const T* __restrict__ filter,    // [K, K, c, 1]
                    T* __restrict__ destinations) {  // [n, h, w, c]
  const TilePosition at = tile_position(g.plan, blockIdx.x, threadIdx.x);
  const int lane_slot = static_cast<int>(threadIdx.x) % g.plan.lanes * V;
  const int64_t channel = at.vector * V;
  const int64_t pixel = g.destination_channels;
  Sum<T>* held = reinterpret_cast<Sum<T>*>(shared_memory());
  const bool finite = hold_filter(filter, K * K, 1, pixel, channel - lane_slot, false, held);

  const int64_t row = at.row - g.rows.pad % 2;
  const int64_t col = at.col - g.cols.pad % 2;
  int row_begin, row_end, col_begin, col_end;
  clip_side(row, kTileRows, g.rows.destinations, row_begin, row_end);
  clip_side(col, kTileCols, g.cols.destinations, col_begin, col_end);
  if (channel >= pixel || at.image >= g.batch || row_begin >= row_end || col_begin >= col_end) {
    return;
  }
  Tile<T, V, 1> tile = {};
  tile.row = (row + g.rows.pad) / 2 - K / 2;
  tile.col = (col + g.cols.pad) / 2 - K / 2;
  tile.height = g.rows.sources;
  tile.width = g.cols.sources;
  tile.col_step = pixel;
  tile.row_step = g.cols.sources * pixel;
  tile.source =
      sources + ((at.image * tile.height + tile.row) * tile.width + tile.col) * pixel + channel;
  if (finite) {
    add_parities<T, V, K, true>(tile, held + lane_slot);
  } else {
    add_parities<T, V, K, false>(tile, held + lane_slot);
  }

  T* corner = destinations +
              ((at.image * g.rows.destinations + row) * g.cols.destinations + col) * pixel +
              channel;
#pragma unroll
  for (int i = 0; i < kTileRows; ++i) {
    if (i < row_begin || i >= row_end) continue;
#pragma unroll
    for (int j = 0; j < kTileCols; ++j) {
      if (j < col_begin || j >= col_end) continue;
      Vector<T, V> result;
#pragma unroll
      for (int v = 0; v < V; ++v) narrow(tile.sums[i][j][v], result.at[v]);
      store<T, V>(corner + (i * g.cols.destinations + j) * pixel, result);
    }
  }
}

}  // namespace tfcompat_dw::cuda
