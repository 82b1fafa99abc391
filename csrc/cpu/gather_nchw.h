// The gathering sweep (window.h) over NCHW memory: a vector holds adjacent columns of one plane.
// No include guard: compiled once per instruction set, see each_isa.h.
//
// Every tap of a class reads its source line at a fixed distance, so a vector of members is the sum
// of broadcast weights times unaligned loads. Lines come straight from the tensor where members are
// neighbours and need no conversion; else each source row is first written to scratch in the
// compute type, one residue of the source step after the other, which makes members neighbours.
// At borders, lanes without a source are masked out tap by tap: nothing is added for them.

constexpr int kVectors = 4;  // vectors of columns kept in registers: 4 independent sums

// A source line: member q of a class sees tap t at data[t.position + q].
template <class T>
struct LineTap {
  const T* data;
  const T* weights;  // [kw], weight_stride apart
};

// The members j, j + 1, ... of one class of columns and one destination row.
template <class T>
struct LineSweep {
  const LineTap<T>* rows;
  int64_t row_count;
  const Tap* taps;  // of the class
  int64_t tap_count;
  int64_t weight_stride;
};

// N vectors from member j on; every tap meets a source for all of them.
template <int N, class T>
DW_INLINE void interior(const LineSweep<T>& sweep, int64_t j, Vector<T> (&sum)[N]) {
  for (int64_t r = 0; r < sweep.row_count; ++r) {
    for (int64_t t = 0; t < sweep.tap_count; ++t) {
      const Tap& tap = sweep.taps[t];
      const T* line = sweep.rows[r].data + tap.position + j;
      const auto w = broadcast(sweep.rows[r].weights[tap.index * sweep.weight_stride]);
      DW_UNROLL for (int v = 0; v < N; ++v) sum[v] += w * load(line + v * kLanes<T>);
    }
  }
}

// One vector from member j on, `lanes` of which are wanted; taps add to the lanes they reach.
template <class T>
DW_INLINE void border(const LineSweep<T>& sweep, int64_t j, int lanes, Vector<T>& sum) {
  const Index<T> number = lane_numbers<T>();
  for (int64_t r = 0; r < sweep.row_count; ++r) {
    for (int64_t t = 0; t < sweep.tap_count; ++t) {
      const Tap& tap = sweep.taps[t];
      const int begin = static_cast<int>(min64(max64(tap.members.begin - j, 0), lanes));
      const int end = static_cast<int>(min64(max64(tap.members.end - j, 0), lanes));
      if (begin >= end) continue;
      const T* line = sweep.rows[r].data + tap.position + j;
      const auto w = broadcast(sweep.rows[r].weights[tap.index * sweep.weight_stride]);
      const Vector<T> added = sum + w * load_lanes(line, begin, end);
      sum = (number >= begin) & (number < end) ? added : sum;
    }
  }
}

// The members of one class: result[j] = (add ? result[j] : 0) + sum of taps + bias.
template <class T>
DW_INLINE void sweep_line(const LineSweep<T>& sweep, Range inner, int64_t members, bool add, T bias,
                          T* result) {
  constexpr int kWidth = kLanes<T>;
  const Vector<T> b = broadcast(bias);
  for (int64_t j = 0; j < members;) {
    if (j >= inner.begin && j + kVectors * kWidth <= inner.end) {
      Vector<T> sum[kVectors];
      DW_UNROLL for (int v = 0; v < kVectors; ++v) {
        sum[v] = add ? load(result + j + v * kWidth) : Vector<T>{};
      }
      interior<kVectors>(sweep, j, sum);
      DW_UNROLL for (int v = 0; v < kVectors; ++v) store(result + j + v * kWidth, sum[v] + b);
      j += kVectors * kWidth;
      continue;
    }
    const int lanes = static_cast<int>(min64(kWidth, members - j));
    if (lanes == kWidth) {
      Vector<T> sum[1] = {add ? load(result + j) : Vector<T>{}};
      if (j >= inner.begin && j + kWidth <= inner.end) {
        interior<1>(sweep, j, sum);
      } else {
        border(sweep, j, lanes, sum[0]);
      }
      store(result + j, sum[0] + b);
    } else {
      Vector<T> sum = add ? load_lanes(result + j, 0, lanes) : Vector<T>{};
      border(sweep, j, lanes, sum);
      store_lanes(result + j, sum + b, lanes);
    }
    j += lanes;
  }
}

// ---- one task: a plane of destinations, a block of its rows
// --------------------------------------

template <class S>
struct NchwScratch {
  LineTap<Compute<S>>* rows;  // [kh]
  Compute<S>* lines;          // of the source rows of a task
  Compute<S>* results;        // [destination rows of a task, destinations]
};

// Whether sums can be formed in the destination itself.
template <class S>
DW_INLINE bool writes_in_place(const GatherCall& call) {
  return kComputed<S> && call.across.classes == 1;
}

template <class S>
int64_t nchw_scratch_bytes(const GatherCall& call) {
  const int64_t results = writes_in_place<S>(call) ? 0 : call.block * call.across.destinations;
  return call.problem.rows.kernel * sizeof(LineTap<Compute<S>>) +
         (line_elements<S>(call.across, call.rows_in_sight) + results) * sizeof(Compute<S>);
}

