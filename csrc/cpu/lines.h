// NCHW rows in the form that the tiles of the column kernels want. No include guard: see
// each_isa.h.
//
// A row of one plane, or of a few planes side by side where planes are narrow, is packed into a
// line in the compute type, with zeros where the row has padding, so that every tap of the columns
// is the same line from another value on. With a step of 2 even and odd source columns are packed
// apart, and so on (LineForm). Rows need no padding: tiles pass over those that are outside.
//
// Zeros are multiplied, which is right as long as what they meet is finite; the callers see to it.

template <class T>
DW_INLINE void zero(T* p, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = T{0};
}

// to[i * stride] = from[i] in the storage type.
template <class S>
DW_INLINE void write_strided(const Compute<S>* from, int64_t count, S* to, int64_t stride) {
  constexpr int kWidth = kLanes<Compute<S>>;
  int64_t i = 0;
  if (stride == 1) {
    for (; i + kWidth <= count; i += kWidth) store(to + i, load(from + i));
    const int rest = static_cast<int>(count - i);
    if (rest > 0) store_lanes(to + i, load_lanes(from + i, 0, rest), rest);
    return;
  }
  for (; i < count; ++i) store_scalar(to + i * stride, from[i]);
}

// Where the lanes of a vector that begins at `first` are valid.
template <class T>
DW_INLINE Range valid_lanes(Range valid, int64_t first) {
  const int64_t end = min64(kLanes<T>, max64(0, valid.end - first));
  return {min64(end, max64(0, valid.begin - first)), end};
}

// Lanes [valid.begin, valid.end) of p, 0 elsewhere.
template <class S>
DW_INLINE Vector<Compute<S>> load_valid(const S* p, Range valid) {
  if (valid.end - valid.begin == kLanes<Compute<S>>) return load(p);
  return load_lanes(p, static_cast<int>(valid.begin), static_cast<int>(valid.end));
}

// Every second value from p on: those of index [valid.begin, valid.end), 0 elsewhere.
template <class S>
DW_INLINE Vector<Compute<S>> load_even(const S* p, Range valid) {
  using T = Compute<S>;
  const Range values = {2 * valid.begin, max64(2 * valid.begin, 2 * valid.end - 1)};
  const Vector<T> low = load_valid(p, valid_lanes<T>(values, 0));
  const Vector<T> high = load_valid(p + kLanes<T>, valid_lanes<T>(values, kLanes<T>));
  return permute(low, high, 2 * lane_numbers<T>());
}

// to[i] = from[i * step] for i in `valid`, 0 for other i in [0, width) and up to a whole vector.
template <class S>
DW_INLINE void pack_row(const S* from, int64_t step, Range valid, int64_t width, Compute<S>* to) {
  using T = Compute<S>;
  for (int64_t i = 0; i < width; i += kLanes<T>) {
    const Range lanes = valid_lanes<T>(valid, i);
    if (step == 1) {
      store(to + i, load_valid(from + i, lanes));
    } else if (step == 2) {
      store(to + i, load_even(from + 2 * i, lanes));
    } else {
      T values[kLanes<T>] = {};
      for (int64_t j = lanes.begin; j < lanes.end; ++j) {
        values[j] = to_compute(from[(i + j) * step]);
      }
      store(to + i, load(values));
    }
  }
}

// A packed block: the rows of the grid that some members of a sweep meet, one line each.
template <class T>
struct LineBlock {
  T* lines;       // [rows, phases, pitch]
  int64_t pitch;  // phases * pitch of a line
  Range points;   // of the grid

  // The tiles of the members of rows for one class of columns. The lines of the kernel's columns
  // are put into `list`; `taps`: [kh, kw, tap_pitch].
  template <class Tiles>
  TileRow<T> tiles(const Sweep& rows, const TapClass& cols, const LineForm& form, int64_t kw,
                   int64_t tap_pitch, int64_t member_pitch, T* taps, TileLine<T>* list,
                   Tiles& tiles) const {
    for (int64_t t = 0; t < cols.taps; ++t) {
      list[t] = {lines + form.offset(cols, t),
                 taps + (cols.index + t * cols.index_step) * tap_pitch};
    }
    Sweep packed = rows;  // its points follow each other, and so do its members
    packed.origin = 0;
    packed.spacing = 1;
    packed.first = 0;
    packed.pitch = 1;
    tiles.clear();
    tiles.add(packed, pitch, -points.begin * pitch, member_pitch, 0, kw * tap_pitch);
    TileRow<T> row = {};
    row.lines = list;
    row.line_count = cols.taps;
    return row;
  }
};

