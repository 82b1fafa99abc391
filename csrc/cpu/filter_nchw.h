// The filter and bias gradient over NCHW memory: a vector holds adjacent columns of one plane.
// No include guard: compiled once per instruction set, see each_isa.h.
//
// df[kh, kw, o] is the dot product of a grad plane with a shifted input plane. Up to kDots taps of
// a kernel row share the grad vector and keep their sums in registers along a row; between rows the
// vectors of sums wait in scratch, and their lanes are folded once, at the end of the task.

constexpr int kDots = 7;  // the widest kernel row taken at once

// Adds one row's products for taps [0, N). grad: [output columns]; line: input line (lines.h).
template <int N, class T>
void dot_block(const T* grad, const T* line, const Tap* taps, T* sums) {
  constexpr int kWidth = kLanes<T>;
  Range common = taps[0].members;
  int64_t end = common.end;
  int64_t begin = common.begin;
  DW_UNROLL for (int t = 1; t < N; ++t) {
    common = {max64(common.begin, taps[t].members.begin), min64(common.end, taps[t].members.end)};
    begin = min64(begin, taps[t].members.begin);
    end = max64(end, taps[t].members.end);
  }
  Vector<T> sum[N];
  DW_UNROLL for (int t = 0; t < N; ++t) sum[t] = load(sums + t * kWidth);
  for (int64_t j = begin; j < end; j += kWidth) {
    if (j >= common.begin && j + kWidth <= common.end) {
      const Vector<T> g = load(grad + j);
      DW_UNROLL for (int t = 0; t < N; ++t) sum[t] += g * load(line + taps[t].position + j);
      continue;
    }
    DW_UNROLL for (int t = 0; t < N; ++t) {  // lanes without an input are 0 on both sides: 0 * 0 is added
      const int first = static_cast<int>(min64(max64(taps[t].members.begin - j, 0), kWidth));
      const int last = static_cast<int>(min64(max64(taps[t].members.end - j, 0), kWidth));
      if (first >= last) continue;
      sum[t] +=
          load_lanes(grad + j, first, last) * load_lanes(line + taps[t].position + j, first, last);
    }
  }
  DW_UNROLL for (int t = 0; t < N; ++t) store(sums + t * kWidth, sum[t]);
}

template <class T>
void dot_row(const T* grad, const T* line, const Tap* taps, int64_t count, T* sums) {
  constexpr int kWidth = kLanes<T>;
  int64_t t = 0;
  for (; t + kDots <= count; t += kDots) {
    dot_block<kDots>(grad, line, taps + t, sums + t * kWidth);
  }
  for (; t + 5 <= count; t += 5) dot_block<5>(grad, line, taps + t, sums + t * kWidth);
  for (; t + 3 <= count; t += 3) dot_block<3>(grad, line, taps + t, sums + t * kWidth);
  for (; t < count; ++t) dot_block<1>(grad, line, taps + t, sums + t * kWidth);
}

template <class T>
DW_INLINE void add_row(const T* grad, int64_t count, T* sums) {
  constexpr int kWidth = kLanes<T>;
  Vector<T> sum = load(sums);
  for (int64_t j = 0; j < count; j += kWidth) {
    sum += load_lanes(grad + j, 0, static_cast<int>(min64(kWidth, count - j)));
  }
  store(sums, sum);
}

// Scratch of a task: input lines, one grad line, T sums[multiplier, taps + 1, width].
template <class S>
struct FilterNchwScratch {
  Compute<S>* sums;
  Compute<S>* grad;
  Compute<S>* lines;
};

template <class S>
int64_t filter_nchw_scratch_bytes(const FilterCall& call) {
  const Problem& problem = call.problem;
  const int64_t sums = problem.multiplier * (problem.taps() + 1) * kLanes<Compute<S>>;
  return (sums + problem.cols.output + line_elements<S>(call.across, call.rows_in_sight)) *
         static_cast<int64_t>(sizeof(Compute<S>));
}

inline int64_t filter_nchw_tasks(const FilterCall& call) {
  return call.groups * call.problem.channels;
}

// Output rows `rows` of image n, input channel c.
template <class S>
void filter_nchw_rows(const FilterCall& call, const FilterNchwScratch<S>& scratch, int64_t n,
                      int64_t c, Range rows) {
  using T = Compute<S>;
  const Problem& problem = call.problem;
  const Axis& down = problem.rows;
  const Axis& across = problem.cols;
  const S* plane =
      static_cast<const S*>(call.input) + (n * problem.channels + c) * down.input * across.input;
  Lines<S> lines = {};
  if (call.filter_gradient) {
    lines = lines_of(plane, call.across, source_rows_of(call.rows, rows.begin, rows.end),
                     scratch.lines);
  }
  for (int64_t m = 0; m < problem.multiplier; ++m) {
    const int64_t lane = c * problem.multiplier + m;
    T* sums = scratch.sums + m * (problem.taps() + 1) * kLanes<T>;
    for (int64_t oh = rows.begin; oh < rows.end; ++oh) {
      const S* row = static_cast<const S*>(call.grad) +
                     ((n * problem.lanes() + lane) * down.output + oh) * across.output;
      const T* grad = reinterpret_cast<const T*>(row);
      if (!kComputed<S>) {
        write_line(row, across.output, {1, 1, across.output}, scratch.grad);
        grad = scratch.grad;
      }
      if (call.bias_gradient) add_row(grad, across.output, sums + problem.taps() * kLanes<T>);
      if (!call.filter_gradient) continue;
      const Range valid = call.rows.of_destination[oh];
      for (int64_t t = valid.begin; t < valid.end; ++t) {
        const Tap& tap = call.rows.taps[t];
        dot_row(grad, lines.line(tap.offset + oh * down.stride), call.cols.taps, across.kernel,
                sums + tap.index * across.kernel * kLanes<T>);
      }
    }
  }
}

template <class S>
void filter_nchw_run(const FilterCall& call, int64_t begin, int64_t end, void* memory) {
  using T = Compute<S>;
  const Problem& problem = call.problem;
  const int64_t sums = problem.multiplier * (problem.taps() + 1) * kLanes<T>;
  FilterNchwScratch<S> scratch;
  scratch.sums = static_cast<T*>(memory);
  scratch.grad = scratch.sums + sums;
  scratch.lines = scratch.grad + problem.cols.output;
  const int64_t height = problem.rows.output;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t group = task / problem.channels;
    const int64_t c = task % problem.channels;
    for (int64_t i = 0; i < sums; i += kLanes<T>) store(scratch.sums + i, Vector<T>{});

    const int64_t last = min64(problem.batch * height, (group + 1) * call.group_rows);
    for (int64_t row = group * call.group_rows; row < last;) {
      const int64_t n = row / height;
      const int64_t oh = row % height;
      const int64_t count = min64(min64(kBlockRows, height - oh), last - row);
      filter_nchw_rows(call, scratch, n, c, {oh, oh + count});
      row += count;
    }
    T* partial = static_cast<T*>(call.partials) + group * (problem.taps() + 1) * problem.lanes();
    for (int64_t m = 0; m < problem.multiplier; ++m) {
      for (int64_t tap = 0; tap <= problem.taps(); ++tap) {
        partial[tap * problem.lanes() + c * problem.multiplier + m] =
            sum_of_lanes<T>(load(scratch.sums + (m * (problem.taps() + 1) + tap) * kLanes<T>));
      }
    }
  }
}
