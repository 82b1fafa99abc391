// From a call to the kernels of its dtype.
#include "cuda.h"
#include "instances.h"

namespace tfcompat_dw::cuda {

namespace {
// Calls body with the kernels of a dtype.
template <class Body>
auto with_kernels(DataType dtype, const Body& body) {
  switch (dtype) {
    case DataType::kFloat64: return body(Kernels<double>());
    case DataType::kFloat32: return body(Kernels<float>());
    case DataType::kBFloat16: return body(Kernels<BFloat16>());
    default: return body(Kernels<Float16>());
  }
}
}  // namespace

void forward(const Problem& problem, const void* input, const void* filter, const void* bias,
             void* output, void* stream) {
  with_kernels(problem.dtype, [&](auto kernels) {
    kernels.gather(problem, true, input, filter, bias, output, stream);
  });
}

void backward_input(const Problem& problem, const void* grad, const void* filter,
                    void* input_gradient, void* stream) {
  with_kernels(problem.dtype, [&](auto kernels) {
    kernels.gather(problem, false, grad, filter, nullptr, input_gradient, stream);
  });
}

int64_t workspace_bytes(const Problem& problem, bool filter_wanted, bool bias_wanted) {
  return with_kernels(problem.dtype, [&](auto kernels) {
    return kernels.workspace(problem, filter_wanted, bias_wanted);
  });
}

void backward_filter(const Problem& problem, const void* input, const void* grad,
                     void* filter_gradient, void* bias_gradient, void* workspace, void* stream) {
  with_kernels(problem.dtype, [&](auto kernels) {
    kernels.filter(problem, input, grad, filter_gradient, bias_gradient, workspace, stream);
  });
}

int64_t backward_workspace_bytes(const Problem& problem, bool filter_wanted, bool bias_wanted) {
  return with_kernels(problem.dtype, [&](auto kernels) {
    return kernels.backward_workspace(problem, filter_wanted, bias_wanted);
  });
}

void backward(const Problem& problem, const void* input, const void* filter, const void* grad,
              void* input_gradient, void* filter_gradient, void* bias_gradient, void* workspace,
              void* stream) {
  with_kernels(problem.dtype, [&](auto kernels) {
    kernels.backward(problem, input, filter, grad, input_gradient, filter_gradient, bias_gradient,
                     workspace, stream);
  });
}

}  // namespace tfcompat_dw::cuda
