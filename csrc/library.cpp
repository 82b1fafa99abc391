// Schemas, last-guard checks, allocation and dispatch: the only file that knows torch.
//
// The Python functions refuse bad arguments with full explanations; the checks here protect direct
// callers of torch.ops: no argument may crash, read out of bounds or allocate without bound.
#include <Python.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cpu/cpu.h"
#include "cuda/cuda.h"
#include "window.h"

namespace tfcompat_dw {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = std::array<int64_t, 4>;

// ---- errors -------------------------------------------------------------------------------------

template <class... Parts>
[[noreturn]] void fail(const char* op, const Parts&... parts) {
  std::ostringstream text;
  text << "tfcompat_dw::" << op << ": ";
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

template <class... Parts>
void check(bool ok, const char* op, const Parts&... parts) {
  if (!ok) fail(op, parts...);
}

// Of torch's C shim; the macros for this have other names in other versions.
void require(AOTITorchError error) {
  if (error != AOTI_TORCH_SUCCESS)
    throw std::runtime_error("tfcompat_dw: a call of PyTorch failed");
}

// [1, 2, 3] for messages; sizes may be of any length. Written only when a message is: checks that
// pass would spend 2 us on their texts.
template <class List>
struct Shown {
  const List& values;
};
template <class List>
Shown<List> show(const List& values) {
  return {values};
}
template <class List>
std::ostream& operator<<(std::ostream& text, const Shown<List>& shown) {
  text << '[';
  for (size_t i = 0; i < shown.values.size(); ++i) text << (i ? ", " : "") << shown.values[i];
  return text << ']';
}

int64_t multiply(const char* op, std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) {
    if (factor == 0) return 0;
  }
  for (const int64_t factor : factors) {
    check(!__builtin_mul_overflow(product, factor, &product), op,
          "the sizes of this call exceed 64-bit arithmetic");
  }
  return product;
}

// ---- the argument list that all operators share -------------------------------------------------

struct Arguments {
  const char* op;
  std::vector<int64_t> stride;    // rows, columns
  std::vector<int64_t> padding;   // top, bottom, left, right
  std::vector<int64_t> dilation;  // rows, columns
  bool channels_last;             // names the axes; the memory order is read from the strides
};

constexpr int64_t kMaxStep = std::numeric_limits<int32_t>::max();

void check_list(const char* op, const char* name, const std::vector<int64_t>& values, size_t length,
                int64_t least) {
  check(values.size() == length, op, name, " must hold ", length, " integers, got ", show(values));
  for (const int64_t value : values) {
    check(value >= least && value <= kMaxStep, op, name, " must be in [", least, ", ", kMaxStep,
          "], got ", show(values));
  }
}

void check_arguments(const Arguments& args) {
  check_list(args.op, "stride", args.stride, 2, 1);
  check_list(args.op, "padding", args.padding, 4, 0);
  check_list(args.op, "dilation", args.dilation, 2, 1);
}

// The axes of a 4-D tensor under both names.
struct Axes {
  int rows, cols, channels;
};
Axes axes(bool channels_last) { return channels_last ? Axes{1, 2, 3} : Axes{2, 3, 1}; }

Sizes sizes_of(const Tensor& tensor) {
  Sizes sizes;
  for (int i = 0; i < 4; ++i) sizes[i] = tensor.size(i);
  return sizes;
}

Sizes checked_sizes(const char* op, const char* name, const std::vector<int64_t>& sizes) {
  check(sizes.size() == 4, op, name, " must hold 4 integers, got ", show(sizes));
  for (const int64_t size : sizes)
    check(size >= 0, op, name, " must not be negative, got ", show(sizes));
  return {sizes[0], sizes[1], sizes[2], sizes[3]};
}

std::optional<DataType> data_type(ScalarType type) {
  switch (type) {
    case ScalarType::Double: return DataType::kFloat64;
    case ScalarType::Float: return DataType::kFloat32;
    case ScalarType::BFloat16: return DataType::kBFloat16;
    case ScalarType::Half: return DataType::kFloat16;
    default: return std::nullopt;
  }
}

void check_tensor(const char* op, const char* name, const Tensor& tensor, int64_t rank,
                  const Tensor& model) {
  check(tensor.defined(), op, name, " is undefined");
  check(tensor.is_cpu() == model.is_cpu() && tensor.get_device_index() == model.get_device_index(),
        op, "all tensors must be on one device; ", name, " is on another");
  check(tensor.dim() == rank, op, name, " must have ", rank, " dimensions, got ", tensor.dim());
  check(data_type(tensor.scalar_type()).has_value(), op, name,
        " must be float64, float32, bfloat16 or float16");
  check(tensor.scalar_type() == model.scalar_type(), op, "all tensors must have one dtype; ", name,
        " differs");
}

Axis checked_axis(const char* op, const char* name, int64_t input, int64_t kernel, int64_t stride,
                  int64_t dilation, int64_t before, int64_t after) {
  check(kernel >= 1 && kernel <= kMaxStep, op, "the filter's ", name, " must be in [1, ", kMaxStep,
        "], got ", kernel);
  int64_t padded = 0;
  check(!__builtin_add_overflow(input, before + after, &padded), op, "the padded ", name,
        " exceed 64-bit arithmetic");
  const int64_t window = (kernel - 1) * dilation + 1;  // below 2^62, see kMaxStep
  check(window <= padded || input == 0, op, "a window of ", window, " ", name,
        " does not fit into ", input, " + ", before, " + ", after, " padded ones");
  const int64_t output = max64(0, floor_div(padded - window, stride) + 1);
  return {input, output, kernel, stride, dilation, before};
}

// Everything but memory order: from the sizes of input and filter.
Problem checked_problem(const Arguments& args, const Sizes& input, const Sizes& filter,
                        ScalarType type) {
  check_arguments(args);
  const Axes at = axes(args.channels_last);
  check(input[at.channels] == filter[2], args.op, "the filter is for ", filter[2],
        " input channels, the input has ", input[at.channels]);
  Problem problem;
  problem.batch = input[0];
  problem.channels = filter[2];
  problem.multiplier = filter[3];
  problem.rows = checked_axis(args.op, "rows", input[at.rows], filter[0], args.stride[0],
                              args.dilation[0], args.padding[0], args.padding[1]);
  problem.cols = checked_axis(args.op, "columns", input[at.cols], filter[1], args.stride[1],
                              args.dilation[1], args.padding[2], args.padding[3]);
  problem.channels_last = args.channels_last;
  problem.dtype = *data_type(type);
  // every count that kernels form stays in int64, with room for a factor of 64
  const int64_t lanes = multiply(args.op, {problem.channels, problem.multiplier, 64});
  multiply(args.op,
           {problem.batch, lanes, max64(1, problem.rows.output), max64(1, problem.cols.output)});
  multiply(args.op,
           {problem.batch, lanes, max64(1, problem.rows.input), max64(1, problem.cols.input)});
  multiply(args.op, {lanes, problem.rows.kernel, problem.cols.kernel});
  return problem;
}

Sizes with_channels(bool channels_last, int64_t batch, int64_t rows, int64_t cols,
                    int64_t channels) {
  return channels_last ? Sizes{batch, rows, cols, channels} : Sizes{batch, channels, rows, cols};
}
Sizes output_sizes(const Problem& problem, bool channels_last) {
  return with_channels(channels_last, problem.batch, problem.rows.output, problem.cols.output,
                       problem.lanes());
}

void check_grad(const Arguments& args, const Problem& problem, const Tensor& grad) {
  const Sizes expected = output_sizes(problem, args.channels_last);
  const Sizes got = sizes_of(grad);
  check(got == expected, args.op, "grad must have the forward result's size ", show(expected),
        ", got ", show(got));
}

// ---- memory order (the rule is explained in tfcompat_dw/layout.py) ------------------------------

// The axes of a tensor from outermost to innermost, if stored in the given order.
std::array<int, 4> storage_axes(bool channels_last, bool channels_last_in_memory) {
  if (channels_last == channels_last_in_memory) return {0, 1, 2, 3};
  return channels_last ? std::array<int, 4>{0, 3, 1, 2} : std::array<int, 4>{0, 2, 3, 1};
}

// The strides of a dense tensor of these sizes, by torch's own rule for sizes of zero.
Sizes dense_strides(const Sizes& sizes, const std::array<int, 4>& order) {
  Sizes strides;
  int64_t stride = 1;
  for (int i = 3; i >= 0; --i) {
    strides[order[i]] = stride;
    stride *= max64(sizes[order[i]], 1);
  }
  return strides;
}

bool is_dense(const Tensor& tensor, const std::array<int, 4>& order) {
  if (tensor.numel() == 0) return true;
  const Sizes sizes = sizes_of(tensor);
  const Sizes strides = dense_strides(sizes, order);
  for (int i = 0; i < 4; ++i) {
    if (sizes[i] != 1 && tensor.stride(i) != strides[i]) return false;
  }
  return true;
}

bool channels_last_in_memory(const Tensor& tensor, bool channels_last) {
  if (is_dense(tensor, storage_axes(channels_last, channels_last))) return channels_last;
  if (is_dense(tensor, storage_axes(channels_last, !channels_last))) return !channels_last;
  const Axes at = axes(channels_last);
  const int64_t channel = tensor.stride(at.channels);
  const int64_t column = tensor.stride(at.cols);
  return channel == column ? channels_last : channel < column;
}

// A tensor with the dtype and device of another. The C shim, not aten: a call by an operator's name
// takes 2 us. Nothing fills the memory, whatever torch.use_deterministic_algorithms says: the
// kernels write all of it.
template <size_t kRank>
Tensor empty(const Tensor& like, const std::array<int64_t, kRank>& sizes,
             const std::array<int64_t, kRank>& strides) {
  int32_t dtype = 0;
  int32_t device = 0;
  AtenTensorHandle handle = nullptr;
  require(aoti_torch_get_dtype(like.get(), &dtype));
  require(aoti_torch_get_device_type(like.get(), &device));
  const AOTITorchError error =
      aoti_torch_empty_strided(static_cast<int64_t>(kRank), sizes.data(), strides.data(), dtype,
                               device, like.get_device_index(), &handle);
  if (error != AOTI_TORCH_SUCCESS) {
    std::ostringstream text;
    text << "tfcompat_dw: there is no memory for a tensor of size " << show(sizes);
    throw std::runtime_error(text.str());
  }
  return Tensor(handle);
}

Tensor empty(const Tensor& like, const Sizes& sizes, bool channels_last, bool in_memory) {
  return empty(like, sizes, dense_strides(sizes, storage_axes(channels_last, in_memory)));
}

Tensor empty_contiguous(const Tensor& like, const Sizes& sizes) {
  return empty(like, sizes, dense_strides(sizes, {0, 1, 2, 3}));
}

Tensor empty_vector(const Tensor& like, int64_t size) { return empty<1>(like, {size}, {1}); }

// Asks first, for the same reason.
Tensor made_contiguous(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

// Lanes come in blocks, so that what is read stays in level 1 and what is written are memory lines.
template <class T>
void copy_filter(const Tensor& filter, int64_t lanes, int64_t lane_step, Tensor& copy) {
  constexpr int64_t kBlock = 16;
  const int64_t cols = filter.size(1);
  const int64_t taps = filter.size(0) * cols;
  const int64_t row_step = filter.stride(0);
  const int64_t col_step = filter.stride(1);
  const T* from = static_cast<const T*>(filter.const_data_ptr());
  T* to = static_cast<T*>(copy.mutable_data_ptr());
  for (int64_t begin = 0; begin < lanes; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, lanes);
    for (int64_t tap = 0; tap < taps; ++tap) {
      const T* source = from + tap / cols * row_step + tap % cols * col_step;
      T* result = to + tap * lanes;
      for (int64_t lane = begin; lane < end; ++lane) result[lane] = source[lane * lane_step];
    }
  }
}

// A filter as the kernels read it. The weight of an nn.Conv2d, seen as [h, w, c, m], is a
// transpose, which aten copies by single elements: 2 us for the smallest, 7 us for 3 x 3 x 960 at
// best.
Tensor contiguous_filter(const Tensor& filter) {
  const int64_t multiplier = filter.size(3);
  const int64_t lane_step = filter.stride(multiplier == 1 ? 2 : 3);
  const bool even = filter.stride(2) == multiplier * lane_step;
  if (filter.is_contiguous() || !filter.is_cpu() || !even) return made_contiguous(filter);
  Tensor copy = empty_contiguous(filter, sizes_of(filter));
  const int64_t lanes = filter.size(2) * multiplier;
  switch (filter.element_size()) {
    case 8: copy_filter<uint64_t>(filter, lanes, lane_step, copy); break;
    case 4: copy_filter<uint32_t>(filter, lanes, lane_step, copy); break;
    default: copy_filter<uint16_t>(filter, lanes, lane_step, copy);
  }
  return copy;
}

Tensor dense_copy(const Tensor& tensor, bool channels_last, bool in_memory) {
  Tensor copy = empty(tensor, sizes_of(tensor), channels_last, in_memory);
  return torch::stable::copy_(copy, tensor);
}

// The tensor itself where it is dense in the given memory order, else a dense copy.
Tensor dense(const Tensor& tensor, bool channels_last, bool in_memory) {
  if (is_dense(tensor, storage_axes(channels_last, in_memory))) return tensor;
  return dense_copy(tensor, channels_last, in_memory);
}

// A dense tensor itself where 16-byte loads can use its address (views may start anywhere), else a
// copy: the order of a sum must not depend on where a view starts.
[[maybe_unused]] Tensor aligned(const Tensor& tensor, bool channels_last, bool in_memory) {
  if (reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0) return tensor;
  return dense_copy(tensor, channels_last, in_memory);
}

// ---- kernels of the tensors' device -------------------------------------------------------------

void parallel_for(int64_t tasks, int64_t grain, const cpu::Body& body) {
  if (tasks <= grain) return body(0, tasks);
  torch::stable::parallel_for(0, tasks, grain, body);
}

#ifdef TFCOMPAT_DW_CUDA
// Weak: it lives in libtorch_cuda, and this module is loaded beside a PyTorch without it, too.
extern "C" __attribute__((weak)) AOTITorchError
aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);

