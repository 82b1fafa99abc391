// Rows of pixels in the form that the tiles of the channel kernels want: the compute type, one
// value per output channel, one vector of them at the least. No include guard: see each_isa.h.
//
// NHWC rows that have this form are used where they are. Others are rewritten once per share:
// 16-bit values widened, channels repeated `repeat` times (the input side, multiplier > 1), fewer
// channels than a vector filled up, NCHW planes transposed. Source rows wait in a ring until no
// window sees them any more.

// How many lanes of a vector are channels.
template <class T>
DW_INLINE int lanes_used(int64_t count) {
  return static_cast<int>(min64(kLanes<T>, count));
}

// Where the output channels of one vector come from in a pixel of the input: lane i shows channel
// (first output channel + i) / multiplier.
template <class S>
struct PickedLanes {
  using T = Compute<S>;
  int64_t channel;  // the first that is read
  int channels;     // how many are read
  Index<T> pick;    // lane -> channel, counted from `channel`
  DW_INLINE Vector<T> source(const S* pixel) const {
    return permute(load_lanes(pixel + channel, 0, channels), pick);
  }
};

// One entry per vector of `count` output channels, which begin at a whole input channel.
template <class S>
void fill_picked_lanes(PickedLanes<S>* table, int64_t count, int64_t multiplier) {
  constexpr int kWidth = kLanes<Compute<S>>;
  for (int64_t v = 0; v * kWidth < count; ++v) {
    const int64_t lane = first_lane<Compute<S>>(v, count);
    PickedLanes<S>& entry = table[v];
    entry.channel = lane / multiplier;
    for (int i = 0; i < kWidth; ++i) {
      const int64_t last = lane + min64(i, lanes_used<Compute<S>>(count) - 1);
      entry.pick[i] = static_cast<int>(last / multiplier - entry.channel);
    }
    entry.channels = static_cast<int>(entry.pick[kWidth - 1]) + 1;
  }
}

// One side of a pass: how its tensor lies in memory and what the tiles see of it.
template <class S>
struct RowForm {
  int64_t channels;  // of the tensor
  int64_t rows;
  int64_t cols;
  bool planar;     // NCHW
  int64_t count;   // values per pixel that the tiles see: output channels of a chunk
  int64_t repeat;  // count / channels of the chunk
  bool copied;     // whether even rows that have the right form are rewritten
  bool own_form;   // NHWC: the tensor's own form is the right one

  DW_INLINE int64_t width() const { return max64(count, kLanes<Compute<S>>); }
  DW_INLINE bool in_place() const {
    return own_form || (!planar && !copied && sizeof(S) == sizeof(Compute<S>) && repeat == 1 &&
                        count >= kLanes<Compute<S>>);
  }
  // From pixel to pixel. Of rewritten rows an odd number of vectors: pixels that stand a power of
  // two apart would compete for the same few places in a cache.
  DW_INLINE int64_t pitch() const {
    if (in_place()) return channels;
    return (ceil_div(width(), kLanes<Compute<S>>) | 1) * kLanes<Compute<S>>;
  }

  // Where row 0 stands or would stand, if `lines` begin with row `first`.
  template <class P>
  DW_INLINE P* row_zero(P* lines, int64_t first) const {
    return lines - first * cols * pitch();
  }

  // Elements from channel to channel, and before a channel, an image, or a pixel of an image.
  DW_INLINE int64_t plane() const { return rows * cols; }
  DW_INLINE int64_t channel_offset(int64_t image, int64_t channel) const {
    return image * channels * plane() + (planar ? channel * plane() : channel);
  }
  DW_INLINE int64_t pixel_offset(int64_t row, int64_t col) const {
    return (row * cols + col) * (planar ? 1 : channels);
  }
};

// to[i] = from[i] for i in [0, count), a whole vector at the least, whatever the types.
template <class From, class To>
DW_INLINE void convert_pixel(const From* from, int64_t count, To* to) {
  constexpr int kWidth = kLanes<Compute<From>>;
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(to + i, load(from + i));
  if (i < count) store(to + count - kWidth, load(from + count - kWidth));
}

// Writes neighbouring pixels to `line`: [pixels, pitch]. `picked`: NHWC, lane tables for form.count
// and form.repeat.
template <class S>
void write_pixels(const S* from, int64_t pixels, const RowForm<S>& form,
                  const PickedLanes<S>* picked, Compute<S>* line) {
  using T = Compute<S>;
  constexpr int kWidth = kLanes<T>;
  if (form.planar) {
    for (int64_t v = 0; v * kWidth < form.count; ++v) {
      const int64_t lane = first_lane<T>(v, form.count);
      const S* planes[kWidth];
      for (int i = 0; i < kWidth; ++i) {
        const int64_t last = lane + min64(i, lanes_used<T>(form.count) - 1);
        planes[i] = from + last / form.repeat * form.plane();
      }
      planes_to_pixels(planes, pixels, form.pitch(), line + lane);
    }
    return;
  }
  const int64_t pitch = form.pitch();
  if (form.repeat == 1 && form.count >= kWidth) {
    for (int64_t i = 0; i < pixels; ++i, from += form.channels, line += pitch) {
      convert_pixel(from, form.count, line);
    }
    return;
  }
  for (int64_t i = 0; i < pixels; ++i, from += form.channels, line += pitch) {
    for (int64_t v = 0; v * kWidth < form.count; ++v) {
      store(line + first_lane<T>(v, form.count), picked[v].source(from));
    }
  }
}

