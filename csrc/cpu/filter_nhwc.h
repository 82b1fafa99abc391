// The filter and bias gradient over NHWC memory. No include guard: see each_isa.h.
//
// df[kh, kw, o] is the sum over (n, oh, ow) of grad[n, oh, ow, o] * x[n, ih, iw, channel of o].
// A task is a group of rows (n, oh) and a chunk of channels. Its sums stay in scratch, small enough
// for the caches, while the rows of grad pass by once, in register tiles.

template <class S>
struct NhwcFilter {
  using T = Compute<S>;
  const FilterCall& call;
  RowForm<S> grad_form;
  RowRing<S> ring;
  PickedLanes<S>* picked;       // [vectors of a chunk]: input
  PickedLanes<S>* grad_picked;  // [vectors of a chunk]: grad
  TileRow<T>* rows;             // [kh]
  uint32_t* masks;              // [taps of a sweep]
  T* grad_line;                 // [output columns, width]: where grad needs another form
  T* sums;                      // [taps + 1, vectors * lanes of a vector]; the last is the bias
  int64_t tap_pitch;
  int64_t bytes;

  NhwcFilter(const FilterCall& filter_call, int64_t channels, void* memory) : call(filter_call) {
    const Problem& problem = call.problem;
    const int64_t count = channels * problem.multiplier;
    const int64_t vectors = ceil_div(count, kLanes<T>);
    grad_form = {problem.lanes(), count, 1};
    tap_pitch = vectors * kLanes<T>;
    Carver carver = {static_cast<char*>(memory), 0};
    picked = carver.take<PickedLanes<S>>(vectors);
    grad_picked = carver.take<PickedLanes<S>>(vectors);
    rows = carver.take<TileRow<T>>(problem.rows.kernel);
    masks = carver.take<uint32_t>(most_taps(call.sweeps, call.sweep_count));
    grad_line = carver.take<T>(grad_form.in_place() ? 0 : problem.cols.output * grad_form.width());
    sums = carver.take<T>((problem.taps() + 1) * tap_pitch);
    const RowForm<S> form = {problem.channels, count, problem.multiplier};
    ring = {nullptr, problem.rows.input, problem.cols.input, form, picked, nullptr,
            nullptr, call.rows_in_sight};
    ring.held = carver.take<int64_t>(ring.slots);
    ring.lines = carver.take<T>(form.in_place() ? 0 : ring.slots * ring.pixels * form.width());
    bytes = carver.used;
  }

  // Rows [begin, end) of all images, input channels from `channel` on, into one partial result.
  void run(int64_t begin, int64_t end, int64_t channel, T* partial) {
    const Problem& problem = call.problem;
    const int64_t count = grad_form.count;
    fill_picked_lanes(picked, count, problem.multiplier);
    fill_picked_lanes(grad_picked, count, 1);
    for (int64_t i = 0; i < (problem.taps() + 1) * tap_pitch; i += kLanes<T>) {
      store(sums + i, Vector<T>{});
    }
    int64_t image = -1;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t n = row / problem.rows.output;
      if (n != image) {
        image = n;
        ring.image = static_cast<const S*>(call.input) +
                     n * problem.rows.input * problem.cols.input * problem.channels + channel;
        ring.forget();
      }
      const S* grad = static_cast<const S*>(call.grad) +
                      row * problem.cols.output * problem.lanes() + channel * problem.multiplier;
      const T* line = reinterpret_cast<const T*>(grad);
      if (!grad_form.in_place()) {
        write_row(grad, problem.cols.output, grad_form, grad_picked, grad_line);
        line = grad_line;
      }
      if (call.bias_gradient) add_to_bias(line);
      if (call.filter_gradient) add_row(row % problem.rows.output, line);
    }
    for (int64_t tap = 0; tap <= problem.taps(); ++tap) {
      for (int64_t v = 0; v * kLanes<T> < count; ++v) {
        store_lanes(partial + tap * problem.lanes() + first_lane<T>(v, count),
                    load(sums + tap * tap_pitch + v * kLanes<T>), grad_picked[v].lanes);
      }
    }
  }

  // The pixels of a row in four interleaved chains.
  void add_to_bias(const T* line) {
    const int64_t pitch = grad_form.pitch();
    const int64_t pixels = call.problem.cols.output;
    for (int64_t v = 0; v * kLanes<T> < grad_form.count; ++v) {
      const T* p = line + first_lane<T>(v, grad_form.count);
      T* total = sums + call.problem.taps() * tap_pitch + v * kLanes<T>;
      Vector<T> sum[4] = {load(total)};
      int64_t i = 0;
      for (; i + 4 <= pixels; i += 4, p += 4 * pitch) {
        DW_UNROLL for (int j = 0; j < 4; ++j) sum[j] += load(p + j * pitch);
      }
      for (; i < pixels; ++i, p += pitch) sum[0] += load(p);
      store(total, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
  }

  void add_row(int64_t oh, const T* line) {
    const Problem& problem = call.problem;
    const RowsInSight listed =
        list_rows(call.down, problem.rows, oh, ring, sums, problem.cols.kernel * tap_pitch, rows);
    for (int64_t i = 0; i < call.sweep_count; ++i) {
      const Sweep& sweep = call.sweeps[i];
      Tile<T> tile = tile_of(sweep, ring, rows, listed, tap_pitch, problem.rows.stride);
      tile.lanes = grad_form.width();
      tile.members = const_cast<T*>(line) + sweep.first * grad_form.pitch();  // only read
      tile.member_pitch = sweep.pitch * grad_form.pitch();
      run_sweep<FilterTile>(tile, sweep.members, sweep.columns, masks);
    }
  }
};

inline int64_t filter_nhwc_tasks(const FilterCall& call) {
  return call.groups * ceil_div(call.problem.channels, call.chunk);
}

template <class S>
int64_t filter_nhwc_scratch_bytes(const FilterCall& call) {
  const int64_t last = last_chunk(call.problem.channels, call.chunk);
  return max64(NhwcFilter<S>(call, call.chunk, nullptr).bytes,
               NhwcFilter<S>(call, last, nullptr).bytes);
}

template <class S>
void filter_nhwc_run(const FilterCall& call, int64_t begin, int64_t end, void* memory) {
  const Problem& problem = call.problem;
  const int64_t chunks = ceil_div(problem.channels, call.chunk);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t group = task / chunks;
    const int64_t channel = task % chunks * call.chunk;
    Compute<S>* partial = static_cast<Compute<S>*>(call.partials) +
                          group * (problem.taps() + 1) * problem.lanes() +
                          channel * problem.multiplier;
    NhwcFilter<S>(call, min64(call.chunk, problem.channels - channel), memory)
        .run(group * call.group_units, min64(call.units, (group + 1) * call.group_units), channel,
             partial);
  }
}
