// Runs the CPU kernels on random problems, without torch, against plain loops in float64.
// Built with AddressSanitizer and UBSan. Outputs and scratch start as NaN and tasks run in reverse
// order, so what is left out or shared between tasks shows; in other pieces they have to give the
// same bits. Scratch is counted, and has to stay in proportion to the arrays.
// Usage: check_kernels SEED COUNT
#include "problems.h"

#include "../../csrc/cpu/cpu.h"

namespace {
size_t largest_scratch = 0;  // bytes, of the allocations that the kernels make
int scratch_byte = 0xff;     // NaN: what is read before it is written shows
}  // namespace

void* operator new(size_t bytes, std::align_val_t alignment) {
  largest_scratch = std::max(largest_scratch, bytes);
  const size_t unit = static_cast<size_t>(alignment);
  void* memory = std::aligned_alloc(unit, std::max(unit, (bytes + unit - 1) / unit * unit));
  if (!memory) throw std::bad_alloc();
  std::memset(memory, scratch_byte, bytes);
  return memory;
}
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }

namespace {

// Pieces of random length, the last one first.
void backwards(int64_t tasks, int64_t, const cpu::Body& body) {
  for (int64_t end = tasks; end > 0;) {
    const int64_t begin = std::max<int64_t>(0, end - pick(1, 7));
    body(begin, end);
    end = begin;
  }
}

void one_by_one(int64_t tasks, int64_t, const cpu::Body& body) {
  for (int64_t task = 0; task < tasks; ++task) body(task, task + 1);
}

// A vector for each weight of a task, and lines of a few rows: so many times the arrays at the
// most.
bool in_proportion(const Problem& p) {
  const int64_t values = p.batch * (p.rows.input * p.cols.input * p.channels +
                                    p.rows.output * p.cols.output * p.lanes()) +
                         p.taps() * p.lanes();
  const size_t limit = (1 << 20) + 64 * 8 * static_cast<size_t>(values);
  if (largest_scratch <= limit) return true;
  std::printf("scratch of %zu bytes for %" PRId64 " values\n", largest_scratch, values);
  return false;
}

// All passes of an example.
void run(const Example& e, cpu::ParallelFor parallel_for) {
  cpu::forward(e.p, e.input.bytes, e.filter.bytes, e.bias.bytes, e.output.bytes, parallel_for);
  if (!e.input.values.empty()) {  // the caller's part
    cpu::backward_input(e.p, e.grad.bytes, e.filter.bytes, e.input_gradient.bytes, parallel_for);
  }
  cpu::backward_filter(e.p, e.input.bytes, e.grad.bytes, e.filter_gradient.bytes,
                       e.bias_gradient.bytes, parallel_for);
}

using Bits = std::vector<std::vector<char>>;
Bits results(const Example& e) {
  return {e.output.copy(), e.input_gradient.copy(), e.filter_gradient.copy(),
          e.bias_gradient.copy()};
}

// Numbers whose products and sums round, where the dtype's sums are not float32's.
void roughen(const Array& array) {
  std::uniform_real_distribution<double> any(-1, 1);
  for (size_t i = 0; i < array.values.size(); ++i) {
    if (size_of(array.dtype) > 2) encode(array.dtype, any(generator), array.at(i));
  }
}

// Sums that round come out the same however tasks are split, and whatever scratch held before.
bool rounds_alike(const Problem& p) {
  const Example example(p, 0, Shifts());
  for (const Array* operand : {&example.input, &example.filter, &example.bias, &example.grad}) {
    roughen(*operand);
  }
  run(example, one_by_one);
  const Bits first = results(example);
  scratch_byte = 0;
  run(example, backwards);
  scratch_byte = 0xff;
  if (results(example) == first) return true;
  std::printf("the bits depend on how tasks are split, or on what scratch held\n");
  return false;
}

bool check_one(Kind kind) {
  const Example example(kind);
  const auto& [p, special, input, filter, bias, grad, expected, output, input_gradient,
               filter_gradient, bias_gradient] = example;
  largest_scratch = 0;
  run(example, one_by_one);
  const Bits first = results(example);
  run(example, backwards);
  const Bits second = results(example);
  if (first != second) std::printf("the bits depend on how the tasks are split\n");
  cpu::backward_filter(p, input.bytes, grad.bytes, filter_gradient.bytes, nullptr, backwards);
  cpu::backward_filter(p, nullptr, grad.bytes, nullptr, bias_gradient.bytes, backwards);
  if (filter_gradient.copy() != second[2] || bias_gradient.copy() != second[3]) {
    std::printf("a gradient depends on whether the other one is wanted\n");
    return false;
  }
  if (!input.values.empty()) {
    for (const Array* result : {&input_gradient, &filter_gradient, &bias_gradient}) {
      result->poison();  // what is not written again shows
    }
    cpu::backward(p, input.bytes, filter.bytes, grad.bytes, input_gradient.bytes,
                  filter_gradient.bytes, bias_gradient.bytes, backwards);
    if (input_gradient.copy() != second[1] || filter_gradient.copy() != second[2] ||
        bias_gradient.copy() != second[3]) {
      std::printf("one sweep for all gradients gives other bits\n");
      return false;
    }
  }
  if (first == second && example.right() && in_proportion(p) && rounds_alike(p)) {
    return true;
  }
  print_problem(p);
  return false;
}

}  // namespace

int main(int, char** argv) {
  const int count = check_all(argv, check_one);
  std::printf("%d problems right with %s\n", count, cpu::isa_name());
  return 0;
}
