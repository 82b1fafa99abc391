// The operator on a GPU, for callers that hold plain dense arrays there. No torch.
//
// Arrays are as in cpu/cpu.h, in device memory. Every function enqueues its kernels on `stream` (a
// cudaStream_t) of the current device and returns at once. Sizes are trusted: library.cpp has
// checked them. Results are not empty; an input may be, where padding alone gives an output, and
// its address null. Throws std::runtime_error where a launch is refused.
#pragma once
#include <cstdint>

#include "../problem.h"

namespace tfcompat_dw::cuda {

// bias may be null.
void forward(const Problem& problem, const void* input, const void* filter, const void* bias,
             void* output, void* stream);

void backward_input(const Problem& problem, const void* grad, const void* filter,
                    void* input_gradient, void* stream);

// Bytes of device memory that backward_filter needs beside its arrays: at most an eighth of the
// input, or one filter and bias in the type that sums are made in.
int64_t workspace_bytes(const Problem& problem, bool filter_wanted, bool bias_wanted);

// Either gradient may be null. input and grad are aligned to 16 bytes; so is the workspace.
void backward_filter(const Problem& problem, const void* input, const void* grad,
                     void* filter_gradient, void* bias_gradient, void* workspace, void* stream);

// As workspace_bytes, for backward.
int64_t backward_workspace_bytes(const Problem& problem, bool filter_wanted, bool bias_wanted);

// The input gradient with one of the others or both, in one sweep where there is a kernel for that:
// a filter gradient's sums are added in another order then. All arrays but the gradients of filter
// and bias are aligned to 16 bytes.
void backward(const Problem& problem, const void* input, const void* filter, const void* grad,
              void* input_gradient, void* filter_gradient, void* bias_gradient, void* workspace,
              void* stream);

}  // namespace tfcompat_dw::cuda
