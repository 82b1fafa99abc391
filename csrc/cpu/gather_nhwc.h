// The gathering sweep (window.h) over NHWC memory: a vector holds adjacent output channels.
// No include guard: compiled once per instruction set, see each_isa.h.
//
// Tile: kTile neighbouring columns of one vector of channels stay in registers while every tap of
// the window passes by; a tap's weights are loaded once for the kTile columns. 7 columns, because
// 7 independent sums hide the latency of fused multiply-add on two ports and because 7 divides the
// widths of most networks (224, 112, ..., 7). Borders: each column carries the range of taps that
// meet a source; the taps that all columns of a tile share run unrolled, the others one by one.

constexpr int kTile = 7;

// One kernel row that meets a source row.
template <class S>
struct RowTap {
  const S* source;            // [source columns, source channels]
  const Compute<S>* weights;  // [kw, lanes]
};

// One destination row, one chunk of channels, one class of columns.
template <class S>
struct Sweep {
  const RowTap<S>* rows;
  int64_t row_count;
  const Tap* taps;     // of the columns
  const Range* valid;  // [members] taps of each member, `classes` entries apart
  int64_t classes;
  int64_t weight_stride;  // lanes of the whole filter
  int64_t member_stride;  // source elements between neighbouring members
  int64_t pixel;          // source elements between neighbouring columns
};

// The sums of N members, from one tap on: pointers of its source at the first member and its weights.
template <int N, class S, class Lanes>
DW_INLINE void add_tap(const S* x, const Compute<S>* weights, int64_t member_stride,
                       const Lanes& lanes, Vector<Compute<S>> (&sum)[N]) {
  const auto w = lanes.outputs(weights);
  DW_UNROLL for (int p = 0; p < N; ++p) sum[p] += w * lanes.source(x + p * member_stride);
}

// N neighbouring members from q on.
template <int N, class S, class Lanes>
DW_INLINE void tile(const Sweep<S>& sweep, int64_t q, int64_t lane, const Lanes& lanes,
                    Vector<Compute<S>> (&sum)[N]) {
  const Range* valid = sweep.valid + q * sweep.classes;
  const Range first = valid[0];
  const Range last = valid[(N - 1) * sweep.classes];
  Range common = {max64(first.begin, last.begin), min64(first.end, last.end)};
  if (common.end < common.begin) common.end = common.begin;

  DW_UNROLL for (int p = 0; p < N; ++p) sum[p] = Vector<Compute<S>>{};
  for (int64_t r = 0; r < sweep.row_count; ++r) {
    const S* source = sweep.rows[r].source + q * sweep.member_stride;
    const Compute<S>* weights = sweep.rows[r].weights + lane;
    for (int64_t t = common.begin; t < common.end; ++t) {
      add_tap<N>(source + sweep.taps[t].offset * sweep.pixel,
                 weights + sweep.taps[t].index * sweep.weight_stride, sweep.member_stride, lanes,
                 sum);
    }
  }
  if (first.begin == last.begin && first.end == last.end) return;

  DW_UNROLL for (int p = 0; p < N; ++p) {  // at a border: the taps that only some members have
    const Range own = valid[p * sweep.classes];
    Vector<Compute<S>> rest[1] = {sum[p]};
    for (int64_t r = 0; r < sweep.row_count; ++r) {
      const S* source = sweep.rows[r].source + (q + p) * sweep.member_stride;
      const Compute<S>* weights = sweep.rows[r].weights + lane;
      for (int64_t t = own.begin; t < own.end; ++t) {
        if (t >= common.begin && t < common.end) continue;
        add_tap<1>(source + sweep.taps[t].offset * sweep.pixel,
                   weights + sweep.taps[t].index * sweep.weight_stride, 0, lanes, rest);
      }
    }
    sum[p] = rest[0];
  }
}

// ---- one task: a destination row, a chunk of input channels -----------------------------------

