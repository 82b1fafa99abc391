// The filter and bias gradient over NCHW memory by plane strips. No include guard: see each_isa.h.
//
// Lanes without a column are multiplied as zeros; where what they meet is not finite, a sum comes
// out that is not, and the channel is done again by plain loops.

#if DW_VECTOR_BYTES == 64
template <class S>
struct PlanesFilter {
  using T = Compute<S>;
  static constexpr int kWidth = kLanes<T>;
  static constexpr int64_t kCopies = 8;  // output channels of an input channel at a time
  const FilterCall& call;
  const int64_t taps;
  T* sums;  // [channels of a chunk, copies, taps + 1, vector]; the last of a lane is its bias
  PlaneStrips<PlaneFilter, S> strips;
  int64_t bytes;

  PlanesFilter(const FilterCall& filter_call, Carver carver)
      : call(filter_call),
        taps(filter_call.plan.problem.taps()),
        sums(carver.take<T>(filter_call.plan.chunk *
                            min64(kCopies, filter_call.plan.problem.multiplier) * (taps + 1) *
                            kWidth)),
        strips(filter_call.plan, carver),
        bytes(carver.used) {}

  // Units [begin, end) of one chunk, into one partial result [taps + 1, lanes].
  void run(Range units, int64_t chunk, T* partial) {
    const int64_t multiplier = call.plan.problem.multiplier;
    for (int64_t m = 0; m < multiplier; m += kCopies) {
      const Range copies = {m, min64(m + kCopies, multiplier)};
      const Range channels = share_of(call.plan, units.begin, chunk).channels;
      const int64_t vectors =
          (channels.end - channels.begin) * (copies.end - copies.begin) * (taps + 1);
      zero(sums, vectors * kWidth);
      add_all(units, chunk, copies);
      sums_of_lanes(sums, vectors, sums);
      const T* sum = sums;
      for_each_lane(channels, copies, [&](int64_t lane) {
        write_sums(sum, partial + lane);
        if (call.filter_gradient && !all_finite(sum, taps)) {
          add_again(units, chunk, lane, partial + lane);
        }
        sum += taps + 1;
      });
    }
  }

  // Calls visit(output channel).
  template <class Visit>
  void for_each_lane(Range channels, Range copies, const Visit& visit) const {
    for (int64_t c = channels.begin; c < channels.end; ++c) {
      for (int64_t m = copies.begin; m < copies.end; ++m) {
        visit(c * call.plan.problem.multiplier + m);
      }
    }
  }

  void add_all(Range units, int64_t chunk, Range copies) {
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
      const Share share = share_of(call.plan, unit, chunk);
      strips.begin(share);
      T* total = sums;
      for_each_lane(share.channels, copies, [&](int64_t lane) {
        const S* grad = gradient(share, lane);
        if (call.filter_gradient) {  // the gradient is only read
          strips.run(input(share, lane), const_cast<S*>(grad), {total, 0, false, false});
        }
        if (call.bias_gradient) add_bias(share, grad, total + taps * kWidth);
        total += (taps + 1) * kWidth;
      });
    }
  }

  // The planes that output channel `lane` is computed from.
  const S* input(const Share& share, int64_t lane) const {
    const Problem& problem = call.plan.problem;
    const int64_t plane = share.image * problem.channels + lane / problem.multiplier;
    return static_cast<const S*>(call.input) + plane * problem.rows.input * problem.cols.input;
  }
  const S* gradient(const Share& share, int64_t lane) const {
    const Problem& problem = call.plan.problem;
    const int64_t plane = share.image * problem.lanes() + lane;
    return static_cast<const S*>(call.grad) + plane * problem.rows.output * problem.cols.output;
  }

  void add_bias(const Share& share, const S* grad, T* total) const {
    const int64_t columns = call.plan.problem.cols.output;
    add_line(grad + share.rows.begin * columns, (share.rows.end - share.rows.begin) * columns,
             total);
  }

  void write_sums(const T* sum, T* to) const {
    const int64_t lanes = call.plan.problem.lanes();
    for (int64_t tap = 0; tap <= taps; ++tap) to[tap * lanes] = sum[tap];
  }

  // Tap by tap, without any padding.
  void add_again(Range units, int64_t chunk, int64_t lane, T* to) const {
    const Problem& problem = call.plan.problem;
    const TapClass& down = call.plan.rows.classes[0];
    const TapClass& across = call.plan.cols.classes[0];
    for (int64_t tap = 0; tap < taps; ++tap) to[tap * problem.lanes()] = 0;
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
      const Share share = share_of(call.plan, unit, chunk);
      for_each_sweep(down, share.rows, problem.rows.input, [&](const Sweep& rows) {
        for (int64_t tap = 0; tap < taps; ++tap) {  // in the forward pass they are in order
          to[tap * problem.lanes()] +=
              plain_dot(gradient(share, lane), input(share, lane), problem, rows, across,
                        tap / across.taps, tap % across.taps);
        }
      });
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
    filter.run(units, chunk, partial);
  });
}
#endif
