// The gathering pass (window.h) over NCHW memory. No include guard: see each_isa.h.
//
// A task is a part of one input channel of one image. For each pair of sweeps and each block of
// rows, source planes are laid out flat (planes_nchw.h); a result is the sum of broadcast weights
// times vectors of the flat source, whatever the width of the image.

// N vectors of a flat result, from position `at` on.
template <int N, class T>
DW_INLINE void flat_vectors(const T* source, const int64_t* offsets, const T* weights, int64_t taps,
                            bool add, T* result) {
  Vector<T> sum[N];
  DW_UNROLL for (int v = 0; v < N; ++v) {
    sum[v] = add ? load(result + v * kLanes<T>) : Vector<T>{};
  }
  for (int64_t t = 0; t < taps; ++t) {
    const T* x = source + offsets[t];
    const Vector<T> weight = broadcast(weights[t]);
    DW_UNROLL for (int v = 0; v < N; ++v) sum[v] += weight * load(x + v * kLanes<T>);
  }
  DW_UNROLL for (int v = 0; v < N; ++v) store(result + v * kLanes<T>, sum[v]);
}

// result[f] = (add ? result[f] : 0) + sum of weights[t] * source[offsets[t] + f], f in [0, length).
template <class T>
void flat_gather(const T* source, const int64_t* offsets, const T* weights, int64_t taps, bool add,
                 int64_t length, T* result) {
  constexpr int kWidth = kLanes<T>;
  int64_t f = 0;
  for (; f + 8 * kWidth <= length; f += 8 * kWidth) {
    flat_vectors<8>(source + f, offsets, weights, taps, add, result + f);
  }
  for (; f + 4 * kWidth <= length; f += 4 * kWidth) {
    flat_vectors<4>(source + f, offsets, weights, taps, add, result + f);
  }
  for (; f < length; f += kWidth) {
    flat_vectors<1>(source + f, offsets, weights, taps, add, result + f);
  }
}

// The same for weights that are not finite: padding is passed over, not multiplied.
template <class S>
void plain_gather(const S* plane, int64_t width, const FlatPair& pair, int64_t first,
                  int64_t members, const Compute<S>* weights, bool add, Compute<S>* result) {
  for (int64_t i = 0; i < members; ++i, result += pair.pitch()) {
    if (!add) zero(result, pair.cols.members);
    for (int64_t t = 0; t < pair.rows.taps; ++t) {
      const int64_t row = pair.rows.column + (first + i) * pair.rows.step + t;
      if (row < 0 || row >= pair.rows.columns) continue;
      const S* source = plane + (pair.rows.source + row * pair.rows.source_pitch) * width;
      for (int64_t u = 0; u < pair.cols.taps; ++u) {
        const int64_t column = pair.cols.column + u;
        const Range valid = inside(column, pair.cols.step, pair.cols.columns, pair.cols.members);
        for (int64_t j = valid.begin; j < valid.end; ++j) {
          const int64_t k = column + j * pair.cols.step;
          result[j] += weights[t * pair.cols.taps + u] *
                       to_compute(source[pair.cols.source + k * pair.cols.source_pitch]);
        }
      }
    }
  }
}

template <class S>
struct NchwGather {
  using T = Compute<S>;
  const GatherCall& call;
  T* source;         // flat source of a block
  T* result;         // flat result of a block
  T* weights;        // [taps of a pair]
  int64_t* offsets;  // [taps of a pair]
  int64_t bytes;

  NchwGather(const GatherCall& gather_call, void* memory) : call(gather_call) {
    int64_t source_elements = 0;
    int64_t result_elements = 0;
    int64_t taps = 0;
    for_each_pair(call.row_sweeps, call.row_sweep_count, call.sweeps, call.sweep_count,
                  [&](const FlatPair& pair) {
                    const int64_t members = pair.empty() ? 1 : block_members<T>(pair);
                    if (!pair.empty() && fits_flat(pair, members, planes())) {
                      source_elements = max64(source_elements, pair.source_elements(members));
                    }
                    result_elements = max64(result_elements, members * pair.pitch());
                    taps = max64(taps, pair.taps());
                  });
    Carver carver = {static_cast<char*>(memory), 0};
    source = carver.take<T>(source_elements + kSlack<T>);
    result = carver.take<T>(result_elements + kSlack<T>);
    weights = carver.take<T>(taps);
    offsets = carver.take<int64_t>(taps);
    bytes = carver.used;
  }

