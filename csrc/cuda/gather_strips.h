// Forward and input gradient, channels last, for filters of 3 x 3, 5 x 5 and 7 x 7: a thread walks
// down a strip of results of V neighbouring channels (strip.h).
//
// The threads of a block lie side by side (channels, then columns, then rows, then images), so that
// the vectors that two strips share come from the level 1 cache and whole lines of 128 bytes are
// asked for. With V channels a filter has K x K x V weights: V is 4 for 3 x 3, 2 for 5 x 5 and 1
// for 7 x 7, for which registers suffice.
#pragma once
#include "plan.h"
#include "strip.h"

namespace tfcompat_dw::cuda {

struct GatherStrips {
  StripAxis rows;
  StripAxis cols;
  int32_t batch;
  int32_t destination_channels;
  int32_t source_channels;
  int32_t multiplier;  // destination channel c sees source channel c / multiplier
  bool turned;         // tap j is the filter's last but j: input gradient
  TilePlan plan;
};

// Columns of a strip: as many as leave registers for two rows ahead.
template <int V, int K>
constexpr int kStripCols = V > 1    ? 2
                           : K == 7 ? 3
                                    : 4;

// Channels of a strip, where there are as many.
template <class T, int K>
constexpr int kStripChannels = K == 3   ? kChannels<T>
                               : K == 5 ? 2
                                        : 1;

template <class T, int V, int K, int S>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    gather_strips(const GatherStrips g,
                  const T* __restrict__ sources,   // [n, h, w, source channels]
                  const T* __restrict__ filter,    // [K, K, c, m]
                  const T* __restrict__ bias,      // [destination channels] or null
                  T* __restrict__ destinations) {  // [n, h', w', destination channels]
  constexpr int C = kStripCols<V, K>;
  const TilePosition at = tile_position(g.plan, blockIdx.x, threadIdx.x);
  const int channel = static_cast<int>(at.vector) * V;
  const int image = static_cast<int>(at.image);
  const int row = at.row_class + static_cast<int>(at.row) * g.rows.step;
  const int col = at.col_class + static_cast<int>(at.col) * g.cols.step;
  if (channel >= g.destination_channels || image >= g.batch || row >= g.rows.destinations ||
      col >= g.cols.destinations) {
    return;
  }
  Weights<T, V, K> weights;
  const bool finite =
      load_weights(filter, bias, channel, g.destination_channels, g.turned, weights);
  const int count = strip_rows(g.rows.destinations - row, g.rows.step, g.plan.tile_rows);
  const uint32_t source_channels = static_cast<uint32_t>(g.source_channels);
  const uint32_t source_image =
      static_cast<uint32_t>(g.rows.sources) * g.cols.sources * source_channels;
  auto seen = source_rows<T, V, (C - 1) * S + K>(
      sources, image * source_image + (g.multiplier == 1 ? channel : channel / g.multiplier),
      source_channels,
      {at.row_class - g.rows.before + static_cast<int>(at.row) * S * g.rows.pitch, g.rows.pitch,
       g.rows.sources},
      {at.col_class - g.cols.before + static_cast<int>(at.col) * S * g.cols.pitch, g.cols.pitch,
       g.cols.sources},
      (count - 1) * S + K);

  const uint32_t channels = static_cast<uint32_t>(g.destination_channels);
  const uint32_t result_row = static_cast<uint32_t>(g.cols.destinations) * channels;
  uint32_t corner = (image * static_cast<uint32_t>(g.rows.destinations) + row) * result_row +
                    col * channels + channel;
  const uint32_t row_step = g.rows.step * result_row;
  const uint32_t col_step = g.cols.step * channels;
  bool made[C];
#pragma unroll
  for (int j = 0; j < C; ++j) made[j] = col + j * g.cols.step < g.cols.destinations;
  const auto put = [&](int number, const Sum<T>(&results)[C][V]) {
    if (number < 0 || number >= count) return;
#pragma unroll
    for (int j = 0; j < C; ++j) {
      if (made[j]) store<T, V>(destinations + (corner + j * col_step), narrow<T>(results[j]));
    }
    corner += row_step;
  };
  if (finite) {
    walk<S, C, true>(seen, weights, count, put);
  } else {
    walk<S, C, false>(seen, weights, count, put);
  }
}

}  // namespace tfcompat_dw::cuda
