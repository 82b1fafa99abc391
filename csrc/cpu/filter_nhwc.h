// The filter and bias gradient over NHWC memory: a vector holds adjacent output channels.
// No include guard: compiled once per instruction set, see each_isa.h.
//
// df[kh, kw, o] is the sum over (n, oh, ow) of grad[n, oh, ow, o] * x[n, ih, iw, channel of o].
// A block of up to kRows x N taps keeps its sums in registers along a row of grad, so each grad
// vector is loaded once per block; the sums of the whole chunk stay in a small scratch between
// rows.

constexpr int kTapRows = 3;  // 3 x 3 taps: 9 independent sums and the two operands fit 16 registers

// One row of grad against kRows rows of the input, for one vector of output channels.
template <class S>
struct FilterSweep {
  const S* grad;             // [output columns, lanes]
  const S* input[kTapRows];  // [input columns, channels]
  int64_t lanes;             // output channels of the whole problem: grad's pixel stride
  int64_t channels;          // the input's pixel stride
  int64_t step;              // input elements between neighbouring output columns
};

// sum[r][t] += grad * input, over the members (output columns) of `range`.
template <int R, int N, class S, class Lanes>
DW_INLINE void correlate(const FilterSweep<S>& sweep, const Tap* taps, Range range,
                         const Lanes& lanes, Vector<Compute<S>> (&sum)[R][N]) {
  int64_t offset[N];
  DW_UNROLL for (int t = 0; t < N; ++t) offset[t] = taps[t].offset * sweep.channels;
  for (int64_t q = range.begin; q < range.end; ++q) {
    const auto g = lanes.outputs(sweep.grad + q * sweep.lanes);
    DW_UNROLL for (int r = 0; r < R; ++r) {
      const S* x = sweep.input[r] + q * sweep.step;
      DW_UNROLL for (int t = 0; t < N; ++t) sum[r][t] += g * lanes.source(x + offset[t]);
    }
  }
}

// A block of R x N taps: the columns that all N taps reach together, then each tap's own rest.
// `sums`: of the block's first tap; rows of taps are row_stride apart, neighbours tap_stride.
template <int R, int N, class S, class Lanes>
void tap_block(const FilterSweep<S>& sweep, const Tap* taps, const Lanes& lanes, Compute<S>* sums,
               int64_t row_stride, int64_t tap_stride) {
  using T = Compute<S>;
  Range common = taps[0].members;
  DW_UNROLL for (int t = 1; t < N; ++t) {
    common.begin = max64(common.begin, taps[t].members.begin);
    common.end = min64(common.end, taps[t].members.end);
  }
  if (common.end < common.begin) common.end = common.begin;

  Vector<T> sum[R][N];
  DW_UNROLL for (int r = 0; r < R; ++r) {
    DW_UNROLL for (int t = 0; t < N; ++t) sum[r][t] = load(sums + r * row_stride + t * tap_stride);
  }
  correlate<R, N>(sweep, taps, common, lanes, sum);
  DW_UNROLL for (int t = 0; t < N; ++t) {
    const Range own = taps[t].members;
    if (own.begin == common.begin && own.end == common.end) continue;
    Vector<T> rest[R][1];
    DW_UNROLL for (int r = 0; r < R; ++r) rest[r][0] = sum[r][t];
    correlate<R, 1>(sweep, taps + t, {own.begin, min64(own.end, common.begin)}, lanes, rest);
    correlate<R, 1>(sweep, taps + t, {max64(own.begin, common.end), own.end}, lanes, rest);
    DW_UNROLL for (int r = 0; r < R; ++r) sum[r][t] = rest[r][0];
  }
  DW_UNROLL for (int r = 0; r < R; ++r) {
    DW_UNROLL for (int t = 0; t < N; ++t) store(sums + r * row_stride + t * tap_stride, sum[r][t]);
  }
}

// R kernel rows, all kernel columns.
template <int R, class S, class Lanes>
void tap_rows(const FilterSweep<S>& sweep, const Tap* taps, int64_t count, const Lanes& lanes,
              Compute<S>* sums, int64_t row_stride, int64_t tap_stride) {
  int64_t t = 0;
  if constexpr (R <= 2) {
    for (; t + 5 <= count; t += 5) {
      tap_block<R, 5>(sweep, taps + t, lanes, sums + t * tap_stride, row_stride, tap_stride);
    }
  }
  for (; t + 3 <= count; t += 3) {
    tap_block<R, 3>(sweep, taps + t, lanes, sums + t * tap_stride, row_stride, tap_stride);
  }
  for (; t + 2 <= count; t += 2) {
    tap_block<R, 2>(sweep, taps + t, lanes, sums + t * tap_stride, row_stride, tap_stride);
  }
  for (; t < count; ++t) {
    tap_block<R, 1>(sweep, taps + t, lanes, sums + t * tap_stride, row_stride, tap_stride);
  }
}

// Scratch of a task: the lane tables, then T sums[taps + 1, vectors, width].
template <class S>
int64_t filter_nhwc_vectors(const FilterCall& call) {
  return ceil_div(call.chunk * call.problem.multiplier, kLanes<Compute<S>>);
}

