// Vectors of the compute type, in the width of the instruction set that is being compiled.
// No include guard: each_isa.h compiles it once per instruction set, inside that set's namespace.
// 16-bit floats are loaded as float32 and rounded to nearest even when stored.

#define DW_INLINE inline __attribute__((always_inline))
// Before a loop of constant length over an array of vectors: unrolled, the array is registers.
#define DW_UNROLL _Pragma("GCC unroll 32")

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float Type __attribute__((vector_size(DW_VECTOR_BYTES)));
  typedef float Unaligned __attribute__((vector_size(DW_VECTOR_BYTES), aligned(4), may_alias));
  typedef int32_t Index __attribute__((vector_size(DW_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
  typedef double Type __attribute__((vector_size(DW_VECTOR_BYTES)));
  typedef double Unaligned __attribute__((vector_size(DW_VECTOR_BYTES), aligned(8), may_alias));
  typedef int64_t Index __attribute__((vector_size(DW_VECTOR_BYTES)));
};

template <class T>
using Vector = typename VectorOf<T>::Type;
template <class T>
using Index = typename VectorOf<T>::Index;  // one signed integer per lane; also a lane mask
template <class T>
constexpr int kLanes = DW_VECTOR_BYTES / sizeof(T);

typedef uint32_t Bits __attribute__((vector_size(DW_VECTOR_BYTES)));
typedef uint16_t HalfBits __attribute__((vector_size(DW_VECTOR_BYTES / 2)));
typedef uint16_t HalfBitsUnaligned
    __attribute__((vector_size(DW_VECTOR_BYTES / 2), aligned(2), may_alias));

// ---- float32 <-> 16-bit, lane by lane -----------------------------------------------------------

DW_INLINE Vector<float> widen(HalfBits bits, BFloat16) {
  return reinterpret_cast<Vector<float>>(__builtin_convertvector(bits, Bits) << 16);
}

DW_INLINE HalfBits round_to(Vector<float> value, BFloat16) {
#ifdef DW_HAVE_BF16  // one instruction, but it takes denormal numbers for zeros
  constexpr int kDenormal = 0x20;
  const __m512 values = reinterpret_cast<__m512>(value);
  if (__builtin_expect(_mm512_fpclass_ps_mask(values, kDenormal) == 0, 1)) {
    return (HalfBits)_mm512_cvtneps_pbh(values);
  }
#endif
  const Bits bits = reinterpret_cast<Bits>(value);
  const Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // nearest, ties to even
  const Bits nan = (bits >> 16) | 0x40;                             // quiet, sign and payload kept
  return __builtin_convertvector((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded, HalfBits);
}

#if defined(DW_HAVE_F16C) && DW_VECTOR_BYTES == 64
DW_INLINE Vector<float> widen(HalfBits bits, Float16) {
  return reinterpret_cast<Vector<float>>(
      _mm512_maskz_cvtph_ps(0xffff, reinterpret_cast<__m256i>(bits)));
}
DW_INLINE HalfBits round_to(Vector<float> value, Float16) {
  return reinterpret_cast<HalfBits>(
      _mm512_maskz_cvtps_ph(0xffff, reinterpret_cast<__m512>(value), _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(DW_HAVE_F16C)
DW_INLINE Vector<float> widen(HalfBits bits, Float16) {
  return reinterpret_cast<Vector<float>>(_mm256_cvtph_ps(reinterpret_cast<__m128i>(bits)));
}
DW_INLINE HalfBits round_to(Vector<float> value, Float16) {
  return reinterpret_cast<HalfBits>(
      _mm256_cvtps_ph(reinterpret_cast<__m256>(value), _MM_FROUND_TO_NEAREST_INT));
}
#else
DW_INLINE Vector<float> widen(HalfBits half, Float16) {
  const Bits bits = __builtin_convertvector(half, Bits);
  const Bits magnitude = bits & 0x7fff;
  const Bits shifted = magnitude << 13;
  const Bits normal = shifted + (112u << 23);    // rebias the exponent from 15 to 127
  const Bits infinite = shifted + (224u << 23);  // exponent 31 becomes 255
  const Bits one = shifted - shifted + (113u << 23);
  const Bits subnormal =  // the float adder normalises
      reinterpret_cast<Bits>(reinterpret_cast<Vector<float>>(shifted + (113u << 23)) -
                             reinterpret_cast<Vector<float>>(one));
  const Bits value = magnitude >= 0x7c00 ? infinite : magnitude < 0x400 ? subnormal : normal;
  return reinterpret_cast<Vector<float>>(value | ((bits & 0x8000) << 16));
}
DW_INLINE HalfBits round_to(Vector<float> value, Float16) {
  const Bits bits = reinterpret_cast<Bits>(value);
  const Bits magnitude = bits & 0x7fffffff;
  const Bits rounded = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  const Bits half = magnitude - magnitude + 0x3f000000;  // 0.5: its ulp is a subnormal's
  const Bits subnormal = reinterpret_cast<Bits>(reinterpret_cast<Vector<float>>(magnitude) +
                                                reinterpret_cast<Vector<float>>(half)) -
                         half;
  Bits result = magnitude < 0x38800000 ? subnormal : rounded;
  result = magnitude >= 0x477ff000 ? result - result + 0x7c00 : result;  // 65520 and up: infinity
  result = magnitude > 0x7f800000 ? result - result + 0x7e00 : result;   // NaN
  return __builtin_convertvector(result | ((bits >> 16) & 0x8000), HalfBits);
}
#endif

// ---- loads and stores ---------------------------------------------------------------------------

// The compute type of a storage type.
template <class S>
struct ComputeOf {
  using Type = float;
};
template <>
struct ComputeOf<double> {
  using Type = double;
};
template <class S>
using Compute = typename ComputeOf<S>::Type;

template <class T>
DW_INLINE Vector<T> broadcast(T value) {
  return value - Vector<T>{};
}

template <class T>
DW_INLINE Index<T> lane_numbers() {
  Index<T> numbers;
  for (int i = 0; i < kLanes<T>; ++i) numbers[i] = i;
  return numbers;
}

// Lane i is lane pick[i] of v, or of v and w in a row.
#if defined(__clang__)
template <class V, class I>
DW_INLINE V permute(V v, V w, I pick) {
  constexpr auto kCount = static_cast<decltype(pick[0] + 0)>(sizeof(V) / sizeof(v[0]));
  V picked{};
  for (int i = 0; i < kCount; ++i) picked[i] = pick[i] < kCount ? v[pick[i]] : w[pick[i] - kCount];
  return picked;
}
template <class V, class I>
DW_INLINE V permute(V v, I pick) {
  return permute(v, v, pick);
}
#else
template <class V, class I>
DW_INLINE V permute(V v, V w, I pick) {
  return __builtin_shuffle(v, w, pick);
}
template <class V, class I>
DW_INLINE V permute(V v, I pick) {
  return __builtin_shuffle(v, pick);
}
#endif

DW_INLINE Vector<float> load(const float* p) {
  return *reinterpret_cast<const VectorOf<float>::Unaligned*>(p);
}
DW_INLINE Vector<double> load(const double* p) {
  return *reinterpret_cast<const VectorOf<double>::Unaligned*>(p);
}
template <class S>
DW_INLINE Vector<float> load(const S* p) {
  return widen(*reinterpret_cast<const HalfBitsUnaligned*>(p), S{});
}

// Keeps a loaded value in a register: GCC would rather load it again for each of up to three uses.
template <class V>
DW_INLINE V in_register(V v) {
#if DW_VECTOR_BYTES == 64
  asm("" : "+v"(v));
#elif defined(__x86_64__)
  asm("" : "+x"(v));
#endif
  return v;
}

DW_INLINE void store(float* p, Vector<float> v) {
  *reinterpret_cast<VectorOf<float>::Unaligned*>(p) = v;
}
DW_INLINE void store(double* p, Vector<double> v) {
  *reinterpret_cast<VectorOf<double>::Unaligned*>(p) = v;
}
template <class S>
DW_INLINE void store(S* p, Vector<float> v) {
  *reinterpret_cast<HalfBitsUnaligned*>(p) = round_to(v, S{});
}

// Whether whole memory lines can be written past the caches: vectors are as long as they are.
template <class S>
constexpr bool kStreams = DW_VECTOR_BYTES == 64 && sizeof(S) == sizeof(float);

template <class S>
DW_INLINE void stream(S* p, Vector<Compute<S>> v) {
#if DW_VECTOR_BYTES == 64
  if constexpr (kStreams<S>) {
    sanitized(p, DW_VECTOR_BYTES);
    return _mm512_stream_ps(reinterpret_cast<float*>(p), reinterpret_cast<__m512>(v));
  }
#endif
  store(p, v);
}

// Whether two vectors make a whole memory line.
template <class S>
constexpr bool kStreamsPairs = DW_VECTOR_BYTES == 64 && sizeof(S) == 2;

template <class S>
DW_INLINE void stream_pair(S* p, HalfBits first, Vector<float> second) {
#if DW_VECTOR_BYTES == 64
  const __m512i begun = _mm512_castsi256_si512(reinterpret_cast<__m256i>(first));
  const __m256i rest = reinterpret_cast<__m256i>(round_to(second, S{}));
  // the form with a mask: under sanitizers g++ 12 warns of the other's undefined lanes
  const __m512i line = _mm512_maskz_inserti64x4(0xff, begun, rest, 1);
  sanitized(p, DW_VECTOR_BYTES);
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), line);
#endif
}

// Before another thread may read what was streamed.
DW_INLINE void finish_streams() {
#if DW_VECTOR_BYTES == 64
  _mm_sfence();
#endif
}

// Lane i holds p[i] for i in [begin, end) and 0 elsewhere; nothing outside is touched in memory.
#if DW_VECTOR_BYTES == 64
DW_INLINE uint32_t lane_mask(int begin, int end) { return (1u << end) - (1u << begin); }
DW_INLINE Vector<float> load_lanes(const float* p, int begin, int end) {
  sanitized(p + begin, (end - begin) * static_cast<int64_t>(sizeof(*p)));
  return reinterpret_cast<Vector<float>>(
      _mm512_maskz_loadu_ps(static_cast<__mmask16>(lane_mask(begin, end)), p));
}
DW_INLINE Vector<double> load_lanes(const double* p, int begin, int end) {
  sanitized(p + begin, (end - begin) * static_cast<int64_t>(sizeof(*p)));
  return reinterpret_cast<Vector<double>>(
      _mm512_maskz_loadu_pd(static_cast<__mmask8>(lane_mask(begin, end)), p));
}
template <class S>
DW_INLINE Vector<float> load_lanes(const S* p, int begin, int end) {
  sanitized(p + begin, (end - begin) * static_cast<int64_t>(sizeof(*p)));
  return widen(reinterpret_cast<HalfBits>(
                   _mm256_maskz_loadu_epi16(static_cast<__mmask16>(lane_mask(begin, end)), p)),
               S{});
}
DW_INLINE void store_lanes(float* p, Vector<float> v, int count) {
  sanitized(p, count * static_cast<int64_t>(sizeof(*p)));
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>(lane_mask(0, count)),
                        reinterpret_cast<__m512>(v));
}
DW_INLINE void store_lanes(double* p, Vector<double> v, int count) {
  sanitized(p, count * static_cast<int64_t>(sizeof(*p)));
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(lane_mask(0, count)),
                        reinterpret_cast<__m512d>(v));
}
template <class S>
DW_INLINE void store_lanes(S* p, Vector<float> v, int count) {
  sanitized(p, count * static_cast<int64_t>(sizeof(*p)));
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>(lane_mask(0, count)),
                           reinterpret_cast<__m256i>(round_to(v, S{})));
}
#else
#if DW_VECTOR_BYTES == 32
template <class T>
DW_INLINE __m256i lane_mask(int begin, int end) {
  const Index<T> number = lane_numbers<T>();
  return reinterpret_cast<__m256i>((number >= begin) & (number < end));
}
DW_INLINE Vector<float> load_lanes(const float* p, int begin, int end) {
  return reinterpret_cast<Vector<float>>(_mm256_maskload_ps(p, lane_mask<float>(begin, end)));
}
DW_INLINE Vector<double> load_lanes(const double* p, int begin, int end) {
  return reinterpret_cast<Vector<double>>(_mm256_maskload_pd(p, lane_mask<double>(begin, end)));
}
DW_INLINE void store_lanes(float* p, Vector<float> v, int count) {
  _mm256_maskstore_ps(p, lane_mask<float>(0, count), reinterpret_cast<__m256>(v));
}
DW_INLINE void store_lanes(double* p, Vector<double> v, int count) {
  _mm256_maskstore_pd(p, lane_mask<double>(0, count), reinterpret_cast<__m256d>(v));
}
#endif
template <class S>
DW_INLINE Vector<Compute<S>> load_lanes(const S* p, int begin, int end) {
  S lanes[kLanes<Compute<S>>] = {};
  for (int i = begin; i < end; ++i) lanes[i] = p[i];
  return load(lanes);
}
template <class S>
DW_INLINE void store_lanes(S* p, Vector<Compute<S>> v, int count) {
  S lanes[kLanes<Compute<S>>];
  store(lanes, v);
  for (int i = 0; i < count; ++i) p[i] = lanes[i];
}
#endif

// to[i] = from[i] for i in [0, count).
template <class S>
DW_INLINE void widen_all(const S* from, int64_t count, Compute<S>* to) {
  constexpr int kWidth = kLanes<Compute<S>>;
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(to + i, load(from + i));
  const int rest = static_cast<int>(count - i);
  if (rest > 0) store_lanes(to + i, load_lanes(from + i, 0, rest), rest);
}

// Single values. They stay in registers: a detour through memory takes ten times as long.
DW_INLINE float to_compute(float value) { return value; }
DW_INLINE double to_compute(double value) { return value; }
template <class S>
DW_INLINE float to_compute(S value) {
  HalfBits bits{};
  bits[0] = value.bits;
  return widen(bits, S{})[0];
}
DW_INLINE void store_scalar(float* p, float value) { *p = value; }
DW_INLINE void store_scalar(double* p, double value) { *p = value; }
template <class S>
DW_INLINE void store_scalar(S* p, float value) {
  Vector<float> one{};
  one[0] = value;
  p->bits = round_to(one, S{})[0];
}

// The sum of the lanes, halves folded onto each other: a fixed order for a given vector width.
template <class T>
DW_INLINE T sum_of_lanes(Vector<T> v) {
  T lanes[kLanes<T>];
  store(lanes, v);
  for (int width = kLanes<T> / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

// v - v is 0 where v is finite, else NaN.
template <class T>
bool all_finite(const T* p, int64_t count) {
  Vector<T> sum{};
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) sum += load(p + i) - load(p + i);
  if (i < count) {
    const Vector<T> rest = load_lanes(p + i, 0, static_cast<int>(count - i));
    sum += rest - rest;
  }
  return sum_of_lanes<T>(sum) == 0;
}