// Sums neighbours: value i becomes the sum of values 2i and 2i + 1, `count` values in all.
template <class T>
DW_INLINE void sum_pairs(T* values, int64_t count) {
  constexpr int kWidth = kLanes<T>;
  const Index<T> even = 2 * lane_numbers<T>();
  for (int64_t i = 0; i < count; i += 2 * kWidth) {
    const Vector<T> low = load(values + i);
    const Vector<T> high = i + kWidth < count ? load(values + i + kWidth) : Vector<T>{};
    store(values + i / 2, permute(low, high, even) + permute(low, high, even + 1));
  }
}

// Sums neighbours in groups of kOdd: value i becomes the sum of values kOdd * i + [0, kOdd).
template <int kOdd, class T>
struct SumGroups {
  static constexpr int kWidth = kLanes<T>;
  Index<T> vector[kOdd];  // lane -> vector and lane of its m-th term
  Index<T> lane[kOdd];

  SumGroups() {
    for (int m = 0; m < kOdd; ++m) {
      for (int i = 0; i < kWidth; ++i) {
        vector[m][i] = (i * kOdd + m) / kWidth;
        lane[m][i] = (i * kOdd + m) % kWidth;
      }
    }
  }
  DW_INLINE void run(T* values, int64_t count) const {
    for (int64_t i = 0; i < count; i += kOdd * kWidth) {
      Vector<T> term[kOdd] = {};
      DW_UNROLL for (int v = 0; v < kOdd; ++v) {
        if (i + v * kWidth >= count) break;
        const Vector<T> part = load(values + i + v * kWidth);
        DW_UNROLL for (int m = 0; m < kOdd; ++m) {
          term[m] = vector[m] == v ? permute(part, lane[m]) : term[m];
        }
      }
      DW_UNROLL for (int m = 1; m < kOdd; ++m) term[0] += term[m];
      store(values + i / kOdd, term[0]);
    }
  }
};

// Sums the values of each pixel of a line in groups of kOdd << halvings, in place.
template <int kOdd, class T>
void sum_groups(T* line, int64_t pixels, int64_t pitch, int64_t count, int halvings) {
  const SumGroups<kOdd, T> groups;
  for (int64_t i = 0; i < pixels; ++i, line += pitch) {
    for (int h = 0; h < halvings; ++h) sum_pairs(line, count >> h);
    if constexpr (kOdd > 1) groups.run(line, count >> halvings);
  }
}

// Sums the values of each pixel of a line in groups of `repeat`, in place.
template <class T>
void sum_copies(T* line, int64_t pixels, int64_t pitch, int64_t channels, int64_t repeat) {
  const int64_t count = channels * repeat;
  int halvings = 0;
  int64_t odd = repeat;
  for (; odd % 2 == 0; odd /= 2) ++halvings;
  switch (DW_VECTOR_BYTES > 16 ? odd : 0) {  // SSE2 has no shuffle by an index
    case 1: return sum_groups<1>(line, pixels, pitch, count, halvings);
    case 3: return sum_groups<3>(line, pixels, pitch, count, halvings);
    case 5: return sum_groups<5>(line, pixels, pitch, count, halvings);
    case 7: return sum_groups<7>(line, pixels, pitch, count, halvings);
  }
  for (int64_t i = 0; i < pixels; ++i, line += pitch) {
    for (int64_t c = 0; c < channels; ++c) {
      T sum = line[c * repeat];
      for (int64_t m = 1; m < repeat; ++m) sum += line[c * repeat + m];
      line[c] = sum;
    }
  }
}

