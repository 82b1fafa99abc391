// NHWC rows in the form that the tiles (tiles.h) want: the compute type, one value per output
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

// The source rows of one share.
template <class S>
struct RowRing {
  const S* image;        // row 0, first channel of the chunk, first column in sight
  int64_t rows;          // of the image
  int64_t row_pitch;     // of the image, elements
  int64_t first_column;  // of the image that is in sight
  int64_t pixels;        // of a line: the columns in sight
  RowForm<S> form;
  const PickedLanes<S>* picked;
  Compute<S>* lines;  // [slots, pixels, width]
  int64_t* held;      // [slots]: the row that a slot holds, or -1
  int64_t slots;
  bool slot_by_tap;  // or by row: in turn

  // Turns to a share. `source`: image 0, first channel of the chunk.
  void begin(const Plan& plan, const S* source, const Share& share) {
    const Range columns = sources_of(plan.cols.gather, plan.cols.axis, share.cols);
    first_column = columns.begin;
    pixels = columns.end - columns.begin;
    image = source + share.image * rows * row_pitch + first_column * form.channels;
    for (int64_t i = 0; i < slots; ++i) held[i] = -1;
  }
  DW_INLINE const Compute<S>* image_row(int64_t index) const {
    return reinterpret_cast<const Compute<S>*>(image + index * row_pitch);
  }
  // Row `index`, met through kernel row k.
  DW_INLINE const Compute<S>* row(int64_t index, int64_t k) const {
    if (form.in_place()) return image_row(index);
    const int64_t slot = slot_by_tap ? k : index % slots;
    Compute<S>* line = lines + slot * pixels * form.width();
    if (held[slot] != index) {
      held[slot] = index;
      write_row(image + index * row_pitch, pixels, form, picked, line);
    }
    return line;
  }

  // Lists the rows that a destination row meets; their taps are kernel_row_pitch apart. Returns how
  // many, and the row after the last one in `next`.
  DW_INLINE int64_t list(const AxisPlan& axis, int64_t destination, Compute<S>* taps,
                         int64_t kernel_row_pitch, TileLine<Compute<S>>* lines_met,
                         int64_t* next) const {
    int64_t count = 0;
    *next = 0;
    for (int64_t k = 0; k < axis.axis.kernel; ++k) {
      int64_t source;
      if (!meets_source(axis.gather, axis.axis, destination, k, &source)) continue;
      *next = max64(*next, source + 1);
      lines_met[count++] = {row(source, k), taps + k * kernel_row_pitch};
    }
    return count;
  }

  // Lets a tile fetch ahead what the next destination row needs anew: `wanted` rows from `next` on,
  // if rows are used in place; two at most.
  DW_INLINE void fetch_ahead(int64_t next, int64_t wanted, Tile<Compute<S>>& tile) const {
    if (!form.in_place()) return;
    tile.ahead = image_row(next);
    tile.ahead_lines = max64(0, min64(rows - next, min64(wanted, 2)));
    tile.ahead_pitch = row_pitch;
  }
};

// The ring of a plan, with its lines in scratch.
template <class S>
RowRing<S> row_ring(const Plan& plan, const RowForm<S>& form, const PickedLanes<S>* picked,
                    Carver& carver) {
  const Gather& across = plan.cols.gather;
  const int64_t pixels = sources_in_sight(across, plan.cols.axis, plan.cols.block);
  int64_t* held = carver.take<int64_t>(plan.row_slots);
  Compute<S>* lines =
      carver.take<Compute<S>>(form.in_place() ? 0 : plan.row_slots * pixels * form.width());
  return {nullptr,
          plan.rows.gather.sources,
          across.sources * form.channels,
          0,
          0,
          form,
          picked,
          lines,
          held,
          plan.row_slots,
          plan.slot_by_tap};
}

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

// Channels of the last chunk. It may need more scratch than a whole one: narrower than a vector.
inline int64_t last_chunk(int64_t channels, int64_t chunk) { return (channels - 1) % chunk + 1; }
