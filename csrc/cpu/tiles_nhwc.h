// The register tiles of the NHWC kernels: N neighbouring members of a sweep (kernels.h), one vector
// of adjacent channels. No include guard: compiled once per instruction set, see each_isa.h.
//
// A group of G taps and N members meet in (N - 1) * step + G columns of the source. Each column is
// loaded once and multiplied into every pair of tap and member that it belongs to: 3 taps and 7
// members take 9 + 3 loads for 21 multiply-adds. Columns outside of the source have no bit in the
// mask and are passed over, so nothing is added for padding and borders need no code of their own.

constexpr int kMembers = 7;  // sums in flight: they hide the latency of two multiply-add ports, and
                             // 7 divides the width of most networks' images (224, 112, ..., 7)
constexpr int kGroup = 7;    // with 7 sums and a column, 15 vectors: AVX2 has 16 registers

// A row of the source, and the weights of the kernel row that it meets (or their gradients' sums).
template <class T>
struct TileRow {
  const T* source;  // [columns, channels], lane 0 of the chunk
  T* taps;          // [kw, channels], lane 0 of the chunk
};

// N members of a sweep, all vectors of a chunk of channels.
template <class T>
struct Tile {
  const TileRow<T>* rows;
  int64_t row_count;
  int64_t source;        // where in a row the sweep's columns begin, elements
  int64_t tap;           // where in a kernel row its taps begin, elements
  int64_t column;        // of tap 0 of member 0
  int64_t column_pitch;  // elements
  int64_t step;          // columns from member to member
  int64_t taps;
  int64_t tap_pitch;      // elements
  const uint32_t* masks;  // see fill_masks
  int64_t lanes;          // channels of the chunk, one vector at the least
  T* members;             // member 0: the results (gather), or the output gradients (filter)
  int64_t member_pitch;   // elements
  const T* bias;          // gather: [lanes] or null
  const T* ahead;         // the first of the source rows that the next row of tiles will need anew
  int64_t ahead_rows;     // how many of them to fetch into the caches: 0 to 2
  int64_t row_pitch;      // elements
};

// Bits i for which column + i * step lies in [0, columns).
DW_INLINE uint32_t column_bits(int64_t column, int64_t step, int64_t columns) {
  const Range valid = inside(column, step, columns, 32);
  return static_cast<uint32_t>((1ull << valid.end) - (1ull << valid.begin));
}

// The tile's masks: for a step of 1 or 2, the columns of each group of taps; for any other, the
// members of each tap.
inline void fill_masks(int64_t column, int64_t step, int64_t taps, int64_t columns,
                       uint32_t* masks) {
  if (step > 2) {
    for (int64_t t = 0; t < taps; ++t) masks[t] = column_bits(column + t, step, columns);
  } else {
    for (int64_t t = 0; t < taps; t += kGroup) *masks++ = column_bits(column + t, 1, columns);
  }
}

