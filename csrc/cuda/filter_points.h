// Filter and bias gradient, both memory orders, any stride and dilation: one tap a block. For what
// the walks do not cover, and for a bias gradient alone.
#pragma once
#include "gather_points.h"
#include "plan.h"
#include "reduce.h"

namespace tfcompat_dw::cuda {

struct FilterPoints {
  GatherPoints problem;  // the forward pass
  int64_t first_tap;     // taps [first_tap, taps + bias); tap number `taps` is the bias
  int32_t bias;
  int32_t log_lanes;
  Divisor lane_blocks;
  Divisor tap_blocks;
  uint32_t splits;
};

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksOfAnyFilter)
    filter_points(const FilterPoints f,
                  const T* __restrict__ input,    // [n, h, w, c] or [n, c, h, w]
                  const T* __restrict__ grad,     // as input, c * m channels
                  Sum<T>* __restrict__ partials)  // [splits, (taps + bias - first_tap) * c * m]
{
  const GatherPoints& p = f.problem;
  const auto [lane_block, tap_block, split] = filter_block(f.lane_blocks, f.tap_blocks);
  const int64_t tap = f.first_tap + tap_block;
  const int lane_threads = 1 << f.log_lanes;
  const int positions = kThreads >> f.log_lanes;
  const int position = static_cast<int>(threadIdx.x) >> f.log_lanes;
  const int64_t lane =
      (static_cast<int64_t>(lane_block) << f.log_lanes) + (threadIdx.x & (lane_threads - 1));
  const int64_t lanes = p.destination_channels;
  const int64_t taps = static_cast<int64_t>(p.rows.kernel) * p.cols.kernel;
  const int64_t channel = lane / p.multiplier;
  const bool is_bias = tap == taps;
  const int64_t shift_row = tap / p.cols.kernel * p.rows.dilation - p.rows.pad;
  const int64_t shift_col = tap % p.cols.kernel * p.cols.dilation - p.cols.pad;

  Sum<T> sum = 0;
  const int64_t rows = p.batch * p.rows.destinations;
  const int64_t step = static_cast<int64_t>(f.splits) * positions;
  // one position of a thread is (image, row, column): the column advances, then the rest
  int64_t col = (static_cast<int64_t>(split) * positions + position) % p.cols.destinations;
  int64_t row = (static_cast<int64_t>(split) * positions + position) / p.cols.destinations;
  const int64_t step_cols = step % p.cols.destinations;
  const int64_t step_rows = step / p.cols.destinations;
  while (lane < lanes && row < rows) {
    const int64_t image = row / p.rows.destinations;
    const int64_t y = (row - image * p.rows.destinations) * p.rows.stride + shift_row;
    const int64_t x = col * p.cols.stride + shift_col;
    const int64_t at =
        p.channels_last
            ? (row * p.cols.destinations + col) * lanes + lane
            : ((image * lanes + lane) * p.rows.destinations + (row - image * p.rows.destinations)) *
                      p.cols.destinations +
                  col;
    if (is_bias) {
      sum += widen(grad[at]);
    } else if (y >= 0 && y < p.rows.sources && x >= 0 && x < p.cols.sources) {
      const int64_t seen =
          p.channels_last
              ? ((image * p.rows.sources + y) * p.cols.sources + x) * p.source_channels + channel
              : ((image * p.source_channels + channel) * p.rows.sources + y) * p.cols.sources + x;
      sum += widen(input[seen]) * widen(grad[at]);
    }
    col += step_cols;
    row += step_rows;
    if (col >= p.cols.destinations) {
      col -= p.cols.destinations;
      ++row;
    }
  }
  Sum<T>* buffer = reinterpret_cast<Sum<T>*>(shared_memory());
  sum = block_sum(sum, buffer, position, positions, lane_threads);
  if (position == 0 && lane < lanes) {
    partials[(split * static_cast<int64_t>(f.tap_blocks) + tap_block) * lanes + lane] = sum;
  }
}

}  // namespace tfcompat_dw::cuda
