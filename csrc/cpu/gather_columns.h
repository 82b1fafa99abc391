// The gathering pass (window.h) with vectors of adjacent columns, for few channels. No include
// guard: see each_isa.h.
//
// A share is one plane, or a few narrow ones side by side, or an NHWC image. Its rows come in
// blocks of a sweep, whose source is packed into lines (lines.h); the tiles then run down the rows.

template <class S>
struct ColumnGather {
  using T = Compute<S>;
  const GatherCall& call;
  const bool plain;  // weights that are not finite, or lines out of proportion: no packed lines
  const bool adds;   // a line of results is summed up copy by copy
  const int64_t tap_period;  // see TileRow
  const int64_t tap_pitch;
  T* lines;           // [rows of a block, phases, pitch]
  T* results;         // [classes of columns (adds) or 1, members of a block, lanes]
  T* weights;         // [taps, tap_pitch]
  T* bias;            // [tap_pitch]
  TileLine<T>* list;  // [kw]
  TileList<GatherTile, T> tiles;
  int64_t weights_of;  // the output channel that they begin with
  int64_t bytes;

  ColumnGather(const GatherCall& gather_call, void* memory)
      : call(gather_call),
        plain(!call.finite_filter || !call.plan.packs),
        adds(call.plan.sums_copies && call.plan.interleaved == 1),
        tap_period(call.plan.interleaved > 1 ? call.plan.interleaved : call.plan.chunk == 1),
        tap_pitch(tap_period == 0 ? call.plan.most_lanes : tap_period - 1 + kLanes<T>),
        weights_of(-1) {
    const Plan& plan = call.plan;
    Carver carver = {static_cast<char*>(memory), 0};
    lines = carver.take<T>(plain ? 0 : plan.block_lines * plan.line_pitch);
    results =
        carver.take<T>((adds ? plan.cols.class_count : 1) * plan.block_members * plan.most_lanes +
                       kLanes<T>);  // pixels are read as vectors
    weights = carver.take<T>(plain ? 0 : plan.problem.taps() * tap_pitch);
    bias = carver.take<T>(tap_pitch);
    list = carver.take<TileLine<T>>(plan.problem.cols.kernel);
    tiles = TileList<GatherTile, T>(1, plan.block_members, plan.rows.most_taps, carver);
    bytes = carver.used;
  }

  Planes<const S> sources(const Share& share, int64_t m) const {
    const Plan& plan = call.plan;
    const int64_t size = plan.rows.gather.sources * plan.cols.gather.sources;
    void* source = const_cast<void*>(call.source);
    return plan.rows.gather.forward ? Planes<const S>::input(source, plan.problem, share, size)
                                    : Planes<const S>::output(source, plan.problem, share, m, size);
  }
  Planes<S> destinations(const Share& share, int64_t m) const {
    const Plan& plan = call.plan;
    const int64_t size = plan.rows.gather.destinations * plan.cols.gather.destinations;
    return plan.rows.gather.forward
               ? Planes<S>::output(call.destination, plan.problem, share, m, size)
               : Planes<S>::input(call.destination, plan.problem, share, size);
  }
  T bias_of(const Share& share, int64_t g, int64_t m) const {
    const int64_t lane = (share.channels.begin + g) * call.plan.problem.multiplier + m;
    return call.bias ? static_cast<const T*>(call.bias)[lane] : T{0};
  }

  void run(const Share& share) {
    const Plan& plan = call.plan;
    if (!plan.rows.covered || !plan.cols.covered) fill(share);
    if (form_of(call.plan, share).lanes == 0) return;  // columns that meet nothing
    for_each_block(plan, share, [&](const Sweep& rows) {
      const bool forward = plan.rows.gather.forward;
      LineBlock<T> block{};
      for (int64_t m = 0; m < lines_of_copies(plan); ++m) {
        if (!plain && (!forward || m == 0)) block = pack(share, rows, m);
        gather_block(share, rows, block, m);
      }
    });
  }