template <class S>
int64_t filter_nhwc_scratch_bytes(const FilterCall& call) {
  return filter_nhwc_vectors<S>(call) *
         static_cast<int64_t>(sizeof(PickedLanes<S>) + (call.problem.taps() + 1) * DW_VECTOR_BYTES);
}

inline int64_t filter_nhwc_tasks(const FilterCall& call) {
  return call.groups * ceil_div(call.problem.channels, call.chunk);
}

// What one task works on: a group of rows, a chunk of channels.
template <class S>
struct FilterTask {
  int64_t channel;
  int64_t vectors;
  Compute<S>* sums;  // [taps + 1, vectors, width]
};

// One row (n, oh) of grad, one vector of output channels; `lane` counts from the chunk's first.
template <class S, class Lanes>
void filter_nhwc_row(const FilterCall& call, const FilterTask<S>& task, int64_t n, int64_t oh,
                     int64_t lane, int64_t vector, const Lanes& lanes) {
  constexpr int kWidth = kLanes<Compute<S>>;
  const Problem& problem = call.problem;
  const Axis& rows = problem.rows;
  const Axis& cols = problem.cols;
  const int64_t tap_stride = task.vectors * kWidth;
  const int64_t row_stride = cols.kernel * tap_stride;
  Compute<S>* sums = task.sums + vector * kWidth;

  FilterSweep<S> sweep;
  sweep.lanes = problem.lanes();
  sweep.channels = problem.channels;
  sweep.step = cols.stride * problem.channels;
  sweep.grad = static_cast<const S*>(call.grad) +
               (n * rows.output + oh) * cols.output * sweep.lanes +
               task.channel * problem.multiplier + lane;
  if (call.bias_gradient) {
    Compute<S>* bias = sums + rows.kernel * row_stride;
    Vector<Compute<S>> sum = load(bias);
    for (int64_t q = 0; q < cols.output; ++q) sum += lanes.outputs(sweep.grad + q * sweep.lanes);
    store(bias, sum);
  }
  if (!call.filter_gradient) return;

  const S* image = static_cast<const S*>(call.input) +
                   n * rows.input * cols.input * problem.channels + task.channel;
  const Range valid = call.rows.of_destination[oh];
  for (int64_t t = valid.begin; t < valid.end; t += kTapRows) {
    const int64_t count = min64(kTapRows, valid.end - t);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t ih = call.rows.taps[t + r].offset + oh * rows.stride;
      sweep.input[r] = image + ih * cols.input * problem.channels;
    }
    Compute<S>* first = sums + call.rows.taps[t].index * row_stride;
    if (count == 3) {
      tap_rows<3>(sweep, call.cols.taps, cols.kernel, lanes, first, row_stride, tap_stride);
    } else if (count == 2) {
      tap_rows<2>(sweep, call.cols.taps, cols.kernel, lanes, first, row_stride, tap_stride);
    } else {
      tap_rows<1>(sweep, call.cols.taps, cols.kernel, lanes, first, row_stride, tap_stride);
    }
  }
}

template <class S>
void filter_nhwc_run(const FilterCall& call, int64_t begin, int64_t end, void* memory) {
  using T = Compute<S>;
  constexpr int kWidth = kLanes<T>;
  const Problem& problem = call.problem;
  const int64_t chunks = ceil_div(problem.channels, call.chunk);
  const int64_t all_rows = problem.batch * problem.rows.output;
  PickedLanes<S>* picked = static_cast<PickedLanes<S>*>(memory);
  for (int64_t index = begin; index < end; ++index) {
    const int64_t group = index / chunks;
    const int64_t channel = index % chunks * call.chunk;
    const int64_t channels = min64(call.chunk, problem.channels - channel);
    const int64_t count = channels * problem.multiplier;
    const FilterTask<S> task = {channel, ceil_div(count, kWidth),
                                reinterpret_cast<T*>(picked + filter_nhwc_vectors<S>(call))};
    fill_picked_lanes(picked, count, problem.multiplier);
    for (int64_t i = 0; i < (problem.taps() + 1) * task.vectors; ++i) {
      store(task.sums + i * kWidth, Vector<T>{});
    }
    const int64_t last = min64(all_rows, (group + 1) * call.group_rows);
    for (int64_t row = group * call.group_rows; row < last; ++row) {
      const int64_t n = row / problem.rows.output;
      const int64_t oh = row % problem.rows.output;
      for (int64_t v = 0; v < task.vectors; ++v) {
        const int64_t lane = first_lane<T>(v, count);
        if (needs_picked_lanes<S>(count, problem.multiplier)) {
          filter_nhwc_row(call, task, n, oh, lane, v, picked[v]);
        } else {
          filter_nhwc_row(call, task, n, oh, lane, v, WholeVector<S>{lane});
        }
      }
    }
    T* partial = static_cast<T*>(call.partials) + group * (problem.taps() + 1) * problem.lanes() +
                 channel * problem.multiplier;
    for (int64_t tap = 0; tap <= problem.taps(); ++tap) {
      for (int64_t v = 0; v < task.vectors; ++v) {
        const T* sums = task.sums + (tap * task.vectors + v) * kWidth;
        picked[v].put(partial + tap * problem.lanes() + first_lane<T>(v, count), load(sums));
      }
    }
  }
}
