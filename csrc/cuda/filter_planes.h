// Filter and bias gradient, channels first: input and gradient come into shared memory as flat
// pieces (slab.h); a thread belongs to one output channel of the block and walks down its columns
// with the sums of all taps in registers.
#pragma once
#include "filter_walk.h"
#include "gather_planes.h"
#include "plan.h"
#include "reduce.h"
#include "slab.h"

namespace tfcompat_dw::cuda {

struct FilterPlanes {
  GatherPoints problem;  // the forward pass; of backward_planes.h the input gradient
  StripAxis rows, cols;  // ... as walks take them
  FilterPlanesPlan plan;
  Divisor groups_across;  // of taps
  int32_t bias;
};

// The channels of a block, and which of them and of the threads that share it is a thread's.
struct PlaneGroup {
  int64_t first;  // input channel
  int planes;
  int copies;  // output channels of each
  int own, member;
  bool present;
};
__device__ inline PlaneGroup plane_group(const FilterPlanes& f, uint32_t group) {
  const GatherPoints& p = f.problem;
  const int64_t first = static_cast<int64_t>(group) * f.plan.slabs.planes;
  const int planes = static_cast<int>(min64(f.plan.slabs.planes, p.source_channels - first));
  const int copies = static_cast<int>(p.multiplier);
  const int own = static_cast<int>(threadIdx.x) / f.plan.members;
  const int member = static_cast<int>(threadIdx.x) % f.plan.members;
  return {first, planes, copies, own, member, own < planes * copies};
}

// Calls add(held sources, held results, rows, from) for every unit of a block: rows of the results,
// from the sources. sources, results: those of the problem (forward: input and gradient).
template <class T, class Add>
__device__ inline void for_each_unit(const FilterPlanes& f, const PlaneGroup& group, uint32_t split,
                                     const T* sources, const T* results, const Add& add) {
  const GatherPoints& p = f.problem;
  const PlanePlan& slabs = f.plan.slabs;
  T* shared = reinterpret_cast<T*>(shared_memory());
  for (uint32_t unit = split; unit < f.plan.units; unit += f.plan.splits) {
    uint32_t rest = unit;
    const int64_t band = take_digit(rest, slabs.bands);
    const int64_t image = rest;
    const Range rows = {band * slabs.rows, min64(p.rows.destinations, (band + 1) * slabs.rows)};
    const Range from = slabs.whole ? Range{0, p.rows.sources} : sources_of(p.rows, p.rows, rows);
    const Slab<T> seen(shared, slabs.source_piece, sources, image * p.source_channels + group.first,
                       group.planes, p.rows.sources, p.cols.sources, from, slabs.whole);
    const Slab<T> own(shared + slabs.source_slab, slabs.result_piece, results,
                      image * p.destination_channels + group.first * group.copies,
                      group.planes * group.copies, p.rows.destinations, p.cols.destinations, rows,
                      slabs.whole);
    seen.copy_in();
    own.copy_in();
    __syncthreads();
    add(seen, own, rows, from);
    __syncthreads();  // the slabs are read: the next unit may come in
  }
}

// Adds up a sum of each channel over its threads; partial: that of the block's first channel.
template <class S>
__device__ inline void put_plane_sum(const PlaneGroup& own, int members, S sum, S* partial) {
  S* buffer = reinterpret_cast<S*>(shared_memory());
  sum = block_sum(sum, buffer, own.present ? own.member : members, members, 1);
  if (own.member == 0 && own.present) partial[own.own] = sum;
}

// What the walk down a strip of a held band sees.
template <class T, int N, int C, int S>
__device__ inline WalkView<T, N, C> view_of(const FilterPlanes& f, const PlaneGroup& own,
                                            const BandStrip& at, const FirstTap& tap,
                                            const Slab<T>& seen, const Slab<T>& grads, Range band,
                                            Range from) {
  const StripAxis& rows = f.rows;
  const StripAxis& cols = f.cols;
  const int tall = static_cast<int>(band.end - band.begin);
  const Places seen_cols = {at.col * S - cols.before + tap.col * cols.pitch, cols.pitch,
                            cols.sources};
  WalkView<T, N, C> view;
  view.count = strip_rows(tall - at.row, rows.step, f.plan.strips.length);
  view.row = (static_cast<int>(band.begin) + at.row) * S - rows.before + tap.row * rows.pitch -
             static_cast<int>(from.begin);
  view.pitch = rows.pitch;
  view.height = static_cast<int>(from.end - from.begin);
  view.seen_line =
      seen.plane(own.own / own.copies) + int64_t{view.row} * cols.sources + seen_cols.first;
  view.seen_row = static_cast<uint32_t>(rows.pitch) * cols.sources;
  view.seen_col = cols.pitch;
  view.grad_line = grads.plane(own.own) + at.row * cols.destinations + at.col;
  view.grad_row = static_cast<uint32_t>(rows.step) * cols.destinations;
  view.grad_col = cols.step;
#pragma unroll
  for (int c = 0; c < N; ++c) view.inside[c] = seen_cols.has(c);
#pragma unroll
  for (int j = 0; j < C; ++j) view.made[j] = at.col + j * cols.step < cols.destinations;
  return view;
}

// K x K taps at once, at stride S: the whole filter or a part of it.
template <class T, int K, int S>
__global__ void __launch_bounds__(kThreads, K < 5 ? 3 : 2)
    filter_planes(const FilterPlanes f,
                  const T* __restrict__ input,    // [n, c, h, w]
                  const T* __restrict__ grad,     // [n, c * m, h', w']
                  Sum<T>* __restrict__ partials)  // [splits, (taps + bias) * c * m]
{
  constexpr int C = plane_cols(K), N = (C - 1) * S + K;
  const GatherPoints& p = f.problem;
  const FilterBlock block = filter_block(f.plan.groups, f.plan.tap_blocks);
  const PlaneGroup own = plane_group(f, block.lanes);

  const FirstTap tap = first_tap(block.taps, K, K, f.groups_across);
  FilterSums<T, 1, K, K, S> sums;
  const auto add_units = [&](auto skips) {
    sums = {};
    for_each_unit(f, own, block.split, input, grad,
                  [&](const Slab<T>& seen, const Slab<T>& grads, Range band, Range from) {
                    const int strips = own.present ? f.plan.strips.count() : 0;
                    const int tall = static_cast<int>(band.end - band.begin);
                    for (int item = own.member; item < strips; item += f.plan.members) {
                      const BandStrip at = band_strip(f.plan.strips, item);
                      if (at.row >= tall || at.col >= f.problem.cols.destinations) continue;
                      auto view = view_of<T, N, C, S>(f, own, at, tap, seen, grads, band, from);
                      add_walk<decltype(skips)::value>(sums, view, block.taps == 0 && f.bias);
                    }
                  });
  };
  add_units(std::false_type());
  // an infinity or a NaN that met padding has left a NaN; the block goes one way
  if (!all_threads(finite(sums))) add_units(std::true_type());

  const int64_t lanes = p.destination_channels;
  const int64_t taps = static_cast<int64_t>(p.rows.kernel) * p.cols.kernel;
  Sum<T>* partial = partials + block.split * (taps + f.bias) * lanes + own.first * own.copies;
#pragma unroll
  for (int k = 0; k < K * K; ++k) {
    const int row = tap.row + k / K, col = tap.col + k % K;
    if (row >= p.rows.kernel || col >= p.cols.kernel) continue;  // for all threads
    put_plane_sum(own, f.plan.members, sums.taps[k / K][k % K][0],
                  partial + (static_cast<int64_t>(row) * p.cols.kernel + col) * lanes);
  }
  if (f.bias && block.taps == 0) {
    put_plane_sum(own, f.plan.members, sums.bias[0], partial + taps * lanes);
  }
}

// Any filter and stride, nine taps at a time.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksOfAnyFilter)
    filter_any_planes(const FilterPlanes f,
                      const T* __restrict__ input,    // [n, c, h, w]
                      const T* __restrict__ grad,     // [n, c * m, h', w']
                      Sum<T>* __restrict__ partials)  // [splits, (taps + bias) * c * m]
{
  constexpr int kTaps = 9;
  const GatherPoints& p = f.problem;
  const FilterBlock block = filter_block(f.plan.groups, f.plan.tap_blocks);
  const PlaneGroup own = plane_group(f, block.lanes);
  const int width = static_cast<int>(p.cols.sources);
  const int cols = static_cast<int>(p.cols.destinations);
  const int taps = p.rows.kernel * p.cols.kernel;
  const int first = static_cast<int>(block.taps) * kTaps;

  Sum<T> sums[kTaps] = {};
  Sum<T> bias_sum = 0;
  for_each_unit(
      f, own, block.split, input, grad,
      [&](const Slab<T>& seen, const Slab<T>& grads, Range band, Range from) {
        const int count = own.present ? static_cast<int>(band.end - band.begin) * cols : 0;
        const int height = static_cast<int>(from.end - from.begin);
        const T* seen_plane = seen.plane(own.present ? own.own / own.copies : 0);
        const T* grad_plane = grads.plane(own.present ? own.own : 0);
        for (int item = own.member; item < count; item += f.plan.members) {
          const int col = item % cols;
          const int64_t row = band.begin + item / cols;
          const Sum<T> value = widen(grad_plane[item]);
          bias_sum += value;
#pragma unroll
          for (int k = 0; k < kTaps; ++k) {
            const int tap = first + k;
            if (tap >= taps) break;
            const int64_t y = row * p.rows.stride +
                              static_cast<int64_t>(tap / p.cols.kernel) * p.rows.dilation -
                              p.rows.pad - from.begin;
            const int64_t x = static_cast<int64_t>(col) * p.cols.stride +
                              static_cast<int64_t>(tap % p.cols.kernel) * p.cols.dilation -
                              p.cols.pad;
            if (y < 0 || y >= height || x < 0 || x >= width) continue;
            sums[k] += widen(seen_plane[y * width + x]) * value;
          }
        }
      });

  const int64_t lanes = p.destination_channels;
  Sum<T>* partial =
      partials + block.split * static_cast<int64_t>(taps + f.bias) * lanes + own.first * own.copies;
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    const int64_t tap = first + k;
    if (tap >= taps) break;
    put_plane_sum(own, f.plan.members, sums[k], partial + tap * lanes);
  }
  if (f.bias && block.taps == 0) {
    put_plane_sum(own, f.plan.members, bias_sum, partial + taps * lanes);
  }
}

}  // namespace tfcompat_dw::cuda
