// Filter and bias gradient, channels first: input and gradient come into shared memory as flat
// pieces (slab.h); a thread belongs to one output channel of the block and walks down columns with
// the sums of all taps in registers.
#pragma once
#include "gather_points.h"
#include "plan.h"
#include "reduce.h"
#include "slab.h"

namespace tfcompat_dw::cuda {

struct FilterPlanes {
  GatherPoints problem;  // the forward pass
  FilterPlanesPlan plan;
  int32_t bias;
};

// K: 3 or 5 for K x K taps, stride and dilation 1; 0: nine taps at a time of any filter.
template <class T, int K>
__global__ void __launch_bounds__(kThreads, kBlocksOfAnyFilter)
    filter_planes(const FilterPlanes f,
                  const T* __restrict__ input,    // [n, c, h, w]
                  const T* __restrict__ grad,     // [n, c * m, h', w']
                  Sum<T>* __restrict__ partials)  // [splits, (taps + bias) * c * m]
{
  constexpr int kTaps = K ? K * K : 9;
  const GatherPoints& p = f.problem;
  const FilterPlanesPlan& plan = f.plan;
  const auto [group, tap_block, split] = filter_block(plan.groups, plan.tap_blocks);
  const int64_t first = static_cast<int64_t>(group) * plan.planes;  // input channel
  const int planes = static_cast<int>(min64(plan.planes, p.source_channels - first));
  const int multiplier = static_cast<int>(p.multiplier);
  const int members = plan.members;  // threads of one output channel
  const int own = static_cast<int>(threadIdx.x) / members;
  const int member = static_cast<int>(threadIdx.x) % members;
  const bool present = own < planes * multiplier;
  const int width = static_cast<int>(p.cols.sources);
  const int cols = static_cast<int>(p.cols.destinations);
  const int taps = p.rows.kernel * p.cols.kernel;
  const int first_tap = static_cast<int>(tap_block) * kTaps;

  T* shared = reinterpret_cast<T*>(shared_memory());
  Sum<T> sums[kTaps];
#pragma unroll
  for (int k = 0; k < kTaps; ++k) sums[k] = 0;
  Sum<T> bias_sum = 0;

  for (int64_t unit = split; unit < plan.units; unit += plan.splits) {
    const int64_t image = unit / plan.bands;
    const int64_t band = unit - image * plan.bands;
    const Range rows = {band * plan.rows, min64(p.rows.destinations, (band + 1) * plan.rows)};
    const Range from = plan.whole ? Range{0, p.rows.sources} : sources_of(p.rows, p.rows, rows);
    const int height = static_cast<int>(from.end - from.begin);
    const int tall = static_cast<int>(rows.end - rows.begin);
    // whole planes where there are several, else the band's rows of one
    const T* seen_piece =
        input + ((image * p.source_channels + first) * p.rows.sources + from.begin) * width;
    const T* grad_piece =
        grad +
        ((image * p.destination_channels + first * multiplier) * p.rows.destinations + rows.begin) *
            cols;
    const int seen_lead = lead_of(seen_piece);
    const int grad_lead = lead_of(grad_piece);
    copy_in(seen_piece, shared, seen_lead, planes * height * width);
    copy_in(grad_piece, shared + plan.input_slab, grad_lead, planes * multiplier * tall * cols);
    __syncthreads();
    if (present) {
      const T* seen = shared + seen_lead + own / multiplier * height * width;
      const T* grads = shared + plan.input_slab + grad_lead + own * tall * cols;
      if constexpr (K > 0) {
        const int strips = static_cast<int>(ceil_div(tall, plan.strip));
        for (int item = member; item < strips * cols; item += members) {
          const int col = item % cols;
          const int begin = item / cols * static_cast<int>(plan.strip);
          const int end = static_cast<int>(min64(tall, begin + plan.strip));
          const int64_t left = int64_t{col} - p.cols.pad;
          bool inside[K];
#pragma unroll
          for (int k = 0; k < K; ++k) inside[k] = left + k >= 0 && left + k < width;
          Sum<T> ring[K];  // gradients of this column, the newest first
#pragma unroll
          for (int k = 0; k < K; ++k) ring[k] = 0;
          for (int r = begin; r < end + K - 1; ++r) {  // input row r - pad meets result r - kh
#pragma unroll
            for (int k = K - 1; k > 0; --k) ring[k] = ring[k - 1];
            if (r < end) {
              ring[0] = widen(grads[r * cols + col]);
              bias_sum += ring[0];
            }
            const int64_t y = rows.begin + r - p.rows.pad - from.begin;
            if (y < 0 || y >= height) continue;
            const T* line = seen + y * width + left;
#pragma unroll
            for (int k = 0; k < K; ++k) {
              if (!inside[k]) continue;
              const Sum<T> value = widen(line[k]);
#pragma unroll
              for (int a = 0; a < K; ++a) {
                if (r - a >= begin && r - a < end) sums[a * K + k] += value * ring[a];
              }
            }
          }
        }
      } else {
        for (int item = member; item < tall * cols; item += members) {
          const int col = item % cols;
          const int64_t row = rows.begin + item / cols;
          const Sum<T> value = widen(grads[item]);
          bias_sum += value;
#pragma unroll
          for (int k = 0; k < kTaps; ++k) {
            const int tap = first_tap + k;
            if (tap >= taps) break;
            const int64_t y = row * p.rows.stride +
                              static_cast<int64_t>(tap / p.cols.kernel) * p.rows.dilation -
                              p.rows.pad - from.begin;
            const int64_t x = static_cast<int64_t>(col) * p.cols.stride +
                              static_cast<int64_t>(tap % p.cols.kernel) * p.cols.dilation -
                              p.cols.pad;
            if (y < 0 || y >= height || x < 0 || x >= width) continue;
            sums[k] += widen(seen[y * width + x]) * value;
          }
        }
      }
    }
    __syncthreads();  // the slabs are read: the next unit may come in
  }

  const int64_t lanes = p.destination_channels;
  Sum<T>* partial = partials + split * static_cast<int64_t>(taps + f.bias) * lanes;
  Sum<T>* buffer = reinterpret_cast<Sum<T>*>(shared_memory());
  const auto put = [&](Sum<T> sum, int tap) {
    sum = block_sum(sum, buffer, present ? member : members, members, 1);
    if (member == 0 && present) partial[tap * lanes + first * multiplier + own] = sum;
  };
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    if (first_tap + k >= taps) break;
    put(sums[k], first_tap + k);
  }
  if (f.bias && tap_block == 0) put(bias_sum, taps);
}

}  // namespace tfcompat_dw::cuda