  int64_t planes() const {
    return call.down.sources * call.across.sources +
           call.down.destinations * call.across.destinations;
  }

  // Tasks [begin, end) of one pair of sweeps.
  void run_pair(const FlatPair& pair, int64_t begin, int64_t end) {
    const int64_t block = pair.empty() ? pair.rows.members : block_members<T>(pair);
    int64_t laid_out = -1;  // the members of a block that the offsets are for
    for (int64_t task = begin; task < end; ++task) {
      const Range part = members_of_part(pair, task % call.parts, call.parts);
      for (int64_t first = part.begin; first < part.end; first += block) {
        const int64_t members = min64(block, part.end - first);
        for (int64_t t = 0; members != laid_out && t < pair.taps(); ++t) {
          offsets[t] = pair.offset(t / pair.cols.taps, t % pair.cols.taps, members);
        }
        laid_out = members;
        run_block(pair, first, members, task / call.parts);
      }
    }
  }

  // `image_channel`: n * channels + c of the input side.
  void run_block(const FlatPair& pair, int64_t first, int64_t members, int64_t image_channel) {
    const Problem& problem = call.problem;
    const bool forward = call.down.forward;
    const int64_t source_plane = call.down.sources * call.across.sources;
    const int64_t result_plane = call.down.destinations * call.across.destinations;
    for (int64_t m = 0; m < problem.multiplier; ++m) {
      const int64_t lane = image_channel % problem.channels * problem.multiplier + m;
      const int64_t plane = image_channel * problem.multiplier + m;  // of the output side
      const S* from =
          static_cast<const S*>(call.source) + (forward ? image_channel : plane) * source_plane;
      S* to = static_cast<S*>(call.destination) + (forward ? plane : image_channel) * result_plane;
      add_plane(pair, first, members, from, lane, !forward || m == 0, !forward && m > 0);
      if (forward || m == problem.multiplier - 1) {
        const T bias = call.bias ? static_cast<const T*>(call.bias)[lane] : T{0};
        write_block(pair, first, members, bias, to);
      }
    }
  }

  void add_plane(const FlatPair& pair, int64_t first, int64_t members, const S* plane, int64_t lane,
                 bool fill, bool add) {
    if (pair.empty()) {
      zero(result, pair.cols.members);  // one row, which write_block repeats
      return;
    }
    const T* filter = static_cast<const T*>(call.filter) + lane;
    for (int64_t t = 0; t < pair.taps(); ++t) {
      const int64_t kh = pair.rows.index + t / pair.cols.taps * pair.rows.index_step;
      const int64_t kw = pair.cols.index + t % pair.cols.taps * pair.cols.index_step;
      weights[t] = filter[(kh * call.problem.cols.kernel + kw) * call.problem.lanes()];
    }
    if (!call.finite_filter || !fits_flat(pair, block_members<T>(pair), planes())) {
      return plain_gather(plane, call.across.sources, pair, first, members, weights, add, result);
    }
    if (fill) fill_source(plane, call.across.sources, pair, first, members, source);
    flat_gather(source, offsets, weights, pair.taps(), add, pair.length(members), result);
  }

  void write_block(const FlatPair& pair, int64_t first, int64_t members, T bias, S* plane) {
    const T* from = result;
    for (int64_t i = 0; i < members; ++i) {
      const int64_t row = pair.rows.first + (first + i) * pair.rows.pitch;
      write_strided(from, pair.cols.members, bias,
                    plane + row * call.across.destinations + pair.cols.first, pair.cols.pitch);
      if (!pair.empty()) from += pair.pitch();
    }
  }
};

inline int64_t nchw_tasks(const GatherCall& call) {
  return call.problem.batch * call.problem.channels * call.parts;
}

template <class S>
int64_t nchw_scratch_bytes(const GatherCall& call) {
  return NchwGather<S>(call, nullptr).bytes;
}

template <class S>
void nchw_run(const GatherCall& call, int64_t begin, int64_t end, void* memory) {
  NchwGather<S> gather(call, memory);
  for_each_pair(call.row_sweeps, call.row_sweep_count, call.sweeps, call.sweep_count,
                [&](const FlatPair& pair) { gather.run_pair(pair, begin, end); });
}