// Stores finished pixels. Where repeat > 1 (the input side) their values are summed in groups.
template <class S>
void store_pixels(Compute<S>* line, int64_t pixels, const RowForm<S>& form, S* to) {
  using T = Compute<S>;
  constexpr int kWidth = kLanes<T>;
  const int64_t channels = form.count / form.repeat;
  const int used = lanes_used<T>(channels);
  if (form.repeat > 1) sum_copies(line, pixels, form.pitch(), channels, form.repeat);
  if (form.planar) {
    for (int64_t v = 0; v * kWidth < channels; ++v) {
      const int64_t lane = first_lane<T>(v, channels);
      pixels_to_planes(line + lane, form.pitch(), pixels, used, form.plane(),
                       to + lane * form.plane());
    }
    return;
  }
  const int64_t pitch = form.pitch();
  for (int64_t i = 0; i < pixels; ++i, line += pitch, to += form.channels) {
    if (channels < kWidth) {
      store_lanes(to, load(line), used);
    } else {
      convert_pixel(line, channels, to);
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

// The source rows of one share.
template <class S>
struct RowRing {
  RowForm<S> form;
  const PickedLanes<S>* picked;
  Compute<S>* lines;  // [slots, pixels, pitch]
  int64_t* held;      // [slots]: the row that a slot holds, or -1
  int64_t slots;
  bool slot_by_tap;      // or by row: in turn
  bool whole_rows;       // whether all rows of a share are rewritten at once
  bool fetches;          // whether tiles fetch rows ahead
  const S* image;        // row 0, column 0, first channel of the chunk
  int64_t first_row;     // whole_rows: the one that line 0 holds
  int64_t first_column;  // in sight
  int64_t pixels;        // of a line: the columns in sight
  int64_t last_class;    // of rows, see class_of

  RowRing() = default;
  // With its lines in scratch.
  RowRing(const Plan& plan, const RowForm<S>& row_form, const PickedLanes<S>* table, Carver& carver)
      : form(row_form),
        picked(table),
        slots(plan.row_slots),
        slot_by_tap(plan.slot_by_tap),
        whole_rows(plan.whole_rows),
        fetches(plan.fetches),
        image(nullptr),
        first_row(0),
        first_column(0),
        pixels(0),
        last_class(-1) {
    const int64_t most = whole_rows
                             ? form.cols
                             : sources_in_sight(plan.cols.gather, plan.cols.axis, plan.cols.block);
    held = carver.take<int64_t>(slots);
    lines = carver.take<Compute<S>>(form.in_place() ? 0 : slots * most * form.pitch());
  }

  // Turns to a share. `channel`: of the tensor, the first one of the chunk.
  void begin(const Plan& plan, const S* tensor, const Share& share, int64_t channel) {
    image = tensor + form.channel_offset(share.image, channel);
    const Range columns =
        whole_rows ? Range{0, form.cols} : sources_of(plan.cols.gather, plan.cols.axis, share.cols);
    first_column = columns.begin;
    pixels = columns.end - columns.begin;
    for (int64_t i = 0; i < slots; ++i) held[i] = -1;
    if (!whole_rows) return;
    const Range rows = sources_of(plan.rows.gather, plan.rows.axis, share.rows);
    first_row = rows.begin;
    if (form.in_place()) return;
    write_pixels(image + form.pixel_offset(rows.begin, 0), (rows.end - rows.begin) * pixels, form,
                 picked, lines);
  }

  // whole_rows.
  const Compute<S>* row_zero() const {
    return form.in_place() ? image_row(0) : form.row_zero(lines, first_row);
  }
  DW_INLINE const Compute<S>* image_row(int64_t index) const {
    return reinterpret_cast<const Compute<S>*>(image + form.pixel_offset(index, first_column));
  }
  // Row `index`, met through kernel row k.
  DW_INLINE const Compute<S>* row(int64_t index, int64_t k) const {
    if (form.in_place()) return image_row(index);
    if (whole_rows) return lines + (index - first_row) * pixels * form.pitch();
    const int64_t slot = slot_by_tap ? k : index % slots;
    Compute<S>* line = lines + slot * pixels * form.pitch();
    if (held[slot] != index) {
      held[slot] = index;
      write_pixels(image + form.pixel_offset(index, first_column), pixels, form, picked, line);
    }
    return line;
  }

  // Lists the rows that a destination row meets; their taps are kernel_row_pitch apart. Returns how
  // many, and the row after the last one in `next`.
  int64_t list(const AxisPlan& axis, int64_t destination, Compute<S>* taps,
               int64_t kernel_row_pitch, TileLine<Compute<S>>* lines_met, int64_t* next) {
    *next = 0;
    const TapClass* found = class_of(axis, destination);
    if (!found) return 0;
    const int64_t member = (destination - found->first) / found->pitch;
    const int64_t position = found->position + member * found->step;
    const Range valid = inside(position, found->spacing, form.rows, found->taps);
    for (int64_t t = valid.begin; t < valid.end; ++t) {
      const int64_t k = found->index + t * found->index_step;
      *next = position + t * found->spacing + 1;
      lines_met[t - valid.begin] = {row(*next - 1, k), taps + k * kernel_row_pitch};
    }
    return valid.end - valid.begin;
  }

  // The class that a destination is a member of, or null. Neighbours are mostly of neighbouring
  // classes, so the search begins behind the one that was found last.
  const TapClass* class_of(const AxisPlan& axis, int64_t destination) {
    for (int64_t i = 0; i < axis.class_count; ++i) {
      if (++last_class >= axis.class_count) last_class = 0;
      const TapClass& taps = axis.classes[last_class];
      const int64_t distance = destination - taps.first;
      if (distance >= 0 && distance < taps.members * taps.pitch && distance % taps.pitch == 0) {
        return &taps;
      }
    }
    return nullptr;
  }

  // Lets tiles fetch ahead what the next destination row needs anew: `wanted` rows from `next` on,
  // if rows are used in place; two at most.
  DW_INLINE void fetch_ahead(int64_t next, int64_t wanted, TileRow<Compute<S>>& tiles) const {
    if (!fetches || !form.in_place()) return;
    tiles.ahead = image_row(next);
    tiles.ahead_lines = max64(0, min64(form.rows - next, min64(wanted, 2)));
    tiles.ahead_pitch = form.cols * form.channels;
  }
};
