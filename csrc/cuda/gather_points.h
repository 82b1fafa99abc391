// Forward and input gradient, both memory orders, any stride and dilation: one result a thread.
// The kernel for what the tiles do not cover: in forward strides from 3 on and two different ones,
// strides together with dilation, the input gradient of more than 16 copies (float64: 8), windows
// too wide for shared memory, images of more than 2^32 elements.
#pragma once
#include "lattice.h"
#include "numbers.h"
#include "plan.h"

namespace tfcompat_dw::cuda {

struct GatherPoints {
  GatherAxis rows;
  GatherAxis cols;
  int64_t batch;
  int64_t destination_channels;
  int64_t source_channels;
  int64_t multiplier;
  bool channels_last;
};

// Index: uint32_t where every count and position fits, or uint64_t.
template <class Index>
struct Point {
  Index image, row, col, channel;
};

template <class Index>
__device__ inline Point<Index> point_of(const GatherPoints& g, Index index) {
  const Index rows = static_cast<Index>(g.rows.destinations);
  const Index cols = static_cast<Index>(g.cols.destinations);
  const Index channels = static_cast<Index>(g.destination_channels);
  Point<Index> p;
  if (g.channels_last) {
    p.channel = index % channels;
    index /= channels;
  }
  p.col = index % cols;
  index /= cols;
  p.row = index % rows;
  index /= rows;
  if (!g.channels_last) {
    p.channel = index % channels;
    index /= channels;
  }
  p.image = index;
  return p;
}

// The source that destination d meets through tap k, or -1.
template <class Index>
__device__ inline int64_t source_through(const GatherAxis& axis, Index d, int32_t k) {
  const int64_t shift = static_cast<int64_t>(k) * axis.dilation - axis.pad;
  if (axis.forward) {
    const int64_t source = static_cast<int64_t>(d) * axis.stride + shift;
    return source < axis.sources ? source : -1;
  }
  const int64_t distance = static_cast<int64_t>(d) - shift;
  if (distance < 0) return -1;
  const Index steps = static_cast<Index>(distance);
  const Index stride = static_cast<Index>(axis.stride);
  const Index source = steps / stride;
  const bool met = source * stride == steps && source < static_cast<Index>(axis.sources);
  return met ? static_cast<int64_t>(source) : -1;
}

template <class T, class Index>
__global__ void __launch_bounds__(kThreads, kBlocksOfAnyFilter)
    gather_points(const GatherPoints g,
                  const T* __restrict__ sources,   // [n, h, w, c] or [n, c, h, w]
                  const T* __restrict__ filter,    // [kh, kw, c, m]
                  const T* __restrict__ bias,      // [destination channels] or null
                  T* __restrict__ destinations) {  // as sources
  const Index count = static_cast<Index>(g.batch * g.rows.destinations * g.cols.destinations *
                                         g.destination_channels);
  const Index stride = static_cast<Index>(gridDim.x) * blockDim.x;
  const int64_t lanes = g.rows.forward ? g.destination_channels : g.source_channels;
  const int64_t pitch = g.channels_last ? g.source_channels : 1;
  for (Index index = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; index < count;
       index += stride) {
    const Point<Index> p = point_of<Index>(g, index);
    const int64_t copies = g.rows.forward ? 1 : g.multiplier;
    Sum<T> sum = bias ? widen(bias[p.channel]) : Sum<T>(0);
    for (int64_t copy = 0; copy < copies; ++copy) {
      const int64_t lane = g.rows.forward ? p.channel : p.channel * g.multiplier + copy;
      const int64_t channel = g.rows.forward ? p.channel / static_cast<Index>(g.multiplier) : lane;
      const T* image =
          sources + (g.channels_last ? p.image * g.rows.sources * g.cols.sources * pitch + channel
                                     : (p.image * g.source_channels + channel) *
                                           (g.rows.sources * g.cols.sources));
      for (int32_t kh = 0; kh < g.rows.kernel; ++kh) {
        const int64_t y = source_through<Index>(g.rows, p.row, kh);
        if (y < 0) continue;
        for (int32_t kw = 0; kw < g.cols.kernel; ++kw) {
          const int64_t x = source_through<Index>(g.cols, p.col, kw);
          if (x < 0) continue;
          const int64_t tap = static_cast<int64_t>(kh) * g.cols.kernel + kw;
          sum += widen(image[(y * g.cols.sources + x) * pitch]) * widen(filter[tap * lanes + lane]);
        }
      }
    }
    narrow(sum, destinations[index]);
    if (count - index <= stride) break;  // the next index might not fit into Index
  }
}

}  // namespace tfcompat_dw::cuda
