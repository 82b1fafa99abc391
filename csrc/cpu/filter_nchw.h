// The filter and bias gradient over NCHW memory. No include guard: see each_isa.h.
//
// df[kh, kw, o] is the dot product of a grad plane with a shifted input plane. Both are laid out
// flat in one pitch (planes_nchw.h), grad with zeros behind each row, so every tap is one long dot
// product. Padding and those zeros are multiplied; where anything they meet is not finite, a sum
// comes out that is not, and the task is done again without them.

constexpr int kDots = 9;  // taps that share a grad vector: with it, 10 vectors

// sums[t] += grad . (source + offsets[t]) over [0, length), for N taps; sums are vectors.
template <int N, class T>
void flat_dots(const T* grad, const T* source, const int64_t* offsets, int64_t length, T* sums) {
  Vector<T> sum[N];
  const T* x[N];
  DW_UNROLL for (int t = 0; t < N; ++t) {
    sum[t] = load(sums + t * kLanes<T>);
    x[t] = source + offsets[t];
  }
  for (int64_t f = 0; f < length; f += kLanes<T>) {
    const Vector<T> g = load(grad + f);
    DW_UNROLL for (int t = 0; t < N; ++t) sum[t] += g * load(x[t] + f);
  }
  DW_UNROLL for (int t = 0; t < N; ++t) store(sums + t * kLanes<T>, sum[t]);
}

template <class T>
DW_INLINE void flat_filter(const T* grad, const T* source, const int64_t* offsets, int64_t taps,
                           int64_t length, T* sums) {
  constexpr int kWidth = kLanes<T>;
  int64_t t = 0;
  for (; t + kDots <= taps; t += kDots) {
    flat_dots<kDots>(grad, source, offsets + t, length, sums + t * kWidth);
  }
  for (; t + 5 <= taps; t += 5) {
    flat_dots<5>(grad, source, offsets + t, length, sums + t * kWidth);
  }
  for (; t + 2 <= taps; t += 2) {
    flat_dots<2>(grad, source, offsets + t, length, sums + t * kWidth);
  }
  for (; t < taps; ++t) flat_dots<1>(grad, source, offsets + t, length, sums + t * kWidth);
}

// The sum of one tap over members [first, first + members) of the rows, without any padding.
template <class S>
Compute<S> plain_dot(const S* grad, const S* input, const Problem& problem, const FlatPair& pair,
                     int64_t first, int64_t members, int64_t t, int64_t u) {
  Compute<S> sum = 0;
  const int64_t column = pair.cols.column + u;
  const Range valid = inside(column, pair.cols.step, pair.cols.columns, pair.cols.members);
  for (int64_t i = first; i < first + members; ++i) {
    const int64_t row = pair.rows.column + i * pair.rows.step + t;
    if (row < 0 || row >= pair.rows.columns) continue;
    const S* x = input + (pair.rows.source + row * pair.rows.source_pitch) * problem.cols.input;
    const S* g = grad + (pair.rows.first + i * pair.rows.pitch) * problem.cols.output;
    for (int64_t j = valid.begin; j < valid.end; ++j) {
      const int64_t k = column + j * pair.cols.step;
      sum += to_compute(g[pair.cols.first + j * pair.cols.pitch]) *
             to_compute(x[pair.cols.source + k * pair.cols.source_pitch]);
    }
  }
  return sum;
}

template <class S>
struct NchwFilter {
  using T = Compute<S>;
  static constexpr int kWidth = kLanes<T>;
  const FilterCall& call;
  T* source;         // flat input of a block
  T* grad;           // flat grad of a block
  T* sums;           // [multiplier, taps + 1, vector]; the last of each is the bias
  T* pair_sums;      // [taps of a pair, vector]
  int64_t* offsets;  // [taps of a pair]
  int64_t bytes;

  NchwFilter(const FilterCall& filter_call, void* memory) : call(filter_call) {
    int64_t source_elements = 0;
    int64_t grad_elements = 0;
    for_each_pair(call.row_sweeps, call.row_sweep_count, call.sweeps, call.sweep_count,
                  [&](const FlatPair& pair) {
                    const int64_t members = block_members<T>(pair);
                    if (fits_flat(pair, members, planes())) {
                      source_elements = max64(source_elements, pair.source_elements(members));
                    }
                    grad_elements = max64(grad_elements, members * pair.pitch());
                  });
    const Problem& problem = call.problem;
    Carver carver = {static_cast<char*>(memory), 0};
    source = carver.take<T>(source_elements + kSlack<T>);
    grad = carver.take<T>(grad_elements + kSlack<T>);
    sums = carver.take<T>(problem.multiplier * (problem.taps() + 1) * kWidth);
    pair_sums = carver.take<T>(problem.taps() * kWidth);
    offsets = carver.take<int64_t>(problem.taps());
    bytes = carver.used;
  }

  int64_t planes() const {
    const Problem& problem = call.problem;
    return problem.rows.input * problem.cols.input + problem.rows.output * problem.cols.output;
  }

  T* sums_of(int64_t m, int64_t tap) const {
    return sums + (m * (call.problem.taps() + 1) + tap) * kWidth;
  }

