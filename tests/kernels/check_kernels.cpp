// Runs the CPU kernels on random problems, without torch, against plain loops in float64.
// Built with AddressSanitizer and UBSan: every array is its own heap block of the exact size, so a
// read or write beside it is an error. Outputs start as NaN, and tasks run in reverse order, one by
// one, so a result that is left out or shared between tasks shows. Usage: check_kernels SEED COUNT
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "../../csrc/cpu/cpu.h"

using namespace tfcompat_dw;

namespace {

std::mt19937 generator;

int64_t pick(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(generator);
}

// ---- dtypes: arrays are kept as raw bytes next to the float64 values they stand for
// --------------

size_t size_of(DataType dtype) {
  return dtype == DataType::kFloat64 ? 8 : dtype == DataType::kFloat32 ? 4 : 2;
}

// The significant bits of a dtype, the hidden one included.
int precision(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat64: return 53;
    case DataType::kFloat32: return 24;
    case DataType::kBFloat16: return 8;
    default: return 11;
  }
}

double decode(DataType dtype, const void* p) {
  if (dtype == DataType::kFloat64) return *static_cast<const double*>(p);
  if (dtype == DataType::kFloat32) return *static_cast<const float*>(p);
  const uint16_t bits = *static_cast<const uint16_t*>(p);
  const int fraction_bits = precision(dtype) - 1;
  const int exponent = (bits & 0x7fff) >> fraction_bits;
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const int bias = dtype == DataType::kBFloat16 ? 127 : 15;
  const int top = dtype == DataType::kBFloat16 ? 255 : 31;
  if (exponent == top) return std::numeric_limits<double>::quiet_NaN();  // infinity is not expected
  const double value =
      exponent == 0 ? std::ldexp(fraction, 1 - bias - fraction_bits)
                    : std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
  return bits & 0x8000 ? -value : value;
}

// A multiple of 1/16 in [-4, 4): exact in every dtype, and so are its products in float32.
void encode(DataType dtype, int sixteenths, void* p) {
  const double value = sixteenths / 16.0;
  if (dtype == DataType::kFloat64) {
    std::memcpy(p, &value, 8);
    return;
  }
  const float narrow = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &narrow, 4);
  if (dtype == DataType::kFloat32) {
    std::memcpy(p, &bits, 4);
    return;
  }
  uint16_t half = static_cast<uint16_t>(bits >> 16);
  if (dtype == DataType::kFloat16) {
    const uint32_t magnitude = bits & 0x7fffffff;
    half = static_cast<uint16_t>((bits >> 16) & 0x8000);
    if (magnitude) half |= static_cast<uint16_t>((magnitude - (112u << 23)) >> 13);
  }
  std::memcpy(p, &half, 2);
}

struct Array {
  DataType dtype;
  std::vector<double> values;
  void* bytes;

  Array(DataType type, int64_t count, bool random) : dtype(type), values(count) {
    bytes = std::malloc(count * size_of(type));
    std::memset(bytes, 0xff, count * size_of(type));  // a NaN in every dtype
    if (!random) return;
    for (int64_t i = 0; i < count; ++i) {
      encode(type, static_cast<int>(pick(-64, 63)), at(i));
      values[i] = decode(type, at(i));
    }
  }
  Array(const Array&) = delete;
  ~Array() { std::free(bytes); }
  void* at(int64_t i) const { return static_cast<char*>(bytes) + i * size_of(dtype); }
};

// ---- the oracle --------------------------------------------------------------------------------

struct Layout {
  bool channels_last;
  int64_t rows, cols, channels;
  int64_t index(int64_t n, int64_t r, int64_t c, int64_t channel) const {
    return channels_last ? ((n * rows + r) * cols + c) * channels + channel
                         : ((n * channels + channel) * rows + r) * cols + c;
  }
};

struct Expected {
  std::vector<double> output, input_gradient, filter_gradient, bias_gradient;
};

Expected expect(const Problem& p, const Array& input, const Array& filter, const Array& bias,
                const Array& grad) {
  const Layout in = {p.channels_last, p.rows.input, p.cols.input, p.channels};
  const Layout out = {p.channels_last, p.rows.output, p.cols.output, p.lanes()};
  Expected e;
  e.output.resize(grad.values.size());
  e.input_gradient.resize(input.values.size());
  e.filter_gradient.resize(filter.values.size());
  e.bias_gradient.resize(p.lanes());
  for (int64_t n = 0; n < p.batch; ++n) {
    for (int64_t oh = 0; oh < p.rows.output; ++oh) {
      for (int64_t ow = 0; ow < p.cols.output; ++ow) {
        for (int64_t lane = 0; lane < p.lanes(); ++lane) {
          const int64_t o = out.index(n, oh, ow, lane);
          e.output[o] += bias.values[lane];
          e.bias_gradient[lane] += grad.values[o];
          for (int64_t kh = 0; kh < p.rows.kernel; ++kh) {
            for (int64_t kw = 0; kw < p.cols.kernel; ++kw) {
              const int64_t ih = oh * p.rows.stride + kh * p.rows.dilation - p.rows.pad;
              const int64_t iw = ow * p.cols.stride + kw * p.cols.dilation - p.cols.pad;
              if (ih < 0 || ih >= p.rows.input || iw < 0 || iw >= p.cols.input) continue;
              const int64_t i = in.index(n, ih, iw, lane / p.multiplier);
              const int64_t f = (kh * p.cols.kernel + kw) * p.lanes() + lane;
              e.output[o] += input.values[i] * filter.values[f];
              e.input_gradient[i] += grad.values[o] * filter.values[f];
              e.filter_gradient[f] += grad.values[o] * input.values[i];
            }
          }
        }
      }
    }
  }
  return e;
}

