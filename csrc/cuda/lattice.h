// One spatial axis as the tiles see it: destinations that lie on a lattice and share their taps.
//
// A lattice (class r of `classes`) holds the destinations first + i * step; destination i sees
// through its tap j the source origin + (i * S + j) * pitch, S being the forward stride that the
// kernel is compiled for. Neighbours on it read overlapping sources, whatever the problem was:
//   forward, stride S           one class of all destinations
//   stride 1, dilation d        d classes, each a dense problem on every d-th row or column
//   input gradient, stride s    s classes (parities for s = 2), each with every s-th tap
#pragma once
#include "../window.h"
#include "platform.h"

namespace tfcompat_dw::cuda {

// What a kernel is told about an axis. Every int32 is checked by library.cpp (kMaxStep).
struct GatherAxis {
  int64_t destinations;
  int64_t sources;
  int32_t classes;  // those that have a destination
  int32_t step;     // from one destination of a class to the next
  int32_t kernel;
  int32_t stride;
  int32_t dilation;
  int32_t pad;
  bool forward;
};

inline GatherAxis gather_axis(const Axis& axis, bool forward) {
  const int64_t destinations = forward ? axis.output : axis.input;
  const int64_t step = axis.stride == 1 ? axis.dilation : forward ? 1 : axis.stride;
  return {destinations,
          forward ? axis.input : axis.output,
          static_cast<int32_t>(min64(step, destinations)),
          static_cast<int32_t>(step),
          static_cast<int32_t>(axis.kernel),
          static_cast<int32_t>(axis.stride),
          static_cast<int32_t>(axis.dilation),
          static_cast<int32_t>(axis.pad),
          forward};
}

// Whether the destinations lie on lattices that a kernel for stride S (1 or 2) knows.
inline bool on_lattice(const Axis& axis, bool forward) {
  return axis.stride == 1 || (axis.dilation == 1 && (!forward || axis.stride == 2));
}

struct Lattice {
  int64_t first;
  int64_t step;
  int64_t origin;
  int64_t pitch;
  int32_t taps;
  int32_t tap_first;  // tap j is row (column) tap_first + j * tap_step of the filter
  int32_t tap_step;
};

DW_HOST_DEVICE inline Lattice lattice_of(const GatherAxis& axis, int32_t r) {
  if (axis.forward) {
    return {r, axis.step, static_cast<int64_t>(r) - axis.pad, axis.dilation, axis.kernel, 0, 1};
  }
  if (axis.stride == 1) {
    const int64_t reach = static_cast<int64_t>(axis.kernel - 1) * axis.dilation;
    return {r,
            axis.step,
            static_cast<int64_t>(r) + axis.pad - reach,
            axis.dilation,
            axis.kernel,
            axis.kernel - 1,
            -1};
  }
  // destination i meets source o through tap k if i = o * stride + k - pad
  const uint32_t shifted = static_cast<uint32_t>(r) + static_cast<uint32_t>(axis.pad);
  const int32_t tap = static_cast<int32_t>(shifted % static_cast<uint32_t>(axis.stride));
  const int64_t source = shifted / static_cast<uint32_t>(axis.stride);
  const int32_t taps = tap < axis.kernel ? (axis.kernel - 1 - tap) / axis.stride + 1 : 0;
  return {r, axis.step, source - (taps - 1), 1, taps, tap + (taps - 1) * axis.stride, -axis.stride};
}

}  // namespace tfcompat_dw::cuda
