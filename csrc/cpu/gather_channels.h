// The gathering pass (window.h) with vectors of adjacent channels. No include guard: see
// each_isa.h.
//
// Each destination row of a share lists the source rows that it meets; the columns come in sweeps,
// cut into register tiles. Where the plan says so, strips (strips.h) do the whole share instead.

constexpr int64_t kLineBytes = 64;  // of the caches

template <class S>
struct ChannelGather {
  using T = Compute<S>;
  const GatherCall& call;
  RowForm<S> source_form;
  RowForm<S> result_form;
  bool streams;      // results are written past the caches
  HalfBits* halves;  // [columns, members of a strip]: of memory lines, kept for the other halves
  RowRing<S> ring;
  PickedLanes<S>* picked;  // [vectors of a chunk]
  TileLine<T>* lines;      // [rows at once, kh]
  TileList<GatherTile, T> tiles;
  T* weights;  // [taps, vector]: where a chunk has fewer channels than a vector
  T* bias;     // [vector]
  T* result;   // [rows (whole_rows) or 1, columns of a share, pitch]: results need another form
  int64_t bytes;

  // Lays out the scratch for shares of `channels` input channels; memory null: to learn its size.
  ChannelGather(const GatherCall& gather_call, int64_t channels, void* memory) : call(gather_call) {
    const Plan& plan = call.plan;
    const Problem& problem = plan.problem;
    const int64_t count = channels * problem.multiplier;
    const bool forward = plan.rows.gather.forward;
    const bool planar = !problem.channels_last;
    const RowForm<S> input = {
        problem.channels,   problem.rows.input,          problem.cols.input, planar, count,
        problem.multiplier, forward && plan.copies_rows, plan.own_form};
    const RowForm<S> output = {problem.lanes(),
                               problem.rows.output,
                               problem.cols.output,
                               planar,
                               count,
                               1,
                               !forward && plan.copies_rows,
                               plan.own_form};
    source_form = forward ? input : output;
    result_form = forward ? output : input;
    streams = may_stream();
    Carver carver = {static_cast<char*>(memory), 0};
    picked = carver.take<PickedLanes<S>>(ceil_div(count, kLanes<T>));
    lines = carver.take<TileLine<T>>(rows_at_once() * problem.rows.kernel);
    tiles = TileList<GatherTile, T>(plan.cols.most_sweeps(), plan.cols.block, plan.cols.most_taps,
                                    carver);
    const int64_t vectors = count < kLanes<T> ? problem.taps() : 0;
    weights = carver.take<T>(vectors * kLanes<T>);
    bias = carver.take<T>(kLanes<T>);
    const int64_t pixels = (plan.whole_rows ? plan.rows.block : rows_at_once()) * plan.cols.block;
    result = carver.take<T>(result_form.in_place() ? 0 : pixels * result_form.pitch());
    halves = may_stream_pairs() ? carver.take<HalfBits>(kMembers * plan.cols.block) : nullptr;
    ring = RowRing<S>(plan, source_form, picked, carver);
    bytes = carver.used;
  }

  // The weights and bias of a chunk.
  struct Weights {
    const T* filter;  // [kh, kw, pitch]
    const T* bias;    // or null
    int64_t pitch;
  };

  // Those from output channel `lane` on, a whole vector of them at the least.
  Weights weights_from(int64_t lane) {
    const Problem& problem = call.plan.problem;
    const int64_t count = source_form.count;
    const T* filter = static_cast<const T*>(call.filter) + lane;
    const T* offset = call.bias ? static_cast<const T*>(call.bias) + lane : nullptr;
    if (count >= kLanes<T>) return {filter, offset, problem.lanes()};
    fill_up(filter, problem.taps(), problem.lanes(), count, weights);
    if (offset) fill_up(offset, 1, 0, count, bias);
    return {weights, offset ? bias : nullptr, kLanes<T>};
  }

  void run(const Share& share) {
    const Plan& plan = call.plan;
    const Problem& problem = plan.problem;
    const bool forward = plan.rows.gather.forward;
    const int64_t channel = share.channels.begin;
    const int64_t lane = channel * problem.multiplier;
    const Weights weight = weights_from(lane);
    const Gather& across = plan.cols.gather;
    if (!source_form.in_place() || source_form.repeat > 1) {
      fill_picked_lanes(picked, source_form.count, source_form.repeat);
    }
    ring.begin(plan, static_cast<const S*>(call.source), share, forward ? channel : lane);
    if (plan.strips) return run_strips(share, weight);
    tiles.clear();
    for (int64_t i = 0; i < plan.cols.class_count; ++i) {
      for_each_sweep(plan.cols.classes[i], share.cols, across.sources, [&](const Sweep& sweep) {
        tiles.add(sweep, source_form.pitch(), -ring.first_column * source_form.pitch(),
                  result_form.pitch(), -share.cols.begin * result_form.pitch(), weight.pitch);
      });
    }
    const bool in_place = result_form.in_place();
    S* tensor = destination(share);
    const int64_t pixels = share.cols.end - share.cols.begin;
    T* results = result;
    int64_t count;
    for (int64_t row = share.rows.begin; row < share.rows.end; row += count) {
      count = min64(rows_at_once(), share.rows.end - row);
      S* pixel = tensor + result_form.pixel_offset(row, share.cols.begin);
      if (in_place) results = reinterpret_cast<T*>(pixel);
      const int64_t pitch = (in_place ? across.destinations : pixels) * result_form.pitch();
      gather_rows(share, row, count, weight, results, pitch);
      if (plan.whole_rows) {
        results += count * pitch;
      } else if (!in_place) {
        for (int64_t i = 0; i < count; ++i) {
          store_pixels(result + i * pitch, pixels, result_form,
                       pixel + i * result_form.pixel_offset(1, 0));
        }
      }
    }
    if (plan.whole_rows) store_share(share);
  }

