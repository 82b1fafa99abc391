// The filter and bias gradient by plane strips. No include guard: see each_isa.h.
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
  const bool nhwc;  // channels alternate
  PlaneStrips<PlaneFilter, S> strips;
  // [channels of a chunk, copies, taps + 1, vector], or [starts, taps + 1, vector]; the last of a
  // lane is its bias
  T* sums;
  T* folded;  // [channels, taps + 1]: of all starts together
  int64_t bytes;

  PlanesFilter(const FilterCall& filter_call, Carver carver)
      : call(filter_call),
        taps(call.plan.problem.taps()),
        nhwc(call.plan.interleaved > 1),
        strips(call.plan, carver),
        sums(
            carver.take<T>((nhwc ? strips.starts
                                 : call.plan.chunk * min64(kCopies, call.plan.problem.multiplier)) *
                           (taps + 1) * kWidth)),
        folded(carver.take<T>(nhwc ? call.plan.interleaved * (taps + 1) : 0)),
        bytes(carver.used) {}

  // Units [begin, end) of one chunk, into one partial result [taps + 1, lanes].
  void run(Range units, int64_t chunk, T* partial) {
    const int64_t multiplier = call.plan.problem.multiplier;
    for (int64_t m = 0; m < multiplier; m += kCopies) {
      const Range copies = {m, min64(m + kCopies, multiplier)};
      const Range channels = share_of(call.plan, units.begin, chunk).channels;
      const int64_t planes =
          nhwc ? strips.starts : (channels.end - channels.begin) * (copies.end - copies.begin);
      zero(sums, planes * (taps + 1) * kWidth);
      add_all(units, chunk, copies);
      const T* sum = fold(planes);
      for_each_lane(channels, copies, [&](int64_t lane) {
        write_sums(sum, partial + lane);
        if (call.filter_gradient && !all_finite(sum, taps)) {
          add_again(units, chunk, lane, partial + lane);
        }
        sum += taps + 1;
      });
    }
  }

  // The sums of all lanes, [planes or channels, taps + 1]. Where channels alternate, lane i of
  // start v is of channel v * kWidth + i, modulo the channels.
  const T* fold(int64_t planes) const {
    if (!nhwc) {
      sums_of_lanes(sums, planes * (taps + 1), sums);
      return sums;
    }
    const int64_t channels = call.plan.interleaved;
    zero(folded, channels * (taps + 1));
    for (int64_t tap = 0; tap <= taps; ++tap) {
      for (int64_t v = 0, c = 0; v < strips.starts; ++v) {
        const T* lanes = sums + (v * (taps + 1) + tap) * kWidth;
        for (int i = 0; i < kWidth; ++i) {
          folded[c * (taps + 1) + tap] += lanes[i];
          if (++c == channels) c = 0;
        }
      }
    }
    return folded;
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
      if (nhwc) {
        add_plane(share, 0, sums);
        continue;
      }
      T* total = sums;
      for_each_lane(share.channels, copies, [&](int64_t lane) {
        add_plane(share, lane, total);
        total += (taps + 1) * kWidth;
      });
    }
  }

  // Of output channel `lane`, or of all of them.
  void add_plane(const Share& share, int64_t lane, T* total) const {
    const S* grad = gradient(share, lane);
    if (call.filter_gradient) {  // the gradient is only read
      strips.run(input(share, lane), const_cast<S*>(grad), {total, nullptr, false, false});
    }
    if (call.bias_gradient) add_bias(share, grad, total + taps * kWidth);
  }

  // The planes that output channel `lane` is computed from.
  const S* input(const Share& share, int64_t lane) const {
    const Problem& problem = call.plan.problem;
    const int64_t size = problem.rows.input * problem.cols.input;
    return Planes<const S>::input(const_cast<void*>(call.input), problem, share,
                                  size)(lane / problem.multiplier - share.channels.begin);
  }
  const S* gradient(const Share& share, int64_t lane) const {
    const Problem& problem = call.plan.problem;
    const int64_t size = problem.rows.output * problem.cols.output;
    const int64_t m = lane - share.channels.begin * problem.multiplier;
    return Planes<const S>::output(const_cast<void*>(call.grad), problem, share, m, size)(0);
  }

  void add_bias(const Share& share, const S* grad, T* total) const {
    const int64_t columns = call.plan.problem.cols.output * call.plan.interleaved;
    add_line(grad + share.rows.begin * columns, (share.rows.end - share.rows.begin) * columns,
             total, strips.starts * kWidth, (taps + 1) * kWidth);
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
