// The operator on the CPU, for callers that hold plain dense arrays. No torch.
//
// Arrays are in problem.dtype and in the memory order that problem.channels_last says:
// input [n, h, w, c] or [n, c, h, w], output and grad likewise with channels * multiplier, filter
// [kh, kw, c, m], bias [c * m]. Sizes are trusted: library.cpp has checked them.
#pragma once
#include <cstdint>
#include <functional>

#include "../problem.h"

namespace tfcompat_dw::cpu {

using Body = std::function<void(int64_t begin, int64_t end)>;

// Runs body over [0, tasks), in pieces of at least `grain` on any number of threads.
using ParallelFor = void (*)(int64_t tasks, int64_t grain, const Body& body);

// bias may be null.
void forward(const Problem& problem, const void* input, const void* filter, const void* bias,
             void* output, ParallelFor parallel_for);

void backward_input(const Problem& problem, const void* grad, const void* filter,
                    void* input_gradient, ParallelFor parallel_for);

// Either gradient may be null; input may be null where filter_gradient is.
void backward_filter(const Problem& problem, const void* input, const void* grad,
                     void* filter_gradient, void* bias_gradient, ParallelFor parallel_for);

// The gradients of the two above, bit for bit, computed in turns. filter_gradient or bias_gradient
// may be null.
void backward(const Problem& problem, const void* input, const void* filter, const void* grad,
              void* input_gradient, void* filter_gradient, void* bias_gradient,
              ParallelFor parallel_for);

// The instruction set in use: the best one that this processor has, or what TFCOMPAT_DW_ISA asks
// for. Throws std::runtime_error if that one is unknown or not to be had here.
const char* isa_name();

}  // namespace tfcompat_dw::cpu
