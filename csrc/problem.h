// One call of the operator, as every kernel sees it. No torch, no std.
#pragma once
#include <cstdint>

namespace tfcompat_dw {

enum class DataType { kFloat64, kFloat32, kBFloat16, kFloat16 };

// One spatial axis: an output position o reads input positions
// o * stride + k * dilation - pad for k in [0, kernel), those inside [0, input) only.
struct Axis {
  int64_t input;
  int64_t output;
  int64_t kernel;
  int64_t stride;
  int64_t dilation;
  int64_t pad;  // before the first element; what lies after the last follows from output
};

struct Problem {
  int64_t batch;
  int64_t channels;    // of the input
  int64_t multiplier;  // output channel c * multiplier + m belongs to input channel c
  Axis rows;
  Axis cols;
  bool channels_last;  // memory order: NHWC or NCHW. The filter is [kh, kw, channels, multiplier]
  DataType dtype;

  int64_t lanes() const { return channels * multiplier; }  // output channels
  int64_t taps() const { return rows.kernel * cols.kernel; }
};

}  // namespace tfcompat_dw