// ---- gather: sum[p] += weight[t] * column[p * step + t] -----------------------------------------

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
      const Vector<T> column = load(x);
      DW_UNROLL for (int p = 0; p < N; ++p) {
        const int t = i - p * kStep;
        if (t >= 0 && t < G) sum[p] += weight[t] * column;
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

// ---- filter gradient: sum[t] += grad[p] * column[p * step + t] ----------------------------------

template <int kStep, int N, class T>
struct Correlating {
  const Vector<T> (&grad)[N];

  template <int G>
  DW_INLINE void group(const T* x, int64_t pitch, T* sums, int64_t tap_pitch, uint32_t mask) const {
    Vector<T> sum[G];
    DW_UNROLL for (int t = 0; t < G; ++t) sum[t] = load(sums + t * tap_pitch);
    DW_UNROLL for (int i = 0; i < (N - 1) * kStep + G; ++i, x += pitch) {
      if (!(mask >> i & 1)) continue;
      const Vector<T> column = load(x);
      DW_UNROLL for (int p = 0; p < N; ++p) {
        const int t = i - p * kStep;
        if (t >= 0 && t < G) sum[t] += grad[p] * column;
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

// ---- one row, one tile, one sweep ---------------------------------------------------------------

// All taps of one kernel row. kStep = 0: any step; columns are hardly shared, so tap by tap.
template <int kStep, class T, class Work>
DW_INLINE void tile_row(const Tile<T>& tile, const T* x, T* taps, const Work& work) {
  const int64_t pitch = tile.column_pitch;
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
// tile asks for its columns of the rows that come into sight next. (Measured: 1.0 to 2.0 times the
// speed on images that exceed the level-2 cache.) A prefetch of any address is harmless.
template <int kStep, int N, class T>
DW_INLINE void fetch_ahead(const Tile<T>& tile, int64_t first) {
  for (int64_t r = 0; r < tile.ahead_rows; ++r) {
    const T* row = tile.ahead + r * tile.row_pitch + first;
    DW_UNROLL for (int i = 0; i < N * kStep; ++i) __builtin_prefetch(row + i * tile.column_pitch);
  }
}

template <int kStep, int N, class T>
struct GatherTile {
  static DW_NOINLINE void run(const Tile<T>& tile) {
    const int64_t first = tile.source + tile.column * tile.column_pitch;
    for (int64_t v = 0; v * kLanes<T> < tile.lanes; ++v) {
      const int64_t lane = first_lane<T>(v, tile.lanes);
      Vector<T> sum[N];
      DW_UNROLL for (int p = 0; p < N; ++p) sum[p] = Vector<T>{};
      fetch_ahead<kStep, N>(tile, first + lane);
      for (int64_t r = 0; r < tile.row_count; ++r) {
        tile_row<kStep>(tile, tile.rows[r].source + first + lane,
                        tile.rows[r].taps + tile.tap + lane, Gathering<kStep, N, T>{sum});
      }
      const Vector<T> bias = tile.bias ? load(tile.bias + lane) : Vector<T>{};
      T* member = tile.members + lane;
      DW_UNROLL for (int p = 0; p < N; ++p, member += tile.member_pitch) {
        store(member, sum[p] + bias);
      }
    }
  }
};

// Vector v of the chunk has its sums at v * kLanes, although it may begin at an earlier lane.
template <int kStep, int N, class T>
struct FilterTile {
  static DW_NOINLINE void run(const Tile<T>& tile) {
    const int64_t first = tile.source + tile.column * tile.column_pitch;
    for (int64_t v = 0; v * kLanes<T> < tile.lanes; ++v) {
      const int64_t lane = first_lane<T>(v, tile.lanes);
      Vector<T> grad[N];
      DW_UNROLL for (int p = 0; p < N; ++p) {
        grad[p] = load(tile.members + p * tile.member_pitch + lane);
      }
      fetch_ahead<kStep, N>(tile, first + lane);
      for (int64_t r = 0; r < tile.row_count; ++r) {
        tile_row<kStep>(tile, tile.rows[r].source + first + lane,
                        tile.rows[r].taps + tile.tap + v * kLanes<T>,
                        Correlating<kStep, N, T>{grad});
      }
    }
  }
};

// `tile` is set up for member 0; `columns`: how many the sweep has.
template <template <int, int, class> class Run, int kStep, class T>
DW_INLINE void run_members(Tile<T> tile, int64_t members, int64_t columns, uint32_t* masks) {
  tile.masks = masks;
  for (int64_t q = 0; q < members;) {
    fill_masks(tile.column, tile.step, tile.taps, columns, masks);
    const int64_t left = members - q;
    // 8 members are 4 + 4, not 7 + 1: a tile of one has a single chain of sums
    const int64_t n = left == 8 ? 4 : left >= 7 ? 7 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    switch (n) {
      case 7: Run<kStep, 7, T>::run(tile); break;
      case 4: Run<kStep, 4, T>::run(tile); break;
      case 2: Run<kStep, 2, T>::run(tile); break;
      default: Run<kStep, 1, T>::run(tile);
    }
    q += n;
    tile.members += n * tile.member_pitch;
    tile.column += n * tile.step;
  }
}

template <template <int, int, class> class Run, class T>
void run_sweep(const Tile<T>& tile, int64_t members, int64_t columns, uint32_t* masks) {
  switch (tile.step) {
    case 1: return run_members<Run, 1>(tile, members, columns, masks);
    case 2: return run_members<Run, 2>(tile, members, columns, masks);
    default: return run_members<Run, 0>(tile, members, columns, masks);
  }
}

// ---- what the passes share when they set up a tile ----------------------------------------------

// Lists the source rows that a destination row meets, with the kernel rows they meet it through,
// kernel_row_pitch apart from `taps` on. `next`: the row after the last one.
struct RowsInSight {
  int64_t count;
  int64_t next;
};
template <class S>
DW_INLINE RowsInSight list_rows(const Gather& down, const Axis& axis, int64_t destination,
                                const RowRing<S>& ring, Compute<S>* taps, int64_t kernel_row_pitch,
                                TileRow<Compute<S>>* rows) {
  RowsInSight listed = {0, 0};
  for (int64_t k = 0; k < axis.kernel; ++k) {
    int64_t source;
    if (!meets_source(down, axis, destination, k, &source)) continue;
    listed.next = max64(listed.next, source + 1);
    rows[listed.count++] = {ring.row(source), taps + k * kernel_row_pitch};
  }
  return listed;
}

// A tile of a sweep, but for its lanes, members and bias. `new_rows`: how many source rows the next
// destination row will need anew.
template <class S>
DW_INLINE Tile<Compute<S>> tile_of(const Sweep& sweep, const RowRing<S>& ring,
                                   const TileRow<Compute<S>>* rows, const RowsInSight& listed,
                                   int64_t tap_pitch, int64_t new_rows) {
  const int64_t pitch = ring.form.pitch();
  Tile<Compute<S>> tile;
  tile.rows = rows;
  tile.row_count = listed.count;
  tile.source = sweep.source * pitch;
  tile.tap = sweep.index * tap_pitch;
  tile.column = sweep.column;
  tile.column_pitch = sweep.source_pitch * pitch;
  tile.step = sweep.step;
  tile.taps = sweep.taps;
  tile.tap_pitch = sweep.index_step * tap_pitch;
  tile.bias = nullptr;
  tile.row_pitch = ring.pixels * pitch;
  tile.ahead_rows = ring.rows_ahead(listed.next, new_rows);
  tile.ahead = ring.image_row(listed.next);
  return tile;
}