template <class S>
NchwScratch<S> nchw_scratch(const GatherCall& call, void* memory) {
  NchwScratch<S> parts;
  parts.rows = static_cast<LineTap<Compute<S>>*>(memory);
  parts.lines = reinterpret_cast<Compute<S>*>(parts.rows + call.problem.rows.kernel);
  parts.results = parts.lines + line_elements<S>(call.across, call.rows_in_sight);
  return parts;
}

// The members for which every tap of the class meets a source.
inline Range inner_members(const AxisPlan& plan, Range taps, int64_t members) {
  Range inner = {0, members};
  for (int64_t t = taps.begin; t < taps.end; ++t) {
    inner.begin = max64(inner.begin, plan.taps[t].members.begin);
    inner.end = min64(inner.end, plan.taps[t].members.end);
  }
  return inner;
}

// Stores finished result lines: class after class in `result`, neighbours in the destination.
template <class S>
DW_INLINE void write_result(const Compute<S>* result, const Gather& across, S* destination) {
  constexpr int kWidth = kLanes<Compute<S>>;
  for (int64_t r = 0; r < min64(across.classes, across.destinations); ++r) {
    const int64_t members = across.members(r);
    int64_t j = 0;
    if (across.classes == 1) {
      for (; j + kWidth <= members; j += kWidth) store(destination + j, load(result + j));
    }
    for (; j < members; ++j) store_scalar(destination + r + j * across.classes, result[j]);
    result += members;
  }
}

// Adds one source plane's share to destination rows [begin, end).
template <class S>
void nchw_gather_plane(const GatherCall& call, const NchwScratch<S>& scratch, const S* source,
                       const Compute<S>* weights, Range rows, bool add, Compute<S> bias,
                       Compute<S>* results) {
  using T = Compute<S>;
  const Gather& down = call.down;
  const Gather& across = call.across;
  const int64_t weight_stride = call.problem.lanes();
  const Lines<S> lines =
      lines_of(source, across, source_rows_of(call.rows, rows.begin, rows.end), scratch.lines);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const Range valid = call.rows.of_destination[row];
    for (int64_t t = valid.begin; t < valid.end; ++t) {
      const Tap& tap = call.rows.taps[t];
      const int64_t i = tap.offset + row / down.classes * down.source_step;
      scratch.rows[t - valid.begin] = {
          lines.line(i), weights + tap.index * call.problem.cols.kernel * weight_stride};
    }
    T* result = results + (row - rows.begin) * across.destinations;
    for (int64_t r = 0; r < min64(across.classes, across.destinations); ++r) {
      const Range taps = call.cols.of_class[r];
      const int64_t members = across.members(r);
      const LineSweep<T> sweep = {scratch.rows, valid.end - valid.begin,
                                  call.cols.taps + taps.begin, taps.end - taps.begin,
                                  weight_stride};
      sweep_line(sweep, inner_members(call.cols, taps, members), members, add, bias, result);
      result += members;
    }
  }
}

inline int64_t nchw_planes(const GatherCall& call, bool forward) {
  return call.problem.batch * (forward ? call.problem.lanes() : call.problem.channels);
}

template <bool kForward>
int64_t nchw_tasks(const GatherCall& call) {
  return nchw_planes(call, kForward) * ceil_div(call.down.destinations, call.block);
}

// Forward: a plane of output channel c * multiplier + m gathers from one input plane. Input
// gradient: a plane of input channel c gathers from `multiplier` planes, one after the other.
template <bool kForward, class S>
void nchw_run(const GatherCall& call, int64_t begin, int64_t end, void* memory) {
  using T = Compute<S>;
  const Problem& problem = call.problem;
  const Gather& down = call.down;
  const Gather& across = call.across;
  const NchwScratch<S> scratch = nchw_scratch<S>(call, memory);
  const int64_t blocks = ceil_div(down.destinations, call.block);
  const int64_t source_plane = down.sources * across.sources;
  const int64_t m_count = kForward ? 1 : problem.multiplier;
  const T* bias = static_cast<const T*>(call.bias);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t plane = task / blocks;
    const Range rows = {task % blocks * call.block,
                        min64(down.destinations, (task % blocks + 1) * call.block)};
    S* destination = static_cast<S*>(call.destination) +
                     (plane * down.destinations + rows.begin) * across.destinations;
    T* results = writes_in_place<S>(call) ? reinterpret_cast<T*>(destination) : scratch.results;
    for (int64_t m = 0; m < m_count; ++m) {
      const int64_t source = kForward ? plane / problem.multiplier : plane * m_count + m;
      const int64_t lane = (kForward ? plane : plane * m_count + m) % problem.lanes();
      nchw_gather_plane<S>(call, scratch,
                           static_cast<const S*>(call.source) + source * source_plane,
                           static_cast<const T*>(call.filter) + lane, rows, m > 0,
                           bias ? bias[lane] : T{0}, results);
    }
    if (writes_in_place<S>(call)) continue;
    for (int64_t row = 0; row < rows.end - rows.begin; ++row) {
      write_result(results + row * across.destinations, across,
                   destination + row * across.destinations);
    }
  }
}