// Operands are multiples of 1/16 below 4, so products and sums are multiples of 1/256, and as long
// as a sum stays below 2^16 float32 holds it exactly. What is left is the rounding of the result.
bool same(const char* what, const std::vector<double>& expected, const Array& got) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = decode(got.dtype, got.at(static_cast<int64_t>(i)));
    const double half_unit = std::ldexp(std::fabs(expected[i]), -precision(got.dtype));
    if (std::fabs(value - expected[i]) <= (size_of(got.dtype) == 2 ? half_unit : 0)) continue;
    std::printf("%s[%zu]: expected %.17g, got %.17g\n", what, i, expected[i], value);
    return false;
  }
  return true;
}

// ---- random problems ---------------------------------------------------------------------------

Axis random_axis(int64_t most) {
  Axis axis;
  do {
    axis.input = pick(1, most);
    axis.kernel = pick(1, 6);
    axis.stride = pick(1, 4);
    axis.dilation = pick(0, 2) ? 1 : pick(2, 4);
    axis.pad = pick(0, 4);
    const int64_t after = pick(0, 4);
    axis.output =
        (axis.input + axis.pad + after - (axis.kernel - 1) * axis.dilation - 1) / axis.stride + 1;
    if (axis.input + axis.pad + after < (axis.kernel - 1) * axis.dilation + 1) axis.output = 0;
  } while (axis.output < 1);
  return axis;
}

void backwards(int64_t tasks, int64_t, const cpu::Body& body) {
  for (int64_t task = tasks; task-- > 0;) body(task, task + 1);
}

bool check_one() {
  const DataType dtypes[] = {DataType::kFloat64, DataType::kFloat32, DataType::kBFloat16,
                             DataType::kFloat16};
  const int64_t channel_counts[] = {1, 2, 3, 5, 8, 16, 17, 24, 33, 70};
  Problem p;
  p.dtype = dtypes[pick(0, 3)];
  p.batch = pick(1, 2);
  p.channels = channel_counts[pick(0, 9)];
  p.multiplier = pick(0, 2) ? 1 : pick(2, 5);
  p.rows = random_axis(10);
  p.cols = random_axis(pick(0, 2) ? 12 : 70);
  p.channels_last = pick(0, 1);

  const Array input(p.dtype, p.batch * p.rows.input * p.cols.input * p.channels, true);
  const Array filter(p.dtype, p.taps() * p.lanes(), true);
  const Array bias(p.dtype, p.lanes(), true);
  const Array grad(p.dtype, p.batch * p.rows.output * p.cols.output * p.lanes(), true);
  const Expected expected = expect(p, input, filter, bias, grad);
  const Array output(p.dtype, static_cast<int64_t>(expected.output.size()), false);
  const Array input_gradient(p.dtype, static_cast<int64_t>(input.values.size()), false);
  const Array filter_gradient(p.dtype, static_cast<int64_t>(filter.values.size()), false);
  const Array bias_gradient(p.dtype, p.lanes(), false);
  cpu::forward(p, input.bytes, filter.bytes, bias.bytes, output.bytes, backwards);
  cpu::backward_input(p, grad.bytes, filter.bytes, input_gradient.bytes, backwards);
  cpu::backward_filter(p, input.bytes, grad.bytes, filter_gradient.bytes, bias_gradient.bytes,
                       backwards);
  if (same("output", expected.output, output) &&
      same("input gradient", expected.input_gradient, input_gradient) &&
      same("filter gradient", expected.filter_gradient, filter_gradient) &&
      same("bias gradient", expected.bias_gradient, bias_gradient)) {
    return true;
  }
  std::printf("dtype %d, batch %ld, channels %ld x %ld, %s\n", static_cast<int>(p.dtype), p.batch,
              p.channels, p.multiplier, p.channels_last ? "NHWC" : "NCHW");
  for (const Axis& axis : {p.rows, p.cols}) {
    std::printf("input %ld, output %ld, kernel %ld, stride %ld, dilation %ld, pad %ld\n",
                axis.input, axis.output, axis.kernel, axis.stride, axis.dilation, axis.pad);
  }
  return false;
}

}  // namespace

int main(int, char** argv) {
  generator.seed(static_cast<unsigned>(std::atoi(argv[1])));
  const int count = std::atoi(argv[2]);
  for (int i = 0; i < count; ++i) {
    if (!check_one()) return 1;
  }
  std::printf("%d problems right with %s\n", count, cpu::isa_name());
  return 0;
}
