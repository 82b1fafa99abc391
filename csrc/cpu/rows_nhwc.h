// NHWC rows in the form that the tiles (tiles_nhwc.h) want: the compute type, one value per output
// channel, one vector of them at the least. No include guard: see each_isa.h.
//
// Rows that have this form are used where they are. Others are written to scratch once per task:
// 16-bit values widened, channels repeated `repeat` times (the input side, multiplier > 1), fewer
// channels than a vector filled up. Source rows wait in a ring until no window sees them any more.

template <class S>
struct RowForm {
  int64_t channels;  // of the tensor in memory: the pitch of its pixels
  int64_t count;     // values per pixel that the tiles see
  int64_t repeat;    // count / channels of the chunk

  DW_INLINE int64_t width() const { return max64(count, kLanes<Compute<S>>); }
  DW_INLINE bool in_place() const {
    return sizeof(S) == sizeof(Compute<S>) && repeat == 1 && count >= kLanes<Compute<S>>;
  }
  DW_INLINE int64_t pitch() const { return in_place() ? channels : width(); }
};

// Writes one row of `pixels` to `line`. `picked` holds lane tables for form.count and form.repeat.
template <class S>
void write_row(const S* row, int64_t pixels, const RowForm<S>& form, const PickedLanes<S>* picked,
               Compute<S>* line) {
  using T = Compute<S>;
  const bool whole = form.repeat == 1 && form.count >= kLanes<T>;
  for (int64_t i = 0; i < pixels; ++i, row += form.channels, line += form.width()) {
    for (int64_t v = 0; v * kLanes<T> < form.count; ++v) {
      const int64_t lane = first_lane<T>(v, form.count);
      store(line + lane, whole ? load(row + lane) : picked[v].source(row));
    }
  }
}

// The source rows of one image and chunk.
template <class S>
struct RowRing {
  const S* image;  // row 0, first channel of the chunk
  int64_t rows;    // of the image
  int64_t pixels;  // of a row
  RowForm<S> form;
  const PickedLanes<S>* picked;
  Compute<S>* lines;  // [slots, pixels, width]
  int64_t* held;      // [slots]: the row that a slot holds, or -1
  int64_t slots;

  DW_INLINE void forget() {
    for (int64_t i = 0; i < slots; ++i) held[i] = -1;
  }
  // The rows from `index` on that a tile can fetch ahead: those used in place, two at most.
  DW_INLINE int64_t rows_ahead(int64_t index, int64_t wanted) const {
    return form.in_place() ? max64(0, min64(rows - index, min64(wanted, 2))) : 0;
  }
  DW_INLINE const Compute<S>* image_row(int64_t index) const {
    return reinterpret_cast<const Compute<S>*>(image + index * pixels * form.channels);
  }
  DW_INLINE const Compute<S>* row(int64_t index) const {
    if (form.in_place()) return image_row(index);
    const int64_t slot = index % slots;
    Compute<S>* line = lines + slot * pixels * form.width();
    if (held[slot] != index) {
      held[slot] = index;
      write_row(image + index * pixels * form.channels, pixels, form, picked, line);
    }
    return line;
  }
};

// Stores a finished line. repeat > 1 (the input side): its values are summed in groups.
template <class S>
void store_row(const Compute<S>* line, int64_t pixels, const RowForm<S>& form, S* row) {
  using T = Compute<S>;
  const int64_t channels = form.count / form.repeat;
  for (int64_t i = 0; i < pixels; ++i, line += form.width(), row += form.channels) {
    if (form.repeat > 1) {
      for (int64_t c = 0; c < channels; ++c) {
        T sum = line[c * form.repeat];
        for (int64_t m = 1; m < form.repeat; ++m) sum += line[c * form.repeat + m];
        store_scalar(row + c, sum);
      }
    } else if (channels < kLanes<T>) {
      store_lanes(row, load(line), static_cast<int>(channels));
    } else {
      for (int64_t v = 0; v * kLanes<T> < channels; ++v) {
        const int64_t lane = first_lane<T>(v, channels);
        store(row + lane, load(line + lane));
      }
    }
  }
}

// `rows` rows of `count` values, `stride` apart, as rows of one vector each, empty lanes zero.
template <class T>
DW_INLINE void fill_up(const T* values, int64_t rows, int64_t stride, int64_t count, T* vectors) {
  for (int64_t i = 0; i < rows; ++i) {
    store(vectors + i * kLanes<T>, load_lanes(values + i * stride, 0, static_cast<int>(count)));
  }
}

// Hands out parts of a task's scratch, each aligned to a vector; without memory it only counts.
struct Carver {
  char* memory;
  int64_t used;
  template <class P>
  P* take(int64_t count) {
    P* part = memory ? reinterpret_cast<P*>(memory + used) : nullptr;
    used += (count * static_cast<int64_t>(sizeof(P)) + 63) / 64 * 64;
    return part;
  }
};

// Channels of the last chunk. It may need more scratch than a whole one: narrower than a vector.
inline int64_t last_chunk(int64_t channels, int64_t chunk) { return (channels - 1) % chunk + 1; }

// The widest sweep decides how many masks a tile needs.
inline int64_t most_taps(const Sweep* sweeps, int64_t count) {
  int64_t most = 1;
  for (int64_t i = 0; i < count; ++i) most = max64(most, sweeps[i].taps);
  return most;
}
