// The filter and bias gradient with vectors of adjacent channels. No include guard: see each_isa.h.
//
// df[kh, kw, o] is the sum over (n, oh, ow) of grad[n, oh, ow, o] * x[n, ih, iw, channel of o].
// A task is a group of units (kernels.h) and a chunk of channels. Its sums stay in scratch, small
// enough for the caches, while the rows of grad pass by once, in register tiles.

template <class S>
struct ChannelFilter {
  using T = Compute<S>;
  const FilterCall& call;
  RowForm<S> grad_form;
  RowRing<S> ring;
  PickedLanes<S>* picked;       // [vectors of a chunk]: input
  PickedLanes<S>* grad_picked;  // [vectors of a chunk]: grad
  TileLine<T>* lines;           // [kh]
  TileList<FilterTile, T> tiles;
  T* grad_line;  // [rows, columns of a share, pitch]: grad in another form
  T* sums;       // [taps + 1, vectors * lanes of a vector]; the last is the bias
  int64_t tap_pitch;
  int64_t bytes;

  ChannelFilter(const FilterCall& filter_call, int64_t channels, void* memory) : call(filter_call) {
    const Plan& plan = call.plan;
    const Problem& problem = plan.problem;
    const int64_t count = channels * problem.multiplier;
    const int64_t vectors = ceil_div(count, kLanes<T>);
    const bool planar = !problem.channels_last;
    grad_form = {problem.lanes(), problem.rows.output, problem.cols.output, planar, count, 1,
                 false,           plan.own_form};
    tap_pitch = vectors * kLanes<T>;
    Carver carver = {static_cast<char*>(memory), 0};
    picked = carver.take<PickedLanes<S>>(vectors);
    grad_picked = carver.take<PickedLanes<S>>(vectors);
    lines = carver.take<TileLine<T>>(problem.rows.kernel);
    tiles = TileList<FilterTile, T>(plan.cols.most_sweeps(), plan.cols.block, plan.cols.most_taps,
                                    carver);
    const int64_t pixels = (plan.whole_rows ? plan.rows.block : 1) * plan.cols.block;
    grad_line = carver.take<T>(grad_form.in_place() ? 0 : pixels * grad_form.pitch());
    sums = carver.take<T>((problem.taps() + 1) * tap_pitch);
    const RowForm<S> form = {
        problem.channels,   problem.rows.input, problem.cols.input, planar, count,
        problem.multiplier, plan.copies_rows,   plan.own_form};
    ring = RowRing<S>(plan, form, picked, carver);
    bytes = carver.used;
  }

  // Units [begin, end) of one chunk, into one partial result.
  void run(int64_t begin, int64_t end, int64_t chunk) {
    const Plan& plan = call.plan;
    const Problem& problem = plan.problem;
    fill_picked_lanes(picked, grad_form.count, problem.multiplier);
    fill_picked_lanes(grad_picked, grad_form.count, 1);
    for (int64_t i = 0; i < (problem.taps() + 1) * tap_pitch; i += kLanes<T>) {
      store(sums + i, Vector<T>{});
    }
    for (int64_t unit = begin; unit < end; ++unit) add_share(share_of(plan, unit, chunk));
  }

  void add_share(const Share& share) {
    const Plan& plan = call.plan;
    const int64_t channel = share.channels.begin;
    const int64_t pixels = share.cols.end - share.cols.begin;
    if (call.filter_gradient) {
      ring.begin(plan, static_cast<const S*>(call.input), share, channel);
      if (!plan.strips) list_tiles(share);
    }
    const S* tensor = static_cast<const S*>(call.grad) +
                      grad_form.channel_offset(share.image, channel * plan.problem.multiplier);
    if (plan.whole_rows && !grad_form.in_place()) {
      write_pixels(tensor + grad_form.pixel_offset(share.rows.begin, 0),
                   (share.rows.end - share.rows.begin) * pixels, grad_form, grad_picked, grad_line);
    }
    if (plan.strips) return add_strips(share, tensor);
    T* line = grad_line;
    for (int64_t row = share.rows.begin; row < share.rows.end; ++row) {
      const S* grad = tensor + grad_form.pixel_offset(row, share.cols.begin);
      if (grad_form.in_place()) {
        line = reinterpret_cast<T*>(const_cast<S*>(grad));  // only read
      } else if (!plan.whole_rows) {
        write_pixels(grad, pixels, grad_form, grad_picked, grad_line);
      }
      if (call.bias_gradient) add_to_bias(line, pixels);
      if (call.filter_gradient) add_row(row, line);
      if (plan.whole_rows) line += pixels * grad_form.pitch();
    }
  }

