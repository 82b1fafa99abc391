// Picks and starts the kernels for one dtype; <dtype>.cu instantiates them.
#pragma once
#include "backward_channels.h"
#include "backward_planes.h"
#include "filter_channels.h"
#include "filter_planes.h"
#include "filter_points.h"
#include "gather_parities.h"
#include "gather_planes.h"
#include "gather_points.h"
#include "gather_strips.h"
#include "gather_tiles.h"
#include "instances.h"

namespace tfcompat_dw::cuda {

// ---- which kernel: from the shape alone ---------------------------------------------------------

// float64 is for checking gradients: one kernel for all filter sizes is enough there.
template <class T>
constexpr bool kManySizes = sizeof(T) < 8;

inline bool square(const Problem& p, int64_t k) { return p.rows.kernel == k && p.cols.kernel == k; }

// K, where kernels are compiled for K x K taps, or 0.
inline int compiled_size(const Problem& p) {
  return square(p, 3) ? 3 : square(p, 5) ? 5 : square(p, 7) && p.rows.stride == 1 ? 7 : 0;
}

template <int N>
using Constant = std::integral_constant<int, N>;

// Calls body(K, S), known to the compiler, for K x K taps at stride 1 or 2; false for other K.
template <class T, int Most = 7, class Body>
inline bool with_size(int K, bool two, const Body& body) {
  if constexpr (kManySizes<T>) {
    switch (K) {
      case 3:
        return two ? body(Constant<3>(), Constant<2>()) : body(Constant<3>(), Constant<1>()), true;
      case 5:
        return two ? body(Constant<5>(), Constant<2>()) : body(Constant<5>(), Constant<1>()), true;
    }
    if constexpr (Most == 7) {
      if (K == 7) return body(Constant<7>(), Constant<1>()), true;
    }
  }
  return false;
}

// The K of gather_strips, or 0 where it is not for the problem.
template <class T>
inline int size_of_strips(const Problem& p, bool forward) {
  const bool strided = p.rows.stride > 1 || p.cols.stride > 1;
  if (!kManySizes<T> || (!forward && (strided || p.multiplier > 1))) return 0;
  return compiled_size(p);
}

// Whether kernels are compiled for the strides: forward, there is one for both axes.
inline bool strides_known(const Problem& p, bool forward) {
  return on_lattice(p.rows, forward) && on_lattice(p.cols, forward) &&
         (!forward || p.rows.stride == p.cols.stride);
}

// Channels of a thread: `several` where a pixel is a multiple of that and a channel has one source.
inline int vector_width(const Problem& p, int several) {
  return p.multiplier == 1 && p.channels % several == 0 ? several : 1;
}

// Strips, walks and tiles count elements in 32 bits. The tests count less far.
#ifndef DW_MOST_ELEMENTS
#define DW_MOST_ELEMENTS 4294967295
#endif

// Rows or columns of an axis, padding and the reach of taps included.
inline double places(const Axis& axis) {
  return double(axis.input) + double(axis.output) * axis.stride + axis.pad +
         double(axis.kernel) * axis.dilation;
}

// Whether they can count those, and the elements from one tap's row or column to the next one's.
inline bool steps_in_32_bits(const Problem& p) {
  constexpr double kMostPlaces = 2e8;      // ten times that fit: a tile sees 10 columns of one tap
  const double lanes = double(p.lanes());  // and not fewer than channels
  const double width = double(p.cols.input > p.cols.output ? p.cols.input : p.cols.output);
  return places(p.rows) <= kMostPlaces && places(p.cols) <= kMostPlaces && lanes <= kMostPlaces &&
         p.rows.dilation * width * lanes <= UINT32_MAX && places(p.cols) * lanes <= UINT32_MAX;
}

// How many images they can count, input or output.
inline double images_in_32_bits(const Problem& p) {
  if (!steps_in_32_bits(p)) return 0;
  const double input = double(p.rows.input) * p.cols.input * p.channels;
  const double output = double(p.rows.output) * p.cols.output * p.lanes();
  const double images = DW_MOST_ELEMENTS / (input > output ? input : output);
  return images < INT32_MAX ? images : INT32_MAX;
}

inline bool aligned(const void* address, size_t bytes) {
  return reinterpret_cast<uintptr_t>(address) % bytes == 0;
}

// Whether a plan has blocks, and a grid counts them.
inline bool can_start(double blocks) { return blocks > 0 && blocks <= kMostBlocks; }

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

// ---- forward and input gradient -----------------------------------------------------------------

template <class T>
struct GatherArrays {
  const T* sources;
  const T* filter;
  const T* bias;
  T* destinations;
  void* stream;
};

// Calls start(count, arrays) for all images, so many at a time.
template <class T, class Start>
inline void for_each_launch(const GatherPoints& g, int64_t images, const GatherArrays<T>& a,
                            const Start& start) {
  const int64_t source_image = g.rows.sources * g.cols.sources * g.source_channels;
  const int64_t result_image = g.rows.destinations * g.cols.destinations * g.destination_channels;
  for (int64_t first = 0; first < g.batch; first += images) {
    start(min64(images, g.batch - first),
          GatherArrays<T>{a.sources + first * source_image, a.filter, a.bias,
                          a.destinations + first * result_image, a.stream});
  }
}

// Whether all arrays can be read and written V channels at a time.
template <class T>
inline bool vectors_fit(const Problem& p, int V, const GatherArrays<T>& a) {
  const size_t bytes = V * sizeof(T);
  return V > 1 && vector_width(p, V) == V && aligned(a.sources, bytes) &&
         aligned(a.filter, bytes) && aligned(a.destinations, bytes);
}

// With `images` at a time; false where a grid cannot count the blocks.
template <class T, int V, int K, int S>
inline bool start_gather_strips(const GatherPoints& points, int64_t images,
                                const GatherArrays<T>& a) {
  const int64_t channels = points.destination_channels;
  const auto plan_of = [&](int64_t count) {
    return plan_strips(points.rows, points.cols, count, ceil_div(channels, V), V * sizeof(T),
                       kStripCols<V, K>);
  };
  if (!can_start(plan_of(images).blocks())) return false;
  for_each_launch(points, images, a, [&](int64_t count, const GatherArrays<T>& part) {
    const TilePlan plan = plan_of(count);
    const GatherStrips g = {strip_axis(points.rows),
                            strip_axis(points.cols),
                            static_cast<int32_t>(count),
                            static_cast<int32_t>(channels),
                            static_cast<int32_t>(points.source_channels),
                            static_cast<int32_t>(points.multiplier),
                            !points.rows.forward,
                            plan};
    launch(gather_strips<T, V, K, S>, grid_of(plan.blocks()), plan.threads(), 0, a.stream, g,
           part.sources, part.filter, part.bias, part.destinations);
  });
  return true;
}

template <class T, int K, int S>
inline bool pick_gather_strips(const Problem& p, bool forward, int64_t images,
                               const GatherArrays<T>& a) {
  constexpr int V = kStripChannels<T, K>;
  return vectors_fit<T>(p, V, a)
             ? start_gather_strips<T, V, K, S>(points_of(p, forward), images, a)
             : start_gather_strips<T, 1, K, S>(points_of(p, forward), images, a);
}

// The K of gather_parities, or 0 where it is not for the problem.
template <class T>
inline int size_of_parities(const Problem& p) {
  const bool strided = p.rows.stride == 2 && p.cols.stride == 2;
  const bool dilated = p.rows.dilation > 1 || p.cols.dilation > 1;
  if (!kManySizes<T> || !strided || dilated || p.multiplier > 1) return 0;
  return square(p, 3) ? 3 : square(p, 5) ? 5 : 0;
}

template <class T, int V, int K>
inline void start_gather_parities(const GatherPoints& points, int64_t images,
                                  const GatherArrays<T>& a) {
  const GatherAxis rows = pairs_of(points.rows), cols = pairs_of(points.cols);
  const int64_t channels = points.destination_channels;
  for_each_launch(points, images, a, [&](int64_t count, const GatherArrays<T>& part) {
    const TilePlan plan = plan_strips(rows, cols, count, ceil_div(channels, V), V * sizeof(T), 1);
    const GatherParities g = {parity_axis(points.rows),
                              parity_axis(points.cols),
                              static_cast<int32_t>(rows.destinations),
                              static_cast<int32_t>(count),
                              static_cast<int32_t>(channels),
                              plan};
    launch(gather_parities<T, V, K>, grid_of(plan.blocks()), plan.threads(), 0, a.stream, g,
           part.sources, part.filter, part.destinations);
  });
}

template <class T, int K>
inline void pick_gather_parities(const Problem& p, int64_t images, const GatherArrays<T>& a) {
  constexpr int V = kParityChannels<T, K>;
  vectors_fit<T>(p, V, a) ? start_gather_parities<T, V, K>(points_of(p, false), images, a)
                          : start_gather_parities<T, 1, K>(points_of(p, false), images, a);
}

// With as many images at a time as 32 bits count; false where they do not count one, or where no
// kernel is compiled for the problem.
template <class T>
inline bool gather_by_strips(const Problem& p, bool forward, const GatherArrays<T>& a) {
  const double images = images_in_32_bits(p);
  if (images < 1) return false;
  const int64_t count = images < double(p.batch) ? static_cast<int64_t>(images) : p.batch;
  bool started = false;
  const auto strips = [&](auto K, auto S) {
    started = pick_gather_strips<T, K, S>(p, forward, count, a);
  };
  if (with_size<T>(size_of_strips<T>(p, forward), p.rows.stride == 2, strips)) return started;
  const auto parities = [&](auto K, auto) { pick_gather_parities<T, K>(p, count, a); };
  return !forward && with_size<T, 5>(size_of_parities<T>(p), false, parities);
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
  if (count < 4e9 && places(p.rows) < 4e9 && places(p.cols) < 4e9 && double(p.lanes()) < 4e9) {
    start(gather_points<T, uint32_t>);
  } else {
    start(gather_points<T, uint64_t>);
  }
}

// aligned: whether sources begin where vectors may.
template <class T, int Slots, int S>
inline GatherTiles gather_tiles_of(const Problem& p, bool forward, bool aligned) {
  constexpr int kVector = kChannels<T>;
  const GatherPoints points = points_of(p, forward);
  const int64_t planes = p.batch * p.lanes();
  const int32_t copies = forward ? 1 : static_cast<int32_t>(p.multiplier);
  const bool vectors = aligned && p.channels_last && points.source_channels % kVector == 0 &&
                       (!forward || p.multiplier == 1);
  const TileShape shape = {Slots,
                           vectors && copies == 1 ? kVector : copies,
                           vectors ? kVector : 1,
                           static_cast<int32_t>(p.multiplier),
                           kTileCols<T, S>,
                           S,
                           sizeof(Sum<T>)};
  return {points,
          plan_gather_tiles(points.rows, points.cols, planes, p.channels_last, shape),
          tensor_steps(p.channels_last, points.source_channels, points.rows.sources,
                       points.cols.sources),
          tensor_steps(p.channels_last, points.destination_channels, points.rows.destinations,
                       points.cols.destinations),
          points.source_channels,
          points.destination_channels,
          p.lanes(),
          p.multiplier,
          static_cast<int32_t>(planes)};
}

template <class T, int Slots, int S>
inline void start_gather_tiles(const GatherTiles& g, const GatherArrays<T>& a) {
  launch(gather_tiles<T, Slots, S>, grid_of(g.plan.blocks), g.plan.tiles.threads(),
         static_cast<unsigned>(g.plan.shared_bytes), a.stream, g, a.sources, a.filter, a.bias,
         a.destinations);
}

// The cheaper one of the kernels for many and for few planes.
template <class T, int S>
inline bool pick_gather_tiles(const Problem& p, bool forward, const GatherArrays<T>& a) {
  const bool vectors = aligned(a.sources, kChannels<T> * sizeof(T));
  const int64_t copies = forward ? 1 : p.multiplier;
  GatherTiles many = {}, few = {};
  if (copies <= kManySlots<T>) many = gather_tiles_of<T, kManySlots<T>, S>(p, forward, vectors);
  if (copies <= kFewSlots) few = gather_tiles_of<T, kFewSlots, S>(p, forward, vectors);
  const auto starts = [](const GatherTiles& g) { return can_start(g.plan.blocks); };
  if (starts(few) && !(starts(many) && many.plan.cost <= few.plan.cost)) {
    return start_gather_tiles<T, kFewSlots, S>(few, a), true;
  }
  return starts(many) && (start_gather_tiles<T, kManySlots<T>, S>(many, a), true);
}

// With as many images at a time as 32 bits count; false where they do not count one, or the filter.
template <class T>
inline bool gather_by_tiles(const Problem& p, bool forward, const GatherArrays<T>& a) {
  constexpr double kMostPlanes = 1 << 30;
  const double counted = images_in_32_bits(p);
  if (counted < 1 || double(p.taps()) * p.lanes() > UINT32_MAX) return false;
  const double images = counted < kMostPlanes / p.lanes() ? counted : kMostPlanes / p.lanes();
  for_each_launch(points_of(p, forward), static_cast<int64_t>(images), a,
                  [&](int64_t count, const GatherArrays<T>& part) {
                    Problem q = p;
                    q.batch = count;
                    const bool two = forward && p.rows.stride == 2;
                    if (two ? pick_gather_tiles<T, 2>(q, forward, part)
                            : pick_gather_tiles<T, 1>(q, forward, part)) {
                      return;
                    }
                    gather_by_points<T>(q, forward, part);  // shared memory does not hold a tile
                  });
  return true;
}

template <class T>
inline bool gather_by_planes(const Problem& p, bool forward, const GatherArrays<T>& a) {
  const int size = size_of_strips<T>(p, forward), pairs = forward ? 0 : size_of_parities<T>(p);
  if (size == 0 && pairs == 0) return false;
  const GatherPoints points = points_of(p, forward);
  const PlanePlan plan =
      plan_planes<T>(points.rows, points.cols, p.batch, p.channels, p.multiplier);
  if (!can_start(plan.blocks) || !steps_in_32_bits(p)) return false;
  const unsigned shared = static_cast<unsigned>((plan.source_slab + plan.result_slab) * sizeof(T));
  // threads that share a plane of results
  const int64_t threads = max64(1, kThreads / (plan.planes * (forward ? p.multiplier : 1)));
  const auto start = [&](auto kernel, const BandStrips& strips, auto... bias) {
    launch(kernel, grid_of(plan.blocks), kThreads, shared, a.stream,
           GatherPlanes{points, plan, strips}, a.sources, a.filter, bias..., a.destinations);
  };
  const auto strips = [&](auto K, auto S) {
    start(gather_planes<T, K, S>,
          band_strips(plan.rows, points.cols.destinations, points.rows.step, points.cols.step,
                      plane_cols(K), threads),
          a.bias);
  };
  const auto parities = [&](auto K, auto) {
    start(gather_plane_parities<T, K>,
          band_strips(plan.rows / 2 + 1, pairs_of(points.cols).destinations, 1, 1, 1, threads));
  };
  return with_size<T>(size, p.rows.stride == 2, strips) || with_size<T, 5>(pairs, false, parities);
}

template <class T>
void Kernels<T>::gather(const Problem& p, bool forward, const void* sources, const void* filter,
                        const void* bias, void* destinations, void* stream) {
  const GatherArrays<T> a = {static_cast<const T*>(sources), static_cast<const T*>(filter),
                             static_cast<const T*>(bias), static_cast<T*>(destinations), stream};
  const auto by_strips_or_planes = p.channels_last ? gather_by_strips<T> : gather_by_planes<T>;
  if (strides_known(p, forward) &&
      (by_strips_or_planes(p, forward, a) || gather_by_tiles<T>(p, forward, a)))
    return;
  gather_by_points<T>(p, forward, a);
}

// ---- filter and bias gradient -------------------------------------------------------------------

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
  int64_t sums;  // of one split
  uint32_t splits;
};

