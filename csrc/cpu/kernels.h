// What the kernels are given and how they are called. No torch, no std.
#pragma once
#include "../window.h"

namespace tfcompat_dw::cpu {

// 16-bit storage types: bits only, arithmetic is done in float32 (simd.h).
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// One axis of a gathering pass: destinations that take their taps from side-by-side columns.
// Member q of the sweep is destination `first + q * pitch`; through tap t in [0, taps), which is
// kernel position `index + t * index_step`, it sees column q * step + t + `column` of the source
// positions `source`, `source + source_pitch`, ..., of which there are `columns`.
struct Sweep {
  int64_t first;
  int64_t pitch;
  int64_t members;
  int64_t taps;
  int64_t index;
  int64_t index_step;
  int64_t step;
  int64_t column;
  int64_t source;
  int64_t source_pitch;
  int64_t columns;
};

// A gathering pass. T is the compute type: float64 for float64, else float32.
struct GatherCall {
  Problem problem;
  Gather down;
  Gather across;
  const void* source;       // NHWC [n, rows, cols, c] or NCHW [n, c, rows, cols], in problem.dtype
  const void* filter;       // T [kh, kw, lanes]
  const void* bias;         // T [lanes] or null (forward only)
  void* destination;        // as source, in problem.dtype
  const Sweep* row_sweeps;  // NCHW
  int64_t row_sweep_count;
  const Sweep* sweeps;  // of the columns
  int64_t sweep_count;
  int64_t chunk;          // NHWC: input channels of a task
  int64_t block;          // NHWC: destination rows of a task
  int64_t rows_in_sight;  // NHWC: source rows from the first to the last of a window
  int64_t parts;          // NCHW: tasks per plane
  bool finite_filter;     // NCHW
};

// A filter (and bias) gradient. Its units, rows (n, oh) in NHWC and parts of images in NCHW, are
// split into groups; each group sums into its own partial result, and the partials are added in the
// order of the groups.
struct FilterCall {
  Problem problem;
  const void* input;  // as in GatherCall
  const void* grad;
  void* partials;         // T [groups, taps + 1, lanes]; the last row of each is the bias gradient
  void* filter_gradient;  // [kh, kw, lanes] in problem.dtype, or null
  void* bias_gradient;    // [lanes] in problem.dtype, or null
  Gather down;            // of the forward pass
  const Sweep* row_sweeps;  // NCHW
  int64_t row_sweep_count;
  const Sweep* sweeps;  // of the columns
  int64_t sweep_count;
  int64_t units;
  int64_t group_units;
  int64_t groups;
  int64_t chunk;          // NHWC: input channels of a task
  int64_t rows_in_sight;  // as in GatherCall
  int64_t parts;          // NCHW: units per image
};

// Tasks are independent; [begin, end) is the share of one call. scratch holds scratch_bytes(call).
struct GatherKernel {
  int64_t (*tasks)(const GatherCall&);
  int64_t (*scratch_bytes)(const GatherCall&);
  void (*run)(const GatherCall&, int64_t begin, int64_t end, void* scratch);
};
struct FilterKernel {
  int64_t (*tasks)(const FilterCall&);
  int64_t (*scratch_bytes)(const FilterCall&);
  void (*run)(const FilterCall&, int64_t begin, int64_t end, void* scratch);
  // Adds the partials of lanes [begin, end) of the flat [taps + 1, lanes] result and stores them.
  void (*reduce)(const FilterCall&, int64_t begin, int64_t end);
};

// One instruction set's kernels, for every dtype and both memory orders.
#define DW_DECLARE_KERNELS(ISA)                                   \
  namespace ISA {                                                 \
  GatherKernel forward(const Problem& problem);                   \
  GatherKernel backward_input(const Problem& problem);            \
  FilterKernel backward_filter(const Problem& problem);           \
  void convert_to_compute(DataType, const void*, void*, int64_t); \
  bool all_finite(DataType, const void*, int64_t);                \
  }
DW_DECLARE_KERNELS(baseline)
DW_DECLARE_KERNELS(avx2)
DW_DECLARE_KERNELS(avx512)
#undef DW_DECLARE_KERNELS

}  // namespace tfcompat_dw::cpu
