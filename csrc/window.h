// The window arithmetic of one spatial axis. Host and device, int64, no torch, no std.
#pragma once
#include "problem.h"

#ifdef __CUDACC__
#define DW_HOST_DEVICE __host__ __device__
#else
#define DW_HOST_DEVICE
#endif

namespace tfcompat_dw {

DW_HOST_DEVICE inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
DW_HOST_DEVICE inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// Division that rounds down and up, for any sign of a and b > 0.
DW_HOST_DEVICE inline int64_t floor_div(int64_t a, int64_t b) {
  return a / b - (a % b < 0 ? 1 : 0);
}
DW_HOST_DEVICE inline int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b > 0 ? 1 : 0); }
DW_HOST_DEVICE inline int64_t floor_mod(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }

struct Range {
  int64_t begin;
  int64_t end;
};

// The q in [0, count) for which offset + q * step lies in [0, size).
DW_HOST_DEVICE inline Range inside(int64_t offset, int64_t step, int64_t size, int64_t count) {
  const int64_t begin = max64(0, ceil_div(-offset, step));
  const int64_t end = min64(count, floor_div(size - 1 - offset, step) + 1);
  return end > begin ? Range{begin, end} : Range{0, 0};
}

// Forward and input gradient are one computation: a destination gathers from its sources.
// The destinations r, r + classes, r + 2 * classes, ... form class r; all of a class use the same
// taps, and from one member to the next the source moves by source_step. The forward pass has one
// class and a source step of stride; the input gradient has stride classes (its parities) and a
// source step of one.
struct Gather {
  int64_t destinations;
  int64_t sources;
  int64_t classes;
  int64_t source_step;
  bool forward;

  // How many destinations class r has.
  DW_HOST_DEVICE int64_t members(int64_t r) const {
    return ceil_div(max64(destinations - r, 0), classes);
  }
};

DW_HOST_DEVICE inline Gather gather_forward(const Axis& axis) {
  return {axis.output, axis.input, 1, axis.stride, true};
}
DW_HOST_DEVICE inline Gather gather_backward_input(const Axis& axis) {
  return {axis.input, axis.output, axis.stride, 1, false};
}

// The class that tap k belongs to, and the source that its first member sees through it.
// Forward: output 0 sees input k * dilation - pad. Input gradient: output o saw input i through k
// if i = o * stride + k * dilation - pad, so i = k * dilation - pad modulo stride.
DW_HOST_DEVICE inline int64_t tap_class(const Gather& gather, const Axis& axis, int64_t k) {
  return floor_mod(k * axis.dilation - axis.pad, gather.classes);
}
DW_HOST_DEVICE inline int64_t tap_offset(const Gather& gather, const Axis& axis, int64_t k) {
  const int64_t shift = k * axis.dilation - axis.pad;
  return gather.forward ? shift : -floor_div(shift, axis.stride);
}

// The sources from the first to the last that the destinations of a range can meet. Here and below,
// gather and axis are a Gather and its Axis, or twice what says both at once (cuda/lattice.h).
template <class G, class A>
DW_HOST_DEVICE inline Range sources_of(const G& gather, const A& axis, Range d) {
  const int64_t reach = static_cast<int64_t>(axis.kernel - 1) * axis.dilation;
  int64_t begin, last;
  if (gather.forward) {
    begin = d.begin * axis.stride - axis.pad;
    last = (d.end - 1) * axis.stride - axis.pad + reach;
  } else {
    begin = d.begin + axis.pad - reach;
    last = d.end - 1 + axis.pad;
    if (axis.stride > 1) {  // a GPU takes long to divide
      begin = ceil_div(begin, axis.stride);
      last = floor_div(last, axis.stride);
    }
  }
  const int64_t first = min64(max64(begin, 0), gather.sources);
  return {first, max64(first, min64(last + 1, gather.sources))};
}

// How many sources lie in that range at the most, for any `count` destinations side by side.
template <class G, class A>
DW_HOST_DEVICE inline int64_t sources_in_sight(const G& gather, const A& axis, int64_t count) {
  const int64_t reach = static_cast<int64_t>(axis.kernel - 1) * axis.dilation;
  return min64(gather.sources, gather.forward ? (count - 1) * axis.stride + reach + 1
                                              : (count - 1 + reach) / axis.stride + 1);
}

}  // namespace tfcompat_dw
