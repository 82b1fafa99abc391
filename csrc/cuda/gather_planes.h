// Forward and input gradient, channels first. A block takes a few whole planes, or a band of rows
// of one: the sources come into shared memory as they lie, the results are made there and leave the
// same way.
#pragma once
#include "gather_points.h"
#include "plan.h"
#include "slab.h"

namespace tfcompat_dw::cuda {

struct GatherPlanes {
  GatherPoints problem;
  PlanePlan plan;
};

// One column of a band from top to bottom, stride 1 and dilation 1: every source row is read once
// for the K results that see it.
template <class T, int K>
__device__ inline void walk_column(const GatherPlanes& g, const T* source, T* destination,
                                   const Sum<T> (&weights)[K * K], Sum<T> bias, int col,
                                   const Range& from, const Range& rows, int above) {
  const int width = static_cast<int>(g.problem.cols.sources);
  const int pitch = static_cast<int>(g.problem.cols.destinations);
  // result row r takes the source rows r - above to r - above + K - 1, columns likewise
  const int64_t left = g.problem.cols.forward ? int64_t{col} - g.problem.cols.pad
                                              : int64_t{col} + g.problem.cols.pad - (K - 1);
  bool inside[K];
#pragma unroll
  for (int k = 0; k < K; ++k) inside[k] = left + k >= 0 && left + k < width;
  Sum<T> sums[K];  // of K result rows, the oldest first
#pragma unroll
  for (int k = 0; k < K; ++k) sums[k] = bias;
  const int64_t last = rows.end - 1 - above + K - 1;
  for (int64_t y = rows.begin - above; y <= last; ++y) {
    if (y >= from.begin && y < from.end) {
      const T* line = source + (y - from.begin) * width + left;
#pragma unroll
      for (int k = 0; k < K; ++k) {
        if (!inside[k]) continue;
        const Sum<T> value = widen(line[k]);
#pragma unroll
        for (int i = 0; i < K; ++i) sums[i] += value * weights[(K - 1 - i) * K + k];
      }
    }
    const int64_t row = y + above - (K - 1);  // the oldest one has now seen all of its rows
    if (row >= rows.begin) narrow(sums[0], destination[(row - rows.begin) * pitch + col]);
#pragma unroll
    for (int i = 0; i + 1 < K; ++i) sums[i] = sums[i + 1];
    sums[K - 1] = bias;
  }
}

// K: 3 or 5 for K x K taps with stride and dilation 1 and multiplier 1; 0 for all else, which would
// spill if the compiler chose how many blocks share a processor.
template <class T, int K>
__global__ void __launch_bounds__(kThreads, K > 0 ? 0 : 3)
    gather_planes(const GatherPlanes g,
                  const T* __restrict__ sources,   // [n, source channels, h, w]
                  const T* __restrict__ filter,    // [kh, kw, c, m]
                  const T* __restrict__ bias,      // [destination channels] or null
                  T* __restrict__ destinations) {  // [n, destination channels, h', w']
  const GatherPoints& p = g.problem;
  const bool forward = p.rows.forward;
  const int64_t multiplier = p.multiplier;
  const uint32_t band = blockIdx.x % g.plan.bands;
  const uint32_t group = blockIdx.x / g.plan.bands;
  // planes of the side with fewer channels; the other side has `multiplier` for each
  const int64_t first = static_cast<int64_t>(group) * g.plan.planes;
  const int planes = static_cast<int>(min64(g.plan.planes, g.plan.all_planes - first));
  const int64_t first_source = forward ? first : first * multiplier;
  const int64_t first_destination = forward ? first * multiplier : first;
  const int source_planes = static_cast<int>(forward ? planes : planes * multiplier);
  const int destination_planes = static_cast<int>(forward ? planes * multiplier : planes);

  const Range rows = {static_cast<int64_t>(band) * g.plan.rows,
                      min64(p.rows.destinations, static_cast<int64_t>(band + 1) * g.plan.rows)};
  const Range from = g.plan.whole ? Range{0, p.rows.sources} : sources_of(p.rows, p.rows, rows);
  const int width = static_cast<int>(p.cols.sources);
  const int cols = static_cast<int>(p.cols.destinations);
  const int height = static_cast<int>(from.end - from.begin);
  const int tall = static_cast<int>(rows.end - rows.begin);

  T* shared = reinterpret_cast<T*>(shared_memory());
  const T* piece = sources + (first_source * p.rows.sources + from.begin) * width;
  const int source_count = source_planes * height * width;
  const int source_lead = lead_of(piece);
  copy_in(piece, shared, source_lead, source_count);
  T* result_piece = destinations + (first_destination * p.rows.destinations + rows.begin) * cols;
  const int result_count = destination_planes * tall * cols;
  const int result_lead = lead_of(result_piece);
  T* results = shared + g.plan.source_slab;
  __syncthreads();

  const int64_t lanes = forward ? p.destination_channels : p.source_channels;
  const T* held = shared + source_lead;
  T* made = results + result_lead;
  if constexpr (K > 0) {
    const int strips = static_cast<int>(ceil_div(tall, g.plan.strip));
    const int items = destination_planes * strips * cols;
    const int above = forward ? p.rows.pad : K - 1 - p.rows.pad;  // result row to first source row
    for (int item = threadIdx.x; item < items; item += blockDim.x) {
      const int col = item % cols;
      const int strip = item / cols % strips;
      const int plane = item / cols / strips;
      const int64_t channel = (first_destination + plane) % p.destination_channels;
      Sum<T> weights[K * K];
#pragma unroll
      for (int k = 0; k < K * K; ++k) {
        weights[k] = widen(filter[(forward ? k : K * K - 1 - k) * lanes + channel]);
      }
      const Range part = {rows.begin + strip * g.plan.strip,
                          min64(rows.end, rows.begin + (strip + 1) * g.plan.strip)};
      walk_column<T, K>(g, held + plane * height * width,
                        made + (plane * tall + strip * g.plan.strip) * cols, weights,
                        bias ? widen(bias[channel]) : Sum<T>(0), col, from, part, above);
    }
  } else {
    for (int item = threadIdx.x; item < result_count; item += blockDim.x) {
      const int col = item % cols;
      const int64_t row = rows.begin + item / cols % tall;
      const int plane = item / cols / tall;
      const int64_t channel = (first_destination + plane) % p.destination_channels;
      Sum<T> sum = bias ? widen(bias[channel]) : Sum<T>(0);
      for (int64_t copy = 0; copy < (forward ? 1 : multiplier); ++copy) {
        const int64_t lane = forward ? channel : channel * multiplier + copy;
        const int64_t source_plane = forward ? plane / multiplier : plane * multiplier + copy;
        const T* source = held + source_plane * height * width;
        for (int32_t kh = 0; kh < p.rows.kernel; ++kh) {
          const int64_t y = source_through<uint32_t>(p.rows, static_cast<uint32_t>(row), kh);
          if (y < 0) continue;
          for (int32_t kw = 0; kw < p.cols.kernel; ++kw) {
            const int64_t x = source_through<uint32_t>(p.cols, static_cast<uint32_t>(col), kw);
            if (x < 0) continue;
            const int64_t tap = static_cast<int64_t>(kh) * p.cols.kernel + kw;
            sum += widen(source[(y - from.begin) * width + x]) * widen(filter[tap * lanes + lane]);
          }
        }
      }
      narrow(sum, made[item]);
    }
  }
  __syncthreads();
  copy_out(results, result_piece, result_lead, result_count);
}

}  // namespace tfcompat_dw::cuda