  // `tensor`: row 0, column 0 of grad.
  void add_strips(const Share& share, const S* tensor) {
    if constexpr (kHasStrips<T>) {
      if (call.plan.own_form) {
        add_strips(share, ring.image, tensor, picked);
      } else {
        const T* grad = grad_form.in_place() ? reinterpret_cast<const T*>(tensor)
                                             : grad_form.row_zero(grad_line, share.rows.begin);
        add_strips<T>(share, ring.row_zero(), grad, nullptr);
      }
    }
  }

  template <class P>
  void add_strips(const Share& share, const P* source, const P* grad, const PickedLanes<P>* pick) {
    const int64_t grad_row = grad_form.cols * grad_form.pitch();
    for (int64_t row = share.rows.begin; call.bias_gradient && row < share.rows.end; ++row) {
      add_to_bias(grad + row * grad_row + share.cols.begin * grad_form.pitch(),
                  share.cols.end - share.cols.begin);
    }
    if (!call.filter_gradient) return;
    StripSweep<P> strips = {};
    strips.source = source;
    strips.members = const_cast<P*>(grad);  // only read
    strips.taps = sums;
    strips.lanes = grad_form.width();
    strips.picked = ring.form.in_place() && ring.form.repeat > 1 ? pick : nullptr;
    strips.next_source.wanted = call.plan.fetches && ring.form.in_place() && !strips.picked;
    strips.next_members.wanted = call.plan.fetches && grad_form.in_place();
    run_all_strips<StripFilter>(
        call.plan, share, strips,
        {ring.form.cols * ring.form.pitch(), grad_row, call.plan.problem.cols.kernel * tap_pitch},
        {ring.form.pitch(), grad_form.pitch(), tap_pitch});
  }

  // The pixels of a row in four interleaved chains.
  template <class P>
  void add_to_bias(const P* line, int64_t pixels) {
    const int64_t pitch = grad_form.pitch();
    for (int64_t v = 0; v * kLanes<T> < grad_form.count; ++v) {
      const P* p = line + first_lane<T>(v, grad_form.count);
      T* total = sums + call.plan.problem.taps() * tap_pitch + v * kLanes<T>;
      Vector<T> sum[4] = {load(total)};
      int64_t i = 0;
      for (; i + 4 <= pixels; i += 4, p += 4 * pitch) {
        DW_UNROLL for (int j = 0; j < 4; ++j) sum[j] += load(p + j * pitch);
      }
      for (; i < pixels; ++i, p += pitch) sum[0] += load(p);
      store(total, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
  }

  void list_tiles(const Share& share) {
    const AxisPlan& cols = call.plan.cols;
    tiles.clear();
    for (int64_t i = 0; i < cols.class_count; ++i) {
      for_each_sweep(cols.classes[i], share.cols, cols.gather.sources, [&](const Sweep& sweep) {
        tiles.add(sweep, ring.form.pitch(), -ring.first_column * ring.form.pitch(),
                  grad_form.pitch(), -share.cols.begin * grad_form.pitch(), tap_pitch);
      });
    }
  }

  // `line`: the share's columns of grad.
  void add_row(int64_t oh, T* line) {
    const Plan& plan = call.plan;
    int64_t next;
    const int64_t count =
        ring.list(plan.rows, oh, sums, plan.problem.cols.kernel * tap_pitch, lines, &next);
    TileRow<T> row = {};
    row.members = line;
    row.lines = lines;
    row.line_count = count;
    row.lanes = grad_form.width();
    ring.fetch_ahead(next, plan.rows.gather.source_step, row);
    if (plan.fetches && grad_form.in_place()) {
      row.members_ahead = line + grad_form.cols * grad_form.pitch();
    }
    tiles.run(row);
  }

  // `partial`: [taps + 1, lanes], lane 0 of the chunk.
  void write_sums(T* partial) const {
    for (int64_t tap = 0; tap <= call.plan.problem.taps(); ++tap) {
      for (int64_t v = 0; v * kLanes<T> < grad_form.count; ++v) {
        store_lanes(partial + tap * call.plan.problem.lanes() + first_lane<T>(v, grad_form.count),
                    load(sums + tap * tap_pitch + v * kLanes<T>), lanes_used<T>(grad_form.count));
      }
    }
  }
};

template <class S>
int64_t channel_filter_scratch_bytes(const FilterCall& call) {
  const int64_t last = call.plan.last_chunk();
  return max64(ChannelFilter<S>(call, call.plan.chunk, nullptr).bytes,
               ChannelFilter<S>(call, last, nullptr).bytes);
}

template <class S>
void channel_filter_run(const FilterCall& call, int64_t begin, int64_t end, void* memory) {
  const Problem& problem = call.plan.problem;
  for_each_task<Compute<S>>(call, begin, end, [&](Range units, int64_t chunk, Compute<S>* partial) {
    const int64_t channel = chunk * call.plan.chunk;
    ChannelFilter<S> filter(call, min64(call.plan.chunk, problem.channels - channel), memory);
    filter.run(units.begin, units.end, chunk);
    filter.write_sums(partial + channel * problem.multiplier);
  });
}
