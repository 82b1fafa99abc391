// Plane strips: memory where it lies, NCHW or NHWC of few channels, for kernels of 3 x 3 and 5 x 5
// at steps of one and two and of 7 x 7 at a step of one (not its filter gradient). A strip is N
// neighbouring vectors of columns of one plane, from the first row of a block to its last. No
// include guard: see each_isa.h.
//
// NHWC memory of few channels is taken for one plane, whose columns are the values of a row: taps
// are a pixel apart, and each lane has its channel's weights. A strip's vectors all start with the
// same channel, so they share weights.
//
// Going down, a row of points is the first of one window, the second of the one above it, and so
// on: it meets K rows of members, at a step of two half as many. Their sums, N vectors each, stay
// in registers; a point is loaded once for every kernel column and multiplied into all of them: 3 N
// loads for 9 N multiply-adds. Lanes beside the plane are not read but set to zero, and multiplied:
// right as long as what they meet is finite, which the callers see to.
//
// In the input gradient at a stride of two the even and the odd columns are two classes of members
// (window.h), each with about half of the kernel's columns. A strip computes both and zips them.

template <class T>
constexpr bool kHasPlaneStrips = sizeof(T) == sizeof(float) && DW_VECTOR_BYTES == 64;

constexpr int kMostPlaneTaps = 7;
constexpr int kMostPlaneVectors = 4;

// Weights for a vector of lanes, whichever channel it begins with.
template <class T>
constexpr int64_t kTapPitch = 2 * kLanes<T>;

// The columns of a strip, for all planes alike. Masks have a bit for each lane that exists.
struct PlaneColumns {
  int64_t member;               // the first
  int64_t pitch;                // from vector to vector
  int64_t taps;                 // where its weights or sums begin: those of its start
  int64_t tap[kMostPlaneTaps];  // the source column that it sees through each
  uint16_t points[kMostPlaneTaps][2 * kMostPlaneVectors];  // at a step of two, two vectors a member
  uint16_t members[2 * kMostPlaneVectors];                 // two classes: two vectors a member
};

// The bits of the lanes l with 0 <= first + l < size.
inline uint16_t lanes_inside(int64_t first, int64_t size) {
  const int64_t begin = min64(16, max64(0, -first));
  const int64_t end = max64(begin, min64(16, size - first));
  return static_cast<uint16_t>((1u << end) - (1u << begin));
}

// The strip that begins with member q of every class and has `vectors` vectors of each, `pitch`
// apart. `interleaved` values are a column of the plan.
inline PlaneColumns plane_columns(const AxisPlan& cols, int64_t interleaved, int64_t q, int vectors,
                                  int64_t pitch) {
  PlaneColumns strip = {};
  strip.member = q * cols.class_count;
  strip.pitch = pitch;
  for (int i = 0; i < vectors * cols.class_count; ++i) {
    strip.members[i] =
        lanes_inside(strip.member + i * pitch, cols.gather.destinations * interleaved);
  }
  int column = 0;
  for (int64_t r = 0; r < cols.class_count; ++r) {
    const TapClass& taps = cols.classes[r];
    for (int64_t t = 0; t < taps.taps; ++t, ++column) {
      strip.tap[column] = (taps.position + t * taps.spacing) * interleaved + q * taps.step;
      for (int i = 0; i < vectors * taps.step; ++i) {
        strip.points[column][i] =
            lanes_inside(strip.tap[column] + i * pitch, cols.gather.sources * interleaved);
      }
    }
  }
  return strip;
}

// What is done with the points of a plane.
template <class S>
struct PlaneWork {
  // gather: weights [rows, K], for alternating channels [rows, K, kTapPitch]; filter: sums
  // [starts, K * K + 1, vector]
  Compute<S>* taps;
  const Compute<S>* bias;  // gather: one, or [kTapPitch]
  bool add;                // gather: to what the members hold already
  bool streams;            // gather: results are written past the caches
};

// One strip, going down. Pitches in elements, from row to row.
template <class S>
struct PlaneStrip {
  const PlaneColumns* columns;
  const S* source;  // point 0, column 0
  int64_t point_pitch;
  int64_t at;  // the point that tap 0 of member 0 sees
  int64_t points;
  S* members;  // member 0, column 0: the results (gather) or the output gradient (filter)
  int64_t member_pitch;
  int64_t count;          // of members
  int64_t ahead;          // how far from a row of points the one stands that is fetched, or 0: none
  int64_t members_ahead;  // the same of members
  PlaneWork<S> work;
};