void* current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  if (!&aoti_torch_get_current_cuda_stream) {
    throw std::runtime_error("tfcompat_dw: this PyTorch offers no CUDA stream to its extensions");
  }
  require(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return stream;
}
#endif

// Runs CPU or CUDA kernels: `on_cuda` gets the current stream of the tensor's device. It is a
// generic lambda: a build without CUDA kernels never calls it, and so compiles nothing of it.
template <class OnCpu, class OnCuda>
void on_device_of(const Tensor& tensor, const OnCpu& on_cpu, const OnCuda& on_cuda) {
#ifdef TFCOMPAT_DW_CUDA
  if (!tensor.is_cpu()) {
    const torch::stable::accelerator::DeviceGuard guard(tensor.get_device_index());
    return on_cuda(current_stream(tensor));
  }
#else
  (void)tensor;
  (void)on_cuda;
#endif
  on_cpu();
}

Tensor forward(const Tensor& input, const Tensor& filter, const std::optional<Tensor>& bias,
               std::vector<int64_t> stride, std::vector<int64_t> padding,
               std::vector<int64_t> dilation, bool channels_last) {
  const Arguments args = {"depthwise_conv2d", std::move(stride), std::move(padding),
                          std::move(dilation), channels_last};
  check_tensor(args.op, "input", input, 4, input);
  check_tensor(args.op, "filter", filter, 4, input);
  Problem problem = checked_problem(args, sizes_of(input), sizes_of(filter), input.scalar_type());
  if (bias) {
    check_tensor(args.op, "bias", *bias, 1, input);
    check(bias->size(0) == problem.lanes(), args.op, "bias must have ", problem.lanes(),
          " elements, got ", bias->size(0));
  }
  problem.channels_last = channels_last_in_memory(input, channels_last);
  Tensor output =
      empty(input, output_sizes(problem, channels_last), channels_last, problem.channels_last);
  if (output.numel() == 0) return output;
  const Tensor x = dense(input, channels_last, problem.channels_last);
  const Tensor f = contiguous_filter(filter);
  const Tensor b = bias ? made_contiguous(*bias) : f;
  const void* offset = bias ? b.const_data_ptr() : nullptr;
  on_device_of(
      input,
      [&] {
        cpu::forward(problem, x.const_data_ptr(), f.const_data_ptr(), offset,
                     output.mutable_data_ptr(), parallel_for);
      },
      [&](auto stream) {
        cuda::forward(problem, x.const_data_ptr(), f.const_data_ptr(), offset,
                      output.mutable_data_ptr(), stream);
      });
  return output;
}

