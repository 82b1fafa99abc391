// The register tiles of all kernels: N neighbouring members of a sweep (kernels.h) of one axis, one
// vector of the memory order's fast axis; the taps of the other axis are a list of lines. In
// vectors of channels members are columns and each kernel row is a line. In vectors of columns
// members are rows and each kernel column is a line. No include guard: see each_isa.h.
//
// A group of G taps and N members meet in (N - 1) * step + G points of the source. Each point is
// loaded once and multiplied into every pair of tap and member that it belongs to: 3 taps and 7
// members take 9 + 3 loads for 21 multiply-adds. Points outside of the source have no bit in the
// mask and are passed over, so nothing is added for padding and borders need no code of their own.

// Up to kMembers sums in flight hide the latency of two multiply-add ports, and 7 divides the width
// of most networks' images (224, 112, ..., 7).
constexpr int kGroup = 7;  // with 7 sums and a point, 15 vectors: AVX2 has 16 registers

// Where vector v of `count` lanes begins: the last one overlaps its neighbour rather than being
// partly empty, so both hold the same values for the shared lanes.
template <class T>
DW_INLINE int64_t first_lane(int64_t v, int64_t count) {
  return max64(min64(v * kLanes<T>, count - kLanes<T>), 0);
}

// A line of the source, and the weights of the taps that it is met through (or their gradients).
template <class T>
struct TileLine {
  const T* source;  // [points, lanes]
  T* taps;          // [taps of the swept axis, lanes or as tap_period says]; weights are only read
};

// What all tiles of a row of tiles have in common.
template <class T>
struct TileRow {
  T* members;  // where they begin: the results (gather) or the output gradients (filter)
  const TileLine<T>* lines;
  int64_t line_count;
  int64_t lanes;  // of a line, one vector at the least
  // Weights (and bias) repeat after so many lanes, and are there for all vectors that begin among
  // the first period; sums after so many, whole vectors. 0: each lane has its own.
  int64_t tap_period;
  bool add;             // gather: to what the members hold already
  const T* bias;        // gather: as weights, or null
  bool streams;         // gather: results are written past the caches
  const T* ahead;       // the first of the source lines that the next row of tiles will need anew
  int64_t ahead_lines;  // how many of them to fetch into the caches: 0 to 2
  int64_t ahead_pitch;  // elements
  const T* members_ahead;  // filter: the next row's where they are to be fetched, or null
};

// Where the weights or sums of `lane` stand. A line that repeats has fewer than 2^32 lanes.
template <class T>
DW_INLINE int64_t tap_lane_of(const TileRow<T>& row, int64_t lane) {
  if (row.tap_period == 0) return lane;
  return static_cast<uint32_t>(lane) % static_cast<uint32_t>(row.tap_period);
}

// What all tiles of a sweep have in common. Pitches in elements.
struct TileSweep {
  int64_t tap;  // where in the taps of a line those of the sweep begin
  int64_t tap_pitch;
  int64_t taps;
  int64_t point_pitch;
  int64_t step;  // points from member to member
  int64_t member_pitch;
};

// Two rows of tiles that are neighbours meet most of their lines together, so that a point is
// loaded once for both.
template <class T>
struct SharedLine {
  const T* source;
  T* taps[2];
};
constexpr int kMostShared = 16;
template <class T>
struct TileRows {
  TileRow<T> row[2];  // with the lines that it meets alone
  SharedLine<T> shared[kMostShared];
  int64_t shared_count;
};

// One tile of each row of tiles.
template <class T>
struct TileSpot {
  void (*run)(const TileRow<T>& row, const TileSpot& spot);
  void (*run_two)(const TileRows<T>& rows, const TileSpot& spot);  // or null
  const TileSweep* sweep;
  int64_t source;         // where in a line the point of tap 0 of member 0 stands
  int64_t member;         // where member 0 stands
  const uint32_t* masks;  // see fill_masks; not used where all points are inside
};

// Bits i for which at + i * step lies in [0, points).
DW_INLINE uint32_t point_bits(int64_t at, int64_t step, int64_t points) {
  const Range valid = inside(at, step, points, 32);
  return static_cast<uint32_t>((1ull << valid.end) - (1ull << valid.begin));
}