#if DW_VECTOR_BYTES == 64
template <class S>
DW_INLINE void sanitized_lanes([[maybe_unused]] const S* p, [[maybe_unused]] uint16_t mask) {
#ifdef __SANITIZE_ADDRESS__
  if (mask == 0) return;
  const int first = __builtin_ctz(mask);
  sanitized(p + first, (32 - __builtin_clz(mask) - first) * static_cast<int64_t>(sizeof(S)));
#endif
}
DW_INLINE Vector<float> load_masked(const float* p, uint16_t mask) {
  sanitized_lanes(p, mask);
  return reinterpret_cast<Vector<float>>(_mm512_maskz_loadu_ps(mask, p));
}
template <class S>
DW_INLINE Vector<float> load_masked(const S* p, uint16_t mask) {
  sanitized_lanes(p, mask);
  return widen(reinterpret_cast<HalfBits>(_mm256_maskz_loadu_epi16(mask, p)), S{});
}
DW_INLINE void store_masked(float* p, Vector<float> v, uint16_t mask) {
  sanitized_lanes(p, mask);
  _mm512_mask_storeu_ps(p, mask, reinterpret_cast<__m512>(v));
}
template <class S>
DW_INLINE void store_masked(S* p, Vector<float> v, uint16_t mask) {
  sanitized_lanes(p, mask);
  _mm256_mask_storeu_epi16(p, mask, reinterpret_cast<__m256i>(round_to(v, S{})));
}

// The rows of members that are in sight at a time take turns in slots; a row of points is of phase
// (its number modulo the period), which says what slots it meets.
template <int kTaps, int kStep>
struct PlanePhases {
  static constexpr int kSlots = (kTaps + kStep - 1) / kStep;
  static constexpr int kPeriod = kSlots * kStep;
  static constexpr bool meets(int phase, int tap) {
    return (phase - tap + kPeriod * kStep) % kStep == 0;
  }
  static constexpr int slot(int phase, int tap) {
    return (phase - tap + kPeriod * kStep) / kStep % kSlots;
  }
};

// What a strip is made for: kernels of kRows rows and kColumns columns, the last kOdd of which
// belong to the odd columns of members; the step from member to member; N vectors; whether channels
// alternate in the lanes.
template <int kRowTaps, int kColumnTaps, int kOddTaps, int kStepOfMembers, int N, bool kAlternates>
struct PlaneShape {
  static constexpr int kRows = kRowTaps;
  static constexpr int kColumns = kColumnTaps;
  static constexpr int kEven = kColumnTaps - kOddTaps;
  static constexpr int kClasses = kOddTaps > 0 ? 2 : 1;
  static constexpr int kStep = kStepOfMembers;
  static constexpr int kVectors = N;
  static constexpr bool kInterleaved = kAlternates;
  static DW_INLINE int64_t pitch(const PlaneColumns& columns) {
    return kInterleaved ? columns.pitch : 16;
  }
  using Phases = PlanePhases<kRows, kStep>;
};

// result[q] = bias + the sum over taps t of weight[t] * point[q + t], rows and columns alike.
template <class Shape, class S>
struct PlaneGather {
  using T = Compute<S>;
  using Phases = typename Shape::Phases;
  static constexpr int N = Shape::kVectors;
  static constexpr int kTaps = Shape::kRows * Shape::kColumns;
  static constexpr bool kKeeps = kTaps <= 9;  // all weights in registers
  Vector<T> sum[Phases::kSlots][Shape::kClasses][N];
  Vector<T> kept[kKeeps ? kTaps : 1];
  const T* weights;
  Vector<T> bias;

