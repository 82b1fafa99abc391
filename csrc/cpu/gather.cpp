// The forward pass, in which each output gathers from the inputs its window shows, and the input
// gradient, in which each input gathers from the output gradients whose windows saw it: one
// computation (window.h), so one set of kernels.
#ifndef DW_ISA
#define DW_KERNEL_FILE "gather.cpp"
#include "each_isa.h"
#else
namespace tfcompat_dw::cpu::DW_ISA {
namespace {
#include "simd.h"
//
#include "lanes.h"
#include "tiles.h"
//
#include "lines_nchw.h"
#include "rows_nhwc.h"
//
#include "gather_nchw.h"
#include "gather_nhwc.h"

template <class S>
GatherKernel gather_of(bool channels_last) {
  if (channels_last) return {nhwc_scratch_bytes<S>, nhwc_run<S>};
  return {nchw_scratch_bytes<S>, nchw_run<S>};
}

// 16-bit filters and biases are converted once per call, not once per use.
template <class S>
void convert_lanes(const void* from, void* to, int64_t count) {
  read_strided(static_cast<const S*>(from), 1, count, static_cast<float*>(to));
}
}  // namespace

GatherKernel gather(const Problem& problem) {
  switch (problem.dtype) {
    case DataType::kFloat64: return gather_of<double>(problem.channels_last);
    case DataType::kFloat32: return gather_of<float>(problem.channels_last);
    case DataType::kBFloat16: return gather_of<BFloat16>(problem.channels_last);
    default: return gather_of<Float16>(problem.channels_last);
  }
}

void convert_to_compute(DataType dtype, const void* from, void* to, int64_t count) {
  if (dtype == DataType::kBFloat16) return convert_lanes<BFloat16>(from, to, count);
  if (dtype == DataType::kFloat16) return convert_lanes<Float16>(from, to, count);
}

bool all_finite(DataType compute_type, const void* values, int64_t count) {
  return compute_type == DataType::kFloat64 ? all_finite(static_cast<const double*>(values), count)
                                            : all_finite(static_cast<const float*>(values), count);
}

}  // namespace tfcompat_dw::cpu::DW_ISA
#endif
