// Channels first: whole rows of planes lie side by side in memory, so a block moves them as one
// flat piece through shared memory, with 16-byte loads whatever the width of a row is.
#pragma once
#include "../window.h"
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

// Moves elements [begin, end), all threads of the block together; both arrays are aligned to 16
// bytes.
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
  for (int i = body + t * V; i < tail; i += threads * V) {
    // a copy of its own: nvcc 13 takes the store apart where it is handed the vector
    const Vector<T, V> vector = load<T, V>(from + i);
    *reinterpret_cast<Vector<T, V>*>(to + i) = vector;
  }
  for (int i = tail + t; i < end; i += threads) to[i] = from[i];
}

// Rows [begin, end) of planes side by side, and where in shared memory they are held.
template <class T>
class Slab {
 public:
  // whole: begin and end are those of the planes, which then are one piece of memory.
  __device__ Slab(T* shared, int64_t piece_size, const T* tensor, int64_t first_plane, int planes,
                  int64_t height, int64_t width, Range rows, bool whole)
      : shared_(shared),
        first_(tensor + (first_plane * height + rows.begin) * width),
        plane_size_(height * width),
        band_(static_cast<int>((rows.end - rows.begin) * width)),
        piece_size_(static_cast<int>(piece_size)),
        planes_(planes),
        whole_(whole) {}

  // The first held element of a plane.
  __device__ T* plane(int p) const {
    if (whole_) return shared_ + lead_of(first_) + p * band_;
    return shared_ + p * piece_size_ + lead_of(first_ + p * plane_size_);
  }

  // All threads of the block together; a barrier has to follow, or to come before.
  __device__ void copy_in() const {
    for_each_piece([&](const T* piece, T* held, int lead, int count) {
      move_flat<T>(piece - lead, held, lead, lead + count);
    });
  }
  // given: the constructor's tensor. To that, or to another of its shape and alignment to 16 bytes.
  __device__ void copy_out(const T* given, T* tensor) const {
    for_each_piece([&](const T* piece, const T* held, int lead, int count) {
      move_flat<T>(held, tensor + (piece - given) - lead, lead, lead + count);
    });
  }

 private:
  template <class Move>
  __device__ void for_each_piece(const Move& move) const {
    const int pieces = whole_ ? 1 : planes_;
    for (int p = 0; p < pieces; ++p) {
      const T* piece = first_ + p * plane_size_;
      move(piece, shared_ + p * piece_size_, lead_of(piece), whole_ ? planes_ * band_ : band_);
    }
  }

  T* shared_;
  const T* first_;
  int64_t plane_size_;
  int band_, piece_size_, planes_;
  bool whole_;
};

}  // namespace tfcompat_dw::cuda
