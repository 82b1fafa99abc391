// The filter and bias gradient with vectors of adjacent columns, for few channels. No include
// guard: see each_isa.h.
//
// df[kh, kw, o] is the dot product of a grad plane with a shifted input plane. Both are packed into
// lines (lines.h), grad with zeros behind each plane; the tiles run down the rows and leave a
// vector of sums per tap, or so many that every channel has lanes of its own. Padding and those
// zeros are multiplied; where anything they meet is not finite, a sum comes out that is not, and
// the task is done again without them.

template <class S>
struct ColumnFilter {
  using T = Compute<S>;
  static constexpr int kWidth = kLanes<T>;
  static constexpr int64_t kCopies = 8;  // output channels of an input channel that share its lines
  const FilterCall& call;
  const int64_t tap_period;  // see TileRow
  const int64_t tap_pitch;
  T* lines;           // [rows of a block, phases, pitch]
  T* grads;           // [members of a block, lanes]
  T* sums;            // [copies, taps, tap_pitch]
  T* bias_sums;       // [copies, planes, vector], or the one period where channels alternate
  TileLine<T>* list;  // [kw]
  TileList<FilterTile, T> tiles;
  int64_t bytes;

  ColumnFilter(const FilterCall& filter_call, void* memory)
      : call(filter_call),
        tap_period(call.plan.interleaved > 1 ? call.plan.starts(kWidth) * kWidth
                   : call.plan.chunk == 1    ? kWidth
                                             : 0),
        tap_pitch(tap_period > 0 ? tap_period : call.plan.most_lanes) {
    const Plan& plan = call.plan;
    const int64_t copies = min64(kCopies, lines_of_copies(plan));
    Carver carver = {static_cast<char*>(memory), 0};
    lines = carver.take<T>(plan.packs ? plan.block_lines * plan.line_pitch : 0);
    grads = carver.take<T>(plan.packs ? plan.block_members * plan.most_lanes : 0);
    sums = carver.take<T>(copies * plan.problem.taps() * tap_pitch);
    bias_sums = carver.take<T>(copies * bias_lanes());
    list = carver.take<TileLine<T>>(plan.problem.cols.kernel);
    tiles = TileList<FilterTile, T>(1, plan.block_members, plan.rows.most_taps, carver);
    bytes = carver.used;
  }

  Planes<const S> inputs(const Share& share) const {
    const Problem& problem = call.plan.problem;
    return Planes<const S>::input(const_cast<void*>(call.input), problem, share,
                                  problem.rows.input * problem.cols.input);
  }
  Planes<const S> gradients(const Share& share, int64_t m) const {
    const Problem& problem = call.plan.problem;
    return Planes<const S>::output(const_cast<void*>(call.grad), problem, share, m,
                                   problem.rows.output * problem.cols.output);
  }

  // Units [begin, end) of one chunk, into one partial result [taps + 1, lanes].
  void run(int64_t begin, int64_t end, int64_t chunk, T* partial) {
    const Plan& plan = call.plan;
    for (int64_t m = 0; m < lines_of_copies(plan); m += kCopies) {
      const Range copies = {m, min64(m + kCopies, lines_of_copies(plan))};
      const int64_t count = (copies.end - copies.begin) * plan.problem.taps() * tap_pitch;
      zero(sums, count);
      zero(bias_sums, (copies.end - copies.begin) * bias_lanes());
      for (int64_t unit = begin; unit < end; ++unit) {
        const Share share = share_of(plan, unit, chunk);
        if (call.bias_gradient) add_bias(share, copies);
        if (call.filter_gradient) add_share(share, copies, !plan.packs);
      }
      if (plan.packs && call.filter_gradient && !all_finite(sums, count)) {
        zero(sums, count);
        for (int64_t unit = begin; unit < end; ++unit) {
          add_share(share_of(plan, unit, chunk), copies, true);
        }
      }
      write_sums(share_of(plan, begin, chunk), copies, partial);
    }
  }

  // Rows of whole columns follow each other without a gap.
  void add_bias(const Share& share, Range copies) {
    const int64_t lanes = call.plan.interleaved;
    const int64_t columns = call.plan.problem.cols.output * lanes;
    const int64_t width = (share.cols.end - share.cols.begin) * lanes;
    const bool whole = width == columns;
    for (int64_t m = copies.begin; m < copies.end; ++m) {
      for (int64_t g = 0; g < planes_in_line(call.plan, share); ++g) {
        T* total = bias_sums + (m - copies.begin) * bias_lanes() + g * kWidth;
        const S* plane = gradients(share, m)(g) + share.cols.begin * lanes;
        for (int64_t row = share.rows.begin; row < share.rows.end;) {
          const int64_t rows = whole ? share.rows.end - row : 1;
          add_line(plane + row * columns, rows * width, total, lanes > 1 ? tap_period : kWidth);
          row += rows;
        }
      }
    }
  }

  void add_share(const Share& share, Range copies, bool plain) {
    const Plan& plan = call.plan;
    if (plan.cols.class_count == 0) return;
    const TapClass cols = restricted(plan.cols.classes[0], share.cols);
    if (cols.members == 0) return;
    for_each_block(plan, share, [&](const Sweep& rows) {
      if (plain) {
        add_plain(share, rows, cols, copies);
        return;
      }
      const LineBlock<T> block =
          pack_block<S>(rows, plan.problem.cols.input, form_of(call.plan, share),
                        planes_in_line(plan, share), inputs(share), lines);
      for (int64_t m = copies.begin; m < copies.end; ++m) {
        add_block(share, rows, cols, block, m, sums_of(m - copies.begin));
      }
    });
  }

