// Forward and input gradient, channels first. A block takes a few whole planes, or a band of rows
// of one: the sources come into shared memory as they lie, the results are made there and leave the
// same way.
#pragma once
#include "gather_parities.h"
#include "gather_points.h"
#include "plan.h"
#include "slab.h"
#include "strip.h"

namespace tfcompat_dw::cuda {

struct GatherPlanes {
  GatherPoints problem;
  PlanePlan plan;
  BandStrips strips;  // of a plane of results
};

// Columns of a strip: more would meet in the banks of shared memory.
DW_HOST_DEVICE constexpr int plane_cols(int K) { return K < 7 ? 2 : 1; }

// What a block holds.
template <class T>
struct PlaneBlock {
  Range rows, from;       // of the results, of the sources
  int64_t first_channel;  // of the results
  int planes;             // of results
  Slab<T> sources, results;

  __device__ int tall() const { return static_cast<int>(rows.end - rows.begin); }
  __device__ int height() const { return static_cast<int>(from.end - from.begin); }
};

template <class T>
__device__ inline PlaneBlock<T> plane_block(const GatherPlanes& g, const T* sources,
                                            const T* destinations) {
  const GatherPoints& p = g.problem;
  uint32_t group = blockIdx.x;
  const int64_t band = take_digit(group, g.plan.bands);
  // planes of the side with fewer channels; the other side has `multiplier` for each
  const int64_t first = group * g.plan.planes;
  const int planes = static_cast<int>(min64(g.plan.planes, g.plan.all_planes - first));
  const int copies = static_cast<int>(p.multiplier);
  const int of_source = p.rows.forward ? 1 : copies, of_result = p.rows.forward ? copies : 1;
  const Range rows = {band * g.plan.rows, min64(p.rows.destinations, (band + 1) * g.plan.rows)};
  const Range from = g.plan.whole ? Range{0, p.rows.sources} : sources_of(p.rows, p.rows, rows);
  T* shared = reinterpret_cast<T*>(shared_memory());
  return {
      rows,
      from,
      first * of_result % p.destination_channels,
      planes * of_result,
      Slab<T>(shared, g.plan.source_piece, sources, first * of_source, planes * of_source,
              p.rows.sources, p.cols.sources, from, g.plan.whole),
      Slab<T>(shared + g.plan.source_slab, g.plan.result_piece, destinations, first * of_result,
              planes * of_result, p.rows.destinations, p.cols.destinations, rows, g.plan.whole)};
}

// The rows of a held plane that a strip sees; rows are counted in the plane.
template <class T, int N>
__device__ inline SourceRows<T, 1, N> rows_of(const PlaneBlock<T>& block, int plane,
                                              const Places& rows, const Places& cols, int count) {
  const int first = rows.first - static_cast<int>(block.from.begin);
  return source_rows<T, 1, N>(block.sources.plane(plane), 0, 1, {first, rows.pitch, block.height()},
                              cols, count);
}

// Calls make(at, weights, finite) for the strips of this thread.
template <class T, int K, class Make>
__device__ inline void for_each_strip(const GatherPlanes& g, const PlaneBlock<T>& block,
                                      const T* filter, const T* bias, bool turned,
                                      const Make& make) {
  const int channels = static_cast<int>(g.problem.destination_channels);
  const int items = block.planes * g.strips.count();
  for (int item = threadIdx.x; item < items; item += kThreads) {
    const BandStrip at = band_strip(g.strips, item);
    const int channel = static_cast<int>((block.first_channel + at.plane) % channels);
    Weights<T, 1, K> weights;
    const bool finite = load_weights<T, 1, K>(filter, bias, channel, channels, turned, weights);
    make(at, weights, finite);
  }
}

// K x K taps at stride S, of a channel with one source. S: the stride of forward.
template <class T, int K, int S>
__global__ void __launch_bounds__(kThreads, K < 5 ? 3 : 2)
    gather_planes(const GatherPlanes g,
                  const T* __restrict__ sources,   // [n, source channels, h, w]
                  const T* __restrict__ filter,    // [K, K, c, m]
                  const T* __restrict__ bias,      // [destination channels] or null
                  T* __restrict__ destinations) {  // [n, destination channels, h', w']
  constexpr int C = plane_cols(K);
  const GatherPoints& p = g.problem;
  const PlaneBlock<T> block = plane_block<T>(g, sources, destinations);
  block.sources.copy_in();
  __syncthreads();
  const bool forward = p.rows.forward;
  const StripAxis rows = strip_axis(p.rows), cols = strip_axis(p.cols);
  for_each_strip<T, K>(
      g, block, filter, bias, !forward,
      [&](const BandStrip& at, const Weights<T, 1, K>& weights, bool finite) {
        const int count = strip_rows(block.tall() - at.row, rows.step, g.strips.length);
        const int row = static_cast<int>(block.rows.begin) + at.row;
        const int source = forward ? at.plane / static_cast<int>(p.multiplier) : at.plane;
        auto seen = rows_of<T, (C - 1) * S + K>(
            block, source, {row * S - rows.before, rows.pitch, rows.sources},
            {at.col * S - cols.before, cols.pitch, cols.sources}, (count - 1) * S + K);
        T* made = block.results.plane(at.plane) + at.row * cols.destinations + at.col;
        const auto put = [&](int number, const Sum<T>(&results)[C][1]) {
          if (number < 0 || number >= count) return;
#pragma unroll
          for (int j = 0; j < C; ++j) {
            if (at.col + j * cols.step < cols.destinations)
              narrow(results[j][0], made[j * cols.step]);
          }
          made += int64_t{rows.step} * cols.destinations;
        };
        if (finite) {
          walk<S, C, true>(seen, weights, count, put);
        } else {
          walk<S, C, false>(seen, weights, count, put);
        }
      });
  __syncthreads();
  block.results.copy_out(destinations, destinations);
}

// Input gradient of stride 2, K x K taps: results of all four parities, see gather_parities.h.
template <class T, int K>
__global__ void __launch_bounds__(kThreads, K < 5 ? 3 : 2)
    gather_plane_parities(const GatherPlanes g,
                          const T* __restrict__ sources,   // [n, c, h', w']
                          const T* __restrict__ filter,    // [K, K, c, 1]
                          T* __restrict__ destinations) {  // [n, c, h, w]
  const GatherPoints& p = g.problem;
  const PlaneBlock<T> block = plane_block<T>(g, sources, destinations);
  block.sources.copy_in();
  __syncthreads();
  const ParityAxis rows = parity_axis(p.rows), cols = parity_axis(p.cols);
  const int first_pair = (static_cast<int>(block.rows.begin) + rows.pad % 2) / 2;
  const int end_pair = (static_cast<int>(block.rows.end) - 1 + rows.pad % 2) / 2 + 1;
  for_each_strip<T, K>(g, block, filter, static_cast<const T*>(nullptr), false,
                       [&](const BandStrip& at, const Weights<T, 1, K>& weights, bool finite) {
                         const int pair = first_pair + at.row;
                         if (pair >= end_pair) return;
                         const int count = strip_rows(end_pair - pair, 1, g.strips.length);
                         auto seen = rows_of<T, K / 2 + 1>(
                             block, at.plane, {rows.source(pair) - K / 2, 1, rows.sources},
                             {cols.source(at.col) - K / 2, 1, cols.sources}, count + K / 2);
                         const int row = rows.first(pair) - static_cast<int>(block.rows.begin);
                         const int col = cols.first(at.col);
                         T* made = block.results.plane(at.plane);
                         const auto put = [&](int number, const Sum<T>(&results)[2][2][1]) {
                           if (number < 0 || number >= count) return;
#pragma unroll
                           for (int i = 0; i < 2; ++i) {
                             const int y = row + 2 * number + i;
#pragma unroll
                             for (int j = 0; j < 2; ++j) {
                               if (y < 0 || y >= block.tall() || !cols.has(col + j)) continue;
                               narrow(results[i][j][0], made[y * cols.destinations + col + j]);
                             }
                           }
                         };
                         if (finite) {
                           walk_pairs<true>(seen, weights, count, put);
                         } else {
                           walk_pairs<false>(seen, weights, count, put);
                         }
                       });
  __syncthreads();
  block.results.copy_out(destinations, destinations);
}

}  // namespace tfcompat_dw::cuda
