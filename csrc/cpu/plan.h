// The taps of one axis, laid out for the kernels. A pure function of the problem.
#pragma once
#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels.h"

namespace tfcompat_dw::cpu {

class AxisPlanner {
 public:
  AxisPlanner(const Axis& axis, const Gather& gather) : gather_(gather) {
    const int64_t classes = std::min(gather.classes, gather.destinations);
    add_taps(axis, classes);
    of_destination_.resize(gather.destinations);
    for (int64_t r = 0; r < classes; ++r) {
      for (int64_t q = 0; q < gather.members(r); ++q) {
        of_destination_[r + q * gather.classes] = taps_of_member(of_class_[r], q);
      }
    }
  }

  AxisPlan plan() const {
    return {gather_, taps_.data(), of_class_.data(), of_destination_.data()};
  }

 private:
  // Sorts the kernel positions by class; positions of classes without destinations are dropped.
  void add_taps(const Axis& axis, int64_t classes) {
    const int64_t step = gather_.source_step;
    const int64_t line = ceil_div(gather_.sources, step);
    std::vector<std::pair<int64_t, int64_t>> order;  // class, kernel position
    order.reserve(axis.kernel);
    for (int64_t k = 0; k < axis.kernel; ++k) {
      const int64_t r = tap_class(gather_, axis, k);
      if (r < classes) order.emplace_back(r, k);
    }
    std::sort(order.begin(), order.end());
    of_class_.assign(classes, {0, 0});
    taps_.reserve(order.size());
    for (const auto& [r, k] : order) {
      const int64_t offset = tap_offset(gather_, axis, k);
      const int64_t index = static_cast<int64_t>(taps_.size());
      if (of_class_[r].end == 0) of_class_[r].begin = index;
      of_class_[r].end = index + 1;
      taps_.push_back(
          {k, offset, step == 1 ? offset : floor_mod(offset, step) * line + floor_div(offset, step),
           inside(offset, step, gather_.sources, gather_.members(r))});
    }
  }

  // Offsets are monotonic inside a class, so the taps that meet a source are neighbours.
  Range taps_of_member(Range taps, int64_t q) const {
    const int64_t low = -q * gather_.source_step;  // least offset that meets a source
    const int64_t high = low + gather_.sources;    // least that no longer does
    const bool rising = gather_.forward;
    const auto first = taps_.begin() + taps.begin;
    const auto last = taps_.begin() + taps.end;
    const auto begin = std::partition_point(
        first, last, [=](const Tap& t) { return rising ? t.offset < low : t.offset >= high; });
    const auto end = std::partition_point(
        begin, last, [=](const Tap& t) { return rising ? t.offset < high : t.offset >= low; });
    return {begin - taps_.begin(), end - taps_.begin()};
  }

  Gather gather_;
  std::vector<Tap> taps_;
  std::vector<Range> of_class_;
  std::vector<Range> of_destination_;
};

// The sweeps of one axis. Inside a class the taps' offsets are `spacing` apart, and members are
// source_step apart. Every spacing / gcd-th member sees its taps in the same residue of the spacing,
// gcd being that of the two: those form a sweep, and in units of the spacing both are whole.
inline std::vector<Sweep> sweeps_of(const Axis& axis, const Gather& gather) {
  const int64_t classes = std::min(gather.classes, gather.destinations);
  std::vector<std::pair<int64_t, int64_t>> order;  // class, kernel position in order of offset
  for (int64_t i = 0; i < axis.kernel; ++i) {
    const int64_t k = gather.forward ? i : axis.kernel - 1 - i;
    const int64_t r = tap_class(gather, axis, k);
    if (r < classes) order.emplace_back(r, k);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Sweep> sweeps;
  auto tap = order.begin();
  for (int64_t r = 0; r < classes; ++r) {
    const auto first = tap;
    while (tap != order.end() && tap->first == r) ++tap;
    const int64_t taps = tap - first;
    const int64_t offset = taps > 0 ? tap_offset(gather, axis, first->second) : 0;
    const int64_t index = taps > 0 ? first->second : 0;
    const int64_t index_step = taps > 1 ? first[1].second - index : 0;
    const int64_t spacing =
        taps > 1 ? tap_offset(gather, axis, first[1].second) - offset : gather.source_step;
    const int64_t divisor = std::gcd(spacing, gather.source_step);
    const int64_t parts = spacing / divisor;
    const int64_t members = gather.members(r);
    for (int64_t part = 0; part < std::min(parts, members); ++part) {
      const int64_t position = offset + part * gather.source_step;  // of member 0, tap 0
      const int64_t source = floor_mod(position, spacing);
      sweeps.push_back({r + part * gather.classes, parts * gather.classes,
                        ceil_div(members - part, parts), taps, index, index_step,
                        gather.source_step / divisor, floor_div(position, spacing), source, spacing,
                        ceil_div(std::max<int64_t>(gather.sources - source, 0), spacing)});
    }
  }
  return sweeps;
}

// How many source rows lie between the first and the last that `block` neighbouring destination
// rows meet.
inline int64_t rows_in_sight(const Axis& axis, const Gather& gather, int64_t block) {
  const int64_t reach = (axis.kernel - 1) * axis.dilation;
  const int64_t rows = gather.forward ? (block - 1) * axis.stride + reach + 1
                                      : (block - 1 + reach) / axis.stride + 2;
  return std::min(rows, gather.sources);
}

}  // namespace tfcompat_dw::cpu
