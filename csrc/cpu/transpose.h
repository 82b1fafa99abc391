// Between NCHW planes and pixels of adjacent channels. No include guard: see each_isa.h.

// v[i] lane j becomes v[j] lane i. In stage w the off-diagonal quarters of each square of 2 w rows
// and lanes change places.
template <class T>
DW_INLINE void transpose(Vector<T> (&v)[kLanes<T>]) {
  const Index<T> lane = lane_numbers<T>();
  DW_UNROLL for (int w = 1; w < kLanes<T>; w *= 2) {
    const Index<T> high = (lane & w) != 0;  // -1 or 0
    const Index<T> upper = lane + (high & (kLanes<T> - w));
    const Index<T> lower = lane + w + (high & (kLanes<T> - w));
    DW_UNROLL for (int i = 0; i < kLanes<T>; ++i) {
      if (i & w) continue;
      const Vector<T> a = v[i];
      const Vector<T> b = v[i + w];
      v[i] = permute(a, b, upper);
      v[i + w] = permute(a, b, lower);
    }
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
