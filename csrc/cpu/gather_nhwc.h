// The gathering pass (window.h) over NHWC memory. No include guard: see each_isa.h.
//
// A task is a block of destination rows and a chunk of channels of one image. Each destination row
// lists the source rows that it meets; the columns come in sweeps, cut into register tiles.

template <class S>
struct NhwcGather {
  using T = Compute<S>;
  const GatherCall& call;
  RowForm<S> source_form;
  RowForm<S> result_form;
  RowRing<S> ring;
  PickedLanes<S>* picked;  // [vectors of a chunk]
  TileRow<T>* rows;        // [kh]
  uint32_t* masks;         // [taps of a sweep]
  T* weights;              // [taps, vector]: where a chunk has fewer channels than a vector
  T* bias;                 // [vector]
  T* result;               // [destination columns, width]: where results need another form
  int64_t bytes;

  // Lays out the scratch for tasks of `channels` input channels; memory null: to learn its size.
  NhwcGather(const GatherCall& gather_call, int64_t channels, void* memory) : call(gather_call) {
    const Problem& problem = call.problem;
    const int64_t count = channels * problem.multiplier;
    const bool forward = call.down.forward;
    source_form = {forward ? problem.channels : problem.lanes(), count,
                   forward ? problem.multiplier : 1};
    result_form = {forward ? problem.lanes() : problem.channels, count,
                   forward ? 1 : problem.multiplier};
    Carver carver = {static_cast<char*>(memory), 0};
    picked = carver.take<PickedLanes<S>>(ceil_div(count, kLanes<T>));
    rows = carver.take<TileRow<T>>(problem.rows.kernel);
    masks = carver.take<uint32_t>(most_taps(call.sweeps, call.sweep_count));
    const int64_t vectors = count < kLanes<T> ? problem.taps() : 0;
    weights = carver.take<T>(vectors * kLanes<T>);
    bias = carver.take<T>(kLanes<T>);
    result =
        carver.take<T>(result_form.in_place() ? 0 : call.across.destinations * result_form.width());
    ring = {nullptr, call.down.sources, call.across.sources, source_form, picked,
            nullptr, nullptr,           call.rows_in_sight};
    ring.held = carver.take<int64_t>(ring.slots);
    ring.lines =
        carver.take<T>(source_form.in_place() ? 0 : ring.slots * ring.pixels * source_form.width());
    bytes = carver.used;
  }

  // Image n, destination rows [begin, end), input channels from `channel` on.
  void run(int64_t n, int64_t begin, int64_t end, int64_t channel) {
    const Problem& problem = call.problem;
    const bool forward = call.down.forward;
    const int64_t lane = channel * problem.multiplier;
    const int64_t count = source_form.count;
    const T* filter = static_cast<const T*>(call.filter) + lane;
    const T* offset = call.bias ? static_cast<const T*>(call.bias) + lane : nullptr;
    int64_t weight_pitch = problem.lanes();
    if (count < kLanes<T>) {
      fill_up(filter, problem.taps(), problem.lanes(), count, weights);
      filter = weights;
      weight_pitch = kLanes<T>;
      if (offset) {
        fill_up(offset, 1, 0, count, bias);
        offset = bias;
      }
    }
    if (!source_form.in_place()) fill_picked_lanes(picked, count, source_form.repeat);
    ring.image = static_cast<const S*>(call.source) +
                 n * call.down.sources * call.across.sources * source_form.channels +
                 (forward ? channel : lane);
    ring.forget();
    for (int64_t row = begin; row < end; ++row) {
      S* destination =
          static_cast<S*>(call.destination) +
          (n * call.down.destinations + row) * call.across.destinations * result_form.channels +
          (forward ? lane : channel);
      const bool in_place = result_form.in_place();
      gather_row(row, filter, weight_pitch, offset,
                 in_place ? reinterpret_cast<T*>(destination) : result);
      if (!in_place) store_row(result, call.across.destinations, result_form, destination);
    }
  }

  void gather_row(int64_t row, const T* filter, int64_t weight_pitch, const T* offset, T* results) {
    const Problem& problem = call.problem;
    // weights are only read; sums of weight gradients share the type of the tile
    const RowsInSight listed = list_rows(call.down, problem.rows, row, ring, const_cast<T*>(filter),
                                         problem.cols.kernel * weight_pitch, rows);
    for (int64_t i = 0; i < call.sweep_count; ++i) {
      const Sweep& sweep = call.sweeps[i];
      Tile<T> tile = tile_of(sweep, ring, rows, listed, weight_pitch, call.down.source_step);
      tile.lanes = source_form.width();
      tile.members = results + sweep.first * result_form.pitch();
      tile.member_pitch = sweep.pitch * result_form.pitch();
      tile.bias = offset;
      run_sweep<GatherTile>(tile, sweep.members, sweep.columns, masks);
    }
  }
};

inline int64_t nhwc_tasks(const GatherCall& call) {
  return call.problem.batch * ceil_div(call.down.destinations, call.block) *
         ceil_div(call.problem.channels, call.chunk);
}

template <class S>
int64_t nhwc_scratch_bytes(const GatherCall& call) {
  const int64_t last = last_chunk(call.problem.channels, call.chunk);
  return max64(NhwcGather<S>(call, call.chunk, nullptr).bytes,
               NhwcGather<S>(call, last, nullptr).bytes);
}

template <class S>
void nhwc_run(const GatherCall& call, int64_t begin, int64_t end, void* memory) {
  const int64_t chunks = ceil_div(call.problem.channels, call.chunk);
  const int64_t blocks = ceil_div(call.down.destinations, call.block);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t channel = task % chunks * call.chunk;
    const int64_t row = task / chunks % blocks * call.block;
    const int64_t channels = min64(call.chunk, call.problem.channels - channel);
    NhwcGather<S>(call, channels, memory)
        .run(task / chunks / blocks, row, min64(row + call.block, call.down.destinations), channel);
  }
}
