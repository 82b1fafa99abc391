// The filter and bias gradient over NCHW memory with vectors of adjacent columns, for few channels.
// No include guard: see each_isa.h.
//
// df[kh, kw, o] is the dot product of a grad plane with a shifted input plane. Both are packed into
// lines (lines.h), grad with zeros behind each plane; the tiles run down the rows and leave a
// vector of sums per tap. Padding and those zeros are multiplied; where anything they meet is not
// finite, a sum comes out that is not, and the task is done again without them.

template <class S>
struct ColumnFilter {
  using T = Compute<S>;
  static constexpr int kWidth = kLanes<T>;
  static constexpr int64_t kCopies = 8;  // output channels of an input channel that share its lines
  const FilterCall& call;
  T* lines;           // [rows of a block, phases, pitch]
  T* grads;           // [members of a block, lanes]
  T* sums;            // [copies, taps, one vector for all lanes, or lanes]
  T* bias_sums;       // [copies, planes, vector]
  TileLine<T>* list;  // [kw]
  TileList<FilterTile, T> tiles;
  int64_t tap_pitch;
  int64_t bytes;

  ColumnFilter(const FilterCall& filter_call, void* memory) : call(filter_call) {
    const Plan& plan = call.plan;
    const int64_t copies = min64(kCopies, plan.problem.multiplier);
    tap_pitch = plan.chunk == 1 ? kWidth : plan.most_lanes;
    Carver carver = {static_cast<char*>(memory), 0};
    lines = carver.take<T>(plan.packs ? plan.block_lines * plan.line_pitch : 0);
    grads = carver.take<T>(plan.packs ? plan.block_members * plan.most_lanes : 0);
    sums = carver.take<T>(copies * plan.problem.taps() * tap_pitch);
    bias_sums = carver.take<T>(copies * plan.chunk * kWidth);
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
    for (int64_t m = 0; m < plan.problem.multiplier; m += kCopies) {
      const Range copies = {m, min64(m + kCopies, plan.problem.multiplier)};
      const int64_t count = (copies.end - copies.begin) * plan.problem.taps() * tap_pitch;
      zero(sums, count);
      zero(bias_sums, (copies.end - copies.begin) * plan.chunk * kWidth);
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
    const int64_t columns = call.plan.problem.cols.output;
    const int64_t width = share.cols.end - share.cols.begin;
    const bool whole = width == columns;
    for (int64_t m = copies.begin; m < copies.end; ++m) {
      for (int64_t g = 0; g < planes_of(share); ++g) {
        T* total = bias_sums + ((m - copies.begin) * call.plan.chunk + g) * kWidth;
        const S* plane = gradients(share, m)(g) + share.cols.begin;
        for (int64_t row = share.rows.begin; row < share.rows.end;) {
          const int64_t rows = whole ? share.rows.end - row : 1;
          add_line(plane + row * columns, rows * width, total);
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
        for (int64_t m = copies.begin; m < copies.end; ++m) {
          add_plain(share, rows, cols, m, sums_of(m - copies.begin));
        }
        return;
      }
      const LineBlock<T> block =
          pack_block<S>(rows, plan.problem.cols.input, form_of(call.plan, share), planes_of(share),
                        inputs(share), lines);
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
    T* line = grads;
    for (int64_t i = 0; i < rows.members; ++i, line += form.lanes) {
      const int64_t at = (rows.first + i * rows.pitch) * problem.cols.output + cols.first;
      int64_t end = 0;
      for (int64_t g = 0; g < planes_of(share); ++g) {
        const int64_t begin = g * form.width;
        zero(line + end, begin - end);
        end = begin + cols.members;
        widen_all(gradients(share, m)(g) + at, cols.members, line + begin);
      }
      zero(line + end, form.lanes - end);
    }
    TileRow<T> row = block.tiles(rows, cols, form, problem.cols.kernel, tap_pitch, form.lanes,
                                 total, list, tiles);
    row.same_taps = call.plan.chunk == 1;
    row.lanes = form.lanes;
    row.members = grads;
    tiles.run(row);
  }

  // Tap by tap, without any padding.
  void add_plain(const Share& share, const Sweep& rows, const TapClass& cols, int64_t m,
                 T* total) const {
    const Problem& problem = call.plan.problem;
    for (int64_t g = 0; g < planes_of(share); ++g) {
      for (int64_t t = 0; t < rows.taps; ++t) {
        for (int64_t u = 0; u < cols.taps; ++u) {
          const int64_t tap = (rows.index + t * rows.index_step) * problem.cols.kernel +
                              cols.index + u * cols.index_step;
          total[tap * tap_pitch + lanes_of(share, g).begin] +=
              plain_dot(gradients(share, m)(g), inputs(share)(g), problem, rows, cols, t, u);
        }
      }
    }
  }

  // Which of the sums of a tap are those of plane g.
  Range lanes_of(const Share& share, int64_t g) const {
    if (call.plan.chunk == 1) return {0, kWidth};
    const int64_t width = form_of(call.plan, share).width;
    return {g * width, min64((g + 1) * width, tap_pitch)};
  }

  void write_sums(const Share& share, Range copies, T* partial) const {
    const Problem& problem = call.plan.problem;
    const int64_t taps = problem.taps();
    for (int64_t m = copies.begin; m < copies.end; ++m) {
      for (int64_t g = 0; g < planes_of(share); ++g) {
        const int64_t lane = (share.channels.begin + g) * problem.multiplier + m;
        const int64_t copy = m - copies.begin;
        for (int64_t tap = 0; tap < taps; ++tap) {
          const Range lanes = lanes_of(share, g);
          partial[tap * problem.lanes() + lane] =
              sum_of(sums_of(copy) + tap * tap_pitch + lanes.begin, lanes.end - lanes.begin);
        }
        partial[taps * problem.lanes() + lane] =
            sum_of(bias_sums + (copy * call.plan.chunk + g) * kWidth, kWidth);
      }
    }
  }

  static T sum_of(const T* values, int64_t count) {
    Vector<T> sum{};
    for (int64_t i = 0; i < count; i += kWidth) {
      sum += load_lanes(values + i, 0, static_cast<int>(min64(kWidth, count - i)));
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
