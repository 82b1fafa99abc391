// From a problem to kernel tasks: instruction set, plan, scratch, how the work is cut. No torch.
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "cpu.h"
#include "plan.h"

namespace tfcompat_dw::cpu {
namespace {

struct InstructionSet {
  const char* name;
  bool available;
  GatherKernel (*forward)(const Problem&);
  GatherKernel (*backward_input)(const Problem&);
  FilterKernel (*backward_filter)(const Problem&);
  void (*convert_to_compute)(DataType, const void*, void*, int64_t);
  bool (*all_finite)(DataType, const void*, int64_t);
};

#define DW_INSTRUCTION_SET(ISA, AVAILABLE) \
  {#ISA,                                   \
   AVAILABLE,                              \
   ISA::forward,                           \
   ISA::backward_input,                    \
   ISA::backward_filter,                   \
   ISA::convert_to_compute,                \
   ISA::all_finite}

InstructionSet choose_instruction_set() {
  const InstructionSet sets[] = {
  // best first
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
      DW_INSTRUCTION_SET(
          avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")),
      // every processor with AVX2 and FMA has F16C, which g++ 12 cannot ask for
      DW_INSTRUCTION_SET(avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")),
#endif
      DW_INSTRUCTION_SET(baseline, true),
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

int64_t compute_bytes(const Problem& problem) {
  return problem.dtype == DataType::kFloat64 ? 8 : 4;
}
int64_t storage_bytes(const Problem& problem) {
  switch (problem.dtype) {
    case DataType::kFloat64: return 8;
    case DataType::kFloat32: return 4;
    default: return 2;
  }
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
  const double per_task = work / static_cast<double>(tasks);
  return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(kGrainWork) / per_task));
}

// Multiply-adds of one pass, as if nothing were padded. A double: it may exceed int64.
double work_of(const Problem& problem) {
  return static_cast<double>(problem.batch) * static_cast<double>(problem.lanes()) *
         static_cast<double>(problem.rows.output) * static_cast<double>(problem.cols.output) *
         static_cast<double>(problem.taps());
}

// Runs all tasks of a call, each share of them with scratch of its own.
template <class Kernel, class Call>
void run(const Kernel& kernel, const Call& call, ParallelFor parallel_for) {
  const int64_t tasks = kernel.tasks(call);
  const int64_t bytes = kernel.scratch_bytes(call);
  parallel_for(tasks, grain(work_of(call.problem), tasks), [&](int64_t begin, int64_t end) {
    const Memory scratch = allocate(bytes);
    kernel.run(call, begin, end, scratch.get());
  });
}

// Input channels of one NHWC task: the weights of all taps, and the converted rows in sight, should
// stay in the caches next to a core; a cut should not be narrower than a cache line.
int64_t channel_chunk(const Problem& problem, int64_t rows, int64_t pixels) {
  constexpr int64_t kWeightBytes = 16 << 10;
  constexpr int64_t kRowBytes = 128 << 10;
  const int64_t per_channel = problem.multiplier * compute_bytes(problem);
  const int64_t most = std::min(kWeightBytes / (problem.taps() * per_channel),
                                kRowBytes / std::max<int64_t>(1, rows * pixels * per_channel));
  const int64_t chunk = std::clamp<int64_t>(most / 16 * 16, 16, 256);
  const int64_t chunks = ceil_div(problem.channels, chunk);
  return std::min(problem.channels, ceil_div(ceil_div(problem.channels, chunks), 16) * 16);
}

// Destination rows of one NHWC task, short enough to share out, tall enough to reuse rows.
constexpr int64_t kBlockRows = 8;

// NCHW: how many tasks a plane makes. One, unless there are too few planes to share out.
int64_t plane_parts(const Problem& problem, int64_t rows) {
  constexpr int64_t kEnough = 64;
  const int64_t planes = problem.batch * problem.channels;
  return std::clamp<int64_t>(kEnough / planes, 1, std::max<int64_t>(1, rows / 8));
}

void gather(const GatherKernel& kernel, const Problem& problem, const Gather& down,
            const Gather& across, const void* source, const void* filter, const void* bias,
            void* destination, ParallelFor parallel_for) {
  const std::vector<Sweep> rows = sweeps_of(problem.rows, down);
  const std::vector<Sweep> cols = sweeps_of(problem.cols, across);
  Memory filter_memory;
  Memory bias_memory;
  const int64_t filter_size = problem.taps() * problem.lanes();
  const void* weights = in_compute_type(problem, filter, filter_size, filter_memory);
  const int64_t in_sight = rows_in_sight(problem.rows, down);
  const GatherCall call = {
      problem,
      down,
      across,
      source,
      weights,
      in_compute_type(problem, bias, problem.lanes(), bias_memory),
      destination,
      rows.data(),
      static_cast<int64_t>(rows.size()),
      cols.data(),
      static_cast<int64_t>(cols.size()),
      channel_chunk(problem, in_sight, across.sources),
      std::min(kBlockRows, down.destinations),
      in_sight,
      plane_parts(problem, down.destinations),
      problem.channels_last || instruction_set().all_finite(problem.dtype, weights, filter_size)};
  run(kernel, call, parallel_for);
}

// How many partial results a filter gradient is summed in. A function of the shape alone, so that
// the result is the same for any number of threads; bounded so that the partials stay below an
// eighth of the input (or at one).
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

// With one channel on both sides the two orders are the same memory; planes fill the vectors.
Problem in_better_order(Problem problem) {
  if (problem.lanes() == 1) problem.channels_last = false;
  return problem;
}

}  // namespace

void forward(const Problem& any_order, const void* input, const void* filter, const void* bias,
             void* output, ParallelFor parallel_for) {
  const Problem problem = in_better_order(any_order);
  gather(instruction_set().forward(problem), problem, gather_forward(problem.rows),
         gather_forward(problem.cols), input, filter, bias, output, parallel_for);
}

void backward_input(const Problem& any_order, const void* grad, const void* filter,
                    void* input_gradient, ParallelFor parallel_for) {
  const Problem problem = in_better_order(any_order);
  gather(instruction_set().backward_input(problem), problem, gather_backward_input(problem.rows),
         gather_backward_input(problem.cols), grad, filter, nullptr, input_gradient, parallel_for);
}

void backward_filter(const Problem& any_order, const void* input, const void* grad,
                     void* filter_gradient, void* bias_gradient, ParallelFor parallel_for) {
  const Problem problem = in_better_order(any_order);
  const FilterKernel kernel = instruction_set().backward_filter(problem);
  const Gather down = gather_forward(problem.rows);
  const Gather across = gather_forward(problem.cols);
  const std::vector<Sweep> rows = sweeps_of(problem.rows, down);
  const std::vector<Sweep> cols = sweeps_of(problem.cols, across);
  const int64_t parts = plane_parts(problem, problem.rows.output);
  const int64_t units = problem.batch * (problem.channels_last ? problem.rows.output : parts);
  const int64_t group_units = ceil_div(units, filter_groups(problem, units));
  const int64_t groups = ceil_div(units, group_units);
  const int64_t size = (problem.taps() + 1) * problem.lanes();
  const Memory partials = allocate(groups * size * compute_bytes(problem));
  const int64_t in_sight = rows_in_sight(problem.rows, down);
  const FilterCall call = {problem,
                           input,
                           grad,
                           partials.get(),
                           filter_gradient,
                           bias_gradient,
                           down,
                           rows.data(),
                           static_cast<int64_t>(rows.size()),
                           cols.data(),
                           static_cast<int64_t>(cols.size()),
                           units,
                           group_units,
                           groups,
                           channel_chunk(problem, in_sight, problem.cols.input),
                           in_sight,
                           parts};
  run(kernel, call, parallel_for);
  parallel_for(size, grain(static_cast<double>(groups * size), size),
               [&](int64_t begin, int64_t end) { kernel.reduce(call, begin, end); });
}

const char* isa_name() { return instruction_set().name; }

}  // namespace tfcompat_dw::cpu
