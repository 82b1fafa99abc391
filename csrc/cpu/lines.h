// Rows in the form that the tiles of the column kernels want. No include guard: see each_isa.h.
//
// A row of one plane, or of a few planes side by side where planes are narrow, is packed into a
// line in the compute type, with zeros where the row has padding, so that every tap of the columns
// is the same line from another value on. With a step of 2 even and odd source columns are packed
// apart, and so on (LineForm). Rows need no padding: tiles pass over those that are outside.
//
// A row of NHWC pixels is such a line as it is, but for its borders: channels alternate, and taps
// are a pixel apart. An input pixel has each channel as often as the multiplier says.
//
// Zeros are multiplied, which is right as long as what they meet is finite; the callers see to it.

template <class T>
DW_INLINE void zero(T* p, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = T{0};
}

// to[i] = from[i % period] for i in [0, count), a period at the least.
template <class T>
void repeat(const T* from, int64_t period, int64_t count, T* to) {
  for (int64_t i = 0; i < period; ++i) to[i] = from[i];
  for (int64_t i = period; i < count; ++i) to[i] = to[i - period];
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

// Every kStep-th value from p on: those of index [valid.begin, valid.end), 0 elsewhere. kWhole: all
// of a vector, and one more exists where kStep > 1.
template <int kStep, bool kWhole, class S>
DW_INLINE Vector<Compute<S>> load_every(const S* p, Range valid) {
  using T = Compute<S>;
  constexpr int kWidth = kLanes<T>;
  const Range values = {kStep * valid.begin,
                        max64(kStep * valid.begin, kStep * (valid.end - 1) + 1)};
  const auto part = [&](int v) {
    if (v >= kStep) return Vector<T>{};
    return kWhole ? load(p + v * kWidth)
                  : load_valid(p + v * kWidth, valid_lanes<T>(values, v * kWidth));
  };
  if constexpr (kStep == 1) return part(0);
  const Index<T> at = kStep * lane_numbers<T>();
  Vector<T> found{};
  DW_UNROLL for (int v = 0; v < kStep; v += 2) {
    const Index<T> lane = (at - v * kWidth) & (2 * kWidth - 1);
    found = at < v * kWidth ? found : permute(part(v), part(v + 1), lane);
  }
  return found;
}

// to[i] = from[i * kStep] for i in `valid`, 0 for other i in [0, width) and up to a whole vector.
template <int kStep, class S>
DW_INLINE void pack_every(const S* from, Range valid, int64_t width, Compute<S>* to) {
  constexpr int64_t kNeeded = kLanes<Compute<S>> + (kStep > 1);
  for (int64_t i = 0; i < width; i += kLanes<Compute<S>>) {
    const Range lanes = valid_lanes<Compute<S>>(valid, i);
    if (i >= valid.begin && i + kNeeded <= valid.end) {
      store(to + i, load_every<kStep, true>(from + i * kStep, lanes));
    } else {
      store(to + i, load_every<kStep, false>(from + i * kStep, lanes));
    }
  }
}

// The same for any step.
template <class S>
DW_INLINE void pack_row(const S* from, int64_t step, Range valid, int64_t width, Compute<S>* to) {
  using T = Compute<S>;
  switch (step) {
    case 1: return pack_every<1>(from, valid, width, to);
    case 2: return pack_every<2>(from, valid, width, to);
    case 3: return pack_every<3>(from, valid, width, to);
    case 4: return pack_every<4>(from, valid, width, to);
  }
  for (int64_t i = 0; i < width; i += kLanes<T>) {
    const Range lanes = valid_lanes<T>(valid, i);
    T values[kLanes<T>] = {};
    for (int64_t j = lanes.begin; j < lanes.end; ++j) {
      values[j] = to_compute(from[(i + j) * step]);
    }
    store(to + i, load(values));
  }
}

// The planes of one side of the operator that a share's copy m of its channels takes.
template <class S>
struct Planes {
  S* first;
  int64_t pitch;  // from plane to plane
  int64_t pixel;  // from column to column

  // size: rows * columns. Input side: the multiplier does not show.
  DW_INLINE static Planes input(void* tensor, const Problem& problem, const Share& share,
                                int64_t size) {
    return of(tensor, problem, share, size, problem.channels, share.channels.begin, 1);
  }
  DW_INLINE static Planes output(void* tensor, const Problem& problem, const Share& share,
                                 int64_t m, int64_t size) {
    return of(tensor, problem, share, size, problem.lanes(),
              share.channels.begin * problem.multiplier + m, problem.multiplier);
  }
  DW_INLINE S* operator()(int64_t g) const { return first + g * pitch; }

 private:
  // Every step-th plane of so many, from `begin` on.
  DW_INLINE static Planes of(void* tensor, const Problem& problem, const Share& share, int64_t size,
                             int64_t count, int64_t begin, int64_t step) {
    const int64_t plane = problem.channels_last ? 1 : size;
    return {static_cast<S*>(tensor) + share.image * count * size + begin * plane, step * plane,
            problem.channels_last ? count : 1};
  }
};

// Lane i of an output pixel shows channel i / multiplier.
template <class T>
DW_INLINE Index<T> channels_of_lanes(int64_t channels, int64_t multiplier) {
  Index<T> pick{};
  for (int64_t i = 0; i < channels * multiplier; ++i) pick[i] = i / multiplier;
  return pick;
}

// Pixels of `channels` values, `stride` apart, as pixels of `lanes` values, fewer than a vector:
// those in `valid`, 0 for others in [0, count). Behind them up to a vector of anything is written.
template <class S>
DW_INLINE void pack_pixels(const S* from, int64_t stride, int64_t channels, Range valid,
                           int64_t count, int64_t lanes, Compute<S>* to) {
  using T = Compute<S>;
  const Index<T> pick = channels_of_lanes<T>(channels, lanes / channels);
  zero(to, valid.begin * lanes);
  for (int64_t i = valid.begin; i < valid.end; ++i) {
    const Vector<T> pixel = load_lanes(from + i * stride, 0, static_cast<int>(channels));
    store(to + i * lanes, permute(pixel, pick));
  }
  zero(to + valid.end * lanes, (count - valid.end) * lanes);
}

// The other way: channels are the sums of their copies.
template <class S>
DW_INLINE void write_pixels_apart(const Compute<S>* from, int64_t count, int64_t lanes, S* to,
                                  int64_t channels, int64_t stride) {
  using T = Compute<S>;
  const int64_t multiplier = lanes / channels;
  const Index<T> first = lane_numbers<T>() * static_cast<int>(multiplier);
  for (int64_t i = 0; i < count; ++i) {
    const Vector<T> pixel = load(from + i * lanes);
    Vector<T> sum = permute(pixel, first);
    for (int m = 1; m < multiplier; ++m) sum += permute(pixel, first + m);
    store_lanes(to + i * stride, sum, static_cast<int>(channels));
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

// Packs what members of a sweep meet of the first `count` planes.
template <class S>
DW_INLINE LineBlock<Compute<S>> pack_block(const Sweep& rows, int64_t columns, const LineForm& form,
                                           int64_t count, const Planes<const S>& planes,
                                           Compute<S>* lines) {
  using T = Compute<S>;
  const int64_t pixel = planes.pixel;
  const bool as_it_is = pixel == form.interleaved && (pixel == 1 || form.step == 1);
  const int64_t end = rows.at + (rows.members - 1) * rows.step + rows.taps;
  LineBlock<T> block = {lines, form.phases * form.pitch, {max64(0, rows.at), 0}};
  block.points.end = max64(block.points.begin, min64(rows.points, end));
  const int64_t last = as_it_is ? ceil_div(form.width, kLanes<T>) * kLanes<T> : form.width;
  const int64_t written = (count - 1) * form.width + last;
  for (int64_t phase = 0; phase < form.phases; ++phase) {
    const int64_t first = form.begin + phase * form.spacing % form.step;
    const int64_t width = form.width / form.interleaved;
    const Range valid = inside(first, form.step, columns, width);
    T* line = lines + phase * form.pitch;
    for (int64_t point = block.points.begin; point < block.points.end; ++point) {
      const int64_t begin = ((rows.origin + point * rows.spacing) * columns + first) * pixel;
      for (int64_t g = 0; g < count; ++g) {
        if (as_it_is) {
          pack_row(planes(g) + begin, form.step, {valid.begin * pixel, valid.end * pixel},
                   form.width, line + g * form.width);
        } else {
          pack_pixels(planes(g) + begin, form.step * pixel, pixel, valid, width, form.interleaved,
                      line);
        }
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

// How many of them stand side by side in a line, and how many lines their copies take.
inline int64_t planes_in_line(const Plan& plan, const Share& share) {
  return plan.interleaved > 1 ? 1 : planes_of(share);
}
inline int64_t lines_of_copies(const Plan& plan) {
  return plan.interleaved > 1 ? 1 : plan.problem.multiplier;
}

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

// The same modulo `lanes`, some vectors of them, whose totals stand `pitch` apart.
template <class S>
DW_INLINE void add_line(const S* p, int64_t count, Compute<S>* total, int64_t lanes,
                        int64_t pitch = kLanes<Compute<S>>) {
  using T = Compute<S>;
  if (lanes == kLanes<T>) return add_line(p, count, total);
  for (int64_t i = 0; i < count; i += lanes) {
    for (int64_t lane = 0; lane < min64(lanes, count - i); lane += kLanes<T>) {
      const int rest = static_cast<int>(min64(kLanes<T>, count - i - lane));
      T* sum = total + lane / kLanes<T> * pitch;
      store(sum, load(sum) + load_lanes(p + i + lane, 0, rest));
    }
  }
}

// The filter gradient of kernel row t and column u of the taps: one plane's, without any padding.
template <class S>
Compute<S> plain_dot(const S* grad, const S* input, const Problem& problem, const Sweep& rows,
                     const TapClass& cols, int64_t t, int64_t u) {
  const int64_t x_pixel = problem.channels_last ? problem.channels : 1;
  const int64_t g_pixel = problem.channels_last ? problem.lanes() : 1;
  const int64_t first = cols.position + u * cols.spacing;
  const Range valid = inside(first, cols.step, problem.cols.input, cols.members);
  Compute<S> sum = 0;
  for (int64_t i = 0; i < rows.members; ++i) {
    const int64_t point = rows.at + i * rows.step + t;
    if (point < 0 || point >= rows.points) continue;
    const int64_t x_row = (rows.origin + point * rows.spacing) * problem.cols.input + first;
    const int64_t g_row = (rows.first + i * rows.pitch) * problem.cols.output + cols.first;
    for (int64_t j = valid.begin; j < valid.end; ++j) {
      sum += to_compute(grad[(g_row + j) * g_pixel]) *
             to_compute(input[(x_row + j * cols.step) * x_pixel]);
    }
  }
  return sum;
}
