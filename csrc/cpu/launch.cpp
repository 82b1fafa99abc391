// From a problem to kernel tasks: instruction set, plan, scratch, how the work is cut. No torch.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
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
#ifdef DW_X86_SETS
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  const InstructionSet sets[] = {
  // best first
#ifdef DW_X86_SETS
      {"avx512bf16", has_avx512 && __builtin_cpu_supports("avx512bf16"), 64, avx512bf16::gather,
       avx512::backward_filter, avx512::convert_to_compute, avx512::all_finite},
      DW_INSTRUCTION_SET(avx512, 64, has_avx512),
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

int64_t lanes_of_vector(const Problem& problem) {
  return instruction_set().vector_bytes / compute_bytes(problem);
}

// A plan and what it points to.
struct Layout {
  std::vector<TapClass> row_classes;
  std::vector<TapClass> col_classes;
  std::vector<LineForm> forms;
  Plan plan;

  // `gathers`: into the destinations, or (filter gradient) from both sides. `finite`: whether a
  // filter is.
  Layout(const Problem& problem, const Gather& down, const Gather& across, bool gathers,
         bool finite)
      : row_classes(classes_of(problem.rows, down)), col_classes(classes_of(problem.cols, across)) {
    const int64_t vector = lanes_of_vector(problem);
    plan = Plan{};
    plan.problem = problem;
    plan.rows = plan_axis(problem.rows, down, row_classes);
    plan.cols = plan_axis(problem.cols, across, col_classes);
    plan.sums_copies = gathers && !down.forward && problem.multiplier > 1;
    const double bytes = tensor_bytes(problem);
    plan.interleaved = problem.channels_last ? problem.lanes() : 1;
    plan.fetches = bytes > DW_FETCH_BYTES;
    plan.far = bytes > DW_FAR_BYTES;
    if (finite && suits_plane_strips(plan, vector, gathers)) {
      plan.form = Form::kPlanes;
      plan_planes(plan);
    } else if (!suits_columns(problem, vector, finite) || !planned_columns(vector, gathers)) {
      plan_channels(plan, vector, gathers);
    }
  }
  Layout(const Layout&) = delete;

 private:
  // False where lines of NHWC pixels would be out of proportion. The plan is as before then.
  bool planned_columns(int64_t vector, bool gathers) {
    Plan columns = plan;
    columns.form = Form::kColumns;
    // vectors that are added to others must not overlap
    plan_columns(columns, vector, gathers && !plan.sums_copies, forms);
    if (!columns.packs && plan.problem.channels_last) return false;
    plan = columns;
    return true;
  }
};

// The same problem as the kernels like it best. With one channel on both sides the two memory
// orders are one; planes fill the vectors. And images of one column, in and out, which meet one
// column of the kernel, are images of one row, and that column is a kernel of one row: columns are
// what is swept and packed.
struct BetterProblem {
  Problem problem;
  int64_t columns = 1;  // of the kernel, where one of them is left
  int64_t column = 0;   // which

  explicit BetterProblem(const Problem& any) : problem(any) {
    if (problem.lanes() == 1) problem.channels_last = false;
    const Axis cols = problem.cols;
    const bool one_is_left = cols.input == 1 && cols.output == 1 && cols.pad % cols.dilation == 0 &&
                             cols.pad / cols.dilation < cols.kernel;
    if (!one_is_left) return;
    columns = cols.kernel;
    column = cols.pad / cols.dilation;
    problem.cols = problem.rows;
    problem.rows = {1, 1, 1, 1, 1, 0};
  }

  // What is left of a filter: itself, or a copy in `memory`.
  const void* filter(const void* any, Memory& memory) const {
    if (columns == 1) return any;
    memory = allocate(problem.taps() * tap_bytes());
    const char* met = static_cast<const char*>(any) + column * tap_bytes();
    copy_taps(met, columns, static_cast<char*>(memory.get()), 1);
    return memory.get();
  }
  // Where to put the gradient of that, and how to make the whole one's of it.
  void* gradient(void* whole, Memory& memory) const {
    if (columns == 1 || !whole) return whole;
    memory = allocate(problem.taps() * tap_bytes());
    return memory.get();
  }
  void finish_gradient(const void* part, void* whole) const {
    if (part == whole) return;
    std::memset(whole, 0, problem.taps() * columns * tap_bytes());
    char* met = static_cast<char*>(whole) + column * tap_bytes();
    copy_taps(static_cast<const char*>(part), 1, met, columns);
  }

 private:
  size_t tap_bytes() const { return problem.lanes() * storage_bytes(problem); }
  // Pitches in taps.
  void copy_taps(const char* from, int64_t from_pitch, char* to, int64_t to_pitch) const {
    for (int64_t i = 0; i < problem.taps(); ++i) {
      std::memcpy(to + i * to_pitch * tap_bytes(), from + i * from_pitch * tap_bytes(),
                  tap_bytes());
    }
  }
};

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

// A pass, ready to run: tasks [begin, end) at a time, in any order, on any thread.
template <class Kernel, class Call>
struct Pass {
  const Layout layout;
  Kernel kernel;
  Call call;
  int64_t tasks;
  int64_t scratch_bytes;

  Pass(const Problem& problem, const Gather& down, const Gather& across, bool gathers, bool finite)
      : layout(problem, down, across, gathers, finite) {}
  double work() const { return work_of(layout.plan); }
  void run(int64_t begin, int64_t end, void* scratch) const {
    kernel.run(call, begin, end, scratch);
  }
};

// A filter and a bias in the compute type. Padding may be multiplied with a filter that is finite;
// vectors of NHWC channels never do, so for those it is not asked.
struct Operands {
  Memory filter_memory;
  Memory bias_memory;
  const void* filter;
  const void* bias;
  bool finite;

  Operands(const Problem& problem, const void* any_filter, const void* any_bias) {
    const int64_t size = problem.taps() * problem.lanes();
    filter = in_compute_type(problem, any_filter, size, filter_memory);
    bias = in_compute_type(problem, any_bias, problem.lanes(), bias_memory);
    finite = (problem.channels_last && problem.lanes() >= lanes_of_vector(problem)) ||
             instruction_set().all_finite(problem.dtype, filter, size);
  }
};

struct GatherPass : Operands, Pass<GatherKernel, GatherCall> {
  GatherPass(const Problem& problem, const Gather& down, const Gather& across, const void* source,
             const void* any_filter, const void* any_bias, void* destination)
      : Operands(problem, any_filter, any_bias), Pass(problem, down, across, true, finite) {
    kernel = instruction_set().gather(layout.plan);
    call = {layout.plan, source, filter, bias, destination, finite};
    tasks = layout.plan.units() * layout.plan.chunks();
    scratch_bytes = kernel.scratch_bytes(call);
  }
};

GatherPass input_gradient_pass(const Problem& problem, const void* grad, const void* filter,
                               void* input_gradient) {
  return GatherPass(problem, gather_backward_input(problem.rows),
                    gather_backward_input(problem.cols), grad, filter, nullptr, input_gradient);
}

// When all tasks are done, `reduce` makes the results of their partial sums.
struct FilterPass : Pass<FilterKernel, FilterCall> {
  Memory partials;

  FilterPass(const Problem& problem, const void* input, const void* grad, void* filter_gradient,
             void* bias_gradient)
      : Pass(problem, gather_forward(problem.rows), gather_forward(problem.cols), false, true) {
    const int64_t units = layout.plan.units();
    const int64_t group_units = ceil_div(units, filter_groups(problem, units));
    const int64_t groups = ceil_div(units, group_units);
    partials = allocate(groups * (problem.taps() + 1) * problem.lanes() * compute_bytes(problem));
    kernel = instruction_set().backward_filter(layout.plan);
    call = {layout.plan,     input,         grad,        partials.get(),
            filter_gradient, bias_gradient, group_units, groups};
    tasks = groups * layout.plan.chunks();
    scratch_bytes = kernel.scratch_bytes(call);
  }
  void reduce(ParallelFor parallel_for) const {
    const Problem& problem = layout.plan.problem;
    const int64_t size = (problem.taps() + 1) * problem.lanes();
    parallel(parallel_for, size, grain(static_cast<double>(call.groups * size), size),
             [&](int64_t begin, int64_t end) { kernel.reduce(call, begin, end); });
  }
};

// Runs all tasks of a pass, each piece of them with scratch of its own.
template <class AnyPass>
void run(const AnyPass& pass, ParallelFor parallel_for) {
  parallel(parallel_for, pass.tasks, grain(pass.work(), pass.tasks),
           [&](int64_t begin, int64_t end) {
             const Memory scratch = allocate(pass.scratch_bytes);
             pass.run(begin, end, scratch.get());
           });
}

// floor(total * i / n), without a product that could be too large.
int64_t part(int64_t total, int64_t i, int64_t n) { return total / n * i + total % n * i / n; }

// Piece i of n of a pass.
template <class AnyPass>
void run_part(const AnyPass& pass, int64_t i, int64_t n, void* scratch) {
  pass.run(part(pass.tasks, i, n), part(pass.tasks, i + 1, n), scratch);
}

// In vectors of channels both go through the batch from its first row to its last. Taking turns,
// they find the output gradient in the caches that the other has just read.
void run_in_turns(const GatherPass& gather, const FilterPass& filter, ParallelFor parallel_for) {
  constexpr double kPieceWork = 1 << 17;  // to begin one takes a microsecond
  const double work = gather.work() + filter.work();
  const double most = static_cast<double>(std::max(gather.tasks, filter.tasks));
  const auto pieces = static_cast<int64_t>(std::clamp(work / kPieceWork, 1.0, most));
  parallel(parallel_for, pieces, grain(work, pieces), [&](int64_t begin, int64_t end) {
    const Memory scratch = allocate(std::max(gather.scratch_bytes, filter.scratch_bytes));
    for (int64_t piece = begin; piece < end; ++piece) {
      run_part(gather, piece, pieces, scratch.get());
      run_part(filter, piece, pieces, scratch.get());
    }
  });
}

}  // namespace

