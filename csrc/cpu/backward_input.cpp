// The input gradient: each input gathers from the output gradients whose windows saw it.
#ifndef DW_ISA
#define DW_KERNEL_FILE "backward_input.cpp"
#include "each_isa.h"
#else
namespace tfcompat_dw::cpu::DW_ISA {
namespace {
#include "simd.h"
//
#include "lanes.h"
#include "planes_nchw.h"
#include "rows_nhwc.h"
#include "tiles_nhwc.h"
//
#include "gather_nchw.h"
#include "gather_nhwc.h"

template <class S>
GatherKernel backward_input_of(bool channels_last) {
  if (channels_last) return {nhwc_tasks, nhwc_scratch_bytes<S>, nhwc_run<S>};
  return {nchw_tasks, nchw_scratch_bytes<S>, nchw_run<S>};
}
}  // namespace

GatherKernel backward_input(const Problem& problem) {
  switch (problem.dtype) {
    case DataType::kFloat64: return backward_input_of<double>(problem.channels_last);
    case DataType::kFloat32: return backward_input_of<float>(problem.channels_last);
    case DataType::kBFloat16: return backward_input_of<BFloat16>(problem.channels_last);
    default: return backward_input_of<Float16>(problem.channels_last);
  }
}

}  // namespace tfcompat_dw::cpu::DW_ISA
#endif