Tensor input_gradient(const Arguments& args, Problem problem, const Sizes& input_size,
                      const Tensor& filter, const Tensor& grad) {
  problem.channels_last = channels_last_in_memory(grad, args.channels_last);
  Tensor result = empty(grad, input_size, args.channels_last, problem.channels_last);
  if (result.numel() == 0 || grad.numel() == 0) return torch::stable::zero_(result);
  const Tensor g = dense(grad, args.channels_last, problem.channels_last);
  const Tensor f = contiguous_filter(filter);
  on_device_of(
      grad,
      [&] {
        cpu::backward_input(problem, g.const_data_ptr(), f.const_data_ptr(),
                            result.mutable_data_ptr(), parallel_for);
      },
      [&](auto stream) {
        cuda::backward_input(problem, g.const_data_ptr(), f.const_data_ptr(),
                             result.mutable_data_ptr(), stream);
      });
  return result;
}

// Memory for the filter and the bias gradient; what is not wanted stays undefined.
std::tuple<Tensor, Tensor> empty_filter_gradients(const Problem& problem, const Tensor& grad,
                                                  bool filter_wanted, bool bias_wanted) {
  const Sizes filter_size = {problem.rows.kernel, problem.cols.kernel, problem.channels,
                             problem.multiplier};
  return {filter_wanted ? empty_contiguous(grad, filter_size) : Tensor(),
          bias_wanted ? empty_vector(grad, problem.lanes()) : Tensor()};
}

