// The register tiles of all kernels: N neighbouring members of a sweep (kernels.h) of one axis, one
// vector of the memory order's fast axis; the taps of the other axis are a list of lines. In NHWC
// members are columns, lanes are channels and each kernel row is a line. In NCHW members are rows,
// lanes are columns and each kernel column is a line. No include guard: see each_isa.h.
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
  T* taps;          // [taps of the swept axis, lanes]; weights are only read
};

// N members of a sweep, all vectors of a line.
template <class T>
struct Tile {
  const TileLine<T>* lines;
  int64_t line_count;
  int64_t source;       // where in a line the grid of the sweep begins, elements
  int64_t tap;          // where in the taps of a line those of the sweep begin, elements
  int64_t at;           // the grid point of tap 0 of member 0
  int64_t point_pitch;  // elements
  int64_t step;         // points from member to member
  int64_t taps;
  int64_t tap_pitch;      // elements
  const uint32_t* masks;  // see fill_masks
  int64_t lanes;          // of a line, one vector at the least
  bool same_taps;         // one vector of weights (and bias) for all lanes
  bool add;               // gather: to what the members hold already
  T* members;             // member 0: the results (gather), or the output gradients (filter)
  int64_t member_pitch;   // elements
  const T* bias;          // gather: [lanes] or null
  const T* ahead;         // the first of the source lines that the next row of tiles will need anew
  int64_t ahead_lines;    // how many of them to fetch into the caches: 0 to 2
  int64_t ahead_pitch;    // elements
};

// Bits i for which at + i * step lies in [0, points).
DW_INLINE uint32_t point_bits(int64_t at, int64_t step, int64_t points) {
  const Range valid = inside(at, step, points, 32);
  return static_cast<uint32_t>((1ull << valid.end) - (1ull << valid.begin));
}

// The tile's masks: for a step of 1 or 2, the points of each group of taps; for any other, the
// members of each tap.
inline void fill_masks(int64_t at, int64_t step, int64_t taps, int64_t points, uint32_t* masks) {
  if (step > 2) {
    for (int64_t t = 0; t < taps; ++t) masks[t] = point_bits(at + t, step, points);
  } else {
    for (int64_t t = 0; t < taps; t += kGroup) *masks++ = point_bits(at + t, 1, points);
  }
}

// ---- gather: sum[p] += weight[t] * point[p * step + t] ------------------------------------------

template <int kStep, int N, class T>
struct Gathering {
  Vector<T> (&sum)[N];

  template <int G>
  DW_INLINE void group(const T* x, int64_t pitch, const T* weights, int64_t tap_pitch,
                       uint32_t mask) const {
    Vector<T> weight[G];
    DW_UNROLL for (int t = 0; t < G; ++t, weights += tap_pitch) weight[t] = load(weights);
    DW_UNROLL for (int i = 0; i < (N - 1) * kStep + G; ++i, x += pitch) {
      if (!(mask >> i & 1)) continue;
      const Vector<T> point = load(x);
      DW_UNROLL for (int p = 0; p < N; ++p) {
        const int t = i - p * kStep;
        if (t >= 0 && t < G) sum[p] += weight[t] * point;
      }
    }
  }

  DW_INLINE void tap(const T* x, int64_t member_pitch, const T* weights, uint32_t mask) const {
    const Vector<T> weight = load(weights);
    DW_UNROLL for (int p = 0; p < N; ++p) {
      if (mask >> p & 1) sum[p] += weight * load(x + p * member_pitch);
    }
  }
};

// ---- filter gradient: sum[t] += grad[p] * point[p * step + t] -----------------------------------

template <int kStep, int N, class T>
struct Correlating {
  const Vector<T> (&grad)[N];