  DW_INLINE explicit PlaneGather(const PlaneStrip<S>& strip)
      : weights(strip.work.taps + strip.columns->taps),
        bias(lanes_of(strip.work.bias + strip.columns->taps)) {
    if constexpr (kKeeps) {
      DW_UNROLL for (int t = 0; t < kTaps; ++t) kept[t] = in_register(loaded(t));
    }
    DW_UNROLL for (int i = 0; i < Phases::kSlots; ++i) begin(i);
  }
  DW_INLINE void begin(int slot) {
    DW_UNROLL for (int r = 0; r < Shape::kClasses; ++r) {
      DW_UNROLL for (int n = 0; n < N; ++n) sum[slot][r][n] = bias;
    }
  }
  DW_INLINE Vector<T> weight(int tap) const {
    if constexpr (kKeeps) return kept[tap];
    return in_register(loaded(tap));
  }
  DW_INLINE Vector<T> loaded(int tap) const {
    return lanes_of(weights + tap * (Shape::kInterleaved ? kTapPitch<T> : 1));
  }
  static DW_INLINE Vector<T> lanes_of(const T* values) {
    if constexpr (Shape::kInterleaved) return load(values);
    return broadcast(*values);
  }
  template <int kSlot>
  DW_INLINE void begin_row(const PlaneStrip<S>&, int64_t) {
    begin(kSlot);
  }
  template <int kPhase>
  DW_INLINE void multiply(int column, const Vector<T> (&point)[N]) {
    const int r = column < Shape::kEven ? 0 : 1;
    DW_UNROLL for (int i = 0; i < Shape::kRows; ++i) {
      if (!Phases::meets(kPhase, i)) continue;
      const Vector<T> w = weight(i * Shape::kColumns + column);
      DW_UNROLL for (int n = 0; n < N; ++n) sum[Phases::slot(kPhase, i)][r][n] += w * point[n];
    }
  }
  template <int kSlot>
  DW_INLINE void end_row(const PlaneStrip<S>& strip, int64_t r) {
    S* to = strip.members + r * strip.member_pitch + strip.columns->member;
    if constexpr (Shape::kClasses == 1) {
      DW_UNROLL for (int n = 0; n < N; ++n) put(strip, n, sum[kSlot][0][n], to);
    } else {
      const Index<T> lane = lane_numbers<T>();
      const Index<T> zip = lane / 2 + (lane & 1) * kLanes<T>;
      DW_UNROLL for (int n = 0; n < N; ++n) {
        put(strip, 2 * n, permute(sum[kSlot][0][n], sum[kSlot][1][n], zip), to);
        put(strip, 2 * n + 1, permute(sum[kSlot][0][n], sum[kSlot][1][n], zip + kLanes<T> / 2), to);
      }
    }
  }
  static DW_INLINE void put(const PlaneStrip<S>& strip, int i, Vector<T> value, S* to) {
    const uint16_t mask = strip.columns->members[i];
    to += i * Shape::pitch(*strip.columns);
    if (strip.work.streams) return stream(to, value);
    if (strip.work.add) value += load_masked(to, mask);
    store_masked(to, value, mask);
  }
  DW_INLINE void finish(const PlaneStrip<S>&) {}
};

// sum[t] += grad[q] * point[q + t] over all members q; a lane of columns each.
template <class Shape, class S>
struct PlaneFilter {
  using T = Compute<S>;
  using Phases = typename Shape::Phases;
  static constexpr int N = Shape::kVectors;
  static constexpr int kTaps = Shape::kRows * Shape::kColumns;
  Vector<T> sum[kTaps];
  Vector<T> grad[Phases::kSlots][N];

  DW_INLINE explicit PlaneFilter(const PlaneStrip<S>&) {
    DW_UNROLL for (int t = 0; t < kTaps; ++t) sum[t] = Vector<T>{};
    DW_UNROLL for (int i = 0; i < Phases::kSlots; ++i) {
      DW_UNROLL for (int n = 0; n < N; ++n) grad[i][n] = Vector<T>{};
    }
  }
  template <int kSlot>
  DW_INLINE void begin_row(const PlaneStrip<S>& strip, int64_t r) {
    const S* from = strip.members + r * strip.member_pitch + strip.columns->member;
    const int64_t pitch = Shape::pitch(*strip.columns);
    if (strip.members_ahead) fetch_line<N>(from + strip.members_ahead, pitch);
    DW_UNROLL for (int n = 0; n < N; ++n) {
      grad[kSlot][n] =
          r < strip.count ? load_masked(from + n * pitch, strip.columns->members[n]) : Vector<T>{};
    }
  }
  template <int kPhase>
  DW_INLINE void multiply(int column, const Vector<T> (&point)[N]) {
    DW_UNROLL for (int i = 0; i < Shape::kRows; ++i) {
      if (!Phases::meets(kPhase, i)) continue;
      DW_UNROLL for (int n = 0; n < N; ++n) {
        sum[i * Shape::kColumns + column] += grad[Phases::slot(kPhase, i)][n] * point[n];
      }
    }
  }
  template <int kSlot>
  DW_INLINE void end_row(const PlaneStrip<S>&, int64_t) {}
  DW_INLINE void finish(const PlaneStrip<S>& strip) {
    DW_UNROLL for (int t = 0; t < kTaps; ++t) {
      T* total = strip.work.taps + strip.columns->taps + t * kLanes<T>;
      store(total, load(total) + sum[t]);
    }
  }
};