template <class T>
struct FilterPlans {
  FilterChoice choice;
  FilterPlan channels;
  FilterPlanesPlan planes;
  FilterPoints points;
};

// Channels of a thread, where there are as many: the sums of many taps leave no registers for more.
template <class T>
constexpr int summed_channels(int K, int64_t S) {
  return K < 5 ? kChannels<T> : K == 5 && S == 1 ? 2 : 1;
}

// How many groups of rows x cols taps a filter has.
inline int64_t tap_groups(const Problem& p, int64_t rows, int64_t cols) {
  return ceil_div(p.rows.kernel, rows) * ceil_div(p.cols.kernel, cols);
}

// The K of the groups of K x K taps that are summed with the least work; 0: three of a row.
template <class T>
inline int tap_side(const Problem& p, bool rows_of_three) {
  constexpr int64_t kSweep = 16;  // taps that take as long as reading input and gradient
  int best = 0;
  int64_t least = rows_of_three ? tap_groups(p, 1, 3) * (3 + kSweep) : INT64_MAX;
  for (int K = 3; K <= (p.rows.stride == 1 ? 7 : 5); K += 2) {
    const int64_t work = tap_groups(p, K, K) * (K * K + kSweep);
    if (kManySizes<T> && work < least) {
      best = K;
      least = work;
    }
  }
  return best;
}