void* data_or_null(Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr() : nullptr;
}

// Memory for the partial sums of a filter gradient.
[[maybe_unused]] Tensor empty_workspace(const Tensor& like, DataType dtype, int64_t bytes) {
  const int64_t size = dtype == DataType::kFloat64 ? 8 : dtype == DataType::kFloat32 ? 4 : 2;
  return empty_vector(like, bytes / size);
}

// The filter and the bias gradient in one sweep.
std::tuple<Tensor, Tensor> filter_gradients(const Arguments& args, Problem problem,
                                            const Tensor& input, const Tensor& grad,
                                            bool filter_wanted, bool bias_wanted) {
  auto [filter, bias] = empty_filter_gradients(problem, grad, filter_wanted, bias_wanted);
  if (grad.numel() == 0) {
    if (filter_wanted) torch::stable::zero_(filter);
    if (bias_wanted) torch::stable::zero_(bias);
    return {filter, bias};
  }
  problem.channels_last = channels_last_in_memory(input, args.channels_last);
  const Tensor x = dense(input, args.channels_last, problem.channels_last);
  const Tensor g = dense(grad, args.channels_last, problem.channels_last);
  void* filter_result = data_or_null(filter);
  void* bias_result = data_or_null(bias);
  on_device_of(
      grad,
      [&] {
        cpu::backward_filter(problem, x.const_data_ptr(), g.const_data_ptr(), filter_result,
                             bias_result, parallel_for);
      },
      [&](auto stream) {
        const Tensor seen = aligned(x, args.channels_last, problem.channels_last);
        const Tensor grads = aligned(g, args.channels_last, problem.channels_last);
        const int64_t bytes = cuda::workspace_bytes(problem, filter_wanted, bias_wanted);
        Tensor workspace = empty_workspace(grad, problem.dtype, bytes);
        cuda::backward_filter(problem, seen.const_data_ptr(), grads.const_data_ptr(), filter_result,
                              bias_result, workspace.mutable_data_ptr(), stream);
      });
  return {filter, bias};
}