// The tile's masks: for a step of 1 or 2, the points of each group of taps; for any other, the
// members of each tap. Returns how many.
inline int64_t fill_masks(int64_t at, int64_t step, int64_t taps, int64_t points, uint32_t* masks) {
  int64_t count = 0;
  for (int64_t t = 0; t < taps; t += step > 2 ? 1 : kGroup) {
    masks[count++] = point_bits(at + t, step > 2 ? step : 1, points);
  }
  return count;
}

// Point i of a group stands at x + i * pitch. Every third address is made, the two after it are
// part of an instruction.
template <class T>
struct Stride3 {
  const T* x;
  int64_t pitch;
  int64_t pitch3;
  DW_INLINE Stride3(const T* begin, int64_t p) : x(begin), pitch(p), pitch3(3 * p) {}
  DW_INLINE const T* next(int i) {
    const T* at = x + i % 3 * pitch;
    if (i % 3 == 2) x += pitch3;
    return at;
  }
};

// ---- gather: sum[p] += weight[t] * point[p * step + t] ------------------------------------------

template <int kStep, int N, bool kMasked, class T>
struct Gathering {
  Vector<T> (&sum)[N];

  template <int G>
  DW_INLINE void group(const T* x, int64_t pitch, const T* weights, int64_t tap_pitch,
                       uint32_t mask) const {
    Vector<T> weight[G];
    Stride3<T> w(weights, tap_pitch);
    DW_UNROLL for (int t = 0; t < G; ++t) weight[t] = in_register(load(w.next(t)));
    Stride3<T> points(x, pitch);
    DW_UNROLL for (int i = 0; i < (N - 1) * kStep + G; ++i) {
      const T* at = points.next(i);
      if (kMasked && !(mask >> i & 1)) continue;
      const Vector<T> point = in_register(load(at));
      DW_UNROLL for (int p = 0; p < N; ++p) {
        const int t = i - p * kStep;
        if (t >= 0 && t < G) sum[p] += weight[t] * point;
      }
    }
  }

  DW_INLINE void tap(const T* x, int64_t member_pitch, const T* weights, uint32_t mask) const {
    const Vector<T> weight = load(weights);
    DW_UNROLL for (int p = 0; p < N; ++p) {
      if (!kMasked || mask >> p & 1) sum[p] += weight * load(x + p * member_pitch);
    }
  }
};

// The same for two rows of sums.
template <int kStep, int N, bool kMasked, class T>
struct GatheringTwo {
  Vector<T> (&sum)[2][N];

  template <int G>
  DW_INLINE void group(const T* x, int64_t pitch, T* const (&weights)[2], int64_t tap,
                       int64_t tap_pitch, uint32_t mask) const {
    Vector<T> weight[2][G];
    DW_UNROLL for (int r = 0; r < 2; ++r) {
      Stride3<T> w(weights[r] + tap, tap_pitch);
      DW_UNROLL for (int t = 0; t < G; ++t) weight[r][t] = in_register(load(w.next(t)));
    }
    Stride3<T> points(x, pitch);
    DW_UNROLL for (int i = 0; i < (N - 1) * kStep + G; ++i) {
      const T* at = points.next(i);
      if (kMasked && !(mask >> i & 1)) continue;
      const Vector<T> point = in_register(load(at));
      DW_UNROLL for (int p = 0; p < N; ++p) {
        const int t = i - p * kStep;
        if (t < 0 || t >= G) continue;
        sum[0][p] += weight[0][t] * point;
        sum[1][p] += weight[1][t] * point;
      }
    }
  }
};

// ---- filter gradient: sum[t] += grad[p] * point[p * step + t] -----------------------------------

template <int kStep, int N, bool kMasked, class T>
struct Correlating {
  const Vector<T> (&grad)[N];

  template <int G>
  DW_INLINE void group(const T* x, int64_t pitch, T* sums, int64_t tap_pitch, uint32_t mask) const {
    Vector<T> sum[G];
    DW_UNROLL for (int t = 0; t < G; ++t) sum[t] = load(sums + t * tap_pitch);
    Stride3<T> points(x, pitch);
    DW_UNROLL for (int i = 0; i < (N - 1) * kStep + G; ++i) {
      const T* at = points.next(i);
      if (kMasked && !(mask >> i & 1)) continue;
      const Vector<T> point = in_register(load(at));
      DW_UNROLL for (int p = 0; p < N; ++p) {
        const int t = i - p * kStep;
        if (t >= 0 && t < G) sum[t] += grad[p] * point;
      }
    }
    DW_UNROLL for (int t = 0; t < G; ++t) store(sums + t * tap_pitch, sum[t]);
  }