  // What destinations hold that meet nothing.
  void fill(const Share& share) {
    const Plan& plan = call.plan;
    const int64_t copies = plan.rows.gather.forward ? plan.problem.multiplier : 1;
    for (int64_t m = 0; m < copies; ++m) {
      for (int64_t g = 0; g < planes_of(share); ++g) {
        for (int64_t row = share.rows.begin; row < share.rows.end; ++row) {
          const Planes<S> planes = destinations(share, m);
          S* to = planes(g) + row * plan.cols.gather.destinations * planes.pixel;
          const T value = bias_of(share, g, m);
          for (int64_t i = share.cols.begin; i < share.cols.end; ++i) {
            store_scalar(to + i * planes.pixel, value);
          }
        }
      }
    }
  }

  LineBlock<T> pack(const Share& share, const Sweep& rows, int64_t m) {
    const AxisPlan& cols = call.plan.cols;
    return pack_block<S>(rows, cols.gather.sources, form_of(call.plan, share),
                         planes_in_line(call.plan, share), sources(share, m), lines);
  }

  // Copy m of the channels. In the input gradient all copies are summed.
  void gather_block(const Share& share, const Sweep& rows, const LineBlock<T>& block, int64_t m) {
    const Plan& plan = call.plan;
    const LineForm& form = form_of(call.plan, share);
    const bool last = !adds || m == plan.problem.multiplier - 1;
    const bool add = adds && m > 0;
    if (!plain) expand_weights(share, m);
    for (int64_t i = 0; i < plan.cols.class_count; ++i) {
      const TapClass cols = restricted(plan.cols.classes[i], share.cols);
      if (cols.members == 0) continue;
      T* result = results + (adds ? i * plan.block_members * plan.most_lanes : 0);
      if (plain) {
        plain_gather(share, rows, cols, m, add, result);
      } else {
        const bool direct = in_place(cols);
        const int64_t columns = plan.cols.gather.destinations * plan.interleaved;
        TileRow<T> row =
            block.tiles(rows, cols, form, plan.problem.cols.kernel, tap_pitch,
                        direct ? rows.pitch * columns : plan.most_lanes, weights, list, tiles);
        row.tap_period = tap_period;
        row.add = add;
        row.bias = call.bias ? bias : nullptr;
        row.lanes = direct ? cols.members * plan.interleaved : form.lanes;
        row.streams = direct && may_stream(share, cols);
        row.members = direct ? reinterpret_cast<T*>(destinations(share, m)(0)) +
                                   rows.first * columns + cols.first * plan.interleaved
                             : result;
        tiles.run(row);
        if (direct) continue;
      }
      if (last) write(share, rows, cols, m, result);
    }
  }

  // Whether a tile can write its results where they belong.
  bool in_place(const TapClass& cols) const {
    return !call.plan.sums_copies && sizeof(S) == sizeof(T) && tap_period > 0 && cols.pitch == 1 &&
           cols.members * call.plan.interleaved >= kLanes<T>;
  }

  // Whether those are whole memory lines that should go past the caches.
  bool may_stream(const Share& share, const TapClass& cols) const {
    const Plan& plan = call.plan;
    const int64_t lanes = plan.interleaved;
    return kStreams<S> && plan.far && plan.cols.gather.destinations * lanes % kLanes<T> == 0 &&
           cols.first * lanes % kLanes<T> == 0 && cols.members * lanes % kLanes<T> == 0 &&
           reinterpret_cast<uintptr_t>(destinations(share, 0)(0)) % kLineBytes == 0;
  }

  // Weights and bias as vectors: lane by lane where a line holds several planes or channels.
  void expand_weights(const Share& share, int64_t m) {
    const Problem& problem = call.plan.problem;
    const int64_t first = share.channels.begin * problem.multiplier + m;
    if (weights_of == first) return;
    weights_of = first;
    if (call.plan.interleaved > 1) {
      const T* filter = static_cast<const T*>(call.filter);
      for (int64_t t = 0; t < problem.taps(); ++t) {
        repeat(filter + t * problem.lanes(), tap_period, tap_pitch, weights + t * tap_pitch);
      }
      if (call.bias) repeat(static_cast<const T*>(call.bias), tap_period, tap_pitch, bias);
      return;
    }
    for (int64_t g = 0; g < planes_of(share); ++g) {
      const T* filter = static_cast<const T*>(call.filter) + first + g * problem.multiplier;
      for (int64_t t = 0; t < problem.taps(); ++t, filter += problem.lanes()) {
        spread(*filter, g, form_of(call.plan, share), weights + t * tap_pitch);
      }
      spread(bias_of(share, g, m), g, form_of(call.plan, share), bias);
    }
  }

