// Picks and starts the kernels for one dtype; <dtype>.cu instantiates them.
#pragma once
#include "filter_channels.h"
#include "filter_planes.h"
#include "filter_points.h"
#include "gather_channels.h"
#include "gather_parities.h"
#include "gather_planes.h"
#include "gather_points.h"
#include "instances.h"

namespace tfcompat_dw::cuda {

// ---- which kernel: from the shape alone
// ----------------------------------------------------------

// float64 is for checking gradients: one kernel for all filter sizes is enough there.
template <class T>
constexpr bool kManySizes = sizeof(T) < 8;

inline bool square(const Problem& p, int64_t k) { return p.rows.kernel == k && p.cols.kernel == k; }
inline bool dense(const Axis& axis) { return axis.stride == 1 && axis.dilation == 1; }

// The K of gather_channels: compiled for K x K taps, or 0 for any number.
template <class T>
inline int fixed_size(const Problem& p, bool forward) {
  if (!kManySizes<T> || p.rows.dilation > 1 || p.cols.dilation > 1) return 0;
  // by parity the input gradient has other numbers of taps
  if (!forward && (p.rows.stride > 1 || p.cols.stride > 1)) return 0;
  const bool steps = p.rows.stride > 1 || p.cols.stride > 1;
  return square(p, 3) ? 3 : square(p, 5) ? 5 : square(p, 7) && !steps ? 7 : 0;
}

// Channels of a thread: several where pixels are multiples of that and a channel has one source.
template <class T>
inline int vector_width(const Problem& p) {
  return p.multiplier == 1 && p.channels % kChannels<T> == 0 ? kChannels<T> : 1;
}

inline bool aligned(const void* address, size_t bytes) {
  return reinterpret_cast<uintptr_t>(address) % bytes == 0;
}

inline void refuse_size() {
  throw std::runtime_error("tfcompat_dw: the sizes of this call exceed what one launch can count");
}
inline unsigned grid_of(double blocks) {
  if (blocks > kMostBlocks) refuse_size();
  return static_cast<unsigned>(blocks);
}

inline GatherPoints points_of(const Problem& p, bool forward) {
  return {gather_axis(p.rows, forward),
          gather_axis(p.cols, forward),
          p.batch,
          forward ? p.lanes() : p.channels,
          forward ? p.channels : p.lanes(),
          p.multiplier,
          p.channels_last};
}

// ---- forward and input gradient
// ------------------------------------------------------------------

template <class T>
struct GatherArrays {
  const T* sources;
  const T* filter;
  const T* bias;
  T* destinations;
  void* stream;
};

template <class T, int V, int K, int S>
inline void start_gather_channels(const GatherChannels& g, const GatherArrays<T>& a) {
  const int64_t copies = g.rows.forward ? 1 : g.multiplier;
  const int64_t taps = (K ? K * K : g.held_taps) * copies;
  launch(gather_channels<T, V, K, S>, grid_of(g.plan.blocks()), g.plan.threads(),
         static_cast<unsigned>(taps * kLaneSlots * static_cast<int64_t>(sizeof(Sum<T>))), a.stream,
         g, a.sources, a.filter, a.bias, a.destinations);
}

template <class T, int V, int S>
inline void pick_gather_channels(int K, const GatherChannels& g, const GatherArrays<T>& a) {
  if constexpr (kManySizes<T>) {
    if (K == 3) return start_gather_channels<T, V, 3, S>(g, a);
    if constexpr (V > 1) {
      if (K == 5) return start_gather_channels<T, V, 5, S>(g, a);
      if constexpr (S == 1) {
        if (K == 7) return start_gather_channels<T, V, 7, S>(g, a);
      }
    }
  }
  start_gather_channels<T, V, 0, S>(g, a);
}

// The K of gather_parities, or 0 where it is not for the problem.
template <class T>
inline int size_of_parities(const Problem& p, int V) {
  const bool strided = p.rows.stride == 2 && p.cols.stride == 2;
  const bool dilated = p.rows.dilation > 1 || p.cols.dilation > 1;
  if (!kManySizes<T> || !strided || dilated || p.multiplier > 1) return 0;
  return square(p, 3) ? 3 : square(p, 5) && V > 1 ? 5 : 0;
}

template <class T, int V, int K>
inline void start_gather_parities(const GatherChannels& g, const GatherArrays<T>& a) {
  launch(gather_parities<T, V, K>, grid_of(g.plan.blocks()), g.plan.threads(),
         static_cast<unsigned>(K * K * kLaneSlots * sizeof(Sum<T>)), a.stream, g, a.sources,
         a.filter, a.destinations);
}

template <class T>
inline bool gather_by_parities(const Problem& p, int V, const GatherArrays<T>& a) {
  const int K = size_of_parities<T>(p, V);
  if (K == 0) return false;
  const GatherPoints points = points_of(p, false);
  const TilePlan plan = plan_tiles(of_both_parities(points.rows), of_both_parities(points.cols),
                                   p.batch, ceil_div(p.channels, V), V);
  const GatherChannels g = {points.rows, points.cols, p.batch, p.channels, p.channels, 1, 0, plan};
  if constexpr (kManySizes<T>) {
    if (V == 1) return start_gather_parities<T, 1, 3>(g, a), true;
    K == 3 ? start_gather_parities<T, kChannels<T>, 3>(g, a)
           : start_gather_parities<T, kChannels<T>, 5>(g, a);
  }
  return true;
}

template <class T>
inline void gather_by_tiles(const Problem& p, bool forward, const GatherArrays<T>& a) {
  GatherPoints points = points_of(p, forward);
  int V = vector_width<T>(p);
  const size_t unit = V * sizeof(T);
  if (!aligned(a.sources, unit) || !aligned(a.destinations, unit)) V = 1;
  if (!forward && gather_by_parities<T>(p, V, a)) return;
  const TilePlan plan =
      plan_tiles(points.rows, points.cols, p.batch, ceil_div(points.destination_channels, V), V);
  int K = fixed_size<T>(p, forward);
  if (!forward && p.multiplier > 1) K = 0;  // a channel has several weights for a tap
  const bool held = p.taps() * (forward ? 1 : p.multiplier) <= kMostHeldTaps<T>;
  const GatherChannels g = {points.rows,
                            points.cols,
                            p.batch,
                            points.destination_channels,
                            points.source_channels,
                            static_cast<int32_t>(p.multiplier),
                            held ? static_cast<int32_t>(p.taps()) : 0,
                            plan};
  const bool two = forward && p.rows.stride == 2;
  if (V > 1) {
    two ? pick_gather_channels<T, kChannels<T>, 2>(K, g, a)
        : pick_gather_channels<T, kChannels<T>, 1>(K, g, a);
  } else {
    two ? pick_gather_channels<T, 1, 2>(K, g, a) : pick_gather_channels<T, 1, 1>(K, g, a);
  }
}

template <class T>
inline bool gather_by_planes(const Problem& p, bool forward, const GatherArrays<T>& a) {
  const GatherPoints points = points_of(p, forward);
  const PlanePlan plan =
      plan_planes<T>(points.rows, points.cols, p.batch, p.channels, p.multiplier);
  if (plan.blocks == 0 || plan.blocks > kMostBlocks) return false;
  const GatherPlanes g = {points, plan};
  const unsigned shared = static_cast<unsigned>((plan.source_slab + plan.result_slab) * sizeof(T));
  const bool walked = dense(p.rows) && dense(p.cols) && p.multiplier == 1;
  const auto start = [&](auto kernel) {
    launch(kernel, grid_of(plan.blocks), kThreads, shared, a.stream, g, a.sources, a.filter, a.bias,
           a.destinations);
  };
  if constexpr (kManySizes<T>) {
    if (walked && square(p, 3)) return start(gather_planes<T, 3>), true;
    if (walked && square(p, 5)) return start(gather_planes<T, 5>), true;
  }
  start(gather_planes<T, 0>);
  return true;
}

template <class T>
inline void gather_by_points(const Problem& p, bool forward, const GatherArrays<T>& a) {
  const GatherPoints g = points_of(p, forward);
  const double count =
      double(p.batch) * g.rows.destinations * g.cols.destinations * g.destination_channels;
  const double blocks = count / kThreads + 1;
  const auto start = [&](auto kernel) {
    launch(kernel, static_cast<unsigned>(blocks < 1e6 ? blocks : 1e6), kThreads, 0, a.stream, g,
           a.sources, a.filter, a.bias, a.destinations);
  };
  // 32 bits hold every count, and every position that source_through forms
  const auto reach = [](const Axis& axis) {
    return double(axis.input) + axis.pad + double(axis.kernel) * axis.dilation +
           double(axis.output) * axis.stride;
  };
  if (count < 4e9 && reach(p.rows) < 4e9 && reach(p.cols) < 4e9 && double(p.lanes()) < 4e9) {
    start(gather_points<T, uint32_t>);
  } else {
    start(gather_points<T, uint64_t>);
  }
}

template <class T>
void Kernels<T>::gather(const Problem& p, bool forward, const void* sources, const void* filter,
                        const void* bias, void* destinations, void* stream) {
  const GatherArrays<T> a = {static_cast<const T*>(sources), static_cast<const T*>(filter),
                             static_cast<const T*>(bias), static_cast<T*>(destinations), stream};
  if (p.channels_last) {
    // one compiled stride for both axes
    const bool tiles = on_lattice(p.rows, forward) && on_lattice(p.cols, forward) &&
                       (!forward || p.rows.stride == p.cols.stride) && p.multiplier < INT32_MAX;
    if (tiles) return gather_by_tiles<T>(p, forward, a);
  } else if (gather_by_planes<T>(p, forward, a)) {
    return;
  }
  gather_by_points<T>(p, forward, a);
}

// ---- filter and bias gradient
// --------------------------------------------------------------------

template <class T>
struct FilterArrays {
  const T* input;
  const T* grad;
  T* filter_gradient;  // null: not wanted
  T* bias_gradient;
  Sum<T>* workspace;
  void* stream;
};

// What a kernel that makes partial sums needs to know, before it is started or only measured.
struct FilterChoice {
  enum { kChannels, kPlanes, kPoints } kernel;
  int K;
  int V;
  int64_t first_tap;  // kPoints: the taps before it are not wanted
  int64_t sums;       // of one split
  uint32_t splits;
};

template <class T>
struct FilterPlans {
  FilterChoice choice;
  FilterPlan channels;
  FilterPlanesPlan planes;
  FilterPoints points;
};

// Columns of 7 x 7 taps that filter_channels sums at once: with three, float16 spills on sm_90.
constexpr int kColumnsOfSeven = 2;

// The K of filter_channels: compiled for K x K taps, or 0 for any number.
template <class T>
inline int summed_size(const Problem& p, int V) {
  if (!kManySizes<T>) return 0;
  if (square(p, 3)) return 3;
  if (V == 1) return 0;
  return square(p, 5) ? 5 : square(p, 7) && p.rows.stride == 1 ? 7 : 0;
}

template <class T>
inline FilterPlans<T> plan_filter_gradient(const Problem& p, bool filter_wanted, bool bias_wanted) {
  FilterPlans<T> plans = {};
  FilterChoice& choice = plans.choice;
  const GatherPoints points = points_of(p, true);
  const int64_t bias = bias_wanted ? 1 : 0;
  choice.sums = ((filter_wanted ? p.taps() : 0) + bias) * p.lanes();
  const int64_t input_bytes =
      p.batch * p.rows.input * p.cols.input * p.channels * static_cast<int64_t>(sizeof(T));
  const int64_t most = most_splits(input_bytes, choice.sums * static_cast<int64_t>(sizeof(Sum<T>)));
  const bool many_taps = p.taps() > 1 << 20;  // tap blocks are counted in 32 bits
  if (filter_wanted && !many_taps && p.channels_last && on_lattice(p.rows, true) &&
      on_lattice(p.cols, true) && p.rows.stride == p.cols.stride && p.multiplier < INT32_MAX) {
    choice.kernel = FilterChoice::kChannels;
    choice.V = vector_width<T>(p);
    choice.K = summed_size<T>(p, choice.V);
    if (choice.K > 3) choice.V /= 2;  // the sums of that many taps leave no registers for more
    const uint32_t tap_blocks =
        choice.K == 7 ? static_cast<uint32_t>(ceil_div(7, kColumnsOfSeven))
        : choice.K    ? 1
                      : static_cast<uint32_t>(p.rows.kernel * ceil_div(p.cols.kernel, 3));
    plans.channels = plan_filter(points.rows, points.cols, p.batch, ceil_div(p.lanes(), choice.V),
                                 choice.V, tap_blocks, most);
    choice.splits = plans.channels.splits;
    if (plans.channels.blocks <= kMostBlocks) return plans;
  }
  if (filter_wanted && !many_taps && !p.channels_last) {
    choice.kernel = FilterChoice::kPlanes;
    const bool walked = dense(p.rows) && dense(p.cols) && kManySizes<T>;
    choice.K = walked && square(p, 3) ? 3 : walked && square(p, 5) ? 5 : 0;
    const uint32_t tap_blocks = choice.K ? 1 : static_cast<uint32_t>(ceil_div(p.taps(), 9));
    plans.planes = plan_filter_planes<T>(points.rows, points.cols, p.batch, p.channels,
                                         p.multiplier, tap_blocks, most);
    choice.splits = plans.planes.splits;
    if (plans.planes.blocks > 0 && plans.planes.blocks <= kMostBlocks) return plans;
  }
  choice.kernel = FilterChoice::kPoints;
  choice.first_tap = filter_wanted ? 0 : p.taps();
  FilterPoints& f = plans.points;
  f.problem = points;
  f.first_tap = choice.first_tap;
  f.bias = static_cast<int32_t>(bias);
  f.log_lanes = p.channels_last ? log_up_to(p.lanes(), 5) : 0;
  f.lane_blocks = blocks_of(p.lanes(), 1 << f.log_lanes);
  const int64_t tap_blocks = p.taps() + bias - choice.first_tap;
  f.tap_blocks = static_cast<uint32_t>(min64(tap_blocks, UINT32_MAX));
  const int64_t positions = kThreads >> f.log_lanes;
  const int64_t places = p.batch * p.rows.output * p.cols.output;
  const double others = double(f.lane_blocks) * tap_blocks;
  const int64_t wanted = others < kFilterBlocks ? kFilterBlocks / static_cast<int64_t>(others) : 1;
  f.splits =
      static_cast<uint32_t>(max64(1, min64(min64(wanted, most), ceil_div(places, positions * 8))));
  choice.splits = f.splits;
  if (others * f.splits > kMostBlocks) refuse_size();
  return plans;
}

template <class T, int V, int S>
inline void pick_filter_channels(int K, const FilterChannels& f, const FilterArrays<T>& a) {
  const auto start = [&](auto kernel, int row_sums) {
    launch(kernel, grid_of(f.plan.blocks), kThreads,
           static_cast<unsigned>(row_sums * kThreads * sizeof(Sum<T>)), a.stream, f, a.input,
           a.grad, a.workspace);
  };
  if constexpr (kManySizes<T>) {
    if (K == 3) return start(filter_channels<T, V, 3, 3, S>, 3 * V);
    if constexpr (V > 1) {
      if (K == 5) return start(filter_channels<T, V / 2, 5, 5, S>, 5 * V / 2);
      if constexpr (S == 1) {
        if (K == 7)
          return start(filter_channels<T, V / 2, 7, kColumnsOfSeven, S>, kColumnsOfSeven * V / 2);
      }
    }
  }
  start(filter_channels<T, V, 1, 3, S>, 3 * V);
}

template <class T>
inline void start_filter(const Problem& p, const FilterPlans<T>& plans, const FilterArrays<T>& a) {
  const FilterChoice& choice = plans.choice;
  const GatherPoints points = points_of(p, true);
  const int32_t bias = a.bias_gradient ? 1 : 0;
  if (choice.kernel == FilterChoice::kChannels) {
    const FilterChannels f = {points.rows, points.cols,   p.batch,
                              p.channels,  p.lanes(),     static_cast<int32_t>(p.multiplier),
                              bias,        plans.channels};
    const bool two = p.rows.stride == 2;
    if (choice.V > 1) {
      two ? pick_filter_channels<T, kChannels<T>, 2>(choice.K, f, a)
          : pick_filter_channels<T, kChannels<T>, 1>(choice.K, f, a);
    } else {
      two ? pick_filter_channels<T, 1, 2>(choice.K, f, a)
          : pick_filter_channels<T, 1, 1>(choice.K, f, a);
    }
  } else if (choice.kernel == FilterChoice::kPlanes) {
    const FilterPlanes f = {points, plans.planes, bias};
    const int64_t slabs =
        (plans.planes.input_slab + plans.planes.grad_slab) * static_cast<int64_t>(sizeof(T));
    const unsigned shared =
        static_cast<unsigned>(max64(slabs, kThreads * static_cast<int64_t>(sizeof(Sum<T>))));
    const auto start = [&](auto kernel) {
      launch(kernel, grid_of(plans.planes.blocks), kThreads, shared, a.stream, f, a.input, a.grad,
             a.workspace);
    };
    if constexpr (kManySizes<T>) {
      if (choice.K == 3) return start(filter_planes<T, 3>);
      if (choice.K == 5) return start(filter_planes<T, 5>);
    }
    start(filter_planes<T, 0>);
  } else {
    const FilterPoints& f = plans.points;
    launch(filter_points<T>, grid_of(double(f.lane_blocks) * f.tap_blocks * f.splits), kThreads,
           static_cast<unsigned>(kThreads * sizeof(Sum<T>)), a.stream, f, a.input, a.grad,
           a.workspace);
  }
}

template <class T>
int64_t Kernels<T>::workspace(const Problem& problem, bool filter_wanted, bool bias_wanted) {
  const FilterChoice choice = plan_filter_gradient<T>(problem, filter_wanted, bias_wanted).choice;
  return choice.splits * choice.sums * static_cast<int64_t>(sizeof(Sum<T>));
}

template <class T>
void Kernels<T>::filter(const Problem& p, const void* input, const void* grad,
                        void* filter_gradient, void* bias_gradient, void* workspace, void* stream) {
  const FilterArrays<T> a = {static_cast<const T*>(input),     static_cast<const T*>(grad),
                             static_cast<T*>(filter_gradient), static_cast<T*>(bias_gradient),
                             static_cast<Sum<T>*>(workspace),  stream};
  const FilterPlans<T> plans = plan_filter_gradient<T>(p, filter_gradient, bias_gradient);
  start_filter<T>(p, plans, a);
  const int64_t bias_count = bias_gradient ? p.lanes() : 0;
  launch(reduce_partials<T>, grid_of(double(ceil_div(plans.choice.sums, kReduceCols))),
         kReduceCols * kReduceRows,
         static_cast<unsigned>(kReduceCols * kReduceRows * sizeof(Sum<T>)), stream,
         static_cast<const Sum<T>*>(a.workspace), static_cast<int>(plans.choice.splits),
         plans.choice.sums - bias_count, bias_count, a.filter_gradient, a.bias_gradient);
}

}  // namespace tfcompat_dw::cuda