  DW_INLINE void tap(const T* x, int64_t member_pitch, T* sums, uint32_t mask) const {
    Vector<T> sum = load(sums);
    DW_UNROLL for (int p = 0; p < N; ++p) {
      if (!kMasked || mask >> p & 1) sum += grad[p] * load(x + p * member_pitch);
    }
    store(sums, sum);
  }
};

// ---- one line, one tile, one sweep --------------------------------------------------------------

// All taps of one line. kStep = 0: any step; points are hardly shared, so tap by tap. kTaps = 0:
// any number of taps, in groups.
template <int kStep, int kTaps, bool kMasked, class T, class Work>
DW_INLINE void tile_line(const TileSweep& sweep, const uint32_t* masks, const T* x, T* taps,
                         const Work& work) {
  const int64_t pitch = sweep.point_pitch;
  const int64_t tap_pitch = sweep.tap_pitch;
  const auto mask = [&](int64_t i) { return kMasked ? masks[i] : 0; };
  if constexpr (kTaps > 0) {
    work.template group<kTaps>(x, pitch, taps, tap_pitch, mask(0));
  } else if constexpr (kStep == 0) {
    for (int64_t t = 0; t < sweep.taps; ++t, x += pitch, taps += tap_pitch) {
      work.tap(x, sweep.step * pitch, taps, mask(t));
    }
  } else {
    int64_t g = 0;
    int64_t left = sweep.taps;
    for (; left >= kGroup; left -= kGroup) {
      work.template group<kGroup>(x, pitch, taps, tap_pitch, mask(g++));
      x += kGroup * pitch;
      taps += kGroup * tap_pitch;
    }
    switch (left) {
      case 6: return work.template group<6>(x, pitch, taps, tap_pitch, mask(g));
      case 5: return work.template group<5>(x, pitch, taps, tap_pitch, mask(g));
      case 4: return work.template group<4>(x, pitch, taps, tap_pitch, mask(g));
      case 3: return work.template group<3>(x, pitch, taps, tap_pitch, mask(g));
      case 2: return work.template group<2>(x, pitch, taps, tap_pitch, mask(g));
      case 1: return work.template group<1>(x, pitch, taps, tap_pitch, mask(g));
    }
  }
}

// Into the level-2 cache.
template <int kPoints, class T>
DW_INLINE void fetch_line(const T* line, int64_t pitch) {
  constexpr int kReading = 0;
  constexpr int kLevel2 = 2;
  DW_UNROLL for (int i = 0; i < kPoints; ++i) {
    __builtin_prefetch(line + i * pitch, kReading, kLevel2);
  }
}

// A tile reads few bytes from each of many lines, which no hardware prefetcher follows, so every
// tile asks for its points of the lines that come into sight next, and in the filter gradient for
// its members of the next row. (Measured: 1.0 to 2.9 times the speed on tensors that exceed the
// caches.) A prefetch of any address is harmless.
template <int kStep, int N, class T>
DW_INLINE void fetch_ahead(const TileRow<T>& row, const TileSpot<T>& spot, int64_t lane) {
  const TileSweep& sweep = *spot.sweep;
  for (int64_t r = 0; r < row.ahead_lines; ++r) {
    fetch_line<N * kStep>(row.ahead + r * row.ahead_pitch + spot.source + lane, sweep.point_pitch);
  }
  if (row.members_ahead) {
    fetch_line<N>(row.members_ahead + spot.member + lane, sweep.member_pitch);
  }
}

template <int kStep, int N, int kTaps, bool kMasked, class T>
struct GatherTile {
  static constexpr bool kTwo = true;

