// The taps of one axis, laid out for the kernels. A pure function of the problem.
#pragma once
#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels.h"

namespace tfcompat_dw::cpu {

// The sweeps of one axis. Inside a class the taps' offsets are `spacing` apart, and members are
// source_step apart. Every spacing / gcd-th member sees its taps in the same residue of the
// spacing, gcd being that of the two: those form a sweep, and in units of the spacing both are
// whole.
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

// How many source rows lie between the first and the last that one destination row can meet.
inline int64_t rows_in_sight(const Axis& axis, const Gather& gather) {
  const int64_t reach = (axis.kernel - 1) * axis.dilation;
  return std::min((gather.forward ? reach : reach / axis.stride) + 1, gather.sources);
}

}  // namespace tfcompat_dw::cpu