  template <int G>
  DW_INLINE void group(const T* x, int64_t pitch, T* sums, int64_t tap_pitch, uint32_t mask) const {
    Vector<T> sum[G];
    DW_UNROLL for (int t = 0; t < G; ++t) sum[t] = load(sums + t * tap_pitch);
    DW_UNROLL for (int i = 0; i < (N - 1) * kStep + G; ++i, x += pitch) {
      if (!(mask >> i & 1)) continue;
      const Vector<T> point = load(x);
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
      if (mask >> p & 1) sum += grad[p] * load(x + p * member_pitch);
    }
    store(sums, sum);
  }
};

// ---- one line, one tile, one sweep --------------------------------------------------------------

// All taps of one line. kStep = 0: any step; points are hardly shared, so tap by tap.
template <int kStep, class T, class Work>
DW_INLINE void tile_line(const Tile<T>& tile, const T* x, T* taps, const Work& work) {
  const int64_t pitch = tile.point_pitch;
  const int64_t tap_pitch = tile.tap_pitch;
  if constexpr (kStep == 0) {
    for (int64_t t = 0; t < tile.taps; ++t, x += pitch, taps += tap_pitch) {
      work.tap(x, tile.step * pitch, taps, tile.masks[t]);
    }
    return;
  }
  const uint32_t* mask = tile.masks;
  int64_t t = 0;
  for (; t + kGroup <= tile.taps; t += kGroup) {
    work.template group<kGroup>(x, pitch, taps, tap_pitch, *mask++);
    x += kGroup * pitch;
    taps += kGroup * tap_pitch;
  }
  switch (tile.taps - t) {
    case 6: return work.template group<6>(x, pitch, taps, tap_pitch, *mask);
    case 5: return work.template group<5>(x, pitch, taps, tap_pitch, *mask);
    case 4: return work.template group<4>(x, pitch, taps, tap_pitch, *mask);
    case 3: return work.template group<3>(x, pitch, taps, tap_pitch, *mask);
    case 2: return work.template group<2>(x, pitch, taps, tap_pitch, *mask);
    case 1: return work.template group<1>(x, pitch, taps, tap_pitch, *mask);
  }
}

// A tile reads few bytes from each of many lines, which no hardware prefetcher follows, so every
// tile asks for its points of the lines that come into sight next. (Measured: 1.0 to 2.0 times the
// speed on images that exceed the level-2 cache.) A prefetch of any address is harmless.
template <int kStep, int N, class T>
DW_INLINE void fetch_ahead(const Tile<T>& tile, int64_t first) {
  for (int64_t r = 0; r < tile.ahead_lines; ++r) {
    const T* line = tile.ahead + r * tile.ahead_pitch + first;
    DW_UNROLL for (int i = 0; i < N * kStep; ++i) __builtin_prefetch(line + i * tile.point_pitch);
  }
}

template <int kStep, int N, class T>
struct GatherTile {
  static DW_NOINLINE void run(const Tile<T>& tile) {
    const int64_t first = tile.source + tile.at * tile.point_pitch;
    for (int64_t v = 0; v * kLanes<T> < tile.lanes; ++v) {
      const int64_t lane = first_lane<T>(v, tile.lanes);
      const int64_t tap_lane = tile.same_taps ? 0 : lane;
      Vector<T> sum[N];
      DW_UNROLL for (int p = 0; p < N; ++p) sum[p] = Vector<T>{};
      fetch_ahead<kStep, N>(tile, first + lane);
      for (int64_t r = 0; r < tile.line_count; ++r) {
        tile_line<kStep>(tile, tile.lines[r].source + first + lane,
                         tile.lines[r].taps + tile.tap + tap_lane, Gathering<kStep, N, T>{sum});
      }
      T* member = tile.members + lane;
      if (tile.add) {
        DW_UNROLL for (int p = 0; p < N; ++p) sum[p] += load(member + p * tile.member_pitch);
      }
      const Vector<T> bias = tile.bias ? load(tile.bias + tap_lane) : Vector<T>{};
      DW_UNROLL for (int p = 0; p < N; ++p, member += tile.member_pitch) {
        store(member, sum[p] + bias);
      }
    }
  }
};

