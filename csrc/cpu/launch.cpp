// From a problem to kernel tasks: instruction set, plan, scratch, how the work is cut. No torch.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cpu.h"
#include "plan.h"

namespace tfcompat_dw::cpu {
namespace {

struct InstructionSet {
  const char* name;
  bool available;
  int64_t vector_bytes;
  GatherKernel (*gather)(const Plan&);
  FilterKernel (*backward_filter)(const Plan&);
  void (*convert_to_compute)(DataType, const void*, void*, int64_t);
  bool (*all_finite)(DataType, const void*, int64_t);
};

#define DW_INSTRUCTION_SET(ISA, VECTOR_BYTES, AVAILABLE) \
  {#ISA,                                                 \
   AVAILABLE,                                            \
   VECTOR_BYTES,                                         \
   ISA::gather,                                          \
   ISA::backward_filter,                                 \
   ISA::convert_to_compute,                              \
   ISA::all_finite}

InstructionSet choose_instruction_set() {
  const InstructionSet sets[] = {
  // best first
#ifdef DW_X86_SETS
      DW_INSTRUCTION_SET(avx512, 64,
                         __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512dq") &&
                             __builtin_cpu_supports("avx512vl")),
      // every processor with AVX2 and FMA has F16C, which g++ 12 cannot ask for
      DW_INSTRUCTION_SET(avx2, 32, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")),
#endif
      DW_INSTRUCTION_SET(baseline, 16, true),
  };
  const char* wanted = std::getenv("TFCOMPAT_DW_ISA");
  std::string known;
  for (const InstructionSet& set : sets) {
    if (wanted && *wanted ? wanted == std::string(set.name) && set.available : set.available) {
      return set;
    }
    if (set.available) known += std::string(known.empty() ? "" : ", ") + set.name;
  }
  throw std::runtime_error("TFCOMPAT_DW_ISA is '" + std::string(wanted) +
                           "', but this processor and build offer: " + known +
                           ". Unset it to use the best one.");
}

const InstructionSet& instruction_set() {
  static const InstructionSet chosen = choose_instruction_set();
  return chosen;
}

constexpr int64_t kAlignment = 64;

struct Free {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t(kAlignment)); }
};
using Memory = std::unique_ptr<void, Free>;

Memory allocate(int64_t bytes) {
  return Memory(::operator new(static_cast<size_t>(bytes), std::align_val_t(kAlignment)));
}

// A filter or bias in the compute type: itself, or a converted copy in `memory`.
const void* in_compute_type(const Problem& problem, const void* values, int64_t count,
                            Memory& memory) {
  if (!values || compute_bytes(problem) == storage_bytes(problem)) return values;
  memory = allocate(count * compute_bytes(problem));
  instruction_set().convert_to_compute(problem.dtype, values, memory.get(), count);
  return memory.get();
}

// A thread is worth waking for about this many multiply-adds: tens of microseconds.
constexpr int64_t kGrainWork = 1 << 18;

int64_t grain(double work, int64_t tasks) {
  const double fit = static_cast<double>(kGrainWork) * static_cast<double>(tasks) / work;
  return static_cast<int64_t>(std::clamp(fit, 1.0, static_cast<double>(tasks)));
}

// Multiply-adds of one pass as if nothing were padded, and one for each destination, which is
// written even where it meets nothing. A double: it may exceed int64.
double work_of(const Plan& plan) {
  const Problem& problem = plan.problem;
  const double lanes = static_cast<double>(problem.batch) * static_cast<double>(problem.lanes());
  const double multiply_adds = static_cast<double>(problem.rows.output) *
                               static_cast<double>(problem.cols.output) *
                               static_cast<double>(problem.taps());
  return lanes * (multiply_adds + static_cast<double>(plan.rows.gather.destinations) *
                                      static_cast<double>(plan.cols.gather.destinations));
}

// Runs body on any number of threads. What it throws is thrown here, not on the thread that it
// befell: a thread pool would lose the message, or end the process.
void parallel(ParallelFor parallel_for, int64_t tasks, int64_t grain, const Body& body) {
  std::exception_ptr error;
  std::mutex lock;
  parallel_for(tasks, grain, [&](int64_t begin, int64_t end) {
    try {
      body(begin, end);
    } catch (...) {
      const std::lock_guard<std::mutex> guard(lock);
      error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

// Runs all tasks of a call, each piece of them with scratch of its own.
template <class Kernel, class Call>
void run(const Kernel& kernel, const Call& call, int64_t tasks, ParallelFor parallel_for) {
  const int64_t bytes = kernel.scratch_bytes(call);
  parallel(parallel_for, tasks, grain(work_of(call.plan), tasks), [&](int64_t begin, int64_t end) {
    const Memory scratch = allocate(bytes);
    kernel.run(call, begin, end, scratch.get());
  });
}

// A plan and what it points to.
struct Layout {
  std::vector<TapClass> row_classes;
  std::vector<TapClass> col_classes;
  std::vector<LineForm> forms;
  Plan plan;

  // `gathers`: into the destinations, or (filter gradient) from both sides.
  Layout(const Problem& problem, const Gather& down, const Gather& across, bool gathers)
      : row_classes(classes_of(problem.rows, down)), col_classes(classes_of(problem.cols, across)) {
    const int64_t vector = instruction_set().vector_bytes / compute_bytes(problem);
    plan = Plan{};
    plan.problem = problem;
    plan.rows = plan_axis(problem.rows, down, row_classes);
    plan.cols = plan_axis(problem.cols, across, col_classes);
    plan.sums_copies = gathers && !down.forward && problem.multiplier > 1;
    plan.by_columns = !problem.channels_last && problem.lanes() <= vector / 2;
    if (plan.by_columns) {
      // vectors that are added to others must not overlap
      plan_columns(plan, vector, gathers && !plan.sums_copies, forms);
    } else {
      plan_channels(plan, vector, gathers);
    }
  }
  Layout(const Layout&) = delete;
};

// The same problem as the kernels like it best. With one channel on both sides the two memory
// orders are one; planes fill the vectors. And a column is a row: columns are what is swept and
// packed.
Problem in_better_order(Problem problem) {
  if (problem.lanes() == 1) problem.channels_last = false;
  const Axis& cols = problem.cols;
  if (cols.input == 1 && cols.output == 1 && cols.kernel == 1 && cols.pad == 0) {
    std::swap(problem.rows, problem.cols);
  }
  return problem;
}

void gather(const Problem& problem, const Gather& down, const Gather& across, const void* source,
            const void* filter, const void* bias, void* destination, ParallelFor parallel_for) {
  const Layout layout(problem, down, across, true);
  Memory filter_memory;
  Memory bias_memory;
  const int64_t filter_size = problem.taps() * problem.lanes();
  const void* weights = in_compute_type(problem, filter, filter_size, filter_memory);
  const GatherCall call = {
      layout.plan,
      source,
      weights,
      in_compute_type(problem, bias, problem.lanes(), bias_memory),
      destination,
      !layout.plan.by_columns || instruction_set().all_finite(problem.dtype, weights, filter_size)};
  run(instruction_set().gather(layout.plan), call, layout.plan.units() * layout.plan.chunks(),
      parallel_for);
}

// How many partial results a filter gradient is summed in, bounded so that the partials stay below
// an eighth of the input (or at one).
int64_t filter_groups(const Problem& problem, int64_t units) {
  constexpr int64_t kMost = 64;
  const double input = static_cast<double>(problem.batch) * static_cast<double>(problem.channels) *
                       static_cast<double>(problem.rows.input) *
                       static_cast<double>(problem.cols.input) *
                       static_cast<double>(storage_bytes(problem));
  const double partial = static_cast<double>(problem.taps() + 1) *
                         static_cast<double>(problem.lanes() * compute_bytes(problem));
  const double fit = std::min(input / 8 / partial, static_cast<double>(kMost));
  return std::clamp<int64_t>(static_cast<int64_t>(fit), 1, units);
}

}  // namespace

void forward(const Problem& any_order, const void* input, const void* filter, const void* bias,
             void* output, ParallelFor parallel_for) {
  const Problem problem = in_better_order(any_order);
  gather(problem, gather_forward(problem.rows), gather_forward(problem.cols), input, filter, bias,
         output, parallel_for);
}

void backward_input(const Problem& any_order, const void* grad, const void* filter,
                    void* input_gradient, ParallelFor parallel_for) {
  const Problem problem = in_better_order(any_order);
  gather(problem, gather_backward_input(problem.rows), gather_backward_input(problem.cols), grad,
         filter, nullptr, input_gradient, parallel_for);
}

void backward_filter(const Problem& any_order, const void* input, const void* grad,
                     void* filter_gradient, void* bias_gradient, ParallelFor parallel_for) {
  const Problem problem = in_better_order(any_order);
  const Layout layout(problem, gather_forward(problem.rows), gather_forward(problem.cols), false);
  const int64_t units = layout.plan.units();
  const int64_t group_units = ceil_div(units, filter_groups(problem, units));
  const int64_t groups = ceil_div(units, group_units);
  const int64_t size = (problem.taps() + 1) * problem.lanes();
  const Memory partials = allocate(groups * size * compute_bytes(problem));
  const FilterCall call = {layout.plan,     input,         grad,        partials.get(),
                           filter_gradient, bias_gradient, group_units, groups};
  const FilterKernel kernel = instruction_set().backward_filter(layout.plan);
  run(kernel, call, groups * layout.plan.chunks(), parallel_for);
  parallel(parallel_for, size, grain(static_cast<double>(groups * size), size),
           [&](int64_t begin, int64_t end) { kernel.reduce(call, begin, end); });
}

const char* isa_name() { return instruction_set().name; }

}  // namespace tfcompat_dw::cpu
