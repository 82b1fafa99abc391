// NCHW planes in the form that the flat kernels want. No include guard: see each_isa.h.
//
// A pair of sweeps (kernels.h), one of rows and one of columns, is a dense little convolution:
// member (i, j) sees, through tap (t, u), source (i * step + t, j * step + u). Its source is copied
// with zeros for padding, split into the phases t % step, u % step; in phase planes of one pitch P,
// tap (t, u) of all members stands at a fixed distance, rows included: member (i, j) at i * P + j.
// So a plane is one long line, of any width of image, in which only the last P - columns of each
// row mean nothing. Zeros are multiplied, which is right as long as what they meet is finite; the
// callers see to that.

struct FlatPair {
  Sweep rows;
  Sweep cols;

  DW_INLINE static int64_t phases(const Sweep& sweep) { return min64(sweep.step, sweep.taps); }
  DW_INLINE static int64_t reach(const Sweep& sweep) {
    return max64(sweep.taps - 1, 0) / sweep.step;
  }
  DW_INLINE bool empty() const { return rows.taps == 0 || cols.taps == 0; }
  DW_INLINE int64_t taps() const { return rows.taps * cols.taps; }
  DW_INLINE int64_t pitch() const { return cols.members + reach(cols); }
  DW_INLINE int64_t length(int64_t members) const {  // of a flat result of some rows of members
    return (members - 1) * pitch() + cols.members;
  }
  DW_INLINE int64_t plane(int64_t members) const { return (members + reach(rows)) * pitch(); }
  DW_INLINE int64_t source_elements(int64_t members) const {
    return phases(rows) * phases(cols) * plane(members);
  }
  // Where tap (t, u) of member (0, 0) stands.
  DW_INLINE int64_t offset(int64_t t, int64_t u, int64_t members) const {
    const int64_t phase = t % rows.step * phases(cols) + u % cols.step;
    return phase * plane(members) + t / rows.step * pitch() + u / cols.step;
  }
};

template <class T>
constexpr int64_t kSlack = kLanes<T>;  // a flat loop may read this far past the end

template <class T>
DW_INLINE void zero(T* p, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = T{0};
}

// to[i] = from[i * stride] in the compute type.
template <class S>
DW_INLINE void read_strided(const S* from, int64_t stride, int64_t count, Compute<S>* to) {
  constexpr int kWidth = kLanes<Compute<S>>;
  int64_t i = 0;
  if (stride == 1) {
    for (; i + kWidth <= count; i += kWidth) store(to + i, load(from + i));
    const int rest = static_cast<int>(count - i);
    if (rest > 0) store_lanes(to + i, load_lanes(from + i, 0, rest), rest);
    return;
  }
  for (; i < count; ++i) to[i] = to_compute(from[i * stride]);
}

// to[i * stride] = from[i] + bias in the storage type.
template <class S>
DW_INLINE void write_strided(const Compute<S>* from, int64_t count, Compute<S> bias, S* to,
                             int64_t stride) {
  using T = Compute<S>;
  constexpr int kWidth = kLanes<T>;
  if (stride == 1) {
    int64_t i = 0;
    for (; i + kWidth <= count; i += kWidth) store(to + i, load(from + i) + broadcast(bias));
    const int rest = static_cast<int>(count - i);
    if (rest > 0) store_lanes(to + i, load_lanes(from + i, 0, rest) + broadcast(bias), rest);
    return;
  }
  for (int64_t i = 0; i < count; ++i) store_scalar(to + i * stride, from[i] + bias);
}

// One phase row: elements a = phase + i * step, i in [0, count), of the columns that begin with the
// sweep's first tap of its first member.
template <class S>
DW_INLINE void fill_phase_row(const S* row, const Sweep& sweep, int64_t phase, int64_t count,
                              Compute<S>* to) {
  const Range valid = inside(sweep.column + phase, sweep.step, sweep.columns, count);
  zero(to, valid.begin);
  const int64_t first = sweep.column + phase + valid.begin * sweep.step;
  read_strided(row + sweep.source + first * sweep.source_pitch, sweep.step * sweep.source_pitch,
               valid.end - valid.begin, to + valid.begin);
  zero(to + valid.end, count - valid.end);
}

// The source of members [first, first + members) of the rows' sweep.
template <class S>
void fill_source(const S* plane, int64_t width, const FlatPair& pair, int64_t first,
                 int64_t members, Compute<S>* to) {
  const int64_t pitch = pair.pitch();
  const int64_t rows = members + FlatPair::reach(pair.rows);
  for (int64_t phase = 0; phase < FlatPair::phases(pair.rows); ++phase) {
    for (int64_t u = 0; u < FlatPair::phases(pair.cols); ++u) {
      for (int64_t i = 0; i < rows; ++i, to += pitch) {
        const int64_t row = pair.rows.column + phase + (first + i) * pair.rows.step;
        if (row < 0 || row >= pair.rows.columns) {
          zero(to, pitch);
          continue;
        }
        const int64_t index = pair.rows.source + row * pair.rows.source_pitch;
        fill_phase_row(plane + index * width, pair.cols, u, pitch, to);
      }
    }
  }
  zero(to, kSlack<Compute<S>>);
}

// Whether the flat source of `members` rows stays in proportion to the planes of the call. With
// much padding and a wide step it need not; such calls take the plain loops.
DW_INLINE bool fits_flat(const FlatPair& pair, int64_t members, int64_t planes) {
  const double elements = static_cast<double>(FlatPair::phases(pair.rows)) *
                          static_cast<double>(FlatPair::phases(pair.cols)) *
                          static_cast<double>(members + FlatPair::reach(pair.rows)) *
                          static_cast<double>(pair.pitch());
  return elements <= 4.0 * static_cast<double>(planes) + (1 << 16);
}

// Calls visit(pair) for each pair of sweeps.
template <class Visit>
DW_INLINE void for_each_pair(const Sweep* rows, int64_t row_count, const Sweep* cols,
                             int64_t col_count, const Visit& visit) {
  for (int64_t r = 0; r < row_count; ++r) {
    for (int64_t c = 0; c < col_count; ++c) visit(FlatPair{rows[r], cols[c]});
  }
}

// Part `part` of `parts` of the members of a pair's rows.
DW_INLINE Range members_of_part(const FlatPair& pair, int64_t part, int64_t parts) {
  return {pair.rows.members * part / parts, pair.rows.members * (part + 1) / parts};
}

// How many rows of members are computed at once: their source should fill half a level-1 cache.
template <class T>
DW_INLINE int64_t block_members(const FlatPair& pair) {
  constexpr int64_t kBytes = 24 << 10;
  const int64_t row = FlatPair::phases(pair.rows) * FlatPair::phases(pair.cols) * pair.pitch() *
                      static_cast<int64_t>(sizeof(T));
  const int64_t fit = kBytes / max64(1, row) - FlatPair::reach(pair.rows);
  return min64(pair.rows.members, max64(fit, 2 * FlatPair::reach(pair.rows) + 1));
}
