// Strips: register tiles for kernels of 3 x 3, the usual ones. A strip is N neighbouring rows of a
// share and one vector of channels, from its first column to its last. No include guard: see
// each_isa.h.
//
// Going to the right, a source column meets the destination columns that it is the last, the middle
// and the first one for. What belongs to those, N vectors each, stays in registers, and so do the
// nine weights (or their gradients): 3 * 7 + 9 + 1 point of the 32 registers of AVX-512. Every
// point of the source is loaded once for all its multiply-adds: 9 loads for 63 of them.

// What is fetched of a tensor: one memory line of every row at a time, so many elements from column
// to column and from vector to vector.
struct StripFetch {
  bool wanted;
  int64_t column;
  int64_t vector;
};

// What all strips of a sweep of columns (kernels.h) have in common. Pitches in elements, from
// column to column.
template <class S>
struct StripSweep {
  const S* source;  // point 0 of the sweep
  int64_t source_pitch;
  int64_t at;  // the point that tap 0 of member 0 sees
  int64_t points;
  S* members;  // member 0: the results (gather) or the output gradients (filter, only read)
  int64_t member_pitch;
  int64_t count;     // of members
  Compute<S>* taps;  // tap 0: weights (only read) or sums
  int64_t tap_pitch;
  int64_t lanes;                 // one vector at the least
  const PickedLanes<S>* picked;  // [vectors], where the source has another number of channels
  const Compute<S>* bias;        // gather: [lanes] or null
  bool streams;                  // gather: results are written past the caches
  HalfBits* halves;              // gather: [count, N], where two vectors make a memory line
  StripFetch next_source;        // what is fetched ahead for the next strip
  StripFetch next_members;
};

// One strip. Pitches in elements, from row to row.
template <class S>
struct StripSpot {
  void (*run)(const StripSweep<S>& sweep, const StripSpot& spot);
  int64_t source;  // where in a column the point of tap 0 of member 0 stands
  int64_t point_pitch;
  int64_t next;  // where the first point stands that only the next strip sees
  int64_t member;
  int64_t member_pitch;
  int64_t tap;
  int64_t tap_pitch;
  uint32_t mask;  // of the points, where not all are inside
};

constexpr int kStripTaps = 3;

template <class T>
constexpr bool kHasStrips = sizeof(T) == sizeof(float) && DW_VECTOR_BYTES == 64;

// How a point is loaded.
template <class S, bool kPicked>
struct StripPoints {
  const PickedLanes<S>* picked;
  DW_INLINE Vector<Compute<S>> at(const S* x) const {
    if constexpr (kPicked) return picked->source(x);
    return in_register(load(x));
  }
};

// result[q] = bias + the sum over taps t of weight[t] * point[q + t], rows and columns alike.
template <int N, class S>
struct StripGather {
  using T = Compute<S>;
  Vector<T> weight[kStripTaps * kStripTaps];
  Vector<T> sum[kStripTaps][N];
  Vector<T> bias;
  bool streams;
  HalfBits* first_halves;   // of lines: kept until the second are there
  HalfBits* second_halves;  // belong to those
  S* member;
  int64_t column_pitch;
  int64_t pitch;

  DW_INLINE void begin(const StripSweep<S>& sweep, const StripSpot<S>& spot, int64_t lane) {
    const bool is_first = lane / kLanes<T> % 2 == 0;
    first_halves = is_first ? sweep.halves : nullptr;
    second_halves = is_first ? nullptr : sweep.halves;
    const T* taps = sweep.taps + spot.tap + lane;
    DW_UNROLL for (int i = 0; i < kStripTaps; ++i) {
      DW_UNROLL for (int j = 0; j < kStripTaps; ++j) {
        weight[i * kStripTaps + j] =
            in_register(load(taps + i * sweep.tap_pitch + j * spot.tap_pitch));
      }
    }
    streams = kStreams<S> && sweep.streams;
    bias = sweep.bias ? load(sweep.bias + lane) : Vector<T>{};
    member = sweep.members + spot.member + lane;
    column_pitch = sweep.member_pitch;
    pitch = spot.member_pitch;
  }
  template <int kSlot>
  DW_INLINE void begin_column(int64_t) {
    DW_UNROLL for (int p = 0; p < N; ++p) sum[kSlot][p] = Vector<T>{};
  }
  DW_INLINE void multiply(int tap, int slot, int p, Vector<T> point) {
    sum[slot][p] += weight[tap] * point;
  }
  template <int kSlot>
  DW_INLINE void end_column(int64_t q) {
    S* to = member + q * column_pitch;
    if constexpr (kStreamsPairs<S>) {
      if (first_halves) {
        HalfBits* half = first_halves + q * N;
        DW_UNROLL for (int p = 0; p < N; ++p) half[p] = round_to(sum[kSlot][p] + bias, S{});
        return;
      }
      if (second_halves) {
        const HalfBits* half = second_halves + q * N;
        to -= kLanes<T>;
        DW_UNROLL for (int p = 0; p < N; ++p, to += pitch) {
          stream_pair(to, half[p], sum[kSlot][p] + bias);
        }
        return;
      }
    }
    if (streams) {
      DW_UNROLL for (int p = 0; p < N; ++p, to += pitch) stream(to, sum[kSlot][p] + bias);
    } else {
      DW_UNROLL for (int p = 0; p < N; ++p, to += pitch) store(to, sum[kSlot][p] + bias);
    }
  }
  DW_INLINE void end(const StripSweep<S>&, const StripSpot<S>&, int64_t) {}
};