template <template <class, class> class WorkOf, class Shape, class S>
struct PlaneStripOf {
  using T = Compute<S>;
  using Work = WorkOf<Shape, S>;
  using Phases = typename Shape::Phases;
  static constexpr int N = Shape::kVectors;
  static constexpr int kStep = Shape::kStep;
  static constexpr int kLast = Shape::kRows - 1;

  static void run(const PlaneStrip<S>& any) {
    const PlaneStrip<S> strip = any;
    Work work(strip);
    const int64_t end = (strip.count - 1) * kStep + Shape::kRows;
    const S* x = strip.source + strip.at * strip.point_pitch;
    for (int64_t i = 0; i < end; i += Phases::kPeriod) {
      rows_from<0>(work, strip, i, end, x);
      x += Phases::kPeriod * strip.point_pitch;
    }
    work.finish(strip);
  }

  // The rows of points from phase kPhase to the last one.
  template <int kPhase>
  static DW_INLINE void rows_from(Work& work, const PlaneStrip<S>& strip, int64_t i, int64_t end,
                                  const S* x) {
    if constexpr (kPhase < Phases::kPeriod) {
      if (i >= end) return;
      row<kPhase>(work, strip, i, x);
      rows_from<kPhase + 1>(work, strip, i + 1, end, x + strip.point_pitch);
    }
  }

  // Row of points i, counted from the first that member 0 sees.
  template <int kPhase>
  static DW_INLINE void row(Work& work, const PlaneStrip<S>& strip, int64_t i, const S* x) {
    if constexpr (Phases::meets(kPhase, 0)) {
      work.template begin_row<Phases::slot(kPhase, 0)>(strip, i / kStep);
    }
    if (strip.ahead) {
      fetch_line<N * kStep>(x + strip.ahead + strip.columns->tap[0], Shape::pitch(*strip.columns));
    }
    if (i + strip.at >= 0 && i + strip.at < strip.points) multiply<kPhase>(work, strip, x);
    if constexpr (Phases::meets(kPhase, kLast)) {
      if (i >= kLast) {
        work.template end_row<Phases::slot(kPhase, kLast)>(strip, (i - kLast) / kStep);
      }
    }
  }

  template <int kPhase>
  static DW_INLINE void multiply(Work& work, const PlaneStrip<S>& strip, const S* x) {
    const PlaneColumns& columns = *strip.columns;
    DW_UNROLL for (int t = 0; t < Shape::kColumns; t += kStep) {
      Vector<T> point[kStep][N];
      const S* first = x + columns.tap[t];
      DW_UNROLL for (int n = 0; n < N; ++n) {
        if constexpr (kStep == 1) {
          point[0][n] =
              in_register(load_masked(first + n * Shape::pitch(columns), columns.points[t][n]));
        } else {  // the even ones belong to this tap, the odd ones to the next
          const S* pair = first + 2 * n * kLanes<T>;
          const Vector<T> low = load_masked(pair, columns.points[t][2 * n]);
          const Vector<T> high = load_masked(pair + kLanes<T>, columns.points[t][2 * n + 1]);
          point[0][n] = in_register(permute(low, high, 2 * lane_numbers<T>()));
          point[1][n] = in_register(permute(low, high, 2 * lane_numbers<T>() + 1));
        }
      }
      work.template multiply<kPhase>(t, point[0]);
      if (kStep == 2 && t + 1 < Shape::kColumns) {
        work.template multiply<kPhase>(t + 1, point[kStep - 1]);
      }
    }
  }
};

// ---- the strips of a share ----------------------------------------------------------------------

template <class S>
using RunPlaneStrip = void (*)(const PlaneStrip<S>&);

template <template <class, class> class Work>
constexpr bool kIsGather = false;
template <>
constexpr bool kIsGather<PlaneGather> = true;

// Vectors side by side at the most: what stays in registers has 32 of them.
template <template <class, class> class Work>
constexpr int plane_vectors(int64_t columns, bool two_classes) {
  if (two_classes) return 2;
  return columns == 3 ? 4 : !kIsGather<Work> ? 1 : columns == 5 ? 3 : 2;
}