  // Row and spot are copied where they are used: a stored vector may alias anything but locals.
  static void run(const TileRow<T>& tile_row, const TileSpot<T>& tile_spot) {
    const TileRow<T> row = tile_row;
    const TileSpot<T> spot = tile_spot;
    const TileSweep sweep = *spot.sweep;
    for (int64_t v = 0; v * kLanes<T> < row.lanes; ++v) {
      const int64_t lane = first_lane<T>(v, row.lanes);
      const int64_t tap_lane = tap_lane_of(row, lane);
      Vector<T> sum[N];
      DW_UNROLL for (int p = 0; p < N; ++p) sum[p] = Vector<T>{};
      fetch_ahead<kStep, N>(row, spot, lane);
      for (int64_t r = 0; r < row.line_count; ++r) {
        tile_line<kStep, kTaps, kMasked>(
            sweep, spot.masks, row.lines[r].source + spot.source + lane,
            row.lines[r].taps + sweep.tap + tap_lane, Gathering<kStep, N, kMasked, T>{sum});
      }
      finish(row, sum, row.members + spot.member + lane, sweep.member_pitch, tap_lane);
    }
  }

  static void run_two(const TileRows<T>& rows, const TileSpot<T>& tile_spot) {
    const TileRow<T> row[2] = {rows.row[0], rows.row[1]};
    const TileSpot<T> spot = tile_spot;
    const TileSweep sweep = *spot.sweep;
    const uint32_t mask = kMasked ? spot.masks[0] : 0;
    for (int64_t v = 0; v * kLanes<T> < row[0].lanes; ++v) {
      const int64_t lane = first_lane<T>(v, row[0].lanes);
      Vector<T> sum[2][N];
      DW_UNROLL for (int r = 0; r < 2; ++r) {
        DW_UNROLL for (int p = 0; p < N; ++p) sum[r][p] = Vector<T>{};
      }
      fetch_ahead<kStep, N>(row[1], spot, lane);
      for (int64_t i = 0; i < rows.shared_count; ++i) {
        GatheringTwo<kStep, N, kMasked, T>{sum}.template group<kTaps>(
            rows.shared[i].source + spot.source + lane, sweep.point_pitch, rows.shared[i].taps,
            sweep.tap + lane, sweep.tap_pitch, mask);
      }
      DW_UNROLL for (int r = 0; r < 2; ++r) {
        for (int64_t i = 0; i < row[r].line_count; ++i) {
          Gathering<kStep, N, kMasked, T>{sum[r]}.template group<kTaps>(
              row[r].lines[i].source + spot.source + lane, sweep.point_pitch,
              row[r].lines[i].taps + sweep.tap + lane, sweep.tap_pitch, mask);
        }
        finish(row[r], sum[r], row[r].members + spot.member + lane, sweep.member_pitch, lane);
      }
    }
  }

  static DW_INLINE void finish(const TileRow<T>& row, Vector<T> (&sum)[N], T* member, int64_t pitch,
                               int64_t bias_lane) {
    if (row.add) {
      DW_UNROLL for (int p = 0; p < N; ++p) sum[p] += load(member + p * pitch);
    }
    const Vector<T> bias = row.bias ? load(row.bias + bias_lane) : Vector<T>{};
    if (kStreams<T> && row.streams) {
      DW_UNROLL for (int p = 0; p < N; ++p, member += pitch) stream(member, sum[p] + bias);
    } else {
      DW_UNROLL for (int p = 0; p < N; ++p, member += pitch) store(member, sum[p] + bias);
    }
  }
};

// Vector v of the lines has its sums at v * kLanes, although it may begin at an earlier lane.
template <int kStep, int N, int kTaps, bool kMasked, class T>
struct FilterTile {
  static constexpr bool kTwo = false;

  static void run(const TileRow<T>& tile_row, const TileSpot<T>& tile_spot) {
    const TileRow<T> row = tile_row;
    const TileSpot<T> spot = tile_spot;
    const TileSweep sweep = *spot.sweep;
    for (int64_t v = 0; v * kLanes<T> < row.lanes; ++v) {
      const int64_t lane = first_lane<T>(v, row.lanes);
      const int64_t tap_lane = tap_lane_of(row, v * kLanes<T>);
      Vector<T> grad[N];
      const T* member = row.members + spot.member + lane;
      DW_UNROLL for (int p = 0; p < N; ++p) grad[p] = load(member + p * sweep.member_pitch);
      fetch_ahead<kStep, N>(row, spot, lane);
      for (int64_t r = 0; r < row.line_count; ++r) {
        tile_line<kStep, kTaps, kMasked>(
            sweep, spot.masks, row.lines[r].source + spot.source + lane,
            row.lines[r].taps + sweep.tap + tap_lane, Correlating<kStep, N, kMasked, T>{grad});
      }
    }
  }
};