// sum[t] += grad[q] * point[q + t] over all members q.
template <int N, class S>
struct StripFilter {
  using T = Compute<S>;
  Vector<T> sum[kStripTaps * kStripTaps];
  Vector<T> grad[kStripTaps][N];
  const S* member;
  int64_t column_pitch;
  int64_t pitch;

  DW_INLINE void begin(const StripSweep<S>& sweep, const StripSpot<S>& spot, int64_t lane) {
    DW_UNROLL for (int i = 0; i < kStripTaps * kStripTaps; ++i) sum[i] = Vector<T>{};
    member = sweep.members + spot.member + lane;
    column_pitch = sweep.member_pitch;
    pitch = spot.member_pitch;
  }
  template <int kSlot>
  DW_INLINE void begin_column(int64_t q) {
    const S* from = member + q * column_pitch;
    DW_UNROLL for (int p = 0; p < N; ++p, from += pitch) grad[kSlot][p] = load(from);
  }
  DW_INLINE void multiply(int tap, int slot, int p, Vector<T> point) {
    sum[tap] += grad[slot][p] * point;
  }
  template <int kSlot>
  DW_INLINE void end_column(int64_t) {}
  DW_INLINE void end(const StripSweep<S>& sweep, const StripSpot<S>& spot, int64_t tap_lane) {
    T* taps = sweep.taps + spot.tap + tap_lane;
    DW_UNROLL for (int i = 0; i < kStripTaps; ++i) {
      DW_UNROLL for (int j = 0; j < kStripTaps; ++j) {
        T* total = taps + i * sweep.tap_pitch + j * spot.tap_pitch;
        store(total, load(total) + sum[i * kStripTaps + j]);
      }
    }
  }
};

// What the next strip sees goes into the level-2 cache while this one is computed: the hardware
// follows no more than a few of the rows. The inner columns of each vector ask for one line of
// every row.
template <int N, class S>
struct StripAhead {
  const S* source;   // the first row that only the next strip sees, at this vector
  const S* members;  // the first row of the next strip, at this vector
  DW_INLINE void fetch(const StripSweep<S>& sweep, const StripSpot<S>& spot, int64_t column) const {
    if (sweep.next_source.wanted) {
      fetch_line<N>(source + column * sweep.next_source.column, spot.point_pitch);
    }
    if (sweep.next_members.wanted) {
      fetch_line<N>(members + column * sweep.next_members.column, spot.member_pitch);
    }
  }
};

template <template <int, class> class WorkOf, int N, bool kMasked, bool kPicked, class S>
struct Strip {
  using T = Compute<S>;
  using Work = WorkOf<N, S>;
  static constexpr int kPoints = N - 1 + kStripTaps;

  // Three columns of members are in sight at a time, and take turns in three slots. Source column j
  // is of phase j modulo 3; through tap t it meets members of this slot:
  static constexpr int slot(int phase, int t) { return (phase + kStripTaps - t) % kStripTaps; }

