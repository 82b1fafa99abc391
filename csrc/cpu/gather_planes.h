// The gathering pass (window.h) by plane strips. No include guard: see each_isa.h.

#if DW_VECTOR_BYTES == 64
template <class S>
struct PlanesGather {
  using T = Compute<S>;
  const GatherCall& call;
  const bool sums_copies;
  const bool streams;  // results are written past the caches
  PlaneStrips<PlaneGather, S> strips;
  const int64_t tap_pitch;
  T* weights;  // [taps, tap_pitch]: in the order of for_each_tap
  T* bias;     // [tap_pitch]
  int64_t bytes;

  PlanesGather(const GatherCall& gather_call, Carver carver)
      : call(gather_call),
        sums_copies(call.plan.sums_copies),
        streams(may_stream()),
        strips(gather_call.plan, carver),
        tap_pitch(call.plan.interleaved > 1 ? kTapPitch<T> : 1),
        weights(carver.take<T>(call.plan.problem.taps() * tap_pitch)),
        bias(carver.take<T>(tap_pitch)),
        bytes(carver.used) {
    if (carver.memory && tap_pitch > 1) repeat_weights();
  }

  // Where all vectors are whole memory lines, written once.
  bool may_stream() const {
    const Plan& plan = call.plan;
    return kStreams<S> && plan.far && !sums_copies &&
           plan.cols.gather.destinations * plan.interleaved % (plan.cols.class_count * kLanes<T>) ==
               0 &&
           reinterpret_cast<uintptr_t>(call.destination) % kLineBytes == 0;
  }

  void run(const Share& share) {
    const Problem& problem = call.plan.problem;
    strips.begin(share);
    if (call.plan.interleaved > 1) return run_plane(share, 0, 0);  // all channels at once
    for (int64_t c = share.channels.begin; c < share.channels.end; ++c) {
      const int64_t first = c * problem.multiplier;
      const int64_t end = sums_copies ? first + 1 : first + problem.multiplier;
      for (int64_t lane = first; lane < end; ++lane) run_plane(share, c, lane);
    }
  }

  // The plane of results of channel c that output channel `lane` belongs to, or (sums_copies) that
  // is the first to add to it.
  void run_plane(const Share& share, int64_t c, int64_t lane) const {
    const Plan& plan = call.plan;
    const Problem& problem = plan.problem;
    const int64_t source_size = plan.rows.gather.sources * plan.cols.gather.sources;
    const bool forward = plan.rows.gather.forward;
    const int64_t copies = sums_copies ? problem.multiplier : 1;
    const int64_t channel = share.image * problem.channels + c;
    const int64_t output = share.image * problem.lanes() + lane;
    const S* source =
        static_cast<const S*>(call.source) + (forward ? channel : output) * source_size;
    S* result = static_cast<S*>(call.destination) + (forward ? output : channel) *
                                                        plan.rows.gather.destinations *
                                                        plan.cols.gather.destinations;
    for (int64_t m = 0; m < copies; ++m) {
      if (tap_pitch == 1) pick_weights(lane + m);
      strips.run(source + m * source_size, result, {weights, bias, m > 0, streams});
    }
  }

  void pick_weights(int64_t lane) const {
    const int64_t lanes = call.plan.problem.lanes();
    const T* filter = static_cast<const T*>(call.filter) + lane;
    T* to = weights;
    for_each_tap([&](int64_t tap) { *to++ = filter[tap * lanes]; });
    *bias = call.bias ? static_cast<const T*>(call.bias)[lane] : T{0};
  }

  // Those of all channels, over and over.
  void repeat_weights() const {
    const int64_t channels = call.plan.interleaved;
    T* to = weights;
    for_each_tap([&](int64_t tap) {
      repeat(static_cast<const T*>(call.filter) + tap * channels, channels, kTapPitch<T>, to);
      to += kTapPitch<T>;
    });
    zero(bias, kTapPitch<T>);
    if (call.bias) repeat(static_cast<const T*>(call.bias), channels, kTapPitch<T>, bias);
  }

  // Calls visit(kernel position) in the order of the points, class by class.
  template <class Visit>
  void for_each_tap(const Visit& visit) const {
    const Plan& plan = call.plan;
    for (int64_t r = 0; r < plan.rows.class_count; ++r) {
      const TapClass& down = plan.rows.classes[r];
      for (int64_t t = 0; t < down.taps; ++t) {
        const int64_t line = (down.index + t * down.index_step) * plan.problem.cols.kernel;
        for (int64_t s = 0; s < plan.cols.class_count; ++s) {
          const TapClass& across = plan.cols.classes[s];
          for (int64_t u = 0; u < across.taps; ++u) {
            visit(line + across.index + u * across.index_step);
          }
        }
      }
    }
  }
};

template <class S>
int64_t plane_gather_scratch_bytes(const GatherCall& call) {
  return PlanesGather<S>(call, Carver{nullptr, 0}).bytes;
}

template <class S>
void plane_gather_run(const GatherCall& call, int64_t begin, int64_t end, void* memory) {
  PlanesGather<S> gather(call, Carver{static_cast<char*>(memory), 0});
  for (int64_t task = begin; task < end; ++task) gather.run(share_in_order(call.plan, task));
  finish_streams();
}
#endif