// ---- the tiles of a row -------------------------------------------------------------------------

// Sets the functions of a spot. Tiles come in versions for the numbers of taps that are usual,
// which are faster. Two rows at once need the 32 registers of AVX-512, and a step of one for there
// to be something to share; in the filter gradient, where each line then has two rows of sums to
// load and store, they gain nothing (measured: 0.9 to 1.1 times the speed).
template <template <int, int, int, bool, class> class Run, int kStep, int N, int kTaps, class T>
void choose_masked(bool masked, TileSpot<T>& spot) {
  using Masked = Run<kStep, N, kTaps, true, T>;
  using Inside = Run<kStep, N, kTaps, false, T>;
  spot.run = masked ? Masked::run : Inside::run;
  spot.run_two = nullptr;
  if constexpr (Masked::kTwo && kStep == 1 && kTaps > 1 && DW_VECTOR_BYTES == 64) {
    spot.run_two = masked ? Masked::run_two : Inside::run_two;
  }
}

template <template <int, int, int, bool, class> class Run, int kStep, int N, class T>
void choose_taps(int64_t taps, bool masked, TileSpot<T>& spot) {
  if constexpr (N >= 4 && kStep > 0 && sizeof(T) == 4 && DW_VECTOR_BYTES > 16) {
    switch (taps) {
      case 1: return choose_masked<Run, kStep, N, 1, T>(masked, spot);
      case 2: return choose_masked<Run, kStep, N, 2, T>(masked, spot);
      case 3: return choose_masked<Run, kStep, N, 3, T>(masked, spot);
      case 5: return choose_masked<Run, kStep, N, 5, T>(masked, spot);
      case 7: return choose_masked<Run, kStep, N, 7, T>(masked, spot);
    }
  }
  choose_masked<Run, kStep, N, 0, T>(masked, spot);
}

template <template <int, int, int, bool, class> class Run, int kStep, class T>
void choose_members(int64_t members, int64_t taps, bool masked, TileSpot<T>& spot) {
  switch (members) {
    case 7: return choose_taps<Run, kStep, 7, T>(taps, masked, spot);
    case 6: return choose_taps<Run, kStep, 6, T>(taps, masked, spot);
    case 5: return choose_taps<Run, kStep, 5, T>(taps, masked, spot);
    case 4: return choose_taps<Run, kStep, 4, T>(taps, masked, spot);
    case 3: return choose_taps<Run, kStep, 3, T>(taps, masked, spot);
    case 2: return choose_taps<Run, kStep, 2, T>(taps, masked, spot);
    default: return choose_taps<Run, kStep, 1, T>(taps, masked, spot);
  }
}

template <template <int, int, int, bool, class> class Run, class T>
void choose(int64_t step, int64_t members, int64_t taps, bool masked, TileSpot<T>& spot) {
  switch (step) {
    case 1: return choose_members<Run, 1, T>(members, taps, masked, spot);
    case 2: return choose_members<Run, 2, T>(members, taps, masked, spot);
    default: return choose_members<Run, 0, T>(members, taps, masked, spot);
  }
}

// How many of the members left the next tile takes: as few tiles as can be, of like size. A small
// tile has few sums to hide the latency of each other.
inline int64_t members_of_tile(int64_t left) { return ceil_div(left, ceil_div(left, kMembers)); }

// Sorts the lines of two rows into those that both meet and those that one does. Both are in the
// order of the source.
template <class T>
void share_lines(const TileRow<T>& first, const TileRow<T>& second,
                 TileLine<T> (&alone)[2][kMostShared], TileRows<T>& rows) {
  rows.row[0] = first;
  rows.row[1] = second;
  rows.shared_count = 0;
  int64_t counts[2] = {0, 0};
  int64_t j = 0;
  for (int64_t i = 0; i < first.line_count; ++i) {
    const TileLine<T>& line = first.lines[i];
    if (j < second.line_count && line.source == second.lines[j].source) {
      rows.shared[rows.shared_count++] = {line.source, {line.taps, second.lines[j++].taps}};
    } else {
      alone[0][counts[0]++] = line;
    }
  }
  for (; j < second.line_count; ++j) alone[1][counts[1]++] = second.lines[j];
  for (int r = 0; r < 2; ++r) {
    rows.row[r].lines = alone[r];
    rows.row[r].line_count = counts[r];
  }
}

