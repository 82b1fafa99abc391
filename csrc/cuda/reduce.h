// Sums over threads and over blocks in a fixed order: the filter gradient has the same bits in
// every run. How a sum is split is up to the shape alone.
#pragma once
#include "numbers.h"
#include "plan.h"

namespace tfcompat_dw::cuda {

// What a block of a filter gradient adds up. Blocks count through output channels, taps and splits.
struct FilterBlock {
  uint32_t lanes, taps, split;
};
__device__ inline FilterBlock filter_block(const Divisor& lane_blocks, const Divisor& tap_blocks) {
  uint32_t rest = blockIdx.x;
  FilterBlock block;
  block.lanes = take_digit(rest, lane_blocks);
  block.taps = take_digit(rest, tap_blocks);
  block.split = rest;
  return block;
}

// The sum over `members` threads, `stride` apart; only the first of them gets it. All threads of
// the block call this, with their own number among the members (or `members`: not one of them).
// buffer: kThreads sums of shared memory.
template <class S>
__device__ inline S block_sum(S value, S* buffer, int member, int members, int stride) {
  const int t = static_cast<int>(threadIdx.x);
  buffer[t] = value;
  int half = 1;
  while (half * 2 < members) half *= 2;
  for (; half > 0; half /= 2) {
    __syncthreads();
    if (member < half && member + half < members) buffer[t] += buffer[t + half * stride];
  }
  const S sum = buffer[t];
  __syncthreads();  // the buffer is free again
  return sum;
}

constexpr int kReduceCols = 32;
constexpr int kReduceRows = 32;

template <class T>
__global__ void __launch_bounds__(kReduceCols* kReduceRows)
    reduce_partials(const Sum<T>* __restrict__ partials,  // [splits, filter_count + bias_count]
                    int splits, int64_t filter_count, int64_t bias_count,
                    T* __restrict__ filter_gradient,  // [filter_count]
                    T* __restrict__ bias_gradient) {  // [bias_count]
  Sum<T>* buffer = reinterpret_cast<Sum<T>*>(shared_memory());
  const int lane = static_cast<int>(threadIdx.x) % kReduceCols;
  const int group = static_cast<int>(threadIdx.x) / kReduceCols;
  const int64_t count = filter_count + bias_count;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kReduceCols + lane;
  Sum<T> sum = 0;
  if (index < count) {
#pragma unroll 4
    for (int split = group; split < splits; split += kReduceRows) {
      sum += partials[split * count + index];
    }
  }
  sum = block_sum(sum, buffer, group, kReduceRows, kReduceCols);
  if (group != 0 || index >= count) return;
  if (index < filter_count) {
    narrow(sum, filter_gradient[index]);
  } else {
    narrow(sum, bias_gradient[index - filter_count]);
  }
}

}  // namespace tfcompat_dw::cuda