// Of a problem whose splits have so many sums each.
template <class T>
inline int64_t most_splits_of(const Problem& p, int64_t sums) {
  const int64_t elements = p.batch * p.rows.input * p.cols.input * p.channels;
  return most_splits(elements * static_cast<int64_t>(sizeof(T)),
                     sums * static_cast<int64_t>(sizeof(Sum<T>)));
}

// Each fills in its plan; false where the kernel is not for the problem. most: splits.
template <class T>
inline bool plan_sums_of_channels(const Problem& p, int64_t most, FilterPlans<T>& plans) {
  if (!p.channels_last || !strides_known(p, true) || images_in_32_bits(p) < 1) return false;
  FilterChoice& choice = plans.choice;
  choice.kernel = FilterChoice::kChannels;
  choice.K = tap_side<T>(p, true);
  choice.V = vector_width(p, summed_channels<T>(choice.K, p.rows.stride));
  const int64_t tap_blocks = choice.K ? tap_groups(p, choice.K, choice.K) : tap_groups(p, 1, 3);
  plans.channels =
      plan_filter(gather_axis(p.rows, true), gather_axis(p.cols, true), p.batch,
                  ceil_div(p.lanes(), choice.V), choice.V * static_cast<int32_t>(sizeof(T)),
                  walk_cols(choice.V, choice.K), static_cast<uint32_t>(tap_blocks), most);
  choice.splits = plans.channels.splits;
  return can_start(plans.channels.blocks);
}