  static void run(const StripSweep<S>& strip_sweep, const StripSpot<S>& strip_spot) {
    const StripSweep<S> sweep = strip_sweep;
    const StripSpot<S> spot = strip_spot;
    for (int64_t v = 0; v * kLanes<T> < sweep.lanes; ++v) {
      const int64_t lane = first_lane<T>(v, sweep.lanes);
      const StripPoints<S, kPicked> points = {sweep.picked + (kPicked ? v : 0)};
      const StripAhead<N, S> ahead = {
          sweep.source + spot.next + max64(sweep.at, 0) * sweep.source_pitch +
              v * sweep.next_source.vector,
          sweep.members + spot.member + N * spot.member_pitch + v * sweep.next_members.vector};
      Work work;
      work.begin(sweep, spot, lane);
      const S* x =
          sweep.source + spot.source + (kPicked ? 0 : lane) + sweep.at * sweep.source_pitch;
      const int64_t end = sweep.count + kStripTaps - 1;
      // up to here columns are inside and meet three members; the first two are never among them
      const int64_t inner =
          sweep.at < 1 - kStripTaps ? 0 : min64(sweep.count, sweep.points - sweep.at);
      column<0>(work, sweep, spot, points, 0, x);
      column<1>(work, sweep, spot, points, 1, x);
      int64_t j = kStripTaps - 1;
      for (; j + 2 < inner; j += kStripTaps) {
        inner_column<2>(work, sweep, spot, points, ahead, j, x);
        inner_column<0>(work, sweep, spot, points, ahead, j + 1, x);
        inner_column<1>(work, sweep, spot, points, ahead, j + 2, x);
      }
      for (; j < end; j += kStripTaps) {
        column<2>(work, sweep, spot, points, j, x);
        if (j + 1 < end) column<0>(work, sweep, spot, points, j + 1, x);
        if (j + 2 < end) column<1>(work, sweep, spot, points, j + 2, x);
      }
      work.end(sweep, spot, v * kLanes<T>);
    }
  }

  // Source column j, counted from the first that member 0 sees, where it meets three columns of
  // members.
  template <int kPhase>
  static DW_INLINE void inner_column(Work& work, const StripSweep<S>& sweep,
                                     const StripSpot<S>& spot,
                                     const StripPoints<S, kPicked>& points,
                                     const StripAhead<N, S>& ahead, int64_t j, const S*& x) {
    work.template begin_column<slot(kPhase, 0)>(j);
    ahead.fetch(sweep, spot, j);
    multiply<kPhase, true, true, true>(work, spot, points, x);
    x += sweep.source_pitch;
    work.template end_column<slot(kPhase, 2)>(j - (kStripTaps - 1));
  }

  // Any source column.
  template <int kPhase>
  static DW_INLINE void column(Work& work, const StripSweep<S>& sweep, const StripSpot<S>& spot,
                               const StripPoints<S, kPicked>& points, int64_t j, const S*& x) {
    if (j < sweep.count) work.template begin_column<slot(kPhase, 0)>(j);
    const bool inside = j + sweep.at >= 0 && j + sweep.at < sweep.points;
    if (inside) {
      if (__builtin_expect(j >= kStripTaps - 1 && j < sweep.count, 1)) {
        multiply<kPhase, true, true, true>(work, spot, points, x);
      } else {
        // at both ends some of the members do not exist
        if (exists<0>(sweep, j)) multiply<kPhase, true, false, false>(work, spot, points, x);
        if (exists<1>(sweep, j)) multiply<kPhase, false, true, false>(work, spot, points, x);
        if (exists<2>(sweep, j)) multiply<kPhase, false, false, true>(work, spot, points, x);
      }
    }
    x += sweep.source_pitch;
    if (j >= kStripTaps - 1) work.template end_column<slot(kPhase, 2)>(j - (kStripTaps - 1));
  }

  template <int kTap>
  static DW_INLINE bool exists(const StripSweep<S>& sweep, int64_t j) {
    return j >= kTap && j - kTap < sweep.count;
  }

  // The column's points, through some of the kernel columns.
  template <int kPhase, bool kFirst, bool kMiddle, bool kLast>
  static DW_INLINE void multiply(Work& work, const StripSpot<S>& spot,
                                 const StripPoints<S, kPicked>& points, const S* x) {
    constexpr bool kUsed[] = {kFirst, kMiddle, kLast};
    Stride3<S> place(x, spot.point_pitch);
    DW_UNROLL for (int i = 0; i < kPoints; ++i) {
      const S* at = place.next(i);
      if (kMasked && !(spot.mask >> i & 1)) continue;
      const Vector<T> point = points.at(at);
      DW_UNROLL for (int t = 0; t < kStripTaps; ++t) {
        if (!kUsed[t]) continue;
        DW_UNROLL for (int p = 0; p < N; ++p) {
          const int u = i - p;
          if (u < 0 || u >= kStripTaps) continue;
          work.multiply(t * kStripTaps + u, slot(kPhase, t), p, point);
        }
      }
    }
  }
};

