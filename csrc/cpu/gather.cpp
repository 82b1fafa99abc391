// The forward pass, in which each output gathers from the inputs its window shows, and the input
// gradient, in which each input gathers from the output gradients whose windows saw it: one
// computation (window.h), so one set of kernels.
#ifndef DW_ISA
#define DW_KERNEL_FILE "gather.cpp"
#define DW_ROUNDS_BFLOAT16
#include "each_isa.h"
#else
namespace tfcompat_dw::cpu::DW_ISA {
namespace {
#include "simd.h"
//
#include "tiles.h"
#include "transpose.h"
//
#include "lines.h"
#include "plane_strips.h"
#include "rows.h"
#include "strips.h"
//
#include "gather_channels.h"
#include "gather_columns.h"
#include "gather_planes.h"

template <class S>
GatherKernel gather_of(Form form) {
#if DW_VECTOR_BYTES == 64
  if constexpr (kHasPlaneStrips<Compute<S> >) {
    if (form == Form::kPlanes) return {plane_gather_scratch_bytes<S>, plane_gather_run<S>};
  }
#endif
  if (form == Form::kColumns) return {column_gather_scratch_bytes<S>, column_gather_run<S>};
  return {channel_gather_scratch_bytes<S>, channel_gather_run<S>};
}

#ifdef DW_HAVE_BF16
}  // namespace

// Other types are computed as ever.
GatherKernel gather(const Plan& plan) {
  if (plan.problem.dtype != DataType::kBFloat16) return avx512::gather(plan);
  return gather_of<BFloat16>(plan.form);
}
#else
// 16-bit filters and biases are converted once per call, not once per use.
template <class S>
void convert_lanes(const void* from, void* to, int64_t count) {
  widen_all(static_cast<const S*>(from), count, static_cast<float*>(to));
}
}  // namespace

GatherKernel gather(const Plan& plan) {
  switch (plan.problem.dtype) {
    case DataType::kFloat64: return gather_of<double>(plan.form);
    case DataType::kFloat32: return gather_of<float>(plan.form);
    case DataType::kBFloat16: return gather_of<BFloat16>(plan.form);
    default: return gather_of<Float16>(plan.form);
  }
}

// Of a 16-bit dtype.
void convert_to_compute(DataType dtype, const void* from, void* to, int64_t count) {
  if (dtype == DataType::kBFloat16) return convert_lanes<BFloat16>(from, to, count);
  if (dtype == DataType::kFloat16) return convert_lanes<Float16>(from, to, count);
}

// Values in the compute type of a dtype.
bool all_finite(DataType dtype, const void* values, int64_t count) {
  return dtype == DataType::kFloat64 ? all_finite(static_cast<const double*>(values), count)
                                     : all_finite(static_cast<const float*>(values), count);
}
#endif

}  // namespace tfcompat_dw::cpu::DW_ISA
#endif