template <template <class, class> class Work, int kRows, int kColumns, int kOdd, int kStep, class S,
          bool kAlternates = false>
RunPlaneStrip<S> plane_strip_of(int vectors) {
  constexpr int kMost = plane_vectors<Work>(kColumns, kOdd > 0);
  if constexpr (kMost > 3) {
    if (vectors > 3)
      return PlaneStripOf<Work, PlaneShape<kRows, kColumns, kOdd, kStep, 4, kAlternates>, S>::run;
  }
  if constexpr (kMost > 2) {
    if (vectors > 2)
      return PlaneStripOf<Work, PlaneShape<kRows, kColumns, kOdd, kStep, 3, kAlternates>, S>::run;
  }
  if constexpr (kMost > 1) {
    if (vectors > 1)
      return PlaneStripOf<Work, PlaneShape<kRows, kColumns, kOdd, kStep, 2, kAlternates>, S>::run;
  }
  return PlaneStripOf<Work, PlaneShape<kRows, kColumns, kOdd, kStep, 1, kAlternates>, S>::run;
}

// Of one of two classes of rows.
template <int kColumns, class S>
RunPlaneStrip<S> plane_strip_of_class(int64_t rows, int64_t odd, int vectors) {
  constexpr int kHalf = kColumns / 2;
  if (rows == kHalf) {
    return odd == kHalf ? plane_strip_of<PlaneGather, kHalf, kColumns, kHalf, 1, S>(vectors)
                        : plane_strip_of<PlaneGather, kHalf, kColumns, kHalf + 1, 1, S>(vectors);
  }
  return odd == kHalf ? plane_strip_of<PlaneGather, kHalf + 1, kColumns, kHalf, 1, S>(vectors)
                      : plane_strip_of<PlaneGather, kHalf + 1, kColumns, kHalf + 1, 1, S>(vectors);
}

// Of NHWC memory.
template <template <class, class> class Work, class S>
RunPlaneStrip<S> interleaved_strip_of(int64_t taps, int vectors) {
  if constexpr (kIsGather<Work>) {
    if (taps == 7) return plane_strip_of<Work, 7, 7, 0, 1, S, true>(vectors);
  }
  return taps == 3 ? plane_strip_of<Work, 3, 3, 0, 1, S, true>(vectors)
                   : plane_strip_of<Work, 5, 5, 0, 1, S, true>(vectors);
}

template <template <class, class> class Work, class S>
RunPlaneStrip<S> plane_strip_of(const TapClass& rows, const AxisPlan& cols, bool interleaved,
                                int vectors) {
  const int64_t taps = cols.axis.kernel;
  if (interleaved) return interleaved_strip_of<Work, S>(taps, vectors);
  if constexpr (kIsGather<Work>) {
    if (cols.class_count == 2) {
      const int64_t odd = cols.classes[1].taps;
      return taps == 3 ? plane_strip_of_class<3, S>(rows.taps, odd, vectors)
                       : plane_strip_of_class<5, S>(rows.taps, odd, vectors);
    }
    if (taps == 7) return plane_strip_of<Work, 7, 7, 0, 1, S>(vectors);
  }
  if (cols.classes[0].step == 2) {
    return taps == 3 ? plane_strip_of<Work, 3, 3, 0, 2, S>(vectors)
                     : plane_strip_of<Work, 5, 5, 0, 2, S>(vectors);
  }
  return taps == 3 ? plane_strip_of<Work, 3, 3, 0, 1, S>(vectors)
                   : plane_strip_of<Work, 5, 5, 0, 1, S>(vectors);
}

// The strips of a share: of any of its planes. To find them takes as long as a small one.
template <template <class, class> class Work, class S>
struct PlaneStrips {
  using T = Compute<S>;
  // Neighbouring strips that go down the same rows.
  struct Spot {
    int64_t source;  // where point 0 stands in a plane, and member 0
    int64_t members;
    int64_t taps;                 // where those of the class begin
    PlaneStrip<S> strip;          // the rest of what belongs to the rows
    const RunPlaneStrip<S>* run;  // [count]
  };
  const Plan& plan;
  const int64_t interleaved;
  const int64_t starts;    // see Plan
  int64_t count;           // of strips side by side
  PlaneColumns* columns;   // [count]
  RunPlaneStrip<S>* runs;  // [classes of rows, count]
  Spot* spots;             // [spot_count]
  int64_t spot_count = 0;
  Range rows = {0, 0};

