// Random problems, their arrays and what plain loops in float64 make of them: for the programs that
// check kernels without torch. Every array is its own heap block of the exact size, so that
// AddressSanitizer sees a read or write beside it.
#pragma once
#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <new>
#include <random>
#include <vector>

#include "../../csrc/problem.h"

using namespace tfcompat_dw;

namespace {

std::mt19937 generator;

int64_t pick(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(generator);
}

// ---- dtypes: arrays are raw bytes next to the float64 values they stand for ---------------------

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
  if (exponent == top && fraction) return std::numeric_limits<double>::quiet_NaN();
  const double value = exponent == top ? std::numeric_limits<double>::infinity()
                       : exponent == 0 ? std::ldexp(fraction, 1 - bias - fraction_bits)
                                       : std::ldexp(fraction + (1 << fraction_bits),
                                                    exponent - bias - fraction_bits);
  return bits & 0x8000 ? -value : value;
}

// The nearest value of a dtype that is a multiple of 1/16 in [-4, 4), an infinity or NaN: the first
// are exact in every dtype, and so are their products in float32.
void encode(DataType dtype, double value, void* p) {
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
    if (std::isnan(narrow)) {
      half |= 0x7e00;
    } else if (std::isinf(narrow)) {
      half |= 0x7c00;
    } else if (magnitude) {
      half |= static_cast<uint16_t>((magnitude - (112u << 23)) >> 13);
    }
  }
  std::memcpy(p, &half, 2);
}

// `special`: one value in so many is an infinity or NaN; 0: none.
double random_value(int64_t special) {
  const double infinity = std::numeric_limits<double>::infinity();
  if (special && pick(1, special) == 1) {
    const double values[] = {infinity, -infinity, std::numeric_limits<double>::quiet_NaN()};
    return values[pick(0, 2)];
  }
  return static_cast<double>(pick(-64, 63)) / 16;
}

constexpr int64_t kUnset = -1;

struct Array {
  DataType dtype;
  std::vector<double> values;
  void* block;
  void* bytes;  // where it begins in the block, whose end is its own

  // `special` as above, or kUnset: all NaN, which is what results are written over.
  // shift: how many elements behind a multiple of 64 bytes, where torch's tensors begin.
  Array(DataType type, int64_t count, int64_t special, int64_t shift = 0)
      : Array(type, std::vector<double>(count), shift) {
    poison();
    for (int64_t i = 0; special != kUnset && i < count; ++i) {
      encode(type, random_value(special), at(i));
      values[i] = decode(type, at(i));
    }
  }
  // Another array's values somewhere else.
  Array(const Array& array, int64_t shift) : Array(array.dtype, array.values, shift) {
    std::memcpy(bytes, array.bytes, values.size() * size_of(dtype));
  }
  Array(const Array&) = delete;
  ~Array() { std::free(block); }
  // A NaN in every dtype.
  void poison() const { std::memset(bytes, 0xff, values.size() * size_of(dtype)); }
  std::vector<char> copy() const {
    const char* begin = static_cast<const char*>(bytes);
    return std::vector<char>(begin, begin + values.size() * size_of(dtype));
  }
  void* at(int64_t i) const { return static_cast<char*>(bytes) + i * size_of(dtype); }
  // Nothing was written in its block, but before its beginning.
  bool front_untouched() const {
    const char* begin = static_cast<const char*>(block);
    return std::all_of(begin, static_cast<const char*>(bytes), [](char c) { return c == '\xff'; });
  }

 private:
  Array(DataType type, std::vector<double> all, int64_t shift)
      : dtype(type), values(std::move(all)) {
    const size_t front = shift * size_of(type);
    if (posix_memalign(&block, 64, front + values.size() * size_of(type))) throw std::bad_alloc();
    std::memset(block, 0xff, front);
    bytes = static_cast<char*>(block) + front;
  }
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
  if (!got.front_untouched()) {
    std::printf("%s: something was written before its beginning\n", what);
    return false;
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = decode(got.dtype, got.at(static_cast<int64_t>(i)));
    if (std::isnan(expected[i]) ? std::isnan(value) : value == expected[i]) continue;
    const double half_unit = std::ldexp(std::fabs(expected[i]), -precision(got.dtype));
    if (size_of(got.dtype) == 2 && std::fabs(value - expected[i]) <= half_unit) continue;
    std::printf("%s[%zu]: expected %.17g, got %.17g\n", what, i, expected[i], value);
    return false;
  }
  return true;
}

// ---- random problems ---------------------------------------------------------------------------

int64_t output_size(const Axis& axis, int64_t after) {
  const int64_t free = axis.input + axis.pad + after - (axis.kernel - 1) * axis.dilation - 1;
  return free < 0 ? 0 : free / axis.stride + 1;
}

