// Channels first: whole rows of planes lie side by side in memory, so a block moves them as one
// flat piece through shared memory, with 16-byte loads whatever the width of a row is.
#pragma once
#include "numbers.h"

namespace tfcompat_dw::cuda {

// Where in shared memory the piece at `global` starts so that both have one alignment to 16 bytes.
template <class T>
__device__ inline int lead_of(const T* global) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(global) % 16 / sizeof(T));
}

// Elements of shared memory for a piece of `count`, the lead and the rounding to 16 bytes included.
template <class T>
DW_HOST_DEVICE inline int64_t slab_size(int64_t count) {
  return (count + 2 * kWidest<T> - 1) / kWidest<T> * kWidest<T>;
}

// Both move `count` elements between a piece of memory and slab[lead, lead + count), all threads of
// the block together; slab is aligned to 16 bytes, lead is lead_of(the piece).
template <class T, class From, class To>
__device__ inline void move_flat(const From* from, To* to, int begin, int end) {
  constexpr int V = kWidest<T>;
  const int body = (begin + V - 1) / V * V;
  const int tail = end / V * V;
  const int t = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  if (body >= tail) {  // too short for a whole vector
    for (int i = begin + t; i < end; i += threads) to[i] = from[i];
    return;
  }
  for (int i = begin + t; i < body; i += threads) to[i] = from[i];
  for (int i = body + t * V; i < tail; i += threads * V) store<T, V>(to + i, load<T, V>(from + i));
  for (int i = tail + t; i < end; i += threads) to[i] = from[i];
}

template <class T>
__device__ inline void copy_in(const T* __restrict__ piece, T* slab, int lead, int count) {
  move_flat<T>(piece - lead, slab, lead, lead + count);
}
template <class T>
__device__ inline void copy_out(const T* slab, T* __restrict__ piece, int lead, int count) {
  move_flat<T>(slab, piece - lead, lead, lead + count);
}

}  // namespace tfcompat_dw::cuda