  T* sums_of(int64_t copy) const { return sums + copy * call.plan.problem.taps() * tap_pitch; }

  void add_block(const Share& share, const Sweep& rows, const TapClass& cols,
                 const LineBlock<T>& block, int64_t m, T* total) {
    const Problem& problem = call.plan.problem;
    const LineForm& form = form_of(call.plan, share);
    const int64_t members = cols.members * form.interleaved;
    T* line = grads;
    for (int64_t i = 0; i < rows.members; ++i, line += form.lanes) {
      const int64_t row = (rows.first + i * rows.pitch) * problem.cols.output;
      const int64_t at = (row + cols.first) * form.interleaved;
      int64_t end = 0;
      for (int64_t g = 0; g < planes_in_line(call.plan, share); ++g) {
        const int64_t begin = g * form.width;
        zero(line + end, begin - end);
        end = begin + members;
        widen_all(gradients(share, m)(g) + at, members, line + begin);
      }
      zero(line + end, form.lanes - end);
    }
    TileRow<T> row = block.tiles(rows, cols, form, problem.cols.kernel, tap_pitch, form.lanes,
                                 total, list, tiles);
    row.tap_period = tap_period;
    row.lanes = form.lanes;
    row.members = grads;
    tiles.run(row);
  }

  // Tap by tap, without any padding.
  void add_plain(const Share& share, const Sweep& rows, const TapClass& cols, Range copies) const {
    const Problem& problem = call.plan.problem;
    for_each_channel(share, copies, [&](int64_t g, int64_t m, Lanes lanes, Lanes) {
      for (int64_t t = 0; t < rows.taps; ++t) {
        for (int64_t u = 0; u < cols.taps; ++u) {
          const int64_t tap = (rows.index + t * rows.index_step) * problem.cols.kernel +
                              cols.index + u * cols.index_step;
          sums[tap * tap_pitch + lanes.begin] +=
              plain_dot(gradients(share, m)(g), inputs(share)(g), problem, rows, cols, t, u);
        }
      }
    });
  }

  // Every step-th of the sums, from those of a copy's first tap on.
  struct Lanes {
    int64_t begin;
    int64_t end;
    int64_t step;
  };

  // Calls visit(g, m, lanes, bias lanes) for every copy m of the channels g of a share.
  template <class Visit>
  void for_each_channel(const Share& share, Range copies, const Visit& visit) const {
    const Plan& plan = call.plan;
    const int64_t multiplier = plan.problem.multiplier;
    for (int64_t g = 0; g < planes_of(share); ++g) {
      if (plan.interleaved > 1) {
        for (int64_t m = 0; m < multiplier; ++m) {
          const Lanes lanes = {g * multiplier + m, tap_period, plan.interleaved};
          visit(g, m, lanes, lanes);
        }
        continue;
      }
      const int64_t begin = plan.chunk == 1 ? 0 : g * form_of(plan, share).width;
      const int64_t end = plan.chunk == 1 ? kWidth : begin + form_of(plan, share).width;
      for (int64_t m = copies.begin; m < copies.end; ++m) {
        const int64_t first = (m - copies.begin) * plan.problem.taps() * tap_pitch;
        const int64_t bias = (m - copies.begin) * bias_lanes() + g * kWidth;
        visit(g, m, Lanes{first + begin, first + min64(end, tap_pitch), 1},
              Lanes{bias, bias + kWidth, 1});
      }
    }
  }

  // Of one copy.
  int64_t bias_lanes() const {
    return call.plan.interleaved > 1 ? tap_period : call.plan.chunk * kWidth;
  }

  void write_sums(const Share& share, Range copies, T* partial) const {
    const Problem& problem = call.plan.problem;
    const int64_t taps = problem.taps();
    for_each_channel(share, copies, [&](int64_t g, int64_t m, Lanes lanes, Lanes bias) {
      T* to = partial + (share.channels.begin + g) * problem.multiplier + m;
      for (int64_t tap = 0; tap < taps; ++tap) {
        to[tap * problem.lanes()] = sum_of(sums + tap * tap_pitch, lanes);
      }
      to[taps * problem.lanes()] = sum_of(bias_sums, bias);
    });
  }

  static T sum_of(const T* values, Lanes lanes) {
    if (lanes.step > 1) {
      T sum = 0;
      for (int64_t i = lanes.begin; i < lanes.end; i += lanes.step) sum += values[i];
      return sum;
    }
    Vector<T> sum{};
    for (int64_t i = lanes.begin; i < lanes.end; i += kWidth) {
      sum += load_lanes(values + i, 0, static_cast<int>(min64(kWidth, lanes.end - i)));
    }
    return sum_of_lanes<T>(sum);
  }
};

template <class S>
int64_t column_filter_scratch_bytes(const FilterCall& call) {
  return ColumnFilter<S>(call, nullptr).bytes;
}

template <class S>
void column_filter_run(const FilterCall& call, int64_t begin, int64_t end, void* memory) {
  ColumnFilter<S> filter(call, memory);
  for_each_task<Compute<S>>(call, begin, end, [&](Range units, int64_t chunk, Compute<S>* partial) {
    filter.run(units.begin, units.end, chunk, partial);
  });
}