// The input gradient with the filter or bias gradient. The memory order is that of input and grad.
std::tuple<Tensor, Tensor, Tensor> gradients_together(const Arguments& args, Problem problem,
                                                      const Tensor& input, const Tensor& filter,
                                                      const Tensor& grad, bool filter_wanted,
                                                      bool bias_wanted) {
  problem.channels_last = channels_last_in_memory(grad, args.channels_last);
  Tensor dinput = empty(grad, sizes_of(input), args.channels_last, problem.channels_last);
  auto [dfilter, dbias] = empty_filter_gradients(problem, grad, filter_wanted, bias_wanted);
  const Tensor x = dense(input, args.channels_last, problem.channels_last);
  const Tensor f = contiguous_filter(filter);
  const Tensor g = dense(grad, args.channels_last, problem.channels_last);
  void* filter_result = data_or_null(dfilter);
  void* bias_result = data_or_null(dbias);
  on_device_of(
      grad,
      [&] {
        cpu::backward(problem, x.const_data_ptr(), f.const_data_ptr(), g.const_data_ptr(),
                      dinput.mutable_data_ptr(), filter_result, bias_result, parallel_for);
      },
      [&](auto stream) {
        const Tensor seen = aligned(x, args.channels_last, problem.channels_last);
        const Tensor grads = aligned(g, args.channels_last, problem.channels_last);
        const Tensor weights = aligned(f, true, true);
        const int64_t bytes = cuda::backward_workspace_bytes(problem, filter_wanted, bias_wanted);
        Tensor workspace = empty_workspace(grad, problem.dtype, bytes);
        cuda::backward(problem, seen.const_data_ptr(), weights.const_data_ptr(),
                       grads.const_data_ptr(), dinput.mutable_data_ptr(), filter_result,
                       bias_result, workspace.mutable_data_ptr(), stream);
      });
  return {dinput, dfilter, dbias};
}