  PlaneStrips(const Plan& any_plan, Carver& carver)
      : plan(any_plan), interleaved(plan.interleaved), starts(plan.starts(kLanes<T>)) {
    const AxisPlan& cols = plan.cols;
    count = 0;
    for_each_strip([&](int64_t, int64_t) { ++count; });
    columns = carver.take<PlaneColumns>(count);
    runs = carver.take<RunPlaneStrip<S>>(plan.rows.class_count * count);
    spots =
        carver.take<Spot>(ceil_div(plan.rows.block, plan.block_members) * plan.rows.most_sweeps());
    if (carver.memory == nullptr) return;
    int64_t i = 0;
    for_each_strip([&](int64_t vector, int64_t width) {
      const int n = static_cast<int>(width);
      columns[i] = plane_columns(cols, interleaved, vector * kLanes<T>, n, starts * kLanes<T>);
      columns[i].taps = taps_of(vector % starts);
      for (int64_t r = 0; r < plan.rows.class_count; ++r) {
        runs[r * count + i] =
            plane_strip_of<Work, S>(plan.rows.classes[r], cols, interleaved > 1, n);
      }
      ++i;
    });
  }

  // Calls visit(first vector, vectors). Strips that start side by side follow each other: they meet
  // the same memory lines.
  template <class Visit>
  void for_each_strip(const Visit& visit) const {
    const AxisPlan& cols = plan.cols;
    const int64_t vectors = ceil_div(cols.classes[0].members * interleaved, kLanes<T>);
    const int64_t most = plane_vectors<Work>(cols.axis.kernel, cols.class_count == 2);
    int64_t left = ceil_div(vectors, starts);
    for (int64_t groups = ceil_div(left, most), begin = 0; groups > 0; --groups) {
      const int64_t width = ceil_div(left, groups);
      for (int64_t first = begin; first < min64(begin + starts, vectors); ++first) {
        visit(first, min64(width, ceil_div(vectors - first, starts)));
      }
      begin += width * starts;
      left -= width;
    }
  }
  int64_t taps_of(int64_t start) const {
    return kIsGather<Work> ? start * kLanes<T> % interleaved
                           : start * (plan.problem.taps() + 1) * kLanes<T>;
  }

  // Before the planes of a share: blocks of rows that level 1 holds, one after the other.
  void begin(const Share& share) {
    if (share.rows.begin == rows.begin && share.rows.end == rows.end) return;
    rows = share.rows;
    spot_count = 0;
    for (int64_t row = rows.begin; row < rows.end; row += plan.block_members) {
      int64_t taps = 0;
      for (int64_t r = 0; r < plan.rows.class_count; ++r) {
        const Range block = {row, min64(row + plan.block_members, rows.end)};
        for_each_sweep(plan.rows.classes[r], block, plan.rows.gather.sources,
                       [&](const Sweep& sweep) { add(sweep, taps, runs + r * count); });
        taps += plan.rows.classes[r].taps * plan.cols.axis.kernel;
      }
    }
  }

  void add(const Sweep& sweep, int64_t taps, const RunPlaneStrip<S>* run) {
    const int64_t width = plan.cols.gather.sources * interleaved;
    const int64_t results = plan.cols.gather.destinations * interleaved;
    Spot& spot = spots[spot_count++];
    spot = {sweep.origin * width, sweep.first * results, taps, {}, run};
    spot.strip.point_pitch = sweep.spacing * width;
    spot.strip.at = sweep.at;
    spot.strip.points = sweep.points;
    spot.strip.member_pitch = sweep.pitch * results;
    spot.strip.count = sweep.members;
    if (plan.fetches && (!kIsGather<Work> || interleaved > 1)) {  // the block after this one
      spot.strip.ahead = sweep.members * sweep.step * spot.strip.point_pitch;
      spot.strip.members_ahead = sweep.members * spot.strip.member_pitch;
    }
  }

  // All strips of a plane: of row 0 and column 0 of the source and of the members on.
  void run(const S* source, S* members, const PlaneWork<S>& work) const {
    for (int64_t i = 0; i < spot_count; ++i) {
      const Spot& spot = spots[i];
      PlaneStrip<S> strip = spot.strip;
      strip.source = source + spot.source;
      strip.members = members + spot.members;
      strip.work = work;
      strip.work.taps += spot.taps;
      for (int64_t j = 0; j < count; ++j) {
        strip.columns = columns + j;
        spot.run[j](strip);
      }
    }
  }
};
#endif