// ---- the strips of a share ----------------------------------------------------------------------

template <template <int, class> class Work, int N, class S>
void choose_strip(bool masked, bool picked, StripSpot<S>& spot) {
  if constexpr (sizeof(S) == sizeof(float)) {
    if (picked) {
      spot.run = masked ? Strip<Work, N, true, true, S>::run : Strip<Work, N, false, true, S>::run;
      return;
    }
  }
  spot.run = masked ? Strip<Work, N, true, false, S>::run : Strip<Work, N, false, false, S>::run;
}

template <template <int, class> class Work, class S>
void choose_strip(int64_t members, bool masked, bool picked, StripSpot<S>& spot) {
  switch (members) {
    case 7: return choose_strip<Work, 7, S>(masked, picked, spot);
    case 6: return choose_strip<Work, 6, S>(masked, picked, spot);
    case 5: return choose_strip<Work, 5, S>(masked, picked, spot);
    default: return choose_strip<Work, 4, S>(masked, picked, spot);
  }
}

// Pitches in elements of one axis: from source to source, from destination to destination and from
// kernel position to kernel position.
struct StripPitches {
  int64_t source;
  int64_t member;
  int64_t tap;
};

// The strips of a sweep of rows, from top to bottom.
template <template <int, class> class Work, class S>
void run_strips(const StripSweep<S>& columns, const Sweep& rows, const StripPitches& down) {
  StripSpot<S> spot;
  spot.point_pitch = rows.spacing * down.source;
  spot.member_pitch = rows.pitch * down.member;
  spot.tap = rows.index * down.tap;
  spot.tap_pitch = rows.index_step * down.tap;
  int64_t count;
  for (int64_t q = 0; q < rows.members; q += count) {
    count = members_of_tile(rows.members - q);
    const int64_t at = rows.at + q;
    const int64_t end = at + count + kStripTaps - 1;
    const bool masked = at < 0 || end > rows.points;
    spot.source = rows.origin * down.source + at * spot.point_pitch;
    spot.next = rows.origin * down.source + min64(end, rows.points) * spot.point_pitch;
    spot.member = rows.first * down.member + q * spot.member_pitch;
    spot.mask = masked ? point_bits(at, 1, rows.points) : 0;
    choose_strip<Work, S>(count, masked, columns.picked, spot);
    spot.run(columns, spot);
  }
}

// In the order of memory, where strips take whole pixels that follow each other.
template <class S>
StripFetch fetch_of(const StripSweep<S>& columns, int64_t pitch, bool wanted) {
  constexpr int64_t kWidth = kLanes<Compute<S>>;
  if (pitch == columns.lanes) return {wanted, kWidth, kWidth * columns.count};
  return {wanted, pitch, kWidth};
}

// All strips of a share. The pointers of `call` are those of index 0 on both axes.
template <template <int, class> class Work, class S>
void run_all_strips(const Plan& plan, const Share& share, const StripSweep<S>& call,
                    const StripPitches& down, const StripPitches& across) {
  for_each_sweep(plan.cols.classes[0], share.cols, plan.cols.gather.sources, [&](const Sweep& s) {
    StripSweep<S> columns = call;
    columns.source += s.origin * across.source;
    columns.source_pitch = s.spacing * across.source;
    columns.at = s.at;
    columns.points = s.points;
    columns.members += s.first * across.member;
    columns.member_pitch = s.pitch * across.member;
    columns.count = s.members;
    columns.next_source = fetch_of(columns, columns.source_pitch, call.next_source.wanted);
    columns.next_members = fetch_of(columns, columns.member_pitch, call.next_members.wanted);
    columns.taps += s.index * across.tap;
    columns.tap_pitch = s.index_step * across.tap;
    for_each_sweep(plan.rows.classes[0], share.rows, plan.rows.gather.sources,
                   [&](const Sweep& rows) { run_strips<Work>(columns, rows, down); });
  });
}