Tensor backward_input(std::vector<int64_t> input_size, const Tensor& filter, const Tensor& grad,
                      std::vector<int64_t> stride, std::vector<int64_t> padding,
                      std::vector<int64_t> dilation, bool channels_last) {
  const Arguments args = {"depthwise_conv2d_backward_input", std::move(stride), std::move(padding),
                          std::move(dilation), channels_last};
  check_tensor(args.op, "filter", filter, 4, grad);
  check_tensor(args.op, "grad", grad, 4, grad);
  const Sizes size = checked_sizes(args.op, "input_size", input_size);
  const Problem problem = checked_problem(args, size, sizes_of(filter), grad.scalar_type());
  check_grad(args, problem, grad);
  return input_gradient(args, problem, size, filter, grad);
}

Tensor backward_filter(const Tensor& input, std::vector<int64_t> filter_size, const Tensor& grad,
                       std::vector<int64_t> stride, std::vector<int64_t> padding,
                       std::vector<int64_t> dilation, bool channels_last) {
  const Arguments args = {"depthwise_conv2d_backward_filter", std::move(stride), std::move(padding),
                          std::move(dilation), channels_last};
  check_tensor(args.op, "input", input, 4, grad);
  check_tensor(args.op, "grad", grad, 4, grad);
  const Sizes size = checked_sizes(args.op, "filter_size", filter_size);
  const Problem problem = checked_problem(args, sizes_of(input), size, grad.scalar_type());
  check_grad(args, problem, grad);
  return std::get<0>(filter_gradients(args, problem, input, grad, true, false));
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& input, const Tensor& filter,
                                            const Tensor& grad, std::vector<int64_t> stride,
                                            std::vector<int64_t> padding,
                                            std::vector<int64_t> dilation, bool channels_last,
                                            std::vector<bool> mask) {
  const Arguments args = {"depthwise_conv2d_backward", std::move(stride), std::move(padding),
                          std::move(dilation), channels_last};
  check(mask.size() == 3, args.op, "mask must hold 3 booleans, got ", mask.size());
  check_tensor(args.op, "input", input, 4, grad);
  check_tensor(args.op, "filter", filter, 4, grad);
  check_tensor(args.op, "grad", grad, 4, grad);
  const Problem problem =
      checked_problem(args, sizes_of(input), sizes_of(filter), grad.scalar_type());
  check_grad(args, problem, grad);
  const bool one_order =
      channels_last_in_memory(input, channels_last) == channels_last_in_memory(grad, channels_last);
  if (mask[0] && (mask[1] || mask[2]) && one_order && input.numel() > 0 && grad.numel() > 0) {
    return gradients_together(args, problem, input, filter, grad, mask[1], mask[2]);
  }
  Tensor dinput;
  Tensor dfilter;
  Tensor dbias;
  if (mask[0]) dinput = input_gradient(args, problem, sizes_of(input), filter, grad);
  if (mask[1] || mask[2]) {
    std::tie(dfilter, dbias) = filter_gradients(args, problem, input, grad, mask[1], mask[2]);
  }
  return {dinput, dfilter, dbias};
}

}  // namespace

