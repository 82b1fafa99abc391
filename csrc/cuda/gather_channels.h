// Forward and input gradient, channels last, any number of taps: a tile of results in registers.
//
// A thread owns V neighbouring channels of 4 x 2 destinations. It takes the source rows one after
// the other: each vector is loaded once for three columns of taps and multiplied into every result
// that sees it. The threads of a block lie side by side (channels,
// then columns, then rows, then images), so that the vectors that two tiles share come from the
// level 1 cache and whole lines of 128 bytes are asked for.
#pragma once
#include "lattice.h"
#include "numbers.h"
#include "plan.h"

namespace tfcompat_dw::cuda {

struct GatherChannels {
  GatherAxis rows;
  GatherAxis cols;
  int64_t batch;
  int64_t destination_channels;
  int64_t source_channels;
  int32_t multiplier;
  int32_t held_taps;  // that come into shared memory; 0: weights stay where they are
  TilePlan plan;
};

// Sources of a thread's channels. Forward: channel c reads source channel c / multiplier.
// Input gradient: it reads `multiplier` source channels, one `copy` after the other.
struct Channels {
  int64_t source;  // of copy 0
  int64_t weight;  // of copy 0, within a tap
  int32_t copies;
};

__device__ inline Channels channels_of(const GatherChannels& g, int64_t channel) {
  if (g.multiplier == 1) return {channel, channel, 1};  // the only one with V > 1
  if (g.rows.forward) return {channel / g.multiplier, channel, 1};
  return {channel * g.multiplier, channel * g.multiplier, g.multiplier};
}

// The filter of a block's lanes in shared memory, [taps][kLaneSlots], in the type sums are made in.
constexpr int kLaneSlots = 32;
template <class T>
constexpr int kMostHeldTaps = 32 * 1024 / kLaneSlots / static_cast<int>(sizeof(Sum<T>));

// Of several copies all taps of the first come first. Returns whether all of it is finite: then
// padding can be read as zeros and multiplied, which adds exactly nothing; else it has to be
// skipped.
template <class T>
__device__ inline bool hold_filter(const T* __restrict__ filter, int taps, int copies,
                                   int64_t channels, int64_t first, Sum<T>* held) {
  Sum<T> zeros = 0;
  for (int i = threadIdx.x; i < taps * copies * kLaneSlots; i += blockDim.x) {
    const int64_t channel = first + i % kLaneSlots;
    const int copy = i / kLaneSlots / taps;
    const int tap = i / kLaneSlots - copy * taps;
    if (channel >= channels) continue;
    held[i] = widen(filter[(tap * channels + channel) * copies + copy]);
    zeros += held[i] * 0;
  }
  return all_threads(zeros == 0);
}

// One thread's tile: where its sources begin and what its results are.
template <class T, int V, int S>
struct Tile {
  const T* source;   // of row 0, column 0 and copy 0; only read where it lies inside
  int64_t row_step;  // elements from one source row of the lattice to the next
  int64_t col_step;
  int64_t row, col;  // of that source
  int64_t row_pitch, col_pitch;
  int64_t height, width;  // of the sources
  Sum<T> sums[kTileRows][kTileCols][V];
};

// The vectors of a source row that a tile sees, as sums; zeros where they lie outside.
template <int kSeen, class T, int V, int S>
__device__ inline void see_row(const Tile<T, V, S>& tile, const T* line,
                               const bool (&inside)[kSeen], bool row_inside,
                               Sum<T> (&seen)[kSeen][V]) {
#pragma unroll
  for (int c = 0; c < kSeen; ++c) {
    Vector<T, V> vector = {};
    if (inside[c] && row_inside) vector = load<T, V>(line + c * tile.col_step);
    widen(vector, seen[c]);
  }
}

// Adds any number of taps, kWidth columns at a time. weight(tap row, tap column, v) gives a weight.
template <int kWidth, bool Finite, class T, int V, int S, class Weight>
__device__ inline void add_any(Tile<T, V, S>& tile, int row_taps, int col_taps,
                               const Weight& weight) {
  constexpr int kSeen = (kTileCols - 1) * S + kWidth;
  for (int pass = 0; pass < col_taps; pass += kWidth) {
    bool inside[kSeen];
#pragma unroll
    for (int c = 0; c < kSeen; ++c) {
      const int64_t x = tile.col + (pass + c) * tile.col_pitch;
      inside[c] = x >= 0 && x < tile.width && pass + c < (kTileCols - 1) * S + col_taps;
    }
    const T* line = tile.source + pass * tile.col_step;
#pragma unroll 1
    for (int r = 0; r < (kTileRows - 1) * S + row_taps; ++r, line += tile.row_step) {
      const int64_t y = tile.row + r * tile.row_pitch;
      if (y < 0 || y >= tile.height) continue;
      Sum<T> seen[kSeen][V];
      see_row(tile, line, inside, true, seen);
#pragma unroll
      for (int i = 0; i < kTileRows; ++i) {
        const int kh = r - i * S;
        if (kh < 0 || kh >= row_taps) continue;
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          if (pass + k >= col_taps) break;
#pragma unroll
          for (int v = 0; v < V; ++v) {
            const Sum<T> w = weight(kh, pass + k, v);
#pragma unroll
            for (int j = 0; j < kTileCols; ++j) {
              if (Finite || inside[j * S + k]) tile.sums[i][j][v] += seen[j * S + k][v] * w;
            }
          }
        }
      }
    }
  }
}

