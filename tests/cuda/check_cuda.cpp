// Runs the CUDA kernels on random problems, on the host: emulation.h stands in for the GPU. Built
// with AddressSanitizer and UBSan, against plain loops in float64; results and shared memory start
// as NaN.
// Usage: check_cuda SEED COUNT
#include "../kernels/problems.h"

#include "../../csrc/cuda/cuda.h"
#include "../../csrc/cuda/platform.h"

namespace {

// A view may start anywhere: arrays at addresses that are only multiples of their dtype.
struct Shifted {
  Shifted(const Array& array, int64_t elements)
      : block(static_cast<char*>(std::malloc(bytes_of(array) + elements * size_of(array.dtype)))),
        start(block + elements * size_of(array.dtype)) {
    std::memcpy(start, array.bytes, bytes_of(array));
  }
  Shifted(const Shifted&) = delete;
  ~Shifted() { std::free(block); }
  static size_t bytes_of(const Array& a) { return a.values.size() * size_of(a.dtype); }
  char* block;
  char* start;
};

bool within_workspace_limit(const Problem& p, int64_t bytes) {
  const int64_t sum = p.dtype == DataType::kFloat64 ? 8 : 4;
  const int64_t eighth = p.batch * p.rows.input * p.cols.input * p.channels *
                         static_cast<int64_t>(size_of(p.dtype)) / 8;
  if (bytes <= std::max(eighth, (p.taps() + 1) * p.lanes() * sum)) return true;
  std::printf("a workspace of %" PRId64 " bytes\n", bytes);
  return false;
}

bool check_one(Kind kind) {
  const Example example(kind);
  const auto& [p, special, input, filter, bias, grad, expected, output, input_gradient,
               filter_gradient, bias_gradient] = example;
  if (input.values.empty()) return true;  // library.cpp's part
  // the gathers take arrays wherever they start
  const int64_t shift = pick(0, 2) ? 0 : pick(1, 3);
  const Shifted x(input, shift);
  const Shifted f(filter, shift);
  const Shifted g(grad, shift);
  cuda::forward(p, x.start, f.start, bias.bytes, output.bytes, nullptr);
  cuda::backward_input(p, g.start, f.start, input_gradient.bytes, nullptr);
  bool fits = true;
  const auto backward_filter = [&](void* filter_result, void* bias_result) {
    const int64_t bytes = cuda::workspace_bytes(p, filter_result, bias_result);
    fits = fits && within_workspace_limit(p, bytes);
    const Array workspace(p.dtype, bytes / static_cast<int64_t>(size_of(p.dtype)), kUnset);
    cuda::backward_filter(p, input.bytes, grad.bytes, filter_result, bias_result, workspace.bytes,
                          nullptr);
  };
  backward_filter(filter_gradient.bytes, bias_gradient.bytes);
  if (fits && example.right()) {
    backward_filter(filter_gradient.bytes, nullptr);
    backward_filter(nullptr, bias_gradient.bytes);
    if (fits && same("filter gradient alone", expected.filter_gradient, filter_gradient) &&
        same("bias gradient alone", expected.bias_gradient, bias_gradient)) {
      return true;
    }
  }
  print_problem(p);
  return false;
}

}  // namespace

int main(int, char** argv) {
  const int count = check_all(argv, check_one);
  std::printf("%d problems right\n", count);
  return 0;
}