template <class S>
struct NhwcScratch {
  RowTap<S>* rows;         // [kh]
  PickedLanes<S>* picked;  // [vectors of a chunk]
  Compute<S>* reduce;      // [kTile, lanes of a chunk]
};

template <class S>
int64_t nhwc_chunk_vectors(const GatherCall& call) {
  return ceil_div(call.chunk * call.problem.multiplier, kLanes<Compute<S>>);
}

template <class S>
int64_t nhwc_scratch_bytes(const GatherCall& call) {
  const int64_t reduce = kTile * call.chunk * call.problem.multiplier * sizeof(Compute<S>);
  return nhwc_chunk_vectors<S>(call) * sizeof(PickedLanes<S>) + reduce +
         call.problem.rows.kernel * sizeof(RowTap<S>);
}

template <class S>
NhwcScratch<S> nhwc_scratch(const GatherCall& call, void* scratch) {
  NhwcScratch<S> parts;
  parts.picked = static_cast<PickedLanes<S>*>(scratch);
  parts.rows = reinterpret_cast<RowTap<S>*>(parts.picked + nhwc_chunk_vectors<S>(call));
  parts.reduce = reinterpret_cast<Compute<S>*>(parts.rows + call.problem.rows.kernel);
  return parts;
}

// Where the sums of one chunk of channels go.
template <class S>
struct Destination {
  S* first;          // member 0, first channel of the chunk
  int64_t stride;    // elements between neighbouring members
  int64_t channels;  // input channels of the chunk
  int64_t multiplier;
  const Compute<S>* bias;  // of the chunk's output channels, or null
  Compute<S>* reduce;      // [kTile, output channels of the chunk]: input gradient, multiplier > 1
};

// dx[q + p][c] = reduce[p][c * multiplier + m] summed over m, for N members.
template <int N, class S>
DW_INLINE void sum_multiplier(const Destination<S>& to, int64_t q) {
  DW_UNROLL for (int p = 0; p < N; ++p) {
    const Compute<S>* lanes = to.reduce + p * to.channels * to.multiplier;
    S* out = to.first + (q + p) * to.stride;
    for (int64_t c = 0; c < to.channels; ++c, lanes += to.multiplier) {
      Compute<S> sum = lanes[0];
      for (int64_t m = 1; m < to.multiplier; ++m) sum += lanes[m];
      store_scalar(out + c, sum);
    }
  }
}

// N members from q on, one vector of output channels.
template <int N, bool kForward, class S, class Lanes>
DW_NOINLINE void vector_of_columns(const Sweep<S>& sweep, const Destination<S>& to, int64_t q,
                                 int64_t lane, const Lanes& lanes) {
  using T = Compute<S>;
  Vector<T> sum[N];
  tile<N>(sweep, q, lane, lanes, sum);
  if (!kForward && to.multiplier > 1) {
    DW_UNROLL for (int p = 0; p < N; ++p) {
      lanes.put(to.reduce + p * to.channels * to.multiplier + lane, sum[p]);
    }
    return;
  }
  const Vector<T> bias = kForward && to.bias ? lanes.outputs(to.bias + lane) : Vector<T>{};
  DW_UNROLL for (int p = 0; p < N; ++p) {
    lanes.put(to.first + (q + p) * to.stride + lane, sum[p] + bias);
  }
}

// N members from q on, all channels of the chunk.
template <int N, bool kForward, class S>
DW_INLINE void columns(const Sweep<S>& sweep, const Destination<S>& to,
                       const PickedLanes<S>* picked, int64_t q) {
  using T = Compute<S>;
  const int64_t count = to.channels * to.multiplier;
  for (int64_t v = 0; v * kLanes<T> < count; ++v) {
    const int64_t lane = first_lane<T>(v, count);
    if (picked) {
      vector_of_columns<N, kForward>(sweep, to, q, lane, picked[v]);
    } else {
      vector_of_columns<N, kForward>(sweep, to, q, lane, WholeVector<S>{lane});
    }
  }
  if (!kForward && to.multiplier > 1) sum_multiplier<N>(to, q);
}

