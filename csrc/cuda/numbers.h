// The dtypes on the device: storage, the type sums are made in, and vectors of neighbours in
// memory.
#pragma once
#include <type_traits>

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

// Two 16-bit neighbours in one register: one instruction takes them apart, one puts them together.
template <class T>
struct Pair {
  uint32_t bits;
};

template <class T, int V>
using Unit = std::conditional_t<sizeof(T) == 2 && V % 2 == 0, Pair<T>, T>;

// V neighbours, moved by one instruction. The address has to be a multiple of their size.
template <class T, int V>
struct alignas(sizeof(T) * V) Vector {
  static constexpr int kUnits = V * sizeof(T) / sizeof(Unit<T, V>);
  Unit<T, V> units[kUnits];
};

template <class T>
__device__ inline void widen_unit(T value, Sum<T>* sums) {
  *sums = widen(value);
}
__device__ inline void widen_unit(Pair<BFloat16> pair, float* sums) {
  sums[0] = bfloat16_to_float(static_cast<uint16_t>(pair.bits));
  sums[1] = bfloat16_to_float(static_cast<uint16_t>(pair.bits >> 16));
}
__device__ inline void widen_unit(Pair<Float16> pair, float* sums) {
  float16_pair_to_floats(pair.bits, sums[0], sums[1]);
}
template <class T>
__device__ inline void narrow_unit(const Sum<T>* sums, T& value) {
  narrow(*sums, value);
}
__device__ inline void narrow_unit(const float* sums, Pair<BFloat16>& pair) {
  pair.bits = floats_to_bfloat16_pair(sums[0], sums[1]);
}
__device__ inline void narrow_unit(const float* sums, Pair<Float16>& pair) {
  pair.bits = floats_to_float16_pair(sums[0], sums[1]);
}

template <class T, int V>
__device__ inline void widen(const Vector<T, V>& vector, Sum<T> (&sums)[V]) {
  constexpr int kUnits = Vector<T, V>::kUnits;
#pragma unroll
  for (int i = 0; i < kUnits; ++i) widen_unit(vector.units[i], sums + i * (V / kUnits));
}
template <class T, int V>
__device__ inline Vector<T, V> narrow(const Sum<T> (&sums)[V]) {
  constexpr int kUnits = Vector<T, V>::kUnits;
  Vector<T, V> vector;
#pragma unroll
  for (int i = 0; i < kUnits; ++i) narrow_unit(sums + i * (V / kUnits), vector.units[i]);
  return vector;
}

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
