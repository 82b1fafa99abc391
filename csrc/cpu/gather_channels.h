// The gathering pass (window.h) with vectors of adjacent channels. No include guard: see
// each_isa.h.
//
// Each destination row of a share lists the source rows that it meets; the columns come in sweeps,
// cut into register tiles.

template <class S>
struct ChannelGather {
  using T = Compute<S>;
  const GatherCall& call;
  RowForm<S> source_form;
  RowForm<S> result_form;
  RowRing<S> ring;
  PickedLanes<S>* picked;  // [vectors of a chunk]
  TileLine<T>* lines;      // [kh]
  uint32_t* masks;         // [taps of a sweep]
  T* weights;              // [taps, vector]: where a chunk has fewer channels than a vector
  T* bias;                 // [vector]
  T* result;  // [rows (whole_rows) or 1, columns of a share, width]: results need another form
  int64_t bytes;

  // Lays out the scratch for shares of `channels` input channels; memory null: to learn its size.
  ChannelGather(const GatherCall& gather_call, int64_t channels, void* memory) : call(gather_call) {
    const Plan& plan = call.plan;
    const Problem& problem = plan.problem;
    const int64_t count = channels * problem.multiplier;
    const bool forward = plan.rows.gather.forward;
    const bool planar = !problem.channels_last;
    const RowForm<S> input = {
        problem.channels,  problem.rows.input, problem.cols.input, planar, count,
        problem.multiplier};
    const RowForm<S> output = {
        problem.lanes(), problem.rows.output, problem.cols.output, planar, count, 1};
    source_form = forward ? input : output;
    result_form = forward ? output : input;
    Carver carver = {static_cast<char*>(memory), 0};
    picked = carver.take<PickedLanes<S>>(ceil_div(count, kLanes<T>));
    lines = carver.take<TileLine<T>>(problem.rows.kernel);
    masks = carver.take<uint32_t>(plan.cols.most_taps);
    const int64_t vectors = count < kLanes<T> ? problem.taps() : 0;
    weights = carver.take<T>(vectors * kLanes<T>);
    bias = carver.take<T>(kLanes<T>);
    const int64_t pixels = (plan.whole_rows ? plan.rows.block : 1) * plan.cols.block;
    result = carver.take<T>(result_form.in_place() ? 0 : pixels * result_form.width());
    ring = RowRing<S>(plan, source_form, picked, carver);
    bytes = carver.used;
  }

  void run(const Share& share) {
    const Plan& plan = call.plan;
    const Problem& problem = plan.problem;
    const bool forward = plan.rows.gather.forward;
    const int64_t channel = share.channels.begin;
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
    ring.begin(plan, static_cast<const S*>(call.source), share, forward ? channel : lane);
    const bool in_place = result_form.in_place();
    S* tensor = static_cast<S*>(call.destination) +
                result_form.channel_offset(share.image, forward ? lane : channel);
    const int64_t pixels = share.cols.end - share.cols.begin;
    T* results = result;
    for (int64_t row = share.rows.begin; row < share.rows.end; ++row) {
      S* destination = tensor + result_form.pixel_offset(row, share.cols.begin);
      if (in_place) results = reinterpret_cast<T*>(destination);
      gather_row(share, row, filter, weight_pitch, offset, results);
      if (plan.whole_rows) {
        results += pixels * result_form.width();
      } else if (!in_place) {
        store_pixels(result, pixels, result_form, destination);
      }
    }
    if (plan.whole_rows) {
      store_pixels(result, (share.rows.end - share.rows.begin) * pixels, result_form,
                   tensor + result_form.pixel_offset(share.rows.begin, 0));
    }
  }

  // `results`: the share's columns of the row.
  void gather_row(const Share& share, int64_t row, const T* filter, int64_t weight_pitch,
                  const T* offset, T* results) {
    const Plan& plan = call.plan;
    if (!plan.cols.covered) fill_row(share.cols.end - share.cols.begin, offset, results);
    // weights are only read; sums of weight gradients share the type of the tile
    int64_t next;
    const int64_t count = ring.list(plan.rows, row, const_cast<T*>(filter),
                                    plan.problem.cols.kernel * weight_pitch, lines, &next);
    for (int64_t i = 0; i < plan.cols.class_count; ++i) {
      const auto run = [&](const Sweep& sweep) {
        Tile<T> tile = tile_of<T>(sweep, ring.form.pitch(), ring.first_column, weight_pitch);
        tile.lines = lines;
        tile.line_count = count;
        tile.lanes = source_form.width();
        tile.members = results + (sweep.first - share.cols.begin) * result_form.pitch();
        tile.member_pitch = sweep.pitch * result_form.pitch();
        tile.bias = offset;
        ring.fetch_ahead(next, plan.rows.gather.source_step, tile);
        run_sweep<GatherTile>(tile, sweep, masks);
      };
      for_each_sweep(plan.cols.classes[i], share.cols, plan.cols.gather.sources, run);
    }
  }

  // What a pixel holds that meets nothing.
  void fill_row(int64_t pixels, const T* offset, T* results) {
    for (int64_t i = 0; i < pixels; ++i, results += result_form.pitch()) {
      for (int64_t v = 0; v * kLanes<T> < result_form.width(); ++v) {
        const int64_t lane = first_lane<T>(v, result_form.width());
        store(results + lane, offset ? load(offset + lane) : Vector<T>{});
      }
    }
  }
};

template <class S>
int64_t channel_gather_scratch_bytes(const GatherCall& call) {
  const int64_t last = last_chunk(call.plan.problem.channels, call.plan.chunk);
  return max64(ChannelGather<S>(call, call.plan.chunk, nullptr).bytes,
               ChannelGather<S>(call, last, nullptr).bytes);
}

// Chunks of the same pixels follow each other: they share memory lines and pages.
template <class S>
void channel_gather_run(const GatherCall& call, int64_t begin, int64_t end, void* memory) {
  const int64_t chunks = call.plan.chunks();
  for (int64_t task = begin; task < end; ++task) {
    const Share share = share_of(call.plan, task / chunks, task % chunks);
    ChannelGather<S>(call, share.channels.end - share.channels.begin, memory).run(share);
  }
}