  // One value for all lanes of plane g. What is written behind them is the next plane's.
  void spread(T value, int64_t g, const LineForm& form, T* line) const {
    const int64_t begin = g * form.width;
    for (int64_t i = begin; i < min64(tap_pitch, begin + form.width); i += kLanes<T>) {
      const int64_t rest = min64(kLanes<T>, tap_pitch - i);
      store_lanes(line + i, broadcast(value), static_cast<int>(rest));
    }
  }

  // Tap by tap, without any padding.
  void plain_gather(const Share& share, const Sweep& rows, const TapClass& cols, int64_t m,
                    bool add, T* result) const {
    const Plan& plan = call.plan;
    const Problem& problem = plan.problem;
    const LineForm& form = form_of(call.plan, share);
    for (int64_t i = 0; i < rows.members; ++i, result += plan.most_lanes) {
      for (int64_t g = 0; g < planes_of(share); ++g) {
        T* to = result + g * form.width;
        if (!add) zero(to, cols.members);
        const T* filter = static_cast<const T*>(call.filter) +
                          (share.channels.begin + g) * problem.multiplier + m;
        for (int64_t t = 0; t < rows.taps; ++t) {
          const int64_t point = rows.at + i * rows.step + t;
          if (point < 0 || point >= rows.points) continue;
          const int64_t row = rows.origin + point * rows.spacing;
          const S* from = sources(share, m)(g) + row * plan.cols.gather.sources;
          for (int64_t u = 0; u < cols.taps; ++u) {
            const int64_t tap = (rows.index + t * rows.index_step) * problem.cols.kernel +
                                cols.index + u * cols.index_step;
            const T weight = filter[tap * problem.lanes()];
            const int64_t first = cols.position + u * cols.spacing;
            const Range valid = inside(first, cols.step, plan.cols.gather.sources, cols.members);
            for (int64_t j = valid.begin; j < valid.end; ++j) {
              to[j] += weight * to_compute(from[first + j * cols.step]);
            }
          }
        }
        const T offset = bias_of(share, g, m);
        for (int64_t j = 0; j < cols.members; ++j) to[j] += offset;
      }
    }
  }

  void write(const Share& share, const Sweep& rows, const TapClass& cols, int64_t m,
             const T* result) const {
    const Plan& plan = call.plan;
    const int64_t lanes = plan.interleaved;
    const Planes<S> planes = destinations(share, m);
    const bool as_it_is = planes.pixel == lanes && (lanes == 1 || cols.pitch == 1);
    for (int64_t i = 0; i < rows.members; ++i, result += plan.most_lanes) {
      const int64_t row = (rows.first + i * rows.pitch) * plan.cols.gather.destinations;
      const int64_t at = (row + cols.first) * planes.pixel;
      for (int64_t g = 0; g < planes_in_line(plan, share); ++g) {
        if (as_it_is) {
          write_strided(result + g * form_of(plan, share).width, cols.members * lanes,
                        planes(g) + at, cols.pitch);
        } else {
          write_pixels_apart(result, cols.members, lanes, planes(g) + at, planes.pixel,
                             cols.pitch * planes.pixel);
        }
      }
    }
  }
};

template <class S>
int64_t column_gather_scratch_bytes(const GatherCall& call) {
  return ColumnGather<S>(call, nullptr).bytes;
}

// Shares of the same channels follow each other: they share the expanded weights.
template <class S>
void column_gather_run(const GatherCall& call, int64_t begin, int64_t end, void* memory) {
  ColumnGather<S> gather(call, memory);
  const int64_t units = call.plan.units();
  for (int64_t task = begin; task < end; ++task) {
    gather.run(share_of(call.plan, task % units, task / units));
  }
  finish_streams();
}
