// The dtypes on the device: storage, the type sums are made in, and vectors of neighbours in
// memory.
#pragma once
#include "platform.h"

namespace tfcompat_dw::cuda {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// 16-bit numbers are added in float32 and rounded once, at the end.
template <class T>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<double> {
  using type = double;
};
template <class T>
using Sum = typename SumOf<T>::type;

__device__ inline double widen(double value) { return value; }
__device__ inline float widen(float value) { return value; }
__device__ inline float widen(BFloat16 value) { return bfloat16_to_float(value.bits); }
__device__ inline float widen(Float16 value) { return float16_to_float(value.bits); }

__device__ inline void narrow(double sum, double& result) { result = sum; }
__device__ inline void narrow(float sum, float& result) { result = sum; }
__device__ inline void narrow(float sum, BFloat16& result) { result.bits = float_to_bfloat16(sum); }
__device__ inline void narrow(float sum, Float16& result) { result.bits = float_to_float16(sum); }

// V neighbours, moved by one instruction. The address has to be a multiple of their size.
template <class T, int V>
struct alignas(sizeof(T) * V) Vector {
  T at[V];
};

template <class T, int V>
__device__ inline Vector<T, V> load(const T* from) {
  return *reinterpret_cast<const Vector<T, V>*>(from);
}
template <class T, int V>
__device__ inline void store(T* to, const Vector<T, V>& vector) {
  *reinterpret_cast<Vector<T, V>*>(to) = vector;
}

// Channels of a thread that takes several: 16 bytes of float32 and float64, 8 of the 16-bit dtypes,
// whose weights and sums take as many registers as float32's.
template <class T>
constexpr int kChannels = sizeof(T) == 8 ? 2 : 4;

// How many T fill the widest load, 16 bytes.
template <class T>
constexpr int kWidest = 16 / static_cast<int>(sizeof(T));

}  // namespace tfcompat_dw::cuda