// The tiles of some sweeps, made once and run for many rows of tiles.
template <template <int, int, int, bool, class> class Run, class T>
struct TileList {
  TileSweep* sweeps;
  TileSpot<T>* spots;
  uint32_t* masks;
  int64_t sweep_count;
  int64_t spot_count;
  int64_t mask_count;

  TileList() = default;
  // For so many sweeps, members in all, and taps of a class.
  TileList(int64_t most_sweeps, int64_t most_members, int64_t most_taps, Carver& carver) {
    const int64_t most_spots = min64(most_members, most_members / kMembers + most_sweeps);
    sweeps = carver.take<TileSweep>(most_sweeps);
    spots = carver.take<TileSpot<T>>(most_spots);
    masks = carver.take<uint32_t>(most_spots * most_taps);
    clear();
  }

  void clear() { sweep_count = spot_count = mask_count = 0; }

  // Cuts a sweep into tiles. Pitches are from source to source, from destination to destination and
  // from kernel position to kernel position; `source` and `member` are where those of index 0
  // stand.
  void add(const Sweep& sweep, int64_t source_pitch, int64_t source, int64_t member_pitch,
           int64_t member, int64_t tap_pitch) {
    TileSweep& shape = sweeps[sweep_count++];
    shape = {sweep.index * tap_pitch,
             sweep.index_step * tap_pitch,
             sweep.taps,
             sweep.spacing * source_pitch,
             sweep.step,
             sweep.pitch * member_pitch};
    int64_t count;
    for (int64_t q = 0; q < sweep.members; q += count) {
      count = members_of_tile(sweep.members - q);
      const int64_t at = sweep.at + q * sweep.step;
      const bool masked = at < 0 || at + (count - 1) * sweep.step + sweep.taps > sweep.points;
      TileSpot<T>& spot = spots[spot_count++];
      spot.sweep = &shape;
      spot.source = source + sweep.origin * source_pitch + at * shape.point_pitch;
      spot.member = member + sweep.first * member_pitch + q * shape.member_pitch;
      spot.masks = masks + mask_count;
      choose<Run, T>(sweep.step, count, sweep.taps, masked, spot);
      if (masked) {
        mask_count += fill_masks(at, sweep.step, sweep.taps, sweep.points, masks + mask_count);
      }
    }
  }

  void run(const TileRow<T>& row) const {
    for (int64_t i = 0; i < spot_count; ++i) spots[i].run(row, spots[i]);
  }

  void run_two(const TileRow<T>& first, const TileRow<T>& second) const {
    if (first.line_count > kMostShared) {
      run(first);
      run(second);
      return;
    }
    TileLine<T> alone[2][kMostShared];
    TileRows<T> rows;
    share_lines(first, second, alone, rows);
    for (int64_t i = 0; i < spot_count; ++i) {
      if (spots[i].run_two) {
        spots[i].run_two(rows, spots[i]);
      } else {
        spots[i].run(first, spots[i]);
        spots[i].run(second, spots[i]);
      }
    }
  }
};

// Calls visit(sweep) for all sweeps of the members of a class that lie in `destinations`.
template <class Visit>
DW_INLINE void for_each_sweep(const TapClass& all, Range destinations, int64_t sources,
                              const Visit& visit) {
  const TapClass taps = restricted(all, destinations);
  const int64_t parts = min64(taps.parts, taps.members);
  for (int64_t part = 0; part < parts; ++part) visit(sweep_of(taps, part, sources));
}

// Calls visit(units, chunk, partial) for the tasks of a filter gradient.
template <class T, class Visit>
DW_INLINE void for_each_task(const FilterCall& call, int64_t begin, int64_t end,
                             const Visit& visit) {
  const Problem& problem = call.plan.problem;
  const int64_t chunks = call.plan.chunks();
  for (int64_t task = begin; task < end; ++task) {
    const int64_t group = task / chunks;
    const Range units = {group * call.group_units,
                         min64(call.plan.units(), (group + 1) * call.group_units)};
    visit(units, task % chunks,
          static_cast<T*>(call.partials) + group * (problem.taps() + 1) * problem.lanes());
  }
}