void forward(const Problem& any, const void* input, const void* any_filter, const void* bias,
             void* output, ParallelFor parallel_for) {
  const BetterProblem better(any);
  const Problem& problem = better.problem;
  Memory memory;
  const void* filter = better.filter(any_filter, memory);
  run(GatherPass(problem, gather_forward(problem.rows), gather_forward(problem.cols), input, filter,
                 bias, output),
      parallel_for);
}

void backward_input(const Problem& any, const void* grad, const void* any_filter,
                    void* input_gradient, ParallelFor parallel_for) {
  const BetterProblem better(any);
  Memory memory;
  run(input_gradient_pass(better.problem, grad, better.filter(any_filter, memory), input_gradient),
      parallel_for);
}

void backward_filter(const Problem& any, const void* input, const void* grad, void* filter_gradient,
                     void* bias_gradient, ParallelFor parallel_for) {
  const BetterProblem better(any);
  Memory memory;
  void* gradient = better.gradient(filter_gradient, memory);
  const FilterPass pass(better.problem, input, grad, gradient, bias_gradient);
  run(pass, parallel_for);
  pass.reduce(parallel_for);
  better.finish_gradient(gradient, filter_gradient);
}

void backward(const Problem& any, const void* input, const void* any_filter, const void* grad,
              void* input_gradient, void* filter_gradient, void* bias_gradient,
              ParallelFor parallel_for) {
  const BetterProblem better(any);
  Memory filter_memory;
  Memory gradient_memory;
  void* gradient = better.gradient(filter_gradient, gradient_memory);
  const GatherPass gather = input_gradient_pass(
      better.problem, grad, better.filter(any_filter, filter_memory), input_gradient);
  const FilterPass sums(better.problem, input, grad, gradient, bias_gradient);
  run_in_turns(gather, sums, parallel_for);
  sums.reduce(parallel_for);
  better.finish_gradient(gradient, filter_gradient);
}

const char* isa_name() { return instruction_set().name; }

}  // namespace tfcompat_dw::cpu