  // Row 0, column 0 and the first channel of the chunk.
  S* destination(const Share& share) const {
    const int64_t channel = share.channels.begin;
    const bool forward = call.plan.rows.gather.forward;
    return static_cast<S*>(call.destination) +
           result_form.channel_offset(share.image,
                                      forward ? channel * call.plan.problem.multiplier : channel);
  }

  // whole_rows: the results of a share.
  void store_share(const Share& share) {
    store_pixels(result, (share.rows.end - share.rows.begin) * call.plan.cols.gather.destinations,
                 result_form, destination(share) + result_form.pixel_offset(share.rows.begin, 0));
  }

  void run_strips(const Share& share, const Weights& weight) {
    if constexpr (kHasStrips<T>) {
      if (call.plan.own_form) {
        run_strips(share, weight, ring.image, destination(share), picked);
      } else {
        T* results = result_form.row_zero(result, share.rows.begin);
        run_strips<T>(share, weight, ring.row_zero(), results, nullptr);
        store_share(share);
      }
    }
  }

  // `source`, `results`: row 0 and column 0.
  template <class P>
  void run_strips(const Share& share, const Weights& weight, const P* source, P* results,
                  const PickedLanes<P>* pick) {
    StripSweep<P> strips = {};
    strips.source = source;
    strips.members = results;
    strips.taps = const_cast<T*>(weight.filter);  // only read
    strips.bias = weight.bias;
    strips.streams = streams;
    strips.halves = halves;
    strips.lanes = source_form.width();
    strips.picked = source_form.in_place() && source_form.repeat > 1 ? pick : nullptr;
    strips.next_source.wanted = call.plan.fetches && source_form.in_place() && !strips.picked;
    strips.next_members.wanted = call.plan.far && result_form.in_place() && !streams && !halves;
    const StripPitches down = {source_form.cols * source_form.pitch(),
                               result_form.cols * result_form.pitch(),
                               call.plan.problem.cols.kernel * weight.pitch};
    run_all_strips<StripGather>(call.plan, share, strips, down,
                                {source_form.pitch(), result_form.pitch(), weight.pitch});
  }

  // Results that would push the sources out of the caches go past them. Whole memory lines only.
  bool may_stream() const {
    const Plan& plan = call.plan;
    const int64_t chunk = plan.chunk * (plan.rows.gather.forward ? plan.problem.multiplier : 1);
    const int64_t line = kLineBytes / static_cast<int64_t>(sizeof(S));
    return kStreams<S> && plan.far && result_form.in_place() && result_form.channels % line == 0 &&
           chunk % line == 0 && reinterpret_cast<uintptr_t>(call.destination) % kLineBytes == 0;
  }

  bool may_stream_pairs() const {
    const Plan& plan = call.plan;
    const int64_t chunk = plan.chunk * (plan.rows.gather.forward ? plan.problem.multiplier : 1);
    const int64_t line = kLineBytes / static_cast<int64_t>(sizeof(S));
    return kStreamsPairs<S> && plan.strips && plan.far && result_form.in_place() &&
           result_form.channels % line == 0 && chunk % line == 0 &&
           reinterpret_cast<uintptr_t>(call.destination) % kLineBytes == 0;
  }

  int64_t rows_at_once() const { return call.plan.row_pairs ? 2 : 1; }

  // `count` rows from `row` on. `results`: the share's columns of them.
  void gather_rows(const Share& share, int64_t row, int64_t count, const Weights& weight,
                   T* results, int64_t pitch) {
    const Plan& plan = call.plan;
    TileRow<T> rows[2];
    for (int64_t i = 0; i < count; ++i, results += pitch) {
      if (!plan.cols.covered) {
        fill_row(share.cols.end - share.cols.begin, weight.bias, results);
      }
      TileLine<T>* list = lines + i * plan.problem.rows.kernel;
      int64_t next;
      const int64_t line_count =  // weights are only read
          ring.list(plan.rows, row + i, const_cast<T*>(weight.filter),
                    plan.problem.cols.kernel * weight.pitch, list, &next);
      rows[i] = {};
      rows[i].members = results;
      rows[i].lines = list;
      rows[i].line_count = line_count;
      rows[i].lanes = source_form.width();
      rows[i].bias = weight.bias;
      rows[i].streams = streams;
      ring.fetch_ahead(next, count * plan.rows.gather.source_step, rows[i]);
    }
    if (count == 2) {
      tiles.run_two(rows[0], rows[1]);
    } else {
      tiles.run(rows[0]);
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
  const int64_t last = call.plan.last_chunk();
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
  finish_streams();
}