Axis random_axis(int64_t most) {
  Axis axis;
  const bool large = pick(0, 3) == 0;
  do {
    axis.input = pick(0, 9) ? pick(1, most) : 0;  // nothing but padding
    axis.kernel = pick(1, large ? 17 : 6);
    axis.stride = pick(1, large ? 9 : 4);
    axis.dilation = pick(0, 2) ? 1 : pick(2, large ? 9 : 4);
    axis.pad = pick(0, large ? 12 : 4);
    axis.output = output_size(axis, pick(0, large ? 12 : 4));
  } while (axis.output < 1);
  return axis;
}

// Strides, dilations and pads up to the largest that the operator takes, and few results.
Axis extreme_axis() {
  constexpr int64_t kMost = (1ll << 31) - 1;
  const int64_t scales[] = {1, 2, 30, 1000, kMost / 7, kMost};
  Axis axis;
  int64_t after;
  do {
    axis.input = pick(1, 40);
    axis.kernel = pick(1, 5);
    axis.stride = scales[pick(0, 5)];
    axis.dilation = scales[pick(0, 5)];
    const int64_t reach = (axis.kernel - 1) * axis.dilation;
    axis.pad = std::min(kMost, pick(0, 1) ? pick(0, reach + 5) : pick(0, 5));
    after = std::min(kMost, pick(0, 1) ? pick(0, reach + 5) : pick(0, 5));
    axis.output = output_size(axis, after);
  } while (axis.output < 1 || axis.output > 2000);
  return axis;
}

// 3 taps, and often the padding of SAME.
Axis usual_axis(int64_t most) {
  Axis axis;
  do {
    axis.input = pick(1, most);
    axis.kernel = 3;
    axis.stride = pick(0, 3) ? 1 : 2;
    axis.dilation = pick(0, 3) ? 1 : pick(2, 4);
    axis.pad = pick(0, 3) ? axis.dilation : pick(0, 3);
    axis.output = output_size(axis, pick(0, 3) ? axis.dilation : pick(0, 3));
  } while (axis.output < 1);
  return axis;
}

enum class Kind { kOrdinary, kLong, kExtreme, kSpecial, kCopies, kUsual, kPlanes };

// At a stride of two the window begins at an even or an odd source.
Axis plane_axis(int64_t kernel, int64_t stride, int64_t most) {
  Axis axis;
  do {
    axis.input = pick(kernel, most);
    axis.kernel = kernel;
    axis.stride = stride;
    axis.dilation = pick(0, 3) ? 1 : pick(2, 3);
    axis.pad = pick(0, (kernel - 1) * axis.dilation);
    axis.output = output_size(axis, pick(0, (kernel - 1) * axis.dilation));
  } while (axis.output < 1);
  return axis;
}

Problem random_problem(Kind kind) {
  const DataType dtypes[] = {DataType::kFloat64, DataType::kFloat32, DataType::kBFloat16,
                             DataType::kFloat16};
  const int64_t channel_counts[] = {1, 2, 3, 5, 8, 16, 17, 24, 33, 70};
  Problem p;
  p.dtype = dtypes[pick(0, 3)];
  p.batch = pick(1, 2);
  p.channels = channel_counts[pick(0, 9)];
  p.multiplier = pick(0, 2) ? 1 : pick(2, 14);
  p.channels_last = pick(0, 1);
  p.rows = random_axis(10);
  p.cols = random_axis(pick(0, 2) ? 12 : 70);
  if (kind == Kind::kLong) {  // columns are cut, or rows
    p.rows = random_axis(2);
    p.cols = random_axis(3000);
    if (pick(0, 2) == 0) p.cols.stride = pick(1, 1000);
    p.cols.pad += pick(0, 1) * pick(0, 3000);  // some cuts may meet nothing
    p.cols.output = output_size(p.cols, pick(0, 3000));
    p.channels = pick(1, 3);
    if (pick(0, 3) == 0) p.multiplier = pick(6, 60);
    if (pick(0, 2) == 0) std::swap(p.rows, p.cols);
  } else if (kind == Kind::kExtreme) {
    p.channels = pick(1, 3);
    if (pick(0, 1)) p.rows = extreme_axis();
    p.cols = extreme_axis();
    if (p.rows.output * p.cols.output > 20000) p.rows = {1, 1, 1, 1, 1, 0};
    if (pick(0, 2) == 0) {  // lines of mostly padding, and rows that strips take
      p.channels_last = true;
      p.multiplier = pick(5, 8);
      p.channels = 1;
      p.rows = plane_axis(3, 1, 12);
      const int64_t dilation = pick(500, 1000);
      p.cols = {pick(100, 400), 0, 3, 1, dilation, dilation + pick(0, 800)};
      p.cols.output = output_size(p.cols, p.cols.pad);
    }
  } else if (kind == Kind::kCopies) {
    p.channels = pick(1, 2);
    p.multiplier = pick(6, 300);
  } else if (kind == Kind::kPlanes) {  // as wide as vectors, square kernels of odd sizes
    const int64_t stride = pick(1, 2);
    const int64_t kernel = 3 + 2 * pick(0, 2);
    p.channels_last = pick(0, 2) == 0;  // few channels are taken for a plane
    p.channels = p.channels_last ? pick(2, 16) : pick(1, 40);
    p.multiplier = pick(0, 2) ? 1 : pick(2, 4);
    p.rows = plane_axis(kernel, stride, 40);
    p.cols = plane_axis(kernel, stride, p.channels_last ? 60 : 150);
    if (pick(0, 2) == 0) {  // rows of whole memory lines: results may go past the caches
      const int64_t reach = (kernel - 1) * p.cols.dilation;
      p.dtype = DataType::kFloat32;
      p.cols.input = 32 * pick(1, 5);
      p.cols.output = output_size(p.cols, reach - p.cols.pad);
    }
  } else if (kind == Kind::kUsual) {
    const int64_t counts[] = {3, 16, 20, 32, 48, 70, 96, 128, 256, 512, 1024};
    p.channels = counts[pick(0, 10)];
    const int64_t most = p.channels > 100 ? 10 : 40;
    p.rows = usual_axis(most);
    p.cols = usual_axis(pick(0, 7) ? most : 1);
    if (p.channels > 100) p.multiplier = 1;
  }
  return p;
}

