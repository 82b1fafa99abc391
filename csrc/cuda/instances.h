// The kernels of one dtype, as launch.cu sees them. kernels.h defines them, <dtype>.cu compiles
// them.
#pragma once
#include "../problem.h"
#include "numbers.h"

namespace tfcompat_dw::cuda {

// T: double, float, BFloat16 or Float16. The arguments are those of cuda.h.
template <class T>
struct Kernels {
  static void gather(const Problem& problem, bool forward, const void* sources, const void* filter,
                     const void* bias, void* destinations, void* stream);
  static int64_t workspace(const Problem& problem, bool filter_wanted, bool bias_wanted);
  static void filter(const Problem& problem, const void* input, const void* grad,
                     void* filter_gradient, void* bias_gradient, void* workspace, void* stream);
  static int64_t backward_workspace(const Problem& problem, bool filter_wanted, bool bias_wanted);
  static void backward(const Problem& problem, const void* input, const void* filter,
                       const void* grad, void* input_gradient, void* filter_gradient,
                       void* bias_gradient, void* workspace, void* stream);
};

}  // namespace tfcompat_dw::cuda
