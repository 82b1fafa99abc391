// The package's CPU kernels behind one C function, so that they can be timed by themselves: results
// go into memory that is there already, and no PyTorch is in the way. Threads are OpenMP's, shared
// out as at::parallel_for does it.
#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <exception>

#include "csrc/cpu/cpu.h"

using namespace tfcompat_dw;

namespace {

void parallel_for(int64_t tasks, int64_t grain, const cpu::Body& body) {
  const int64_t pieces = (tasks + std::max<int64_t>(grain, 1) - 1) / std::max<int64_t>(grain, 1);
  const int64_t threads = std::min<int64_t>(omp_get_max_threads(), pieces);
  if (threads <= 1) return body(0, tasks);
#pragma omp parallel num_threads(static_cast<int>(threads))
  {
    const int64_t share = (tasks + threads - 1) / threads;
    const int64_t begin = omp_get_thread_num() * share;
    if (begin < tasks) body(begin, std::min(tasks, begin + share));
  }
}

Axis axis(const int64_t* n) { return {n[0], n[1], n[2], n[3], n[4], n[5]}; }

}  // namespace

// sizes: batch, channels, multiplier, channels_last, dtype (in DataType's order), then input,
// output, kernel, stride, dilation and padding before of the rows, and of the columns. Of the
// results, those that are not null are computed. Returns 0, or 1 after a message on stderr.
extern "C" __attribute__((visibility("default"))) int run_kernels(
    const int64_t* sizes, const void* input, const void* filter, const void* grad, void* output,
    void* input_gradient, void* filter_gradient) {
  try {
    const Problem problem = {sizes[0],
                             sizes[1],
                             sizes[2],
                             axis(sizes + 5),
                             axis(sizes + 11),
                             sizes[3] != 0,
                             static_cast<DataType>(sizes[4])};
    if (output != nullptr) {
      cpu::forward(problem, input, filter, nullptr, output, parallel_for);
    }
    if (input_gradient != nullptr && filter_gradient != nullptr) {
      cpu::backward(problem, input, filter, grad, input_gradient, filter_gradient, nullptr,
                    parallel_for);
      return 0;
    }
    if (input_gradient != nullptr) {
      cpu::backward_input(problem, grad, filter, input_gradient, parallel_for);
    }
    if (filter_gradient != nullptr) {
      cpu::backward_filter(problem, input, grad, filter_gradient, nullptr, parallel_for);
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernels: %s\n", error.what());
    return 1;
  }
}