template <class T>
inline bool plan_sums_of_planes(const Problem& p, int64_t most, FilterPlans<T>& plans) {
  if (p.channels_last || !steps_in_32_bits(p)) return false;
  FilterChoice& choice = plans.choice;
  choice.kernel = FilterChoice::kPlanes;
  choice.K = strides_known(p, true) ? tap_side<T>(p, false) : 0;
  const int64_t tap_blocks = choice.K ? tap_groups(p, choice.K, choice.K) : ceil_div(p.taps(), 9);
  plans.planes = plan_filter_planes<T>(gather_axis(p.rows, true), gather_axis(p.cols, true),
                                       p.batch, p.channels, p.multiplier, plane_cols(choice.K),
                                       static_cast<uint32_t>(tap_blocks), most);
  choice.splits = plans.planes.splits;
  return can_start(plans.planes.blocks);
}

template <class T>
inline void plan_sums_of_points(const Problem& p, int64_t first_tap, bool bias, int64_t most,
                                FilterPlans<T>& plans) {
  plans.choice.kernel = FilterChoice::kPoints;
  FilterPoints& f = plans.points;
  f.problem = points_of(p, true);
  f.first_tap = first_tap;
  f.bias = bias ? 1 : 0;
  f.log_lanes = p.channels_last ? log_up_to(p.lanes(), 5) : 0;
  f.lane_blocks = blocks_of(p.lanes(), 1 << f.log_lanes);
  const int64_t tap_blocks = p.taps() + f.bias - first_tap;
  f.tap_blocks = min64(tap_blocks, UINT32_MAX);
  const int64_t positions = kThreads >> f.log_lanes;
  const int64_t places = p.batch * p.rows.output * p.cols.output;
  const double others = double(f.lane_blocks) * tap_blocks;
  const int64_t wanted = others < kFilterBlocks ? kFilterBlocks / static_cast<int64_t>(others) : 1;
  f.splits =
      static_cast<uint32_t>(max64(1, min64(min64(wanted, most), ceil_div(places, positions * 8))));
  plans.choice.splits = f.splits;
  if (others * f.splits > kMostBlocks) refuse_size();
}