// stride: rows, columns. padding: top, bottom, left, right. channels_last names the axes of input,
// output and gradients; the filter is [kh, kw, in, mult] under both names.
STABLE_TORCH_LIBRARY(tfcompat_dw, library) {
  library.def(
      "depthwise_conv2d(Tensor input, Tensor filter, Tensor? bias, SymInt[2] stride, "
      "SymInt[4] padding, SymInt[2] dilation, bool channels_last) -> Tensor");
  library.def(
      "depthwise_conv2d_backward_input(SymInt[4] input_size, Tensor filter, Tensor grad, "
      "SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation, bool channels_last) -> Tensor");
  library.def(
      "depthwise_conv2d_backward_filter(Tensor input, SymInt[4] filter_size, Tensor grad, "
      "SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation, bool channels_last) -> Tensor");
  library.def(
      "depthwise_conv2d_backward(Tensor input, Tensor filter, Tensor grad, SymInt[2] stride, "
      "SymInt[4] padding, SymInt[2] dilation, bool channels_last, bool[3] mask) "
      "-> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(tfcompat_dw, CPU, library) {
  library.impl("depthwise_conv2d", TORCH_BOX(&forward));
  library.impl("depthwise_conv2d_backward_input", TORCH_BOX(&backward_input));
  library.impl("depthwise_conv2d_backward_filter", TORCH_BOX(&backward_filter));
  library.impl("depthwise_conv2d_backward", TORCH_BOX(&backward));
}

#ifdef TFCOMPAT_DW_CUDA
STABLE_TORCH_LIBRARY_IMPL(tfcompat_dw, CUDA, library) {
  library.impl("depthwise_conv2d", TORCH_BOX(&forward));
  library.impl("depthwise_conv2d_backward_input", TORCH_BOX(&backward_input));
  library.impl("depthwise_conv2d_backward_filter", TORCH_BOX(&backward_filter));
  library.impl("depthwise_conv2d_backward", TORCH_BOX(&backward));
}
#endif

}  // namespace tfcompat_dw

// Importing the module runs the registrations above; its one function tells what they will use.
namespace {
PyObject* cpu_isa(PyObject*, PyObject*) {
  try {
    return PyUnicode_FromString(tfcompat_dw::cpu::isa_name());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
    return nullptr;
  }
}
PyObject* cuda_architectures(PyObject*, PyObject*) {
#ifdef TFCOMPAT_DW_CUDA
  return PyUnicode_FromString(TFCOMPAT_DW_CUDA);
#else
  Py_RETURN_NONE;
#endif
}
PyMethodDef methods[] = {{"cpu_isa", cpu_isa, METH_NOARGS, "Instruction set of the CPU kernels."},
                         {"cuda_architectures", cuda_architectures, METH_NOARGS,
                          "What the CUDA kernels are compiled for; None: there are none."},
                         {nullptr, nullptr, 0, nullptr}};
PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};
}  // namespace

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&module); }
