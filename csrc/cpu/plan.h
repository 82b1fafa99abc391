// How a pass is laid out for the kernels. Pure functions of the problem, the pass, the width of a
// vector and whether the filter is finite; so are all results, for any number of threads.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels.h"

// Bytes of input and output beyond a core's level-2 cache (measured: at 1 MiB fetching ahead costs
// more than it gains) and beyond its share of the last-level cache. Tests set them lower.
#ifndef DW_FETCH_BYTES
#define DW_FETCH_BYTES (3 << 19)
#endif
#ifndef DW_FAR_BYTES
#define DW_FAR_BYTES (8 << 20)
#endif

namespace tfcompat_dw::cpu {

inline int64_t compute_bytes(const Problem& problem) {
  return problem.dtype == DataType::kFloat64 ? 8 : 4;
}
inline int64_t storage_bytes(const Problem& problem) {
  switch (problem.dtype) {
    case DataType::kFloat64: return 8;
    case DataType::kFloat32: return 4;
    default: return 2;
  }
}

inline int64_t round_up(int64_t value, int64_t unit) { return ceil_div(value, unit) * unit; }

// Leaves out what meets no source at both ends of the taps and of the members. False if all does.
// Steps and spacings that connect nothing are set to one.
inline bool clip(TapClass& taps, int64_t sources) {
  Range met = {0, 0};
  Range members = {taps.members, 0};
  for (int64_t t = 0; t < taps.taps; ++t) {
    const Range valid = inside(taps.position + t * taps.spacing, taps.step, sources, taps.members);
    if (valid.begin == valid.end) continue;
    if (met.end == 0) met.begin = t;
    met.end = t + 1;
    members = {std::min(members.begin, valid.begin), std::max(members.end, valid.end)};
  }
  taps.first += members.begin * taps.pitch;
  taps.members = members.end - members.begin;
  taps.position += members.begin * taps.step + met.begin * taps.spacing;
  taps.index += met.begin * taps.index_step;
  taps.taps = met.end - met.begin;
  if (taps.members == 1) taps.step = 1;
  if (taps.taps == 1) taps.spacing = taps.step;
  taps.parts = taps.spacing / std::gcd(taps.spacing, taps.step);
  return met.end > 0;
}

// The classes of one axis that meet a source; at most as many as there are taps.
inline std::vector<TapClass> classes_of(const Axis& axis, const Gather& gather) {
  std::vector<std::pair<int64_t, int64_t>> order;  // class, kernel position in order of offset
  for (int64_t i = 0; i < axis.kernel; ++i) {
    const int64_t k = gather.forward ? i : axis.kernel - 1 - i;
    const int64_t r = tap_class(gather, axis, k);
    if (r < gather.destinations) order.emplace_back(r, k);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<TapClass> classes;
  for (auto tap = order.begin(); tap != order.end();) {
    const auto [r, index] = *tap;
    const auto end =
        std::find_if(tap, order.end(), [r = r](const auto& t) { return t.first != r; });
    const int64_t position = tap_offset(gather, axis, index);
    const int64_t step = gather.source_step;
    const bool several = end - tap > 1;
    const int64_t spacing = several ? tap_offset(gather, axis, tap[1].second) - position : step;
    TapClass taps = {r,         gather.classes, gather.members(r),
                     end - tap, index,          several ? tap[1].second - index : 0,
                     position,  step,           spacing,
                     1};
    if (clip(taps, gather.sources)) classes.push_back(taps);
    tap = end;
  }
  return classes;
}

inline AxisPlan plan_axis(const Axis& axis, const Gather& gather,
                          const std::vector<TapClass>& classes) {
  int64_t members = 0;
  int64_t most_taps = 1;
  for (const TapClass& taps : classes) {
    members += taps.members;
    most_taps = std::max(most_taps, taps.taps);
  }
  return {axis,
          gather,
          classes.data(),
          static_cast<int64_t>(classes.size()),
          most_taps,
          members == gather.destinations,
          gather.destinations};
}

// Shares that are enough to go round: the largest machines have this many cores.
constexpr int64_t kEnoughShares = 64;

// Cuts `destinations` into blocks so that there are about kEnoughShares of all in all, none of them
// smaller than `least`.
inline int64_t shared_block(int64_t destinations, int64_t others, int64_t least) {
  const int64_t wanted = std::max<int64_t>(1, kEnoughShares / others);
  const int64_t blocks = std::clamp<int64_t>(destinations / least, 1, wanted);
  return ceil_div(destinations, blocks);
}

// ---- vectors of channels ------------------------------------------------------------------------

// Bytes of input and output. A double: they may exceed int64.
inline double tensor_bytes(const Problem& problem) {
  const double input = static_cast<double>(problem.channels) *
                       static_cast<double>(problem.rows.input) *
                       static_cast<double>(problem.cols.input);
  const double output = static_cast<double>(problem.lanes()) *
                        static_cast<double>(problem.rows.output) *
                        static_cast<double>(problem.cols.output);
  return static_cast<double>(problem.batch * storage_bytes(problem)) * (input + output);
}

// Whether the pixels of a row of the source stand so far apart, by a power of two, that a tile's
// compete for one or two places of the level-1 cache: the dozen ways of those do not hold them.
// (Measured: 1.5 times the speed with rows copied at 4096 bytes, 1.1 times at 2048; where a
// dilation makes it 4096, 1.1 times.)
inline bool crowds_cache(const Plan& plan) {
  const bool forward = plan.rows.gather.forward;
  const int64_t lanes = forward ? plan.problem.channels : plan.problem.lanes();
  const int64_t pitch = lanes * storage_bytes(plan.problem);
  return plan.problem.channels_last && plan.cols.axis.kernel > 1 &&
         (pitch % 2048 == 0 || pitch % 4096 * (plan.cols.axis.dilation % 4096) % 4096 == 0);
}

// Whether rows are rewritten on their way to the tiles (rows.h) in chunks of so many channels.
inline bool rewrites_rows(const Problem& problem, int64_t channels, int64_t vector) {
  return !problem.channels_last || storage_bytes(problem) != compute_bytes(problem) ||
         problem.multiplier > 1 || channels < vector;
}

// The weights of all taps should stay in the level-1 cache, and so should a window's rows if they
// are transposed from planes; those of NHWC, where a chunk takes a part of each pixel, in the
// level-2 cache, unless they are very wide. Cuts stand between memory lines of the
// output, so that it may be written past the caches.
inline int64_t channel_chunk(const Problem& problem, int64_t rows, int64_t pixels) {
  constexpr int64_t kWeightBytes = 16 << 10;
  constexpr int64_t kLeastLanes = 16;
  const int64_t row_bytes = (problem.channels_last ? 128 : 32) << 10;
  const int64_t unit = kLeastLanes / std::gcd(kLeastLanes, problem.multiplier);
  const int64_t per_channel = problem.multiplier * compute_bytes(problem);
  const int64_t most = std::min(kWeightBytes / (problem.taps() * per_channel),
                                row_bytes / std::max<int64_t>(1, rows * pixels * per_channel));
  const int64_t chunk = std::clamp(most / unit, int64_t{1}, 16 * kLeastLanes / unit) * unit;
  const int64_t chunks = ceil_div(problem.channels, chunk);
  return std::min(problem.channels, round_up(ceil_div(problem.channels, chunks), unit));
}

// The shortest block of destinations whose halo is no longer than the block, nor the block shorter
// than `least` sources.
inline int64_t least_block(const AxisPlan& axis, int64_t least) {
  const int64_t halo = sources_in_sight(axis.gather, axis.axis, 1);
  return ceil_div(std::max(least, halo), axis.gather.source_step);
}

// Rewritten rows leave room for others in the level-2 cache.
constexpr int64_t kRewrittenBytes = 512 << 10;

// Rows of destinations whose sources and results fit, rewritten whole.
inline int64_t rows_that_fit(const Plan& plan) {
  const Gather& down = plan.rows.gather;
  const int64_t lanes = plan.chunk * plan.problem.multiplier;
  const int64_t pixel_bytes = std::max<int64_t>(lanes, 16) * compute_bytes(plan.problem);
  const int64_t pixels =
      plan.cols.gather.sources * down.source_step + plan.cols.gather.destinations;
  const int64_t halo = sources_in_sight(down, plan.rows.axis, 1) * plan.cols.gather.sources;
  return (kRewrittenBytes / pixel_bytes - halo) / pixels;
}

// Whether an axis is one that strips take: three taps for every destination, a step of one, and
// in every sweep `least` members.
inline bool suits_strips(const AxisPlan& axis, int64_t least) {
  return axis.class_count == 1 && axis.covered && axis.classes[0].taps == 3 &&
         axis.classes[0].point_step() == 1 &&
         axis.classes[0].members / axis.classes[0].parts >= least;
}

// Strips (strips.h) where they can be had: 3 x 3 taps at a step of one, float32 arithmetic and the
// registers of AVX-512.
inline bool plan_strips(Plan& plan, int64_t vector) {
  constexpr int64_t kBlockRows = 14;
  constexpr int64_t kBlockPixels = 256;
  const Problem& problem = plan.problem;
  AxisPlan& rows = plan.rows;
  AxisPlan& cols = plan.cols;
  if (vector * compute_bytes(problem) != 64 || compute_bytes(problem) != 4) return false;
  if (!suits_strips(rows, kLeastOfStrip) || !suits_strips(cols, 1)) return false;
  plan.chunk = channel_chunk(problem, 3, cols.gather.sources);
  const bool own_form = problem.channels_last && plan.last_chunk() * problem.multiplier >= vector &&
                        !plan.sums_copies &&
                        (problem.multiplier == 1 || storage_bytes(problem) == 4);
  const int64_t shares = problem.batch * plan.chunks();
  const int64_t parts = rows.classes[0].parts;
  rows.block = shared_block(rows.gather.destinations, shares, kBlockRows * parts);
  if (own_form) {
    cols.block = shared_block(cols.gather.destinations, shares * rows.blocks(), kBlockPixels);
  } else {
    const int64_t fit = rows_that_fit(plan);
    if (fit < std::min(kMembers * parts, rows.block)) return false;
    rows.block = std::min(rows.block, fit);
  }
  // the last block, too
  while ((rows.gather.destinations - 1) % rows.block + 1 < kLeastOfStrip * parts) ++rows.block;
  plan.strips = true;
  plan.own_form = own_form;
  plan.whole_rows = !own_form;
  plan.row_slots = own_form ? 1 : sources_in_sight(rows.gather, rows.axis, rows.block);
  return true;
}

inline void plan_channels(Plan& plan, int64_t vector, bool gathers) {
  constexpr int64_t kBlockRows = 8;  // short enough to share out, tall enough to reuse rows
  constexpr int64_t kBlockPixels = 64;
  constexpr int64_t kNarrow = 56;
  if (plan_strips(plan, vector)) return;
  const Problem& problem = plan.problem;
  AxisPlan& rows = plan.rows;
  AxisPlan& cols = plan.cols;
  const bool dense = rows.axis.stride == 1 && rows.axis.dilation == 1;
  plan.row_pairs = gathers && dense && rows.gather.destinations > 1 && rows.axis.kernel > 1;
  const int64_t in_sight = sources_in_sight(rows.gather, rows.axis, plan.row_pairs ? 2 : 1);
  plan.slot_by_tap = in_sight > 4 * rows.axis.kernel;  // far apart: hardly any row is met again
  plan.row_slots = plan.slot_by_tap ? rows.axis.kernel : std::max<int64_t>(1, in_sight);
  plan.copies_rows = crowds_cache(plan);
  plan.chunk = channel_chunk(problem, plan.row_slots, cols.gather.sources);
  const bool rewrites = plan.copies_rows || rewrites_rows(problem, plan.last_chunk(), vector);
  const int64_t lines = problem.batch * plan.chunks();
  const int64_t pixel_bytes =
      std::max(plan.chunk * problem.multiplier, vector) * compute_bytes(problem);
  rows.block = std::min(kBlockRows, rows.gather.destinations);
  // tall shares: the first rows of a share are rewritten for the one above it, too
  if (rewrites) rows.block = shared_block(rows.gather.destinations, lines, kBlockRows);
  const int64_t least = rewrites ? least_block(cols, kBlockPixels) : kBlockPixels;
  cols.block = shared_block(cols.gather.destinations, lines * rows.blocks(), least);
  if (rewrites) {
    const int64_t fit = kRewrittenBytes / (plan.row_slots * pixel_bytes) / cols.gather.source_step;
    cols.block = std::min(cols.block, std::max(least, fit));
  }
  // narrow planes are transposed whole rows at a time
  const int64_t fit = rows_that_fit(plan);
  plan.whole_rows = !problem.channels_last && cols.gather.destinations < kNarrow &&
                    !plan.slot_by_tap && fit >= std::min(kBlockRows, rows.block);
  if (plan.whole_rows) {
    rows.block = std::min(rows.block, fit);
    cols.block = cols.gather.destinations;
    plan.row_slots = std::max<int64_t>(1, sources_in_sight(rows.gather, rows.axis, rows.block));
  }
}

// ---- vectors of columns -------------------------------------------------------------------------

// `exact`: whether the last vector of a line of results may overlap the one before. The classes
// have one step and spacing: there is one in the forward pass, and in the input gradient the step
// is 1.
inline LineForm line_form(const AxisPlan& cols, Range share, int64_t planes, int64_t interleaved,
                          int64_t vector, bool exact) {
  LineForm form = {std::numeric_limits<int64_t>::max(), 1, 1, 1, interleaved, 0, 0, 0};
  int64_t members = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < cols.class_count; ++i) {
    const TapClass taps = restricted(cols.classes[i], share);
    if (taps.members == 0) continue;
    form.begin = std::min(form.begin, taps.position);
    form.step = taps.step;
    form.spacing = taps.spacing;
    form.phases = std::min(taps.point_step(), taps.taps);
    members = std::max(members, taps.members);
    last = std::max(last, taps.position + (taps.taps - 1) * taps.spacing);
  }
  if (members == 0) return {0, 1, 1, 1, interleaved, 0, 0, 0};
  members *= interleaved;
  const int64_t reach = (last - form.begin) / form.step * interleaved;
  form.width = members + reach;
  form.lanes = (planes - 1) * form.width + members;
  if (!exact || planes > 1 || members < vector) form.lanes = round_up(form.lanes, vector);
  form.pitch =
      std::max((planes - 1) * form.width + round_up(form.width, vector), form.lanes + reach);
  if (interleaved > 1) form.pitch += vector;  // pixels are written as vectors
  return form;
}

// How many planes share a line: as many as leave the fewest lanes of the vectors empty, one where
// that gains little. Lines of several planes are not cut.
inline int64_t planes_of_line(const AxisPlan& cols, int64_t channels, int64_t vector) {
  constexpr int64_t kMost = 16;
  constexpr double kGain = 1.15;
  int64_t best = 1;
  double best_use = 0;
  const int64_t most = cols.gather.destinations < 4 * vector ? std::min(channels, kMost) : 1;
  for (int64_t planes = 1; planes <= most; ++planes) {
    const LineForm form = line_form(cols, {0, cols.gather.destinations}, planes, 1, vector, false);
    const double use = static_cast<double>(cols.gather.destinations * planes) /
                       static_cast<double>(std::max<int64_t>(1, form.lanes));
    if (use > best_use * kGain) {
      best = planes;
      best_use = use;
    }
  }
  return best;
}

// Whether vectors of columns can be had, and pay: for few channels; of NHWC memory where the filter
// may meet padding. (Measured there: at 9 of 16 lanes 0.7 to 1.1 times the speed of vectors of
// channels, at 13 to 15 0.65 to 0.85 times.)
inline bool suits_columns(const Problem& problem, int64_t vector, bool finite) {
  return problem.lanes() <= vector / 2 && (finite || !problem.channels_last);
}

// `exact` as above. The forms of the columns' blocks are put into `forms`.
inline void plan_columns(Plan& plan, int64_t vector, bool exact, std::vector<LineForm>& forms) {
  constexpr int64_t kBlockValues = 1024;    // of a line, but for its halo
  constexpr int64_t kLineBytes = 24 << 10;  // half a level-1 cache
  constexpr int64_t kBlockRows = 2 * kMembers;
  const Problem& problem = plan.problem;
  AxisPlan& rows = plan.rows;
  AxisPlan& cols = plan.cols;
  // a block of destinations has a line of values for each of its classes
  const int64_t classes = std::max<int64_t>(1, cols.class_count);
  const int64_t halo = least_block(cols, 1);
  const int64_t most = kBlockValues / plan.interleaved;
  cols.block = std::min(cols.gather.destinations, std::max(most * classes, halo));
  plan.chunk =
      problem.channels_last ? problem.channels : planes_of_line(cols, problem.channels, vector);
  const int64_t lines = problem.batch * plan.chunks();
  rows.block = shared_block(rows.gather.destinations, lines * cols.blocks(), kBlockRows);
  cols.block = std::min(cols.block, shared_block(cols.gather.destinations, lines * rows.blocks(),
                                                 std::max(most / 4 * classes, halo)));
  for (int64_t i = 0; i < cols.blocks(); ++i) {
    forms.push_back(line_form(cols, cols.block_range(i), problem.channels_last ? 1 : plan.chunk,
                              plan.interleaved, vector, exact));
    plan.most_lanes = std::max(plan.most_lanes, forms.back().lanes);
    plan.line_pitch = std::max(plan.line_pitch, forms.back().phases * forms.back().pitch);
  }
  plan.forms = forms.data();
  const int64_t step = rows.class_count > 0 ? rows.classes[0].point_step() : 1;
  const int64_t line_bytes = std::max<int64_t>(1, plan.line_pitch * compute_bytes(problem));
  const int64_t fit = (kLineBytes / line_bytes - rows.most_taps) / step + 1;
  const int64_t members = std::max({fit, 2 * rows.most_taps / step, int64_t{kMembers}});
  plan.block_members = std::min(rows.block, members / kMembers * kMembers);
  plan.block_lines = (plan.block_members - 1) * step + rows.most_taps;
  const double planes = static_cast<double>(rows.gather.sources * cols.gather.sources) +
                        static_cast<double>(rows.gather.destinations * cols.gather.destinations);
  plan.packs = static_cast<double>(plan.block_lines) * static_cast<double>(plan.line_pitch) <=
               4 * static_cast<double>(plan.chunk) * planes + (1 << 16);
  if (!plan.packs) plan.block_members = 1;
}

// ---- planes where they lie ----------------------------------------------------------------------

// Whether plane strips (plane_strips.h) have a kernel for an axis: all taps at once, or those of
// even and odd destinations apart.
inline bool suits_planes(const AxisPlan& axis, bool gathers) {
  const int64_t kernel = axis.axis.kernel;
  if (!axis.covered || (kernel != 3 && kernel != 5 && kernel != 7)) return false;
  if (axis.class_count == 1) {
    const TapClass& taps = axis.classes[0];
    if (taps.taps != kernel || taps.point_step() > 2) return false;
    return kernel <= (gathers && taps.point_step() == 1 ? 7 : 5);
  }
  if (axis.class_count != 2 || axis.gather.classes != 2 || kernel > 5) return false;
  const TapClass& even = axis.classes[0];
  const TapClass& odd = axis.classes[1];
  return even.taps + odd.taps == kernel && std::abs(even.taps - odd.taps) == 1 &&
         even.spacing == 1 && odd.spacing == 1;
}

// Whether planes fill enough of the lanes of their rows' vectors. Few channels would be packed into
// lines otherwise: 5 columns of 16 are enough. Others would be transposed: 14 columns of 16, 33 of
// 48; beyond the caches, where that costs most, 17 of 32. (All measured.)
inline bool fills_lanes(const Plan& plan, int64_t vector) {
  const int64_t members = plan.cols.classes[0].members * plan.interleaved;
  const int64_t percent = members * 100 / round_up(members, vector);
  if (plan.problem.lanes() <= vector / 2) return percent >= 30;
  return percent >= (plan.far ? 50 : members <= vector ? 85 : 65);
}

// Whether plane strips can be had, and pay: float32 arithmetic and the registers of AVX-512, rows
// that fill enough lanes and are not so wide that columns should be shared out; of NHWC memory
// those of fewer channels than a vector, at a stride of one.
inline bool suits_plane_strips(const Plan& plan, int64_t vector, bool gathers) {
  constexpr int64_t kMostSweeps = 64;
  const Problem& problem = plan.problem;
  const int64_t widest = problem.channels_last ? 8192 : 2048;
  const AxisPlan& rows = plan.rows;
  const AxisPlan& cols = plan.cols;
  if (problem.rows.kernel != problem.cols.kernel) return false;
  if (problem.channels_last &&
      (problem.lanes() >= vector || problem.multiplier > 1 || cols.axis.stride > 1)) {
    return false;
  }
  if (plan.sums_copies && storage_bytes(problem) != 4) return false;  // sums of copies are rounded
  if (vector * compute_bytes(problem) != 64 || compute_bytes(problem) != 4) return false;
  if (!suits_planes(rows, gathers) || !suits_planes(cols, gathers)) return false;
  const TapClass& down = rows.classes[0];
  const TapClass& across = cols.classes[0];
  return cols.class_count == rows.class_count && across.step == down.point_step() &&
         (across.step == 1 || across.spacing == 1) && down.parts <= kMostSweeps &&
         cols.gather.destinations * plan.interleaved <= widest && fills_lanes(plan, vector);
}

inline void plan_planes(Plan& plan) {
  constexpr int64_t kChunkValues = 16 << 10;
  constexpr int64_t kBlockRows = 14;
  constexpr int64_t kBlockValues = 2 << 10;
  constexpr int64_t kBlockBytes = 12 << 10;
  const Problem& problem = plan.problem;
  AxisPlan& rows = plan.rows;
  const Gather& across = plan.cols.gather;
  const int64_t parts = rows.classes[0].parts;
  // Strips that follow each other meet the same memory lines, so level 1 need not hold a block.
  if (problem.channels_last) {
    plan.chunk = problem.channels;
    rows.block = shared_block(rows.gather.destinations, problem.batch, 2 * kBlockRows * parts);
    plan.block_members = rows.block;
    return;
  }
  const int64_t planes = problem.batch * problem.channels;
  const int64_t values = rows.gather.sources * across.sources +
                         problem.multiplier * rows.gather.destinations * across.destinations;
  plan.chunk = std::clamp<int64_t>(std::min(kChunkValues / values, planes / kEnoughShares), 1,
                                   problem.channels);
  const int64_t least =
      std::clamp(kBlockValues / across.destinations, 2 * problem.rows.kernel, kBlockRows) * parts;
  rows.block = shared_block(rows.gather.destinations, problem.batch * plan.chunks(), least);
  const int64_t row_bytes = std::max<int64_t>(
      1, rows.gather.sources * across.sources * storage_bytes(problem) / rows.gather.destinations);
  const int64_t fit = std::max(least, kBlockBytes / row_bytes);
  plan.block_members = ceil_div(rows.block, ceil_div(rows.block, fit));
}

}  // namespace tfcompat_dw::cpu