template <class T>
inline FilterPlans<T> plan_filter_gradient(const Problem& p, bool filter_wanted, bool bias_wanted) {
  FilterPlans<T> plans = {};
  const int64_t sums = ((filter_wanted ? p.taps() : 0) + (bias_wanted ? 1 : 0)) * p.lanes();
  const int64_t most = most_splits_of<T>(p, sums);
  plans.choice.sums = sums;
  const bool counted = p.taps() <= 1 << 20;  // blocks of taps, in 32 bits
  if (filter_wanted && counted &&
      (plan_sums_of_channels(p, most, plans) || plan_sums_of_planes(p, most, plans))) {
    return plans;
  }
  plan_sums_of_points(p, filter_wanted ? 0 : p.taps(), bias_wanted, most, plans);
  return plans;
}

// tap_cols: side by side in a group.
inline FilterChannels filter_channels_of(const Problem& p, int32_t bias, int64_t tap_cols,
                                         const FilterPlan& plan) {
  const StripAxis rows = strip_axis(gather_axis(p.rows, true));
  const StripAxis cols = strip_axis(gather_axis(p.cols, true));
  const uint32_t channels = static_cast<uint32_t>(p.channels);
  const uint32_t lanes = static_cast<uint32_t>(p.lanes());
  return {rows,
          cols,
          static_cast<int32_t>(p.rows.kernel),
          static_cast<int32_t>(p.cols.kernel),
          ceil_div(p.cols.kernel, tap_cols),
          static_cast<int32_t>(p.channels),
          static_cast<int32_t>(p.lanes()),
          static_cast<int32_t>(p.multiplier),
          bias,
          p.rows.input * p.cols.input * p.channels,
          p.rows.output * p.cols.output * p.lanes(),
          rows.pitch * (cols.sources * channels),
          cols.pitch * channels,
          rows.step * (cols.destinations * lanes),
          cols.step * lanes,
          plan};
}