template <bool kForward, class S>
void nhwc_row(const GatherCall& call, const NhwcScratch<S>& scratch, int64_t n, int64_t row,
              int64_t channel, int64_t channels) {
  using T = Compute<S>;
  const Problem& problem = call.problem;
  const Gather& down = call.rows.gather;
  const Gather& across = call.cols.gather;
  const int64_t multiplier = problem.multiplier;
  const int64_t lanes = problem.lanes();
  const int64_t source_channels = kForward ? problem.channels : lanes;
  const int64_t destination_channels = kForward ? lanes : problem.channels;
  const int64_t lane = channel * multiplier;

  const S* source = static_cast<const S*>(call.source) + (kForward ? channel : lane);
  const T* filter = static_cast<const T*>(call.filter) + lane;
  const T* bias = call.bias ? static_cast<const T*>(call.bias) + lane : nullptr;
  S* destination = static_cast<S*>(call.destination) +
                   (n * down.destinations + row) * across.destinations * destination_channels +
                   (kForward ? lane : channel);

  const Range valid = call.rows.of_destination[row];
  for (int64_t t = valid.begin; t < valid.end; ++t) {
    const Tap& tap = call.rows.taps[t];
    const int64_t source_row = tap.offset + row / down.classes * down.source_step;
    scratch.rows[t - valid.begin] = {
        source + (n * down.sources + source_row) * across.sources * source_channels,
        filter + tap.index * problem.cols.kernel * lanes};
  }
  Sweep<S> sweep = {scratch.rows,
                    valid.end - valid.begin,
                    call.cols.taps,
                    nullptr,
                    across.classes,
                    lanes,
                    across.source_step * source_channels,
                    source_channels};
  Destination<S> to = {destination, across.classes * destination_channels,
                       channels,    multiplier,
                       bias,        scratch.reduce};
  const PickedLanes<S>* picked = nullptr;
  const int64_t repeat = kForward ? multiplier : 1;  // a gradient's channels are read as they are
  if (needs_picked_lanes<S>(channels * multiplier, repeat)) {
    fill_picked_lanes(scratch.picked, channels * multiplier, repeat);
    picked = scratch.picked;
  }
  for (int64_t r = 0; r < min64(across.classes, across.destinations); ++r) {
    sweep.valid = call.cols.of_destination + r;
    to.first = destination + r * destination_channels;
    const int64_t members = across.members(r);
    int64_t q = 0;
    for (; q + kTile <= members; q += kTile) {
      columns<kTile, kForward>(sweep, to, picked, q);
    }
    for (; q + 4 <= members; q += 4) columns<4, kForward>(sweep, to, picked, q);
    for (; q + 2 <= members; q += 2) columns<2, kForward>(sweep, to, picked, q);
    for (; q < members; ++q) columns<1, kForward>(sweep, to, picked, q);
  }
}

inline int64_t nhwc_tasks(const GatherCall& call) {
  return call.problem.batch * call.rows.gather.destinations *
         ceil_div(call.problem.channels, call.chunk);
}

template <bool kForward, class S>
void nhwc_run(const GatherCall& call, int64_t begin, int64_t end, void* memory) {
  const NhwcScratch<S> scratch = nhwc_scratch<S>(call, memory);
  const int64_t chunks = ceil_div(call.problem.channels, call.chunk);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t row = task / chunks % call.rows.gather.destinations;
    const int64_t n = task / chunks / call.rows.gather.destinations;
    const int64_t channel = task % chunks * call.chunk;
    const int64_t channels = min64(call.chunk, call.problem.channels - channel);
    nhwc_row<kForward, S>(call, scratch, n, row, channel, channels);
  }
}