// S: the stride of forward.
template <class T, int V, int S>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    gather_channels(const GatherChannels g,
                    const T* __restrict__ sources,   // [n, h, w, source channels]
                    const T* __restrict__ filter,    // [kh, kw, c, m]
                    const T* __restrict__ bias,      // [destination channels] or null
                    T* __restrict__ destinations) {  // [n, h', w', destination channels]
  const TilePosition at = tile_position(g.plan, blockIdx.x, threadIdx.x);
  const int lane_slot = static_cast<int>(threadIdx.x) % g.plan.lanes * V;
  const int64_t channel = at.vector * V;
  const int64_t lanes = g.rows.forward ? g.destination_channels : g.source_channels;
  const Channels channels = channels_of(g, channel);
  const int taps = g.held_taps;
  Sum<T>* held = reinterpret_cast<Sum<T>*>(shared_memory());
  bool finite = false;
  if (taps) {
    finite = hold_filter(filter, taps, channels.copies, g.destination_channels, channel - lane_slot,
                         held);
  }

  const Lattice rows = lattice_of(g.rows, at.row_class);
  const Lattice cols = lattice_of(g.cols, at.col_class);
  const int64_t row = rows.first + at.row * rows.step;
  const int64_t col = cols.first + at.col * cols.step;
  if (channel >= g.destination_channels || at.image >= g.batch || row >= g.rows.destinations ||
      col >= g.cols.destinations) {
    return;
  }
  Tile<T, V, S> tile;
  tile.row = rows.origin + at.row * S * rows.pitch;
  tile.col = cols.origin + at.col * S * cols.pitch;
  tile.row_pitch = rows.pitch;
  tile.col_pitch = cols.pitch;
  tile.height = g.rows.sources;
  tile.width = g.cols.sources;
  tile.col_step = cols.pitch * g.source_channels;
  tile.row_step = rows.pitch * g.cols.sources * g.source_channels;
  tile.source =
      sources + channels.source +
      ((at.image * g.rows.sources + tile.row) * g.cols.sources + tile.col) * g.source_channels;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const Sum<T> first = bias ? widen(bias[channel + v]) : Sum<T>(0);
#pragma unroll
    for (int i = 0; i < kTileRows; ++i) {
#pragma unroll
      for (int j = 0; j < kTileCols; ++j) tile.sums[i][j][v] = first;
    }
  }

  for (int copy = 0; copy < channels.copies; ++copy, ++tile.source) {
    const auto tap_of = [&](int kh, int k) {
      return static_cast<int64_t>(rows.tap_first + kh * rows.tap_step) * g.cols.kernel +
             cols.tap_first + k * cols.tap_step;
    };
    const Sum<T>* own = held + copy * taps * kLaneSlots + lane_slot;
    const auto held_weight = [&](int kh, int k, int v) {
      return own[static_cast<int>(tap_of(kh, k)) * kLaneSlots + v];
    };
    const T* weights = filter + channels.weight + copy;
    if (finite) {
      add_any<3, true>(tile, rows.taps, cols.taps, held_weight);
    } else if (taps) {
      add_any<3, false>(tile, rows.taps, cols.taps, held_weight);
    } else {
      add_any<3, false>(tile, rows.taps, cols.taps, [&](int kh, int k, int v) {
        return widen(weights[tap_of(kh, k) * lanes + v]);
      });
    }
  }

  T* corner = destinations +
              ((at.image * g.rows.destinations + row) * g.cols.destinations + col) *
                  g.destination_channels +
              channel;
  const int64_t row_step = rows.step * g.cols.destinations * g.destination_channels;
  const int64_t col_step = cols.step * g.destination_channels;
#pragma unroll
  for (int i = 0; i < kTileRows; ++i) {
    if (row + i * rows.step >= g.rows.destinations) break;
#pragma unroll
    for (int j = 0; j < kTileCols; ++j) {
      if (col + j * cols.step >= g.cols.destinations) break;
      store<T, V>(corner + i * row_step + j * col_step, narrow<T>(tile.sums[i][j]));
    }
  }
}

}  // namespace tfcompat_dw::cuda