// groups: of taps, side by side.
inline FilterPlanes filter_planes_of(const GatherPoints& points, const FilterPlanesPlan& plan,
                                     int64_t groups, int32_t bias) {
  return {points, strip_axis(points.rows), strip_axis(points.cols), plan, groups, bias};
}
template <class T>
inline unsigned shared_bytes(const FilterPlanesPlan& plan) {
  const int64_t slabs =
      (plan.slabs.source_slab + plan.slabs.result_slab) * static_cast<int64_t>(sizeof(T));
  return static_cast<unsigned>(max64(slabs, kThreads * static_cast<int64_t>(sizeof(Sum<T>))));
}

template <class T, int S, int KR, int KC>
inline void pick_filter_channels(int V, const FilterChannels& f, const FilterArrays<T>& a) {
  const auto start = [&](auto kernel) {
    launch(kernel, grid_of(f.plan.blocks), kThreads,
           static_cast<unsigned>(KC * V * kThreads * sizeof(Sum<T>)), a.stream, f, a.input, a.grad,
           a.workspace);
  };
  constexpr int kSeveral = summed_channels<T>(KR, S);
  V > 1 ? start(filter_channels<T, kSeveral, KR, KC, S>) : start(filter_channels<T, 1, KR, KC, S>);
}

template <class T>
inline void start_filter(const Problem& p, const FilterPlans<T>& plans, const FilterArrays<T>& a) {
  const FilterChoice& choice = plans.choice;
  const int32_t bias = a.bias_gradient ? 1 : 0;
  const bool two = p.rows.stride == 2;
  if (choice.kernel == FilterChoice::kChannels) {
    const FilterChannels f = filter_channels_of(p, bias, choice.K ? choice.K : 3, plans.channels);
    const auto start = [&](auto K, auto S) { pick_filter_channels<T, S, K, K>(choice.V, f, a); };
    if (with_size<T>(choice.K, two, start)) return;
    two ? pick_filter_channels<T, 2, 1, 3>(choice.V, f, a)
        : pick_filter_channels<T, 1, 1, 3>(choice.V, f, a);
  } else if (choice.kernel == FilterChoice::kPlanes) {
    const FilterPlanes f = filter_planes_of(points_of(p, true), plans.planes,
                                            ceil_div(p.cols.kernel, choice.K ? choice.K : 1), bias);
    const auto start = [&](auto kernel) {
      launch(kernel, grid_of(plans.planes.blocks), kThreads, shared_bytes<T>(plans.planes),
             a.stream, f, a.input, a.grad, a.workspace);
    };
    const auto sized = [&](auto K, auto S) { start(filter_planes<T, K, S>); };
    if (with_size<T>(choice.K, two, sized)) return;
    start(filter_any_planes<T>);
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

// Adds up the partial sums of all splits.
template <class T>
inline void reduce(const Problem& p, uint32_t splits, int64_t sums, const FilterArrays<T>& a) {
  const int64_t bias_count = a.bias_gradient ? p.lanes() : 0;
  launch(reduce_partials<T>, grid_of(double(ceil_div(sums, kReduceCols))),
         kReduceCols * kReduceRows,
         static_cast<unsigned>(kReduceCols * kReduceRows * sizeof(Sum<T>)), a.stream,
         static_cast<const Sum<T>*>(a.workspace), static_cast<int>(splits), sums - bias_count,
         bias_count, a.filter_gradient, a.bias_gradient);
}

template <class T>
inline FilterArrays<T> filter_arrays(const void* input, const void* grad, void* filter_gradient,
                                     void* bias_gradient, void* workspace, void* stream) {
  return {static_cast<const T*>(input),     static_cast<const T*>(grad),
          static_cast<T*>(filter_gradient), static_cast<T*>(bias_gradient),
          static_cast<Sum<T>*>(workspace),  stream};
}

template <class T>
void Kernels<T>::filter(const Problem& p, const void* input, const void* grad,
                        void* filter_gradient, void* bias_gradient, void* workspace, void* stream) {
  const FilterArrays<T> a =
      filter_arrays<T>(input, grad, filter_gradient, bias_gradient, workspace, stream);
  const FilterPlans<T> plans = plan_filter_gradient<T>(p, filter_gradient, bias_gradient);
  start_filter<T>(p, plans, a);
  reduce(p, plans.choice.splits, plans.choice.sums, a);
}

// ---- all gradients at once ----------------------------------------------------------------------

// Where there is a kernel for them; else those above follow one another.
struct BackwardChoice {
  enum { kNone, kChannels, kPlanes } kernel;
  int V;
  int64_t sums;  // of one split
  uint32_t splits;
  FilterPlan channels;
  FilterPlanesPlan planes;
};

// Whether every gradient is in the middle of some result's window: then its bias is counted once.
inline bool all_in_the_middle(const Axis& axis) {
  const int64_t middle = axis.kernel / 2 * axis.dilation;
  return axis.pad <= middle && axis.output - axis.pad + middle <= axis.input;
}

// Each fills in its plan; false where it is not for the problem.
template <class T>
inline bool plan_backward_of_channels(const Problem& p, BackwardChoice& choice) {
  // the weights and the sums of more taps leave no registers for the rows
  if (!p.channels_last || !square(p, 3) || images_in_32_bits(p) < 1) return false;
  choice.kernel = BackwardChoice::kChannels;
  choice.V = vector_width(p, kBackwardChannels);
  choice.channels =
      plan_filter(gather_axis(p.rows, false), gather_axis(p.cols, false), p.batch,
                  ceil_div(p.channels, choice.V), choice.V * static_cast<int32_t>(sizeof(T)),
                  kBackwardCols, 1, most_splits_of<T>(p, choice.sums));
  choice.splits = choice.channels.splits;
  return can_start(choice.channels.blocks);
}

template <class T>
inline bool plan_backward_of_planes(const Problem& p, BackwardChoice& choice) {
  const int K = compiled_size(p);
  if (p.channels_last || (K != 3 && K != 5) || !steps_in_32_bits(p)) return false;
  choice.kernel = BackwardChoice::kPlanes;
  choice.planes = plan_filter_planes<T>(gather_axis(p.rows, false), gather_axis(p.cols, false),
                                        p.batch, p.channels, 1, kBackwardPlaneCols, 1,
                                        most_splits_of<T>(p, choice.sums));
  choice.splits = choice.planes.splits;
  return can_start(choice.planes.blocks);
}

template <class T>
inline BackwardChoice plan_backward(const Problem& p, bool filter_wanted, bool bias_wanted) {
  BackwardChoice choice = {};
  choice.sums = (p.taps() + (bias_wanted ? 1 : 0)) * p.channels;
  const bool known = kManySizes<T> && p.rows.stride == 1 && p.cols.stride == 1 && p.multiplier == 1;
  const bool counted = !bias_wanted || (all_in_the_middle(p.rows) && all_in_the_middle(p.cols));
  if (known && filter_wanted && counted &&
      (plan_backward_of_channels<T>(p, choice) || plan_backward_of_planes<T>(p, choice))) {
    return choice;
  }
  choice.kernel = BackwardChoice::kNone;
  return choice;
}

template <class T>
int64_t Kernels<T>::backward_workspace(const Problem& p, bool filter_wanted, bool bias_wanted) {
  const BackwardChoice choice = plan_backward<T>(p, filter_wanted, bias_wanted);
  if (choice.kernel == BackwardChoice::kNone) return workspace(p, filter_wanted, bias_wanted);
  return choice.splits * choice.sums * static_cast<int64_t>(sizeof(Sum<T>));
}

template <class T>
inline void start_backward_channels(const Problem& p, const BackwardChoice& choice, const T* filter,
                                    T* input_gradient, const FilterArrays<T>& a) {
  const BackwardChannels f = {strip_axis(gather_axis(p.rows, false)),
                              strip_axis(gather_axis(p.cols, false)),
                              static_cast<int32_t>(p.channels),
                              a.bias_gradient ? 1 : 0,
                              p.rows.input * p.cols.input * p.channels,
                              p.rows.output * p.cols.output * p.channels,
                              choice.channels};
  const auto start = [&](auto kernel) {
    launch(kernel, grid_of(choice.channels.blocks), kThreads,
           static_cast<unsigned>(3 * choice.V * kThreads * sizeof(Sum<T>)), a.stream, f, a.input,
           filter, a.grad, input_gradient, a.workspace);
  };
  choice.V > 1 ? start(backward_channels<T, kBackwardChannels, 3>)
               : start(backward_channels<T, 1, 3>);
}

template <class T>
inline void start_backward_planes(const Problem& p, const BackwardChoice& choice, const T* filter,
                                  T* input_gradient, const FilterArrays<T>& a) {
  const FilterPlanes f =
      filter_planes_of(points_of(p, false), choice.planes, 1, a.bias_gradient ? 1 : 0);
  const auto start = [&](auto kernel) {
    launch(kernel, grid_of(choice.planes.blocks), kThreads, shared_bytes<T>(choice.planes),
           a.stream, f, a.input, filter, a.grad, input_gradient, a.workspace);
  };
  square(p, 3) ? start(backward_planes<T, 3>) : start(backward_planes<T, 5>);
}

template <class T>
void Kernels<T>::backward(const Problem& p, const void* input, const void* filter, const void* grad,
                          void* input_gradient, void* filter_gradient, void* bias_gradient,
                          void* workspace, void* stream) {
  const FilterArrays<T> a =
      filter_arrays<T>(input, grad, filter_gradient, bias_gradient, workspace, stream);
  const BackwardChoice choice = plan_backward<T>(p, filter_gradient, bias_gradient);
  if constexpr (kManySizes<T>) {
    if (choice.kernel != BackwardChoice::kNone) {
      const auto start = choice.kernel == BackwardChoice::kChannels ? start_backward_channels<T>
                                                                    : start_backward_planes<T>;
      start(p, choice, static_cast<const T*>(filter), static_cast<T*>(input_gradient), a);
      return reduce(p, choice.splits, choice.sums, a);
    }
  }
  gather(p, false, grad, filter, nullptr, input_gradient, stream);
  Kernels<T>::filter(p, input, grad, filter_gradient, bias_gradient, workspace, stream);
}

}  // namespace tfcompat_dw::cuda
