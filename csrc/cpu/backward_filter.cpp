// The filter gradient, and the bias gradient in the same sweep over the output gradient.
#ifndef DW_ISA
#define DW_KERNEL_FILE "backward_filter.cpp"
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
#include "filter_channels.h"
#include "filter_columns.h"
#include "filter_planes.h"

// Sums the groups' partials in group order: the result does not depend on who computed them.
template <class S>
void reduce(const FilterCall& call, int64_t begin, int64_t end) {
  using T = Compute<S>;
  const int64_t filter_size = call.plan.problem.taps() * call.plan.problem.lanes();
  const int64_t size = filter_size + call.plan.problem.lanes();
  const T* partials = static_cast<const T*>(call.partials);
  for (int64_t i = begin; i < end; ++i) {
    const bool is_bias = i >= filter_size;
    void* target = is_bias ? call.bias_gradient : call.filter_gradient;
    if (!target) continue;
    T sum = partials[i];
    for (int64_t g = 1; g < call.groups; ++g) sum += partials[g * size + i];
    store_scalar(static_cast<S*>(target) + (is_bias ? i - filter_size : i), sum);
  }
}

template <class S>
FilterKernel backward_filter_of(Form form) {
#if DW_VECTOR_BYTES == 64
  if constexpr (kHasPlaneStrips<Compute<S> >) {
    if (form == Form::kPlanes) {
      return {plane_filter_scratch_bytes<S>, plane_filter_run<S>, reduce<S>};
    }
  }
#endif
  if (form == Form::kColumns) {
    return {column_filter_scratch_bytes<S>, column_filter_run<S>, reduce<S>};
  }
  return {channel_filter_scratch_bytes<S>, channel_filter_run<S>, reduce<S>};
}
}  // namespace

FilterKernel backward_filter(const Plan& plan) {
  switch (plan.problem.dtype) {
    case DataType::kFloat64: return backward_filter_of<double>(plan.form);
    case DataType::kFloat32: return backward_filter_of<float>(plan.form);
    case DataType::kBFloat16: return backward_filter_of<BFloat16>(plan.form);
    default: return backward_filter_of<Float16>(plan.form);
  }
}

}  // namespace tfcompat_dw::cpu::DW_ISA
#endif
