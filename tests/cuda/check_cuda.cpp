// Runs the CUDA kernels on random problems, on the host: emulation.h stands in for the GPU. Built
// with AddressSanitizer and UBSan, against plain loops in float64; results and shared memory start
// as NaN, and arrays begin wherever their dtype may.
// Usage: check_cuda SEED ROUNDS KERNEL...
// Each kernel, such as "gather_planes<float, 3>", runs in ROUNDS problems at the least. Printed is
// what ran in how many, or the first result that is wrong and the kernels that made it.
#include <map>
#include <set>
#include <string>

#include "../../csrc/cuda/cuda.h"
#include "../../csrc/cuda/platform.h"
#include "../../csrc/window.h"
#include "../kernels/problems.h"

namespace {

// A problem, and all else that decides which kernels run.
struct Case {
  Problem p;
  int64_t special;  // see Example
  Shifts shifts;
  bool filter_wanted, bias_wanted;  // of the filter gradient's results
};

// ---- the calls ----------------------------------------------------------------------------------

struct Addresses {
  const void *input, *filter, *bias, *grad;
  const void *aligned_input, *aligned_filter, *aligned_grad;  // where no others are taken
  void *output, *input_gradient, *aligned_input_gradient;
  void *filter_gradient, *bias_gradient, *workspace;
};

void forward(const Case& c, const Addresses& a) {
  cuda::forward(c.p, a.input, a.filter, a.bias, a.output, nullptr);
}
void backward_input(const Case& c, const Addresses& a) {
  cuda::backward_input(c.p, a.grad, a.filter, a.input_gradient, nullptr);
}
void backward_filter(const Case& c, const Addresses& a) {
  cuda::backward_filter(c.p, a.aligned_input, a.aligned_grad,
                        c.filter_wanted ? a.filter_gradient : nullptr,
                        c.bias_wanted ? a.bias_gradient : nullptr, a.workspace, nullptr);
}

void backward(const Case& c, const Addresses& a) {
  cuda::backward(c.p, a.aligned_input, a.aligned_filter, a.aligned_grad, a.aligned_input_gradient,
                 c.filter_wanted ? a.filter_gradient : nullptr,
                 c.bias_wanted ? a.bias_gradient : nullptr, a.workspace, nullptr);
}

// An output of padding alone: no gradient of the input is asked for.
bool padding_alone(const Problem& p) { return p.rows.input == 0 || p.cols.input == 0; }

// What a case will start. The addresses tell where arrays begin; nothing is there.
std::vector<cuda::Launch> planned(const Case& c) {
  const auto address = [&](int64_t shift) {
    return reinterpret_cast<void*>(64 + shift * static_cast<int64_t>(size_of(c.p.dtype)));
  };
  void* operand = address(c.shifts.operands);
  void* result = address(c.shifts.results);
  const Addresses a = {operand, operand, operand,    operand, address(0), address(0), address(0),
                       result,  result,  address(0), result,  result,     address(0)};
  cuda::launches.clear();
  cuda::only_planned = true;
  forward(c, a);
  backward_filter(c, a);
  if (!padding_alone(c.p)) {
    backward_input(c, a);
    backward(c, a);
  }
  cuda::only_planned = false;
  return std::move(cuda::launches);
}

// ---- cases --------------------------------------------------------------------------------------

// What random problems seldom have: planes of which shared memory holds only a band, or with a
// multiplier nothing; a filter whose sources it holds in parts; rows of taps more than 2^31
// elements apart.
enum class Rare { kNothing, kLargePlanes, kLargePlanesOfCopies, kLargeFilter, kFarTaps };
constexpr int kRares = 5;

// Another input, and the padding after it anew.
void resize(Axis& axis, int64_t input) {
  axis.input = input;
  axis.output = output_size(axis, pick(0, 1) ? axis.pad : pick(0, 6));
}

Problem aimed_problem(DataType dtype, Rare rare) {
  Problem p = random_problem(static_cast<Kind>(pick(0, 5)));
  p.dtype = dtype;
  if (pick(0, 1)) {  // kernels are compiled for squares
    if (pick(0, 3) == 0) {
      p.rows.kernel = 7;
      resize(p.rows, p.rows.input + pick(0, 6));
    }
    const int64_t width = p.cols.input;
    p.cols = p.rows;
    resize(p.cols, width);
  }
  p.batch = pick(1, 5);
  if (rare == Rare::kNothing) return p;
  if (rare == Rare::kFarTaps) {
    p.rows.kernel = p.cols.kernel = 3;
    p.rows.stride = p.cols.stride = p.cols.dilation = 1;
    if (pick(0, 1)) {  // columns
      p.batch = p.rows.input = p.rows.output = p.rows.pad = p.rows.dilation = 1;
      p.cols.dilation = 36000000;
      p.cols.pad = 2 * p.cols.dilation;
      p.cols.input = p.cols.output = 1;
      p.channels = 60;
      p.multiplier = 1;
      p.channels_last = true;
      return p;
    }
    if (pick(0, 3) == 0) {  // one tap: a tile sees steps that no tap takes
      p.rows.kernel = p.cols.kernel = 1;
      p.rows.dilation = p.cols.dilation = 200000000 - 100;
      p.rows.pad = p.cols.pad = 0;
      p.channels = p.multiplier = 1;
      p.rows.input = p.rows.output = pick(1, 20);
      p.cols.input = p.cols.output = pick(1, 20);
      return p;
    }
    p.rows.dilation = p.rows.pad = 1 << 25;
    p.channels_last = pick(0, 1);
    p.channels = p.channels_last ? pick(1, 2) : 1;
    p.rows.input = p.rows.output = pick(1, 4);
    p.cols.pad = pick(0, 3);
    resize(p.cols, pick(70, 120) / p.channels);
    return p;
  }
  if (rare == Rare::kLargeFilter) {
    p.channels = pick(1, 4);
    p.multiplier = pick(1, 2);
    const int64_t least = pick(0, 1) ? 8 : 17;
    const bool dense = pick(0, 1);
    for (Axis* axis : {&p.rows, &p.cols}) {
      if (dense) axis->stride = axis->dilation = 1;
      axis->kernel = pick(least, least + 5);
      axis->pad = pick(6, 12);
      resize(*axis, axis->input + pick(0, 10));
    }
  } else {
    p.channels_last = false;
    p.batch = pick(1, 2);
    p.channels = rare == Rare::kLargePlanes ? pick(1, 2) : 1;
    p.multiplier = rare == Rare::kLargePlanes ? 1 : pick(3, 4);
    resize(p.rows, pick(60, 90));
    resize(p.cols, pick(100, 120));
  }
  return p;
}

Case random_case(DataType dtype, Rare rare, bool special) {
  Case c;
  c.p = aimed_problem(dtype, rare);
  c.special = special ? pick(5, 80) : 0;
  c.shifts = {pick(0, 2) ? 0 : pick(1, 7), pick(0, 2) ? 0 : pick(1, 7)};
  const int64_t wanted = pick(0, 3);
  c.filter_wanted = wanted != 0 && c.p.taps() < 200;  // many sums take long
  c.bias_wanted = wanted != 1 || !c.filter_wanted;
  return c;
}

// Some source is met through some tap.
bool meets(const Axis& axis) {
  for (int64_t k = 0; k < axis.kernel; ++k) {
    const Range range = inside(k * axis.dilation - axis.pad, axis.stride, axis.input, axis.output);
    if (range.begin < range.end) return true;
  }
  return false;
}

// Few enough threads, each with little to do: an emulated one takes some microseconds.
bool small(const Problem& p, const std::vector<cuda::Launch>& launches) {
  constexpr int64_t kMostThreads = 45000, kMostProducts = 1000000;
  int64_t threads = 0;
  for (const cuda::Launch& launch : launches) threads += int64_t{launch.blocks} * launch.threads;
  const int64_t outputs = p.batch * p.rows.output * p.cols.output * p.lanes();
  return threads <= kMostThreads && outputs * p.taps() <= kMostProducts;
}

DataType dtype_of(const std::string& kernel) {
  const std::pair<const char*, DataType> dtypes[] = {{"<double", DataType::kFloat64},
                                                     {"<float", DataType::kFloat32},
                                                     {"<BFloat16", DataType::kBFloat16},
                                                     {"<Float16", DataType::kFloat16}};
  for (const auto& [text, dtype] : dtypes) {
    if (kernel.find(text) != std::string::npos) return dtype;
  }
  throw std::runtime_error("no dtype: " + kernel);
}

// library.cpp does not call on kernels for nothing.
bool empty(const Problem& p) { return p.rows.output == 0 || p.cols.output == 0; }

// The case of a round that starts a kernel; where none of the round's rare ones does, another.
Case case_for(const std::string& kernel, int round) {
  const DataType dtype = dtype_of(kernel);
  for (int i = 0; i < 300000; ++i) {
    const Rare rare = i < 300 ? static_cast<Rare>(round / 2 % kRares) : Rare::kNothing;
    const Case c = random_case(dtype, rare, round % 2);
    if (empty(c.p)) continue;
    if (!(meets(c.p.rows) && meets(c.p.cols)) && pick(0, 9)) continue;  // padding alone
    const std::vector<cuda::Launch> launches = planned(c);
    const bool starts = std::any_of(launches.begin(), launches.end(),
                                    [&](const auto& launch) { return launch.kernel == kernel; });
    if (starts && small(c.p, launches)) return c;
  }
  throw std::runtime_error("no problem starts " + kernel);
}

// ---- checks -------------------------------------------------------------------------------------

bool within_workspace_limit(const Problem& p, int64_t bytes) {
  const int64_t sum = p.dtype == DataType::kFloat64 ? 8 : 4;
  const int64_t eighth = p.batch * p.rows.input * p.cols.input * p.channels *
                         static_cast<int64_t>(size_of(p.dtype)) / 8;
  if (bytes <= std::max(eighth, (p.taps() + 1) * p.lanes() * sum)) return true;
  std::printf("a workspace of %" PRId64 " bytes\n", bytes);
  return false;
}

// The gradients of filter and bias that are wanted.
bool same_sums(const Case& c, const Example& e) {
  return (!c.filter_wanted ||
          same("filter gradient", e.expected.filter_gradient, e.filter_gradient)) &&
         (!c.bias_wanted || same("bias gradient", e.expected.bias_gradient, e.bias_gradient));
}

bool right(const Case& c) {
  const Example e(c.p, c.special, c.shifts);
  const int64_t bytes = cuda::workspace_bytes(c.p, c.filter_wanted, c.bias_wanted);
  const int64_t all =
      padding_alone(c.p) ? 0 : cuda::backward_workspace_bytes(c.p, c.filter_wanted, c.bias_wanted);
  if (!within_workspace_limit(c.p, bytes) || !within_workspace_limit(c.p, all)) return false;
  const int64_t size = static_cast<int64_t>(size_of(c.p.dtype));
  const int64_t aligned = 16 / size;  // no more than what cuda.h asks for
  const Array input(e.input, aligned), filter(e.filter, aligned), grad(e.grad, aligned);
  const Array workspace(c.p.dtype, bytes / size, kUnset, aligned);
  const Array input_gradient(c.p.dtype, static_cast<int64_t>(e.input_gradient.values.size()),
                             kUnset, aligned);
  const Array all_sums(c.p.dtype, all / size, kUnset, aligned);
  Addresses a = {e.input.bytes,
                 e.filter.bytes,
                 e.bias.bytes,
                 e.grad.bytes,
                 input.bytes,
                 filter.bytes,
                 grad.bytes,
                 e.output.bytes,
                 e.input_gradient.bytes,
                 input_gradient.bytes,
                 e.filter_gradient.bytes,
                 e.bias_gradient.bytes,
                 workspace.bytes};
  cuda::launches.clear();
  forward(c, a);
  if (!same("output", e.expected.output, e.output)) return false;
  if (!padding_alone(c.p)) {
    cuda::launches.clear();
    backward_input(c, a);
    if (!same("input gradient", e.expected.input_gradient, e.input_gradient)) return false;
  }
  cuda::launches.clear();
  backward_filter(c, a);
  if (!same_sums(c, e)) return false;
  if (padding_alone(c.p)) return true;
  cuda::launches.clear();
  a.workspace = all_sums.bytes;
  e.filter_gradient.poison();
  e.bias_gradient.poison();
  backward(c, a);
  return same("input gradient, with the others", e.expected.input_gradient, input_gradient) &&
         same_sums(c, e);
}

void print_case(const Case& c) {
  for (const cuda::Launch& launch : cuda::launches) {
    std::printf("made by %s, %u blocks\n", launch.kernel.c_str(), launch.blocks);
  }
  print_problem(c.p);
  std::printf("operands begin at element %" PRId64 ", results at %" PRId64 "\n", c.shifts.operands,
              c.shifts.results);
}

}  // namespace

int main(int count, char** arguments) {
  generator.seed(static_cast<unsigned>(std::atoi(arguments[1])));
  cuda::emulator.random.seed(generator());
  std::map<std::string, int> problems;
  for (int round = 0; round < std::atoi(arguments[2]); ++round) {
    for (int i = 3; i < count; ++i) {
      const Case c = case_for(arguments[i], round);
      std::set<std::string> started;
      for (const cuda::Launch& launch : planned(c)) started.insert(launch.kernel);
      try {
        if (!right(c)) return print_case(c), 1;
      } catch (const std::runtime_error& error) {
        std::printf("%s\n", error.what());
        return print_case(c), 1;
      }
      for (const std::string& kernel : started) ++problems[kernel];
    }
  }
  for (const auto& [kernel, number] : problems) std::printf("%s: %d\n", kernel.c_str(), number);
  return 0;
}