// Vector v of the lines has its sums at v * kLanes, although it may begin at an earlier lane.
template <int kStep, int N, class T>
struct FilterTile {
  static DW_NOINLINE void run(const Tile<T>& tile) {
    const int64_t first = tile.source + tile.at * tile.point_pitch;
    for (int64_t v = 0; v * kLanes<T> < tile.lanes; ++v) {
      const int64_t lane = first_lane<T>(v, tile.lanes);
      const int64_t tap_lane = tile.same_taps ? 0 : v * kLanes<T>;
      Vector<T> grad[N];
      DW_UNROLL for (int p = 0; p < N; ++p) {
        grad[p] = load(tile.members + p * tile.member_pitch + lane);
      }
      fetch_ahead<kStep, N>(tile, first + lane);
      for (int64_t r = 0; r < tile.line_count; ++r) {
        tile_line<kStep>(tile, tile.lines[r].source + first + lane,
                         tile.lines[r].taps + tile.tap + tap_lane, Correlating<kStep, N, T>{grad});
      }
    }
  }
};

// `tile` is set up for member 0; `points`: how many the grid has.
template <template <int, int, class> class Run, int kStep, class T>
DW_INLINE void run_members(Tile<T> tile, int64_t members, int64_t points, uint32_t* masks) {
  tile.masks = masks;
  for (int64_t q = 0; q < members;) {
    fill_masks(tile.at, tile.step, tile.taps, points, masks);
    const int64_t left = members - q;
    // 8 members are 4 + 4, not 7 + 1: a tile of one has a single chain of sums
    const int64_t n = left == 8          ? 4
                      : left >= kMembers ? kMembers
                      : left >= 4        ? 4
                      : left >= 2        ? 2
                                         : 1;
    switch (n) {
      case kMembers: Run<kStep, kMembers, T>::run(tile); break;
      case 4: Run<kStep, 4, T>::run(tile); break;
      case 2: Run<kStep, 2, T>::run(tile); break;
      default: Run<kStep, 1, T>::run(tile);
    }
    q += n;
    tile.members += n * tile.member_pitch;
    tile.at += n * tile.step;
  }
}

template <template <int, int, class> class Run, class T>
void run_sweep(const Tile<T>& tile, const Sweep& sweep, uint32_t* masks) {
  switch (sweep.step) {
    case 1: return run_members<Run, 1>(tile, sweep.members, sweep.points, masks);
    case 2: return run_members<Run, 2>(tile, sweep.members, sweep.points, masks);
    default: return run_members<Run, 0>(tile, sweep.members, sweep.points, masks);
  }
}

// Calls visit(sweep) for all sweeps of the members of a class that lie in `destinations`.
template <class Visit>
DW_INLINE void for_each_sweep(const TapClass& all, Range destinations, int64_t sources,
                              const Visit& visit) {
  const TapClass taps = restricted(all, destinations);
  const int64_t parts = min64(taps.parts, taps.members);
  for (int64_t part = 0; part < parts; ++part) visit(sweep_of(taps, part, sources));
}

// What a sweep says about its tiles. `point_pitch`: from source to source, `tap_pitch`: from kernel
// position to kernel position, `origin`: the source that a line begins with.
template <class T>
DW_INLINE Tile<T> tile_of(const Sweep& sweep, int64_t point_pitch, int64_t origin,
                          int64_t tap_pitch) {
  Tile<T> tile;
  tile.source = (sweep.origin - origin) * point_pitch;
  tile.tap = sweep.index * tap_pitch;
  tile.at = sweep.at;
  tile.point_pitch = sweep.spacing * point_pitch;
  tile.step = sweep.step;
  tile.taps = sweep.taps;
  tile.tap_pitch = sweep.index_step * tap_pitch;
  tile.same_taps = false;
  tile.add = false;
  tile.bias = nullptr;
  tile.ahead = nullptr;
  tile.ahead_lines = 0;
  tile.ahead_pitch = 0;
  return tile;
}
