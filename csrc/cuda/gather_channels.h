// Forward and input gradient, channels last: a tile of results in registers.
//
// A thread owns V neighbouring channels of 4 x 2 destinations. It takes the source rows one after
// the other: each vector is loaded once and multiplied into every result that sees it, so a 3 x 3
// filter costs 3 loads a result instead of 9. The threads of a block lie side by side (channels,
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
  TilePlan plan;
};

// Sources of V destination channels. Forward: channel c reads source channel c / multiplier.
// Input gradient: it reads `multiplier` source channels, one `copy` after the other.
template <class T, int V>
struct Channels {
  int64_t source;  // of copy 0
  int64_t weight;  // of copy 0, within a tap
  int32_t copies;
};

template <class T, int V>
__device__ inline Channels<T, V> channels_of(const GatherChannels& g, int64_t channel) {
  if (g.multiplier == 1) return {channel, channel, 1};  // the only one with V > 1
  if (g.rows.forward) return {channel / g.multiplier, channel, 1};
  return {channel * g.multiplier, channel * g.multiplier, g.multiplier};
}

// K x K taps, or with K = 0 any number, three columns at a time. S: the stride of forward.
template <class T, int V, int K, int S>
__global__ void __launch_bounds__(kThreads, V == 1 ? 4 : 2)
    gather_channels(const GatherChannels g,
                    const T* __restrict__ sources,   // [n, h, w, source channels]
                    const T* __restrict__ filter,    // [kh, kw, c, m]
                    const T* __restrict__ bias,      // [destination channels] or null
                    T* __restrict__ destinations) {  // [n, h', w', destination channels]
  constexpr int kWidth = K ? K : 3;  // taps of one pass over the columns
  constexpr int kSeen = (kTileCols - 1) * S + kWidth;
  const TilePosition at = tile_position(g.plan, blockIdx.x, threadIdx.x);
  const int64_t channel = at.vector * V;
  if (channel >= g.destination_channels || at.image >= g.batch) return;
  const Lattice rows = lattice_of(g.rows, at.row_class);
  const Lattice cols = lattice_of(g.cols, at.col_class);
  const int64_t row = rows.first + at.row * rows.step;
  const int64_t col = cols.first + at.col * cols.step;
  if (row >= g.rows.destinations || col >= g.cols.destinations) return;

  Sum<T> sums[kTileRows][kTileCols][V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const Sum<T> first = bias ? widen(bias[channel + v]) : Sum<T>(0);
#pragma unroll
    for (int i = 0; i < kTileRows; ++i) {
#pragma unroll
      for (int j = 0; j < kTileCols; ++j) sums[i][j][v] = first;
    }
  }

  const Channels<T, V> channels = channels_of<T, V>(g, channel);
  const int64_t source_row = rows.origin + at.row * S * rows.pitch;
  const int64_t source_col = cols.origin + at.col * S * cols.pitch;
  const int row_taps = K ? K : rows.taps;
  const int col_taps = K ? K : cols.taps;
  const int64_t lanes = g.rows.forward ? g.destination_channels : g.source_channels;
  const T* image = sources + at.image * g.rows.sources * g.cols.sources * g.source_channels;

  for (int copy = 0; copy < channels.copies; ++copy) {
    for (int pass = 0; pass < col_taps; pass += kWidth) {
      bool inside[kSeen];
#pragma unroll
      for (int c = 0; c < kSeen; ++c) {
        const int64_t x = source_col + (pass + c) * cols.pitch;
        inside[c] = x >= 0 && x < g.cols.sources && (K || pass + c < (kTileCols - 1) * S + col_taps);
      }
#pragma unroll(K ? (kTileRows - 1) * S + K : 1)
      for (int r = 0; r < (kTileRows - 1) * S + row_taps; ++r) {
        const int64_t y = source_row + r * rows.pitch;
        if (y < 0 || y >= g.rows.sources) continue;
        const T* line = image + (y * g.cols.sources + source_col + pass * cols.pitch) *
                                    g.source_channels + channels.source + copy;
        Vector<T, V> seen[kSeen];
#pragma unroll
        for (int c = 0; c < kSeen; ++c) {
          if (inside[c]) seen[c] = load<T, V>(line + c * cols.pitch * g.source_channels);
        }
#pragma unroll
        for (int i = 0; i < kTileRows; ++i) {
          const int kh = r - i * S;
          if (kh < 0 || kh >= row_taps) continue;
          const int64_t filter_row =
              static_cast<int64_t>(rows.tap_first + kh * rows.tap_step) * g.cols.kernel;
#pragma unroll
          for (int k = 0; k < kWidth; ++k) {
            if (!K && pass + k >= col_taps) break;
            const int64_t tap = filter_row + cols.tap_first + (pass + k) * cols.tap_step;
            const Vector<T, V> weight = load<T, V>(filter + tap * lanes + channels.weight + copy);
#pragma unroll
            for (int j = 0; j < kTileCols; ++j) {
              // padding is skipped, not multiplied: infinities in the filter stay where they are
              if (!inside[j * S + k]) continue;
#pragma unroll
              for (int v = 0; v < V; ++v) {
                sums[i][j][v] += widen(seen[j * S + k].at[v]) * widen(weight.at[v]);
              }
            }
          }
        }
      }
    }
  }

  T* corner = destinations +
              ((at.image * g.rows.destinations + row) * g.cols.destinations + col) *
                  g.destination_channels + channel;
#pragma unroll
  for (int i = 0; i < kTileRows; ++i) {
    if (row + i * rows.step >= g.rows.destinations) break;
#pragma unroll
    for (int j = 0; j < kTileCols; ++j) {
      if (col + j * cols.step >= g.cols.destinations) break;
      Vector<T, V> result;
#pragma unroll
      for (int v = 0; v < V; ++v) narrow(sums[i][j][v], result.at[v]);
      store<T, V>(corner + (i * rows.step * g.cols.destinations + j * cols.step) *
                               g.destination_channels, result);
    }
  }
}

}  // namespace tfcompat_dw::cuda