  // Units [begin, end) (parts of images), input channel c, into one partial result.
  void run(int64_t begin, int64_t end, int64_t c, T* partial) {
    const Problem& problem = call.problem;
    const int64_t taps = problem.taps();
    for (int64_t i = 0; i < problem.multiplier * (taps + 1) * kWidth; i += kWidth) {
      store(sums + i, Vector<T>{});
    }
    add_units(begin, end, c, true);
    for (int64_t m = 0; m < problem.multiplier; ++m) {
      if (all_finite(sums_of(m, 0), taps * kWidth)) continue;
      for (int64_t n = 0; n < problem.multiplier; ++n) zero(sums_of(n, 0), taps * kWidth);
      add_units(begin, end, c, false);
      break;
    }
    for (int64_t m = 0; m < problem.multiplier; ++m) {
      for (int64_t tap = 0; tap <= taps; ++tap) {
        partial[tap * problem.lanes() + c * problem.multiplier + m] =
            sum_of_lanes<T>(load(sums_of(m, tap)));
      }
    }
  }

  void add_units(int64_t begin, int64_t end, int64_t c, bool flat) {
    for_each_pair(call.row_sweeps, call.row_sweep_count, call.sweeps, call.sweep_count,
                  [&](const FlatPair& pair) {
                    const int64_t block = block_members<T>(pair);
                    for (int64_t unit = begin; unit < end; ++unit) {
                      const Range part = members_of_part(pair, unit % call.parts, call.parts);
                      for (int64_t first = part.begin; first < part.end; first += block) {
                        add_block(pair, first, min64(block, part.end - first), unit / call.parts, c,
                                  flat);
                      }
                    }
                  });
  }

  void add_block(const FlatPair& pair, int64_t first, int64_t members, int64_t n, int64_t c,
                 bool flat) {
    const Problem& problem = call.problem;
    const S* input = static_cast<const S*>(call.input) +
                     (n * problem.channels + c) * problem.rows.input * problem.cols.input;
    const bool fits = fits_flat(pair, block_members<T>(pair), planes());
    if (flat && fits && call.filter_gradient) {
      fill_source(input, problem.cols.input, pair, first, members, source);
      for (int64_t t = 0; t < pair.taps(); ++t) {
        offsets[t] = pair.offset(t / pair.cols.taps, t % pair.cols.taps, members);
      }
    }
    for (int64_t m = 0; m < problem.multiplier; ++m) {
      const int64_t lane = c * problem.multiplier + m;
      const S* plane = static_cast<const S*>(call.grad) +
                       (n * problem.lanes() + lane) * problem.rows.output * problem.cols.output;
      if (!flat) {
        add_plain(pair, first, members, input, plane, m);
        continue;
      }
      fill_grad(pair, first, members, plane);
      const int64_t length = pair.length(members);
      if (call.bias_gradient) add_bias(length, sums_of(m, problem.taps()));
      if (!call.filter_gradient) continue;
      if (!fits) {
        add_plain(pair, first, members, input, plane, m);
        continue;
      }
      for (int64_t t = 0; t < pair.taps(); ++t) {
        store(pair_sums + t * kWidth, load(sums_of(m, tap_of(pair, t))));
      }
      flat_filter(grad, source, offsets, pair.taps(), length, pair_sums);
      for (int64_t t = 0; t < pair.taps(); ++t) {
        store(sums_of(m, tap_of(pair, t)), load(pair_sums + t * kWidth));
      }
    }
  }

  int64_t tap_of(const FlatPair& pair, int64_t t) const {
    return (pair.rows.index + t / pair.cols.taps * pair.rows.index_step) *
               call.problem.cols.kernel +
           pair.cols.index + t % pair.cols.taps * pair.cols.index_step;
  }

  void fill_grad(const FlatPair& pair, int64_t first, int64_t members, const S* plane) {
    T* to = grad;
    for (int64_t i = 0; i < members; ++i, to += pair.pitch()) {
      const int64_t row = pair.rows.first + (first + i) * pair.rows.pitch;
      read_strided(plane + row * call.problem.cols.output + pair.cols.first, pair.cols.pitch,
                   pair.cols.members, to);
      zero(to + pair.cols.members, pair.pitch() - pair.cols.members);
    }
    zero(to, kSlack<T>);
  }

  void add_bias(int64_t length, T* total) {
    Vector<T> sum = load(total);
    for (int64_t f = 0; f < length; f += kWidth) sum += load(grad + f);
    store(total, sum);
  }

  void add_plain(const FlatPair& pair, int64_t first, int64_t members, const S* input,
                 const S* plane, int64_t m) {
    for (int64_t t = 0; t < pair.taps(); ++t) {
      sums_of(m, tap_of(pair, t))[0] += plain_dot(plane, input, call.problem, pair, first, members,
                                                  t / pair.cols.taps, t % pair.cols.taps);
    }
  }
};

inline int64_t filter_nchw_tasks(const FilterCall& call) {
  return call.groups * call.problem.channels;
}

template <class S>
int64_t filter_nchw_scratch_bytes(const FilterCall& call) {
  return NchwFilter<S>(call, nullptr).bytes;
}

template <class S>
void filter_nchw_run(const FilterCall& call, int64_t begin, int64_t end, void* memory) {
  const Problem& problem = call.problem;
  NchwFilter<S> filter(call, memory);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t group = task / problem.channels;
    filter.run(
        group * call.group_units, min64(call.units, (group + 1) * call.group_units),
        task % problem.channels,
        static_cast<Compute<S>*>(call.partials) + group * (problem.taps() + 1) * problem.lanes());
  }
}
