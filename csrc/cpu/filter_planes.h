// The filter and bias gradient over NCHW memory by plane strips. No include guard: see each_isa.h.
//
// Lanes without a column are multiplied as zeros; where what they meet is not finite, a sum comes
// out that is not, and the task is done again by plain loops.

#if DW_VECTOR_BYTES == 64
template <class S>
struct PlanesFilter {
  using T = Compute<S>;
  static constexpr int kWidth = kLanes<T>;
  const FilterCall& call;
  const int64_t taps;
  T* sums;  // [channels of a chunk, copies, taps + 1, vector]; the last of a lane is its bias
  PlaneStrips<PlaneFilter, S> strips;
  int64_t bytes;

  PlanesFilter(const FilterCall& filter_call, Carver carver)
      : call(filter_call),
        taps(filter_call.plan.problem.taps()),
        sums(carver.take<T>(filter_call.plan.chunk * filter_call.plan.problem.multiplier *
                            (taps + 1) * kWidth)),
        strips(filter_call.plan, carver),
        bytes(carver.used) {}

  // Units [begin, end) of one chunk, into one partial result [taps + 1, lanes].
  void run(int64_t begin, int64_t end, int64_t chunk, T* partial) {
    const Range channels = share_of(call.plan, begin, chunk).channels;
    const int64_t count = (channels.end - channels.begin) * call.plan.problem.multiplier;
    zero(sums, count * (taps + 1) * kWidth);
    for (int64_t unit = begin; unit < end; ++unit) {
      const Share share = share_of(call.plan, unit, chunk);
      strips.begin(share);
      for_each_lane(share, [&](const S* input, const S* grad, T* total) {
        // the gradient is only read
        if (call.filter_gradient) strips.run(input, const_cast<S*>(grad), {total, 0, false, false});
        if (call.bias_gradient) add_bias(share, grad, total + taps * kWidth);
      });
    }
    sums_of_lanes(sums, count * (taps + 1), sums);
    write_sums(channels, partial);
    if (!call.filter_gradient || all_finite(sums, count * (taps + 1))) return;
    const int64_t lanes = call.plan.problem.lanes();
    const int64_t first = channels.begin * call.plan.problem.multiplier;
    for (int64_t tap = 0; tap < taps; ++tap) zero(partial + tap * lanes + first, count);
    for (int64_t unit = begin; unit < end; ++unit) {
      const Share share = share_of(call.plan, unit, chunk);
      T* to = partial + first;
      for_each_lane(
          share, [&](const S* input, const S* grad, T*) { add_plain(share, input, grad, to++); });
    }
  }

  // Calls visit(input plane, gradient plane, sums) for the output channels of a share.
  template <class Visit>
  void for_each_lane(const Share& share, const Visit& visit) const {
    const Problem& problem = call.plan.problem;
    const S* input = static_cast<const S*>(call.input);
    const S* grad = static_cast<const S*>(call.grad);
    T* total = sums;
    for (int64_t c = share.channels.begin; c < share.channels.end; ++c) {
      for (int64_t m = 0; m < problem.multiplier; ++m, total += (taps + 1) * kWidth) {
        const int64_t lane = c * problem.multiplier + m;
        const int64_t plane = share.image * problem.channels + c;
        visit(input ? input + plane * problem.rows.input * problem.cols.input : nullptr,
              grad + (share.image * problem.lanes() + lane) * problem.rows.output *
                         problem.cols.output,
              total);
      }
    }
  }

  void add_bias(const Share& share, const S* grad, T* total) const {
    const int64_t columns = call.plan.problem.cols.output;
    add_line(grad + share.rows.begin * columns, (share.rows.end - share.rows.begin) * columns,
             total);
  }

  // Tap by tap, without any padding, into sums of a pitch of all lanes.
  void add_plain(const Share& share, const S* input, const S* grad, T* total) const {
    const Problem& problem = call.plan.problem;
    const TapClass& cols = call.plan.cols.classes[0];
    for_each_sweep(
        call.plan.rows.classes[0], share.rows, problem.rows.input, [&](const Sweep& rows) {
          for (int64_t t = 0; t < rows.taps; ++t) {
            for (int64_t u = 0; u < cols.taps; ++u) {
              const int64_t tap = (rows.index + t * rows.index_step) * problem.cols.kernel +
                                  cols.index + u * cols.index_step;
              total[tap * problem.lanes()] += plain_dot(grad, input, problem, rows, cols, t, u);
            }
          }
        });
  }

  void write_sums(Range channels, T* partial) const {
    const Problem& problem = call.plan.problem;
    const T* sum = sums;
    const int64_t end = channels.end * problem.multiplier;
    for (int64_t lane = channels.begin * problem.multiplier; lane < end; ++lane) {
      for (int64_t tap = 0; tap <= taps; ++tap) partial[tap * problem.lanes() + lane] = *sum++;
    }
  }
};

template <class S>
int64_t plane_filter_scratch_bytes(const FilterCall& call) {
  return PlanesFilter<S>(call, Carver{nullptr, 0}).bytes;
}

template <class S>
void plane_filter_run(const FilterCall& call, int64_t begin, int64_t end, void* memory) {
  PlanesFilter<S> filter(call, Carver{static_cast<char*>(memory), 0});
  for_each_task<Compute<S>>(call, begin, end, [&](Range units, int64_t chunk, Compute<S>* partial) {
    filter.run(units.begin, units.end, chunk, partial);
  });
}
#endif
