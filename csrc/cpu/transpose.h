// Between NCHW planes and pixels of adjacent channels. No include guard: see each_isa.h.

// Of vectors kDistance apart: one gets the 16-byte parts of even number of both, the other those of
// odd number; then the same for twice the distance.
template <class T, int kDistance>
DW_INLINE void exchange_parts(Vector<T> (&v)[kLanes<T>]) {
  constexpr int kPart = 16 / sizeof(T);
  const Index<T> lane = lane_numbers<T>();
  const Index<T> in_part = lane & (kPart - 1);
  const Index<T> even = 2 * (lane - in_part) + in_part;
  DW_UNROLL for (int i = 0; i < kLanes<T> - kDistance; ++i) {
    if (i & kDistance) continue;
    const Vector<T> a = v[i];
    const Vector<T> b = v[i + kDistance];
    v[i] = permute(a, b, even);
    v[i + kDistance] = permute(a, b, even + kPart);
  }
  if constexpr (2 * kDistance < kLanes<T>) exchange_parts<T, 2 * kDistance>(v);
}

// v[i] lane j becomes v[j] lane i. First the squares inside of the 16-byte parts of the vectors,
// then the squares that these parts form: all of it shuffles that take one instruction.
template <class T>
DW_INLINE void transpose(Vector<T> (&v)[kLanes<T>]) {
  constexpr int kPart = 16 / sizeof(T);
  const Index<T> lane = lane_numbers<T>();
  const Index<T> in_part = lane & (kPart - 1);
  const Index<T> part = lane - in_part;
  // one from a, one from b, ...; and two from a, two from b
  const Index<T> zip = part + in_part / 2 + (in_part & 1) * kLanes<T>;
  const Index<T> zip_pairs = part + (in_part & 1) + in_part / 2 * kLanes<T>;
  for (int i = 0; i < kLanes<T>; i += kPart) {
    if constexpr (kPart == 2) {
      const Vector<T> a = v[i];
      v[i] = permute(a, v[i + 1], zip);
      v[i + 1] = permute(a, v[i + 1], zip + 1);
    } else {
      const Vector<T> low01 = permute(v[i], v[i + 1], zip);
      const Vector<T> high01 = permute(v[i], v[i + 1], zip + 2);
      const Vector<T> low23 = permute(v[i + 2], v[i + 3], zip);
      const Vector<T> high23 = permute(v[i + 2], v[i + 3], zip + 2);
      v[i] = permute(low01, low23, zip_pairs);
      v[i + 1] = permute(low01, low23, zip_pairs + 2);
      v[i + 2] = permute(high01, high23, zip_pairs);
      v[i + 3] = permute(high01, high23, zip_pairs + 2);
    }
  }
  if constexpr (kPart < kLanes<T>) exchange_parts<T, kPart>(v);
}

// sums[i] = the sum of the lanes of vector i. `sums` may be where the vectors begin.
template <class T>
void sums_of_lanes(const T* vectors, int64_t count, T* sums) {
  constexpr int kWidth = kLanes<T>;
  for (int64_t i = 0; i < count; i += kWidth) {
    const int used = static_cast<int>(min64(kWidth, count - i));
    Vector<T> v[kWidth];
    DW_UNROLL for (int j = 0; j < kWidth; ++j) {
      v[j] = j < used ? load(vectors + (i + j) * kWidth) : Vector<T>{};
    }
    transpose<T>(v);
    DW_UNROLL for (int j = 1; j < kWidth; ++j) v[0] += v[j];
    store_lanes(sums + i, v[0], used);
  }
}

// pixels[p * pitch + i] = planes[i][p] in the compute type.
template <class S>
void planes_to_pixels(const S* const (&planes)[kLanes<Compute<S>>], int64_t count, int64_t pitch,
                      Compute<S>* pixels) {
  using T = Compute<S>;
  constexpr int kWidth = kLanes<T>;
  Vector<T> v[kWidth];
  for (int64_t begin = 0; begin < count; begin += kWidth) {
    const int64_t p = max64(0, min64(begin, count - kWidth));  // the last overlaps its neighbour
    const int used = static_cast<int>(min64(kWidth, count));
    if (used == kWidth) {
      DW_UNROLL for (int i = 0; i < kWidth; ++i) v[i] = load(planes[i] + p);
    } else {
      DW_UNROLL for (int i = 0; i < kWidth; ++i) v[i] = load_lanes(planes[i] + p, 0, used);
    }
    transpose<T>(v);
    T* to = pixels + p * pitch;
    DW_UNROLL for (int i = 0; i < kWidth; ++i, to += pitch) {
      if (i < used) store(to, v[i]);
    }
  }
}

// planes[i * plane + p] = pixels[p * pitch + i] in the storage type, for `used` planes.
template <class S>
void pixels_to_planes(const Compute<S>* pixels, int64_t pitch, int64_t count, int used,
                      int64_t plane, S* planes) {
  using T = Compute<S>;
  constexpr int kWidth = kLanes<T>;
  Vector<T> v[kWidth];
  for (int64_t begin = 0; begin < count; begin += kWidth) {
    const int64_t p = max64(0, min64(begin, count - kWidth));
    const int rows = static_cast<int>(min64(kWidth, count));
    const T* from = pixels + p * pitch;
    DW_UNROLL for (int i = 0; i < kWidth; ++i, from += pitch) {
      v[i] = i < rows ? load(from) : Vector<T>{};
    }
    transpose<T>(v);
    S* to = planes + p;
    if (rows == kWidth && used == kWidth) {
      DW_UNROLL for (int i = 0; i < kWidth; ++i) store(to + i * plane, v[i]);
    } else {
      DW_UNROLL for (int i = 0; i < kWidth; ++i) {
        if (i < used) store_lanes(to + i * plane, v[i], rows);
      }
    }
  }
}