// Packs what members of a sweep meet of planes plane_of(0), plane_of(1), ... .
template <class S, class PlaneOf>
DW_INLINE LineBlock<Compute<S>> pack_block(const Sweep& rows, int64_t columns, const LineForm& form,
                                           int64_t planes, const PlaneOf& plane_of,
                                           Compute<S>* lines) {
  using T = Compute<S>;
  const int64_t end = rows.at + (rows.members - 1) * rows.step + rows.taps;
  LineBlock<T> block = {lines, form.phases * form.pitch, {max64(0, rows.at), 0}};
  block.points.end = max64(block.points.begin, min64(rows.points, end));
  const int64_t written = (planes - 1) * form.width + ceil_div(form.width, kLanes<T>) * kLanes<T>;
  for (int64_t phase = 0; phase < form.phases; ++phase) {
    const int64_t first = form.begin + phase * form.spacing % form.step;
    const Range valid = inside(first, form.step, columns, form.width);
    T* line = lines + phase * form.pitch;
    for (int64_t point = block.points.begin; point < block.points.end; ++point) {
      const int64_t begin = (rows.origin + point * rows.spacing) * columns + first;
      for (int64_t g = 0; g < planes; ++g) {
        pack_row(plane_of(g) + begin, form.step, valid, form.width, line + g * form.width);
      }
      zero(line + written, form.pitch - written);
      line += block.pitch;
    }
  }
  return block;
}

inline const LineForm& form_of(const Plan& plan, const Share& share) {
  return plan.forms[share.col_block];
}
inline int64_t planes_of(const Share& share) { return share.channels.end - share.channels.begin; }

// The planes of one side of the operator that a share's copy m of its channels takes.
template <class S>
struct Planes {
  S* first;
  int64_t pitch;

  // plane_size: rows * columns. Input side: the multiplier does not show.
  DW_INLINE static Planes input(void* tensor, const Problem& problem, const Share& share,
                                int64_t plane_size) {
    const int64_t plane = share.image * problem.channels + share.channels.begin;
    return {static_cast<S*>(tensor) + plane * plane_size, plane_size};
  }
  DW_INLINE static Planes output(void* tensor, const Problem& problem, const Share& share,
                                 int64_t m, int64_t plane_size) {
    const int64_t plane =
        share.image * problem.lanes() + share.channels.begin * problem.multiplier + m;
    return {static_cast<S*>(tensor) + plane * plane_size, problem.multiplier * plane_size};
  }
  DW_INLINE S* operator()(int64_t g) const { return first + g * pitch; }
};

// Calls visit(sweep) for the rows of a share, at most plan.block_members of them at a time.
template <class Visit>
DW_INLINE void for_each_block(const Plan& plan, const Share& share, const Visit& visit) {
  for (int64_t i = 0; i < plan.rows.class_count; ++i) {
    for_each_sweep(plan.rows.classes[i], share.rows, plan.rows.gather.sources,
                   [&](const Sweep& sweep) {
                     for (int64_t q = 0; q < sweep.members; q += plan.block_members) {
                       const int64_t count = min64(plan.block_members, sweep.members - q);
                       visit(members_of(sweep, q, count));
                     }
                   });
  }
}

// ---- filter gradients of planes -----------------------------------------------------------------

// total[lane] += the sum of p[i] with i = lane, modulo the lanes. Four interleaved chains.
template <class S>
DW_INLINE void add_line(const S* p, int64_t count, Compute<S>* total) {
  using T = Compute<S>;
  constexpr int kWidth = kLanes<T>;
  Vector<T> sum[4] = {load(total)};
  int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth) {
    DW_UNROLL for (int j = 0; j < 4; ++j) sum[j] += load(p + i + j * kWidth);
  }
  for (; i < count; i += kWidth) {
    sum[0] += load_lanes(p + i, 0, static_cast<int>(min64(kWidth, count - i)));
  }
  store(total, (sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// The filter gradient of kernel row t and column u of the taps: one plane's, without any padding.
template <class S>
Compute<S> plain_dot(const S* grad, const S* input, const Problem& problem, const Sweep& rows,
                     const TapClass& cols, int64_t t, int64_t u) {
  const int64_t first = cols.position + u * cols.spacing;
  const Range valid = inside(first, cols.step, problem.cols.input, cols.members);
  Compute<S> sum = 0;
  for (int64_t i = 0; i < rows.members; ++i) {
    const int64_t point = rows.at + i * rows.step + t;
    if (point < 0 || point >= rows.points) continue;
    const S* x = input + (rows.origin + point * rows.spacing) * problem.cols.input + first;
    const S* g = grad + (rows.first + i * rows.pitch) * problem.cols.output + cols.first;
    for (int64_t j = valid.begin; j < valid.end; ++j) {
      sum += to_compute(g[j]) * to_compute(x[j * cols.step]);
    }
  }
  return sum;
}