void print_problem(const Problem& p) {
  std::printf("dtype %d, batch %" PRId64 ", channels %" PRId64 " x %" PRId64 ", %s\n",
              static_cast<int>(p.dtype), p.batch, p.channels, p.multiplier,
              p.channels_last ? "NHWC" : "NCHW");
  for (const Axis& axis : {p.rows, p.cols}) {
    std::printf("input %" PRId64 ", output %" PRId64 ", kernel %" PRId64 ", stride %" PRId64
                ", dilation %" PRId64 ", pad %" PRId64 "\n",
                axis.input, axis.output, axis.kernel, axis.stride, axis.dilation, axis.pad);
  }
}

// How many elements behind a multiple of 64 bytes arrays begin.
struct Shifts {
  int64_t operands = 0;
  int64_t results = 0;
};

// One value in how many is special, or 0.
int64_t special_of(Kind kind) {
  const bool some = kind == Kind::kSpecial || (kind == Kind::kPlanes && pick(0, 3) == 0);
  return some ? pick(5, 200) : 0;
}

// The arrays of a random problem, and what they have to give.
struct Example {
  explicit Example(Kind kind) : Example{random_problem(kind), special_of(kind), Shifts()} {}

  Example(const Problem& problem, int64_t one_in, Shifts shifts)
      : p(problem),
        special(one_in),
        input(p.dtype, p.batch * p.rows.input * p.cols.input * p.channels, special,
              shifts.operands),
        filter(p.dtype, p.taps() * p.lanes(), pick(0, 1) ? special : 0, shifts.operands),
        bias(p.dtype, p.lanes(), 0, shifts.operands),
        grad(p.dtype, p.batch * p.rows.output * p.cols.output * p.lanes(), special,
             shifts.operands),
        expected(expect(p, input, filter, bias, grad)),
        output(p.dtype, static_cast<int64_t>(grad.values.size()), kUnset, shifts.results),
        input_gradient(p.dtype, static_cast<int64_t>(input.values.size()), kUnset, shifts.results),
        filter_gradient(p.dtype, static_cast<int64_t>(filter.values.size()), kUnset,
                        shifts.results),
        bias_gradient(p.dtype, p.lanes(), kUnset, shifts.results) {}

  bool right() const {
    return same("output", expected.output, output) &&
           same("input gradient", expected.input_gradient, input_gradient) &&
           same("filter gradient", expected.filter_gradient, filter_gradient) &&
           same("bias gradient", expected.bias_gradient, bias_gradient);
  }

  const Problem p;
  const int64_t special;
  const Array input, filter, bias, grad;
  const Expected expected;
  const Array output, input_gradient, filter_gradient, bias_gradient;
};

// The kinds of a run, in turn.
[[maybe_unused]] Kind kind_of(int i) {
  const Kind kinds[] = {Kind::kOrdinary, Kind::kOrdinary, Kind::kUsual,  Kind::kSpecial,
                        Kind::kExtreme,  Kind::kUsual,    Kind::kCopies, Kind::kPlanes};
  return i % 20 == 19 ? Kind::kLong : kinds[i % 8];
}

// The command line of the checking programs, PROGRAM SEED COUNT: how many problems are right. The
// program ends at the first that is not.
[[maybe_unused]] int check_all(char** argv, bool (*check_one)(Kind)) {
  generator.seed(static_cast<unsigned>(std::atoi(argv[1])));
  const int count = std::atoi(argv[2]);
  for (int i = 0; i < count; ++i) {
    if (!check_one(kind_of(i))) std::exit(1);
  }
  return count;
}

}  // namespace
